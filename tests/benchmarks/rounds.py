"""The rounds: in each, every way of a part is measured once, in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .shape import Figures, Part, Sizes, Way

ROOT = Path(__file__).parent.parent.parent
LONGEST = 3_600.0
"""Seconds that one measurement may take."""


@dataclass
class Taken:
    """What was measured of one part."""

    sizes: dict[str, int]
    rounds: dict[str, list[Figures | None]]
    """For each way the figures of each round; None where it failed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Ways that weren't measured, and why."""


class Failed(Exception):
    """A process that measures has failed."""


def measure(part: Part, *, rounds: int, sizes: Sizes, python: str) -> Taken:
    """Measure each way of a part in turn, round after round."""
    taken = Taken({**part.sizes, **sizes}, {})
    for number in range(1, rounds + 1):
        for way in part.ways:
            if way.name in taken.left_out:
                continue
            say(f"{part.name} {number}/{rounds}: {way.name}")
            try:
                figures = in_fresh_process(part, way, taken.sizes, python)
                taken.rounds.setdefault(way.name, []).append(figures)
            except ModuleNotFoundError as error:
                taken.left_out[way.name] = f"{error} is not installed"
            except Failed as error:
                say(f"{part.name}, {way.name}: {error}", keep=True)
                taken.rounds.setdefault(way.name, []).append(None)
    say("")
    return taken


def in_fresh_process(part: Part, way: Way, sizes: Sizes, python: str = sys.executable) -> Figures:
    """Measure one way once.

    Raises:
        ModuleNotFoundError: What it needs isn't installed.
        Failed: It didn't work.
    """
    if missing := _missing(way.needs, python):
        raise ModuleNotFoundError(missing)
    command = [python, "-m", "tests.benchmarks.one", part.name, way.name, json.dumps(dict(sizes))]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no figures after {LONGEST:g} s") from None
    if done.returncode:
        raise Failed(f"exit code {done.returncode}\n{done.stderr[-2_000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _environment() -> Mapping[str, str]:
    """Return an environment in which the package of this tree is the one that is measured."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _missing(needs: Sequence[str], python: str) -> str:
    program = (
        "import importlib.util, sys\n"
        "print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n) is None])"
    )
    done = subprocess.run([python, "-c", program, *needs], capture_output=True, text=True)
    return ", ".join(done.stdout.split())


def say(text: str, *, keep: bool = False) -> None:
    """Say on standard error what is going on, in one line that changes."""
    if sys.stderr.isatty() or keep:
        end = "\n" if keep else ""
        print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr)
        sys.stderr.flush()
