"""Time of the import in a fresh interpreter, beside what anybody with pydantic pays anyway.

Both `anyio` and `pydantic` load next to nothing before their first use: no asyncio, no model. So
there is a second measure, of what no program on asyncio with one model in it can do without.
"""

import os
import statistics
import subprocess
import sys
from functools import partial

from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way

BASE = "import anyio, pydantic"
MODEL = "the same with asyncio, and one model"
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
PROGRAMS = {
    BASE: "import anyio, pydantic",
    MODEL: "import asyncio, anyio, pydantic\nclass Model(pydantic.BaseModel):\n    n: int",
    OURS: "from jobrunner import JobRunner",
}


def importing(program: str, sizes: Sizes) -> Figures:
    """Return the median of several interpreters, after one that writes the bytecode."""
    timed = f"import time\nt = time.perf_counter()\n{program}\nprint(time.perf_counter() - t)"
    command = [sys.executable, "-c", timed]
    env = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
        for _ in range(1 + sizes["interpreters"])
    ]
    return {"time": 1e3 * statistics.median(times[1:])}


PART = Part(
    name="imports",
    title="Import",
    figures=[Figure("time", "import, ms", less=True)],
    ways=[Way(name, partial(importing, program)) for name, program in PROGRAMS.items()],
    sizes={"interpreters": 3},
    base=BASE,
    goals=[Goal("time", most=1.3, of=BASE), Goal("time", most=1.3, of=MODEL)],
)
