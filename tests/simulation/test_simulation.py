"""Thousands of small scenarios, each drawn from a seed, each checked at every step.

`JOBRUNNER_SEEDS=20000 pytest tests/simulation` plays more of them, and `JOBRUNNER_SEED=123` plays
one again to the letter.
"""

import gc
import os

import pytest

from .conftest import setting
from .scenarios import play

FIRST = setting("JOBRUNNER_SEED", 0)
SEEDS = 1 if "JOBRUNNER_SEED" in os.environ else setting("JOBRUNNER_SEEDS", 300)


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
            gc.collect()


@pytest.mark.slow  # three hundred scenarios of two milliseconds
def test_every_seed_keeps_every_promise(quiet: None) -> None:
    """No order of events, no odd handler and no client breaks an invariant (HAZARDS.md, last)."""
    play_all(range(FIRST, FIRST + SEEDS))


@pytest.mark.soak
def test_a_million_seeds_keep_every_promise(quiet: None, by_hand: None) -> None:
    """The same for as long as it takes: what happens once in a million orders happens to users."""
    play_all(range(FIRST, FIRST + 1_000_000))


def test_a_seed_plays_the_same_twice(quiet: None) -> None:
    """A failure that can't be played again can't be found."""
    seeds = range(FIRST, FIRST + 20)
    assert [play(seed) for seed in seeds] == [play(seed) for seed in seeds]


def test_seeds_differ(quiet: None) -> None:
    """A campaign that plays one scenario many times proves nothing."""
    assert len({play(seed) for seed in range(20)}) == 20
