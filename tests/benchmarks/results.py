"""What was measured, as a document that can be kept, and what is read from it."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .registry import PARTS
from .rounds import Taken
from .shape import Figures, Goal, Part

DISTRIBUTIONS = (
    "aiojobs", "taskiq", "pydocket", "starlette", "fastapi", "sse-starlette", "pydantic", "anyio",
    "uvicorn", "uvloop", "httptools",
)  # fmt: skip


@dataclass
class Run:
    """Everything that was measured with one interpreter."""

    python: str
    versions: dict[str, str]
    parts: dict[str, Taken] = field(default_factory=dict)

    def taken(self, part: str, way: str, figure: str) -> list[float]:
        """Return a figure of a way in all rounds that have it."""
        return [found[figure] for found in self._rounds(part, way) if found and figure in found]

    def median(self, part: str, way: str, figure: str) -> float | None:
        """Return its median, or None when it wasn't measured."""
        taken = self.taken(part, way, figure)
        return statistics.median(taken) if taken else None

    def ratios(self, part: str, way: str, figure: str, of: str) -> list[float]:
        """Return the ratios to another way's, round by round."""
        pairs = zip(self._rounds(part, way), self._rounds(part, of), strict=False)
        return [one[figure] / two[figure] for one, two in pairs if one and two and two[figure]]

    def _rounds(self, part: str, way: str) -> list[Figures | None]:
        return self.parts[part].rounds.get(way, []) if part in self.parts else []

    def reached(self, part: Part, goal: Goal) -> float | None:
        """Return what a goal is held against: the median, or the median of the ratios."""
        if goal.of is None:
            return self.median(part.name, goal.way, goal.figure)
        ratios = self.ratios(part.name, goal.way, goal.figure, goal.of)
        return statistics.median(ratios) if ratios else None

    def goals(self) -> Iterator[tuple[Part, Goal, float | None]]:
        """Yield the goals for this version of Python, and what was reached of each."""
        for part in PARTS.values():
            for goal in part.goals:
                if part.name in self.parts and goal.holds_for(self.python):
                    yield part, goal, self.reached(part, goal)


@dataclass
class Results:
    """What was measured on a machine."""

    machine: dict[str, str]
    runs: list[Run] = field(default_factory=list)

    def run(self, python: str, versions: dict[str, str]) -> Run:
        """Return the run of this version of Python, a new one if there is none."""
        found = next((run for run in self.runs if run.python == python), None)
        if found is None:
            found = Run(python, versions)
            self.runs.append(found)
        found.versions = versions
        return found

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def load(path: Path) -> Results:
    """Read what `save` has written."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    runs = [
        Run(run["python"], run["versions"], {k: Taken(**v) for k, v in run["parts"].items()})
        for run in document["runs"]
    ]
    return Results(document["machine"], runs)


def this_machine() -> dict[str, str]:
    """Describe the machine and how busy it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo").read_text("utf-8")
    names = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def describe(python: str) -> tuple[str, dict[str, str]]:
    """Return the version of an interpreter, and of the packages that are compared."""
    program = (
        "import importlib.metadata as m, json, platform, sys\n"
        "there = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "named = {n: there[n] for n in sys.argv[1:] if n in there}\n"
        "print(json.dumps([platform.python_version(), named]))"
    )
    command = [python, "-c", program, *DISTRIBUTIONS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    version, versions = json.loads(done.stdout)
    return version, versions
