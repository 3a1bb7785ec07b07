"""How fast a command's output passes, and in how much memory."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from functools import partial

from .processes import peak_resident, resident
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way

RUN, COMMUNICATE = "subprocess.run", "asyncio communicate()"


def _command(size: int) -> list[str]:
    line = "a line of output, as long as those of a test suite or a build are, more or less"
    return ["/bin/sh", "-c", f"yes '{line}' | head -c {size}"]


def run(size: int) -> None:
    """Read it all into memory, as anybody does."""
    done = subprocess.run(_command(size), check=True, capture_output=True)
    assert len(done.stdout) == size


def communicate(size: int) -> None:
    """The same in a loop."""

    async def main() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*_command(size), stdout=pipe, stderr=pipe)
        stdout, _ = await process.communicate()
        assert len(stdout) == size

    asyncio.run(main())


def as_job(size: int) -> None:
    """As a job: every byte decoded, streamed as events, and the newest kept."""
    from jobrunner import JobRunner

    async def main() -> None:
        runner = JobRunner()
        runner.command_job("say", _command(size))
        async with runner:
            result = await (await runner.submit("say")).result()
            assert result.exit_code == 0

    asyncio.run(main())


def _measure(way: Callable[[int], None], sizes: Sizes) -> Figures:
    way(1_000)  # imports, and the loop's first time
    before, began = resident(), time.perf_counter()
    way(sizes["megabytes"] * 10**6)
    took = time.perf_counter() - began
    return {"rate": sizes["megabytes"] / took, "peak": (peak_resident() - before) / 1e6}


PART = Part(
    name="commands",
    title="Commands",
    figures=[
        Figure("rate", "output of a command, MB/s"),
        Figure("peak", "most memory beside what was there before, MB", less=True),
    ],
    ways=[
        Way(RUN, partial(_measure, run)),
        Way(OURS, partial(_measure, as_job)),
        Way(COMMUNICATE, partial(_measure, communicate)),
    ],
    sizes={"megabytes": 100},
    full={"megabytes": 1_000},
    base=RUN,
    goals=[Goal("rate", least=0.5, of=RUN), Goal("peak", most=64.0)],
    rounds=3,
)
