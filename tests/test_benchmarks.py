"""The benchmarks measure what they say: each way of each part is run once, in small."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .benchmarks.registry import PARTS
from .benchmarks.results import load
from .benchmarks.rounds import ROOT, in_fresh_process
from .benchmarks.shape import Part

SMALL = {
    "jobs": 20, "burst": 20, "times": 20, "turns": 2, "few": 20, "many": 40, "batch": 5,
    "milliseconds": 50, "settle": 10, "streams": 3, "events": 3, "interpreters": 1, "megabytes": 1,
}  # fmt: skip
WAYS = [
    pytest.param(part, way.name, id=f"{part.name}: {way.name}")
    for part in PARTS.values()
    for way in part.ways
]


@pytest.mark.parametrize("part, way", WAYS)
@pytest.mark.slow  # each is a process of its own, and some start a server
def test_a_way_gives_its_figures(part: Part, way: str) -> None:
    """A benchmark that doesn't run, or measures nothing, is found here and not in the README."""
    if missing := part.way(way).missing:
        pytest.skip(f"{', '.join(missing)} is not installed; it comes with the extra `bench`")
    small = {name: SMALL[name] for name in part.sizes}
    figures = in_fresh_process(part.name, way, small)
    assert set(figures) == {figure.key for figure in part.figures}
    assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.slow  # measures once in a process of its own
def test_one_command_measures_and_writes_the_tables(tmp_path: Path) -> None:
    """What is measured can be kept, and written again where people read it."""
    kept = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "watchdog", "--rounds", "2",
               "--size", "jobs=20", "--size", "turns=2", "--json", str(kept)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "jobs per second with the watchdog" in done.stdout
    assert re.search(r"\| the one of the other \| at least 0.98 \|", done.stdout)
    assert len(load(kept).runs[0].parts["watchdog"].rounds["jobrunner"]) == 2


def test_an_unknown_part_is_named() -> None:
    """Who mistypes a part learns which there are."""
    command = [sys.executable, "-m", "tests.benchmarks", "thruput"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no part 'thruput'; there are: throughput, latency" in done.stderr
