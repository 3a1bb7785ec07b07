"""Thousands of small scenarios, each drawn from a seed, each checked at every step.

`JOBRUNNER_SEEDS=20000 pytest tests/simulation` plays more of them, from `JOBRUNNER_FIRST_SEED` on,
so that several processes can share a campaign. `JOBRUNNER_SEED=123` plays one again to the letter.
With `-s` a table says how often each fault struck.
"""

import os
import subprocess
import sys

import pytest

from .conftest import collect, setting
from .faults import HITS, POINTS, table
from .scenarios import play

FIRST = setting("JOBRUNNER_SEED", setting("JOBRUNNER_FIRST_SEED", 0))
SEEDS = 1 if "JOBRUNNER_SEED" in os.environ else setting("JOBRUNNER_SEEDS", 300)
ENOUGH = 20_000
"""Seeds from which on each fault has to have struck many times."""


def play_all(seeds: range) -> None:
    """Play each seed; the first that breaks something is named."""
    for seed in seeds:
        try:
            play(seed)
        except AssertionError as error:
            pytest.fail(
                f"seed {seed}: {error}\nJOBRUNNER_SEED={seed} plays it again", pytrace=False
            )
        if seed % 100 == 0:
            collect()


@pytest.mark.slow  # three hundred scenarios of a few milliseconds
def test_every_seed_keeps_every_promise(quiet: None) -> None:
    """No order of events, no odd handler, no fault and no client breaks an invariant."""
    HITS.clear()
    play_all(range(FIRST, FIRST + SEEDS))
    collect()
    print(f"\n{table()}")
    if SEEDS >= ENOUGH:
        rare = [point for point in POINTS if HITS[point] < 100]
        assert not rare, f"struck less than 100 times: {rare}"
    elif SEEDS >= 300:
        assert sum(HITS.values()) >= SEEDS, "faults hardly ever strike"
        assert len(HITS) >= len(POINTS) / 2, "most faults never strike"


def test_there_are_many_places_for_faults() -> None:
    """What can't go wrong in the campaign is only found by users."""
    assert len(POINTS) >= 40
    assert len({*POINTS}) == len(POINTS)


@pytest.mark.soak
def test_a_million_seeds_keep_every_promise(quiet: None) -> None:
    """The same for as long as it takes: what happens once in a million orders happens to users."""
    play_all(range(FIRST, FIRST + setting("JOBRUNNER_SEEDS", 1_000_000)))


def test_a_seed_plays_the_same_twice(quiet: None) -> None:
    """A failure that can't be played again can't be found."""
    seeds = range(FIRST, FIRST + 20)
    assert [play(seed) for seed in seeds] == [play(seed) for seed in seeds]


@pytest.mark.slow  # two interpreters
def test_a_seed_plays_the_same_in_another_process(quiet: None) -> None:
    """A failure of one machine can be played again on another one."""
    here = [play(seed) for seed in range(FIRST, FIRST + 60)]
    assert _play_elsewhere(hash_seed="1") == _play_elsewhere(hash_seed="2") == here


def _play_elsewhere(hash_seed: str) -> list[str]:
    code = (
        "import logging; from tests.simulation.scenarios import play; logging.disable(50)\n"
        f"print(*(play(seed) for seed in range({FIRST}, {FIRST + 60})))"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_seeds_differ(quiet: None) -> None:
    """A campaign that plays one scenario many times proves nothing."""
    assert len({play(seed) for seed in range(20)}) == 20
