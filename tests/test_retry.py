"""When to try again: a pure function of the attempt, the error and a random number."""

import math
from random import Random
from typing import Any

import pytest

from jobrunner import InvalidOption, PermanentError, RetryableError, RetryPolicy
from jobrunner.limits import LONGEST
from jobrunner.retry import NO_RETRY


class Unlucky(Random):
    """Draws the upper end every time."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lucky(Random):
    """Draws the lower end every time."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Forgetful(RetryableError):
    def __init__(self) -> None:
        pass


class Broken(RetryableError):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("no delay")

    @retry_after.setter
    def retry_after(self, value: float) -> None:
        pass


@pytest.mark.parametrize("options", [
    {"max_attempts": 0}, {"max_attempts": -1}, {"max_attempts": 2.5}, {"max_attempts": math.inf},
    {"max_attempts": math.nan}, {"max_attempts": "3"},
    {"base": -0.1}, {"base": math.inf}, {"base": math.nan},
    {"cap": -1.0}, {"cap": math.inf}, {"cap": math.nan},
    {"factor": 0.99}, {"factor": math.inf}, {"factor": math.nan},
    {"retry_on": ValueError}, {"retry_on": [ValueError]}, {"retry_on": ("ValueError",)},
    {"give_up_on": ValueError}, {"give_up_on": (int,)},
])  # fmt: skip
def test_refuses_what_could_not_work(options: dict[str, Any]) -> None:
    """A bad policy is found where it is written, and not when the first job fails."""
    with pytest.raises(InvalidOption, match=next(iter(options))):
        RetryPolicy(**options)


@pytest.mark.parametrize("options", [
    {"max_attempts": 1, "base": 0.0, "cap": 0.0, "factor": 1.0},
    {"retry_on": (), "give_up_on": ()},
    {"retry_on": (BaseException,), "give_up_on": (KeyError, OSError)},
])  # fmt: skip
def test_accepts_the_ends_of_each_range(options: dict[str, Any]) -> None:
    """The least of everything is a policy too."""
    policy = RetryPolicy(**options)
    assert {name: getattr(policy, name) for name in options} == options


def test_the_defaults_are_as_documented() -> None:
    """Three attempts within a few seconds, for whatever an ordinary error is."""
    assert RetryPolicy() == RetryPolicy(
        max_attempts=3, base=1.0, cap=60.0, factor=2.0, retry_on=(Exception,), give_up_on=()
    )


@pytest.mark.parametrize(("error", "expected"), [
    (ValueError(), True), (KeyError(), False), (LookupError(), False), (OSError(), True),
    (RetryableError(), True), (PermanentError(), False),
    (SystemExit(), False), (KeyboardInterrupt(), False),
])  # fmt: skip
def test_tells_what_is_worth_another_attempt(error: BaseException, expected: bool) -> None:
    """What stands in `give_up_on` isn't tried again, nor what ends the process."""
    assert RetryPolicy(give_up_on=(LookupError,)).retryable(error) is expected


@pytest.mark.parametrize(("error", "expected"), [
    (ConnectionError(), True), (ValueError(), False), (SystemExit(), True),
    (RetryableError(), True), (PermanentError(), False),
])  # fmt: skip
def test_retries_only_what_it_is_told(error: BaseException, expected: bool) -> None:
    """The two errors that a handler raises to decide itself win over the policy's list."""
    assert RetryPolicy(retry_on=(OSError, SystemExit)).retryable(error) is expected


def test_gives_up_after_the_last_attempt() -> None:
    """`max_attempts` counts the first one."""
    policy = RetryPolicy(max_attempts=3)
    delays = [policy.delay(attempt, ValueError(), Unlucky()) for attempt in (1, 2, 3, 4)]
    assert delays == [1.0, 2.0, None, None]


def test_gives_up_at_once_for_a_permanent_error() -> None:
    """A content-policy error gets no second attempt."""
    assert RetryPolicy().delay(1, PermanentError(), Unlucky()) is None


def test_tries_once_by_default() -> None:
    """Only a handler's author knows whether a second attempt is safe."""
    assert NO_RETRY.delay(1, RetryableError(), Unlucky()) is None


def test_the_upper_end_grows_up_to_the_cap() -> None:
    """Exponential backoff, as documented."""
    policy = RetryPolicy(max_attempts=10, base=0.5, cap=5.0, factor=3.0)
    assert [policy.ceiling(attempt) for attempt in range(1, 6)] == [0.5, 1.5, 4.5, 5.0, 5.0]


@pytest.mark.parametrize(("base", "expected"), [(1.0, 60.0), (0.0, 0.0)])
def test_the_upper_end_holds_for_any_number_of_attempts(base: float, expected: float) -> None:
    """The thousandth retry of a patient job must not overflow."""
    assert RetryPolicy(max_attempts=10**6, base=base).ceiling(100_000) == expected


def test_jitter_spreads_what_failed_together() -> None:
    """10,000 failures without jitter come back in one 100 ms window (Q5)."""
    policy, random = RetryPolicy(base=10.0), Random(1)
    delays = [policy.delay(1, ValueError(), random) or 0.0 for _ in range(10_000)]
    windows = [0] * 100
    for delay in delays:
        windows[int(delay * 10)] += 1
    assert 60 < min(windows) and max(windows) < 150


@pytest.mark.parametrize(("told", "expected"), [
    (None, 0.0), (0.0, 0.0), (7.5, 7.5), (120, 120.0), (-5.0, 0.0),
    ("30", 30.0), ("soon", 0.0), (math.nan, 0.0), (math.inf, 0.0), (-math.inf, 0.0),
    (object(), 0.0), (10**400, 0.0), (1e300, LONGEST),
])  # fmt: skip
def test_waits_at_least_as_long_as_told(told: Any, expected: float) -> None:
    """A header may be passed on as it came: what isn't a number of seconds says nothing."""
    error = RetryableError("later", retry_after=told)
    assert RetryPolicy().delay(1, error, Lucky()) == expected


def test_jitter_comes_on_top_of_what_was_told() -> None:
    """What was told to wait together must not come back together (Q5)."""
    error = RetryableError("later", retry_after=120.0)
    assert RetryPolicy(base=4.0, cap=60.0).delay(1, error, Unlucky()) == 124.0


@pytest.mark.parametrize("error", [Forgetful(), Broken()])
def test_an_error_that_can_not_tell_is_retried_all_the_same(error: RetryableError) -> None:
    """The policy runs inside the guard of a job, where it must not raise (T13)."""
    assert RetryPolicy().delay(1, error, Unlucky()) == 1.0


def test_only_a_retryable_error_tells_a_delay() -> None:
    """Another library's attribute of that name may mean something else."""

    class Foreign(Exception):
        retry_after = 99.0

    assert RetryPolicy().delay(1, Foreign(), Unlucky()) == 1.0
