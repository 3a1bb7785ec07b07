"""Bounds and durations: what they accept."""

import math
from itertools import product
from typing import Any

import pytest

from jobrunner import InvalidOption, Limits, Retention
from jobrunner.limits import LONGEST, check_seconds
from tests.tabled import each_of

BAD_NUMBERS = [-1, -0.5, math.inf, math.nan, "5"]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["max_age", "max_jobs", "max_tombstones"])
def test_retention_refuses_what_is_no_bound(name: str, value: Any) -> None:
    """A bound that holds nothing, or everything by accident, is found where it is written."""
    with pytest.raises(InvalidOption, match=f"{name} is .*; it must be a number, 0 or more"):
        Retention(**{name: value})


@each_of(product(["max_pending", "max_params", "max_metadata", "max_result",
                  "max_events", "max_text", "max_feed"], [*BAD_NUMBERS, None]))  # fmt: skip
def test_limits_refuse_what_is_no_bound(name: str, value: Any) -> None:
    """Everything is bounded: None, which would mean no limit, is none here (Q10)."""
    with pytest.raises(InvalidOption, match=f"{name} is .*; it must be a number, 0 or more"):
        Limits(**{name: value})


def test_retention_may_have_no_limit() -> None:
    """Who wants to keep all says so; ids of the forgotten are bounded always."""
    kept = Retention(max_age=None, max_jobs=None, max_tombstones=0)
    assert (kept.max_age, kept.max_jobs, kept.max_tombstones) == (None, None, 0)
    with pytest.raises(InvalidOption):
        Retention(max_tombstones=None)  # type: ignore[arg-type]  # refused, as is tested


def test_everything_is_bounded_by_default() -> None:
    """A runner without options must survive a flood (Q10)."""
    assert Retention() == Retention(max_age=86_400.0, max_jobs=10_000, max_tombstones=100_000)
    assert Limits() == Limits(
        max_pending=100_000, max_params=262_144, max_metadata=16_384, max_result=1_048_576,
        max_events=1_000, max_text=5_000_000, max_threads=1_000, max_feed=10_000,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), [
    (None, None), (1, 1.0), (0.001, 0.001), (LONGEST, LONGEST),
])  # fmt: skip
def test_a_duration_is_returned_as_seconds(value: float | None, expected: float | None) -> None:
    """One type for all durations; None goes through as no limit."""
    assert check_seconds("timeout", value) == expected


@pytest.mark.parametrize("value", [0, 0.0, -1, math.inf, math.nan, True, "5", LONGEST + 1, 10**400])
def test_a_duration_has_to_be_one(value: Any) -> None:
    """A year with five digits, or a number that is no float, would break whoever shows it."""
    with pytest.raises(InvalidOption, match=r"timeout is .* seconds above 0, at most 3153600000"):
        check_seconds("timeout", value)


def test_zero_is_a_duration_where_it_makes_sense() -> None:
    """A delay may be none, a time limit may not."""
    assert check_seconds("delay", 0, zero=True) == 0.0
    with pytest.raises(InvalidOption, match="seconds 0 or more"):
        check_seconds("delay", -1, zero=True)
