"""Hundreds of forests of jobs: trees that wait for their branches, and are cut down.

`JOBRUNNER_SEEDS=20000 pytest tests/simulation/test_trees.py` plays more of them, from
`JOBRUNNER_FIRST_SEED` on, and `JOBRUNNER_SEED=123` one again.
"""

import os

import pytest

from .conftest import collect, setting
from .faults import HITS, TREE_POINTS, table
from .trees import play

FIRST = setting("JOBRUNNER_SEED", setting("JOBRUNNER_FIRST_SEED", 0))
SEEDS = 1 if "JOBRUNNER_SEED" in os.environ else setting("JOBRUNNER_SEEDS", 300)
ENOUGH = 20_000
"""Seeds from which on each fault has to have struck many times."""


@pytest.mark.slow  # three hundred forests of a few milliseconds
def test_every_forest_keeps_every_promise(quiet: None) -> None:
    """Whatever is cancelled, fails or waits: every job ends, and no branch outlives its tree."""
    HITS.clear()
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            play(seed)
        except AssertionError as error:
            pytest.fail(f"forest {seed}: {error}\nJOBRUNNER_SEED={seed}", pytrace=False)
        if seed % 100 == 0:
            collect()
    collect()
    print(f"\n{table(TREE_POINTS)}")
    if SEEDS >= 300:
        few = [point for point in TREE_POINTS if HITS[point] < (100 if SEEDS >= ENOUGH else 1)]
        most = 0 if SEEDS >= ENOUGH else len(TREE_POINTS) / 4
        assert len(few) <= most, f"struck too seldom: {few}"


def test_a_forest_grows_the_same_twice(quiet: None) -> None:
    """A failure that can't be played again can't be found."""
    seeds = range(FIRST, FIRST + 10)
    assert [play(seed) for seed in seeds] == [play(seed) for seed in seeds]
