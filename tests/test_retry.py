"""When to try again: a pure function of the attempt, the error and a random number."""

import asyncio
import itertools
import logging
import math
import time
from bisect import bisect_left
from collections import Counter
from random import Random
from typing import Any

import httpx2
import pytest

from jobrunner import InvalidOption, JobFailed, PermanentError, RetryableError, RetryPolicy
from jobrunner.limits import LONGEST
from jobrunner.retry import NO_RETRY, RetryBudget
from tests.tabled import each_of


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


class Disguised(Exception):
    """Raises when it is asked for its class."""

    @property  # type: ignore[misc]  # what a proxy does
    def __class__(self) -> Any:
        raise SystemExit


class Meta(type):
    """Takes everything for its own, and raises while it looks."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise SystemExit

    __subclasscheck__ = __instancecheck__


class Choosy(Exception, metaclass=Meta):
    """Can't be matched with `isinstance`."""


class Endless(RetryableError):
    """Raises what ends a process when it is asked how long to wait."""

    @property
    def retry_after(self) -> float:
        raise KeyboardInterrupt

    @retry_after.setter
    def retry_after(self, value: float) -> None:
        pass


class Unspeakable(Exception):
    """Can't say what it is about."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


def http_error(status: int, **headers: str) -> httpx2.HTTPStatusError:
    """Return the error that httpx2 raises for a response."""
    request = httpx2.Request("GET", "http://model.test")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        httpx2.Response(status, headers=named, request=request).raise_for_status()
    return caught.value


async def unsuitable(error: BaseException) -> bool:
    """Answer with a coroutine."""
    return True


def busiest(moments: list[float], width: float) -> int:
    """Return how many of the moments lie in the fullest window of that many seconds."""
    moments = sorted(moments)
    return max(bisect_left(moments, m + width) - i for i, m in enumerate(moments))


@each_of([
    {"max_attempts": 0}, {"max_attempts": -1}, {"max_attempts": 2.5}, {"max_attempts": math.inf},
    {"max_attempts": math.nan}, {"max_attempts": "3"},
    {"base": -0.1}, {"base": math.inf}, {"base": math.nan},
    {"cap": -1.0}, {"cap": math.inf}, {"cap": math.nan},
    {"factor": 0.99}, {"factor": math.inf}, {"factor": math.nan},
    {"retry_on": ValueError}, {"retry_on": [ValueError]}, {"retry_on": ("ValueError",)},
    {"give_up_on": ValueError}, {"give_up_on": (int,)},
    {"base": "1"}, {"cap": None}, {"factor": 1j},
    {"max_time": -0.1}, {"max_time": math.inf}, {"max_time": math.nan}, {"max_time": "60"},
    {"budget": 0.0}, {"budget": -1.0}, {"budget": math.inf}, {"budget": math.nan},
    {"budget": "100"}, {"retry_if": True}, {"retry_if": unsuitable},
])  # fmt: skip
def test_refuses_what_could_not_work(options: dict[str, Any]) -> None:
    """A bad policy is found where it is written, and not when the first job fails."""
    with pytest.raises(InvalidOption, match=next(iter(options))):
        RetryPolicy(**options)


@pytest.mark.parametrize("options", [
    {"max_attempts": 1, "base": 0.0, "cap": 0.0, "factor": 1.0},
    {"retry_on": (), "give_up_on": ()},
    {"retry_on": (BaseException,), "give_up_on": (KeyError, OSError)},
    {"max_time": 0.0, "budget": 1e-9, "retry_if": bool},
    {"max_time": None, "budget": None, "retry_if": None},
])  # fmt: skip
def test_accepts_the_ends_of_each_range(options: dict[str, Any]) -> None:
    """The least of everything is a policy too."""
    policy = RetryPolicy(**options)
    assert {name: getattr(policy, name) for name in options} == options


def test_the_defaults_are_as_documented() -> None:
    """Three attempts within a few seconds, for whatever an ordinary error is."""
    assert RetryPolicy() == RetryPolicy(
        max_attempts=3, base=1.0, cap=60.0, factor=2.0, retry_on=(Exception,), give_up_on=(),
        retry_if=None, max_time=None, budget=100.0,
    )  # fmt: skip


@pytest.mark.parametrize(("error", "expected"), [
    (ValueError(), True), (KeyError(), False), (LookupError(), False), (OSError(), True),
    (RetryableError(), True), (PermanentError(), False),
    (SystemExit(), False), (KeyboardInterrupt(), False),
])  # fmt: skip
def test_tells_what_is_worth_another_attempt(error: BaseException, expected: bool) -> None:
    """What stands in `give_up_on` isn't tried again, nor what ends the process."""
    assert RetryPolicy(give_up_on=(LookupError,)).retryable(error) is expected


@pytest.mark.parametrize(("options", "error", "expected"), [
    ({}, http_error(503), True),
    ({}, http_error(401), False),
    ({"retry_on": (httpx2.HTTPStatusError,)}, http_error(503), True),
    ({"retry_on": (httpx2.HTTPStatusError,)}, http_error(401), False),
    ({"retry_on": (Exception, SystemExit)}, http_error(401), False),
    ({"retry_on": (ConnectionError,)}, http_error(503), False),
    ({"retry_on": ()}, http_error(503), False),
    ({"give_up_on": (httpx2.HTTPStatusError,)}, http_error(503), False),
    ({}, httpx2.ConnectError("no route"), True),
    ({}, TimeoutError(), True),
    ({"retry_if": lambda error: None}, http_error(401), False),
    ({"retry_if": lambda error: None}, http_error(503), True),
    ({"retry_if": lambda error: True}, http_error(401), True),
    ({"retry_if": lambda error: False}, http_error(503), False),
    ({"retry_if": lambda error: True, "retry_on": ()}, SystemExit(), True),
    ({"retry_if": lambda error: True, "give_up_on": (OSError,)}, TimeoutError(), False),
    ({"retry_if": lambda error: True}, PermanentError(), False),
    ({"retry_if": lambda error: False}, RetryableError(), True),
    ({"give_up_on": (RetryableError,), "retry_on": ()}, RetryableError(), True),
])  # fmt: skip
def test_asks_in_the_documented_order(
    options: dict[str, Any], error: BaseException, expected: bool
) -> None:
    """The handler's word, `give_up_on`, `retry_if`, `retry_on`, and a status that narrows it."""
    assert RetryPolicy(**options).retryable(error) is expected
    assert (RetryPolicy(**options).delay(1, error, Lucky()) is not None) is expected


def test_retry_if_sees_the_exception_itself() -> None:
    """It is there for what a class and a status don't tell: an errno, a message, a code."""
    policy = RetryPolicy(retry_if=lambda error: "locked" in str(error) or None, retry_on=())
    assert [policy.retryable(OSError(text)) for text in ("locked", "full")] == [True, False]


@pytest.mark.parametrize("broken", [
    ValueError("no"), KeyboardInterrupt(), SystemExit(), asyncio.CancelledError(), Unspeakable(),
], ids=lambda broken: type(broken).__name__)  # fmt: skip
def test_t13_a_retry_if_that_raises_is_left_out(
    broken: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs inside the guard of a job: what left it would end the loop (T1)."""

    def asked(error: BaseException) -> bool:
        raise broken

    policy = RetryPolicy(retry_if=asked)
    answers = [policy.retryable(error) for error in (ValueError(), http_error(401), SystemExit())]
    assert answers == [True, False, False]
    assert policy.delay(1, ValueError(), Unlucky()) == 1.0
    [record] = caplog.records
    assert (record.name, record.levelno) == ("jobrunner.retry", logging.ERROR)
    assert f"raised {type(broken).__name__}\n" in record.getMessage()
    assert "in asked" in record.getMessage() or type(broken) is Unspeakable


@pytest.mark.parametrize("answer", [0, 1, "yes", [], math.nan, NotImplemented, Choosy, Unlucky])
def test_t13_a_retry_if_that_answers_nonsense_is_left_out(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A truth that was not meant as an answer decides nothing."""
    policy = RetryPolicy(retry_if=lambda error: answer)
    answers = [policy.retryable(error) for error in (ValueError(), http_error(401))]
    assert answers == [True, False]
    [record] = caplog.records
    assert f"answered with {type(answer).__name__}," in record.getMessage()


def test_t13_a_hostile_class_is_matched_as_except_does() -> None:
    """`isinstance` would ask the exception, or the class, for its opinion."""
    policy = RetryPolicy(give_up_on=(Choosy,))
    assert [policy.retryable(error) for error in (Disguised(), Choosy())] == [True, False]


def test_policies_that_say_the_same_are_equal() -> None:
    """What was logged of one is no part of what it says."""
    policies = [RetryPolicy(retry_if=bool) for _ in range(2)]
    policies[0].retryable(Unspeakable())
    assert policies[0] == policies[1] and len(set(policies)) == 1


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


def test_q5_the_default_policy_spreads_what_failed_together_over_its_budget() -> None:
    """Full jitter alone brings 1,000 of 10,000 back in each of the first ten 100 ms windows."""
    policy, random = RetryPolicy(), Random(1)
    drawn = [policy.delay(1, ValueError(), random) or 0.0 for _ in range(10_000)]
    windows = Counter(int(delay * 10) for delay in drawn)
    assert 900 < min(windows.values()) and max(windows.values()) < 1_100 and len(windows) == 10
    budget = RetryBudget(policy.budget or 0.0)
    due = [budget.reserve(0.0, delay) for delay in drawn]
    windows = Counter(int(delay * 10 + 1e-6) for delay in due)
    assert max(windows.values()) <= 30 and len(windows) > 980
    assert all(later >= delay for later, delay in zip(due, drawn, strict=True))


def test_q5_a_budget_holds_where_jitter_is_small() -> None:
    """10,000 at once: at most two seconds' worth in any second, none lost, the last after 100 s."""
    policy, random, budget = RetryPolicy(base=0.001), Random(1), RetryBudget(100.0)
    drawn = [policy.delay(1, ValueError(), random) or 0.0 for _ in range(10_000)]
    due = [budget.reserve(5.0, delay) for delay in drawn]
    assert len(due) == 10_000 and busiest(due, 1.0) <= 200
    assert 98.0 < max(due) < 101.0
    windows = Counter(int(delay * 10 + 1e-6) for delay in due)
    assert windows.pop(0) == 100 and max(windows.values()) <= 11


def test_q5_a_budget_holds_where_all_were_told_the_same() -> None:
    """A rate limit that names one moment for all is no reason to come back in that moment."""
    policy, budget, error = (
        RetryPolicy(base=0.0),
        RetryBudget(50.0),
        http_error(429, retry_after="30"),
    )
    told = [policy.delay(1, error, Lucky()) or 0.0 for _ in range(1_000)]
    due = [budget.reserve(0.0, delay) for delay in told]
    assert (min(due), busiest(due, 1.0) <= 100, 48.0 < max(due) < 51.0) == (30.0, True, True)


def test_q5_a_long_delay_puts_off_nobody_before_it() -> None:
    """Places are given in the order of failing, and taken in the order of coming due."""
    budget = RetryBudget(1.0)
    assert [budget.reserve(0.0, delay) for delay in (60.0, 60.5, 0.25, 3.0, 0.5)] == [
        60.0, 61.0, 0.25, 3.0, 1.0
    ]  # fmt: skip


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0, 1.5, 7.25, 100.0, 1e6, 10**400])
@pytest.mark.parametrize("start", [0.0, 12_345.678])
def test_a_budget_holds_at_any_rate(rate: float, start: float) -> None:
    """Once in a hundred seconds is a rate, too."""
    budget, random = RetryBudget(rate), Random(2)
    asked = [random.uniform(0.0, 2.0) for _ in range(500)]
    due = [budget.reserve(start, delay) for delay in asked]
    width = max(1.0, 1.0 / rate) if rate < 1e9 else 1.0
    assert busiest(due, width - 1e-6) <= 2 * math.ceil(rate)
    assert max(due) <= 2.0 + 500 / rate + 2 * width
    assert all(later >= delay for later, delay in zip(due, asked, strict=True))


@pytest.mark.parametrize("rate", [0.7, 1.0, 7.25, 20.0])
def test_a_budget_holds_for_one_burst_after_the_other(rate: float) -> None:
    """Bursts that fall into neighbouring periods come as close to each other as they can."""
    most = math.ceil(rate)
    for first in range(100):
        budget = RetryBudget(rate)
        bursts = [first / 100, first / 100 + 0.5, first / 100 + 0.999]
        due = [budget.reserve(0.0, burst) for burst in bursts for _ in range(most)]
        assert busiest(due, 1.0 - 1e-6) <= 2 * most


def test_a_budget_never_shortens_a_delay() -> None:
    """Not even one that no policy gives."""
    budget = RetryBudget(1.0)
    assert [budget.reserve(0.0, 2 * LONGEST) for _ in range(3)] == [2 * LONGEST] * 3


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_a_budget_is_quick_however_many_wait(apart: float) -> None:
    """A crowd fails within a moment of the event loop's (Q5): 5 µs each, and not 5 ms."""
    budget, begun = RetryBudget(1.0), time.process_time()
    for number in range(20_000):
        budget.reserve(0.0, number * apart)
    assert time.process_time() - begun < 1.0


def test_a_budget_costs_nothing_where_few_fail() -> None:
    """Whoever fails alone waits as long as the policy says, to the last digit."""
    budget, random = RetryBudget(10.0), Random(3)
    for second in range(2_000):
        delay = random.uniform(0.0, 60.0)
        assert budget.reserve(float(second), delay) == delay


def test_a_budget_comes_back_once_the_crowd_has_passed() -> None:
    """The bound is on what comes due together, and no punishment."""
    budget = RetryBudget(10.0)
    assert max(budget.reserve(0.0, 0.5) for _ in range(100)) < 11.0
    assert [budget.reserve(now, 0.5) for now in (4.0, 12.0)] == [pytest.approx(6.0), 0.5]


def test_no_budget_puts_a_retry_off_past_the_longest_duration() -> None:
    """Its time has to be written with four digits of year."""
    budget = RetryBudget(1e-9)
    due = [budget.reserve(0.0, 1.0) for _ in range(6)]
    assert due == pytest.approx([1.0, 1e9, 2e9, 3e9, LONGEST, LONGEST]) and max(due) == LONGEST


@pytest.mark.parametrize("step", [1.0, 0.0])
def test_q10_a_budget_remembers_no_more_than_it_is_told(step: float) -> None:
    """A runner that runs for a year, and long delays of jobs that were cancelled, cost no more."""
    budget = RetryBudget(1.0, remembered=100)
    delays = itertools.cycle(float(n) for n in range(0, 70_000, 7))
    for number in range(20_000):
        budget.reserve(number * step, next(delays))
        assert budget.periods <= 100


def test_a_budget_that_forgets_keeps_the_nearest() -> None:
    """What comes due next matters, and not what comes due tomorrow."""
    budget = RetryBudget(1.0, remembered=100)
    for delay in [*range(1_000, 1_060), *range(20)]:
        budget.reserve(0.0, float(delay))
    for delay in range(2_000, 2_100):
        budget.reserve(0.0, float(delay))
    assert budget.reserve(0.0, 0.0) == 20.0


def test_a_budget_forgets_what_is_over_first() -> None:
    """A place that nobody can take any more must not cost one to come."""
    budget = RetryBudget(1.0, remembered=100)
    for second in range(1_000):
        budget.reserve(float(second), 0.0)
    due = [budget.reserve(1_000.0, 0.0) for _ in range(40)]
    assert due == [float(n) for n in range(40)]


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_budget_refuses_what_is_no_rate(rate: Any) -> None:
    """None for a rate of 0: jobs are put off, and none is dropped."""
    with pytest.raises(InvalidOption, match="budget"):
        RetryBudget(rate)


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


@pytest.mark.parametrize("error", [Forgetful(), Broken(), Endless()])
def test_an_error_that_can_not_tell_is_retried_all_the_same(error: RetryableError) -> None:
    """The policy runs inside the guard of a job, where it must not raise (T13)."""
    assert RetryPolicy().delay(1, error, Unlucky()) == 1.0


def test_only_a_retryable_error_tells_a_delay() -> None:
    """Another library's attribute of that name may mean something else."""

    class Foreign(Exception):
        retry_after = 99.0

    assert RetryPolicy().delay(1, Foreign(), Unlucky()) == 1.0


@pytest.mark.parametrize(("status", "headers", "expected"), [
    (429, {"retry_after": "7"}, 8.0), (503, {"retry_after": "1.5"}, 2.5),
    (429, {"retry_after": "7", "retry_after_ms": "6500"}, 7.5),
    (429, {"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 11.0),
    (429, {"retry_after": "soon"}, 1.0), (429, {}, 1.0), (401, {"retry_after": "7"}, None),
])  # fmt: skip
def test_waits_at_least_as_long_as_the_response_says(
    status: int, headers: dict[str, str], expected: float | None
) -> None:
    """Nobody has to pass `Retry-After` on by hand; the jitter comes on top of it, too."""
    delay = RetryPolicy().delay(1, http_error(status, **headers), Unlucky(), now=784_111_767.0)
    assert delay == expected


def test_a_date_says_nothing_while_the_time_is_unknown() -> None:
    """The policy reads no clock."""
    error = http_error(429, retry_after="Sun, 06 Nov 2094 08:49:37 GMT")
    assert RetryPolicy().delay(1, error, Unlucky()) == 1.0


def test_a_retry_if_that_retries_a_403_has_its_headers_obeyed() -> None:
    """Some servers say so that a client is too fast."""
    policy = RetryPolicy(retry_if=lambda error: True)
    assert policy.delay(1, http_error(403, retry_after="9"), Lucky()) == 9.0


@pytest.mark.parametrize(("max_time", "elapsed", "expected"), [
    (None, 1e9, 4.0), (10.0, 0.0, 4.0), (10.0, 6.0, 4.0), (10.0, 6.001, None), (4.0, 0.0, 4.0),
    (3.9, 0.0, None), (0.0, 0.0, None),
])  # fmt: skip
def test_puts_no_attempt_off_past_the_time_there_is(
    max_time: float | None, elapsed: float, expected: float | None
) -> None:
    """Who waits for the answer has gone by then."""
    policy = RetryPolicy(base=4.0, max_time=max_time)
    assert policy.delay(1, ValueError(), Unlucky(), elapsed=elapsed) == expected


def test_a_wait_that_is_told_counts_for_the_time_there_is() -> None:
    """A response that says an hour ends a job that has ten minutes."""
    policy = RetryPolicy(max_time=600.0)
    assert policy.delay(1, http_error(429, retry_after="3600"), Lucky()) is None


@pytest.mark.parametrize("options", [
    {"cap": 10**400}, {"cap": 10**400, "base": 10**400}, {"cap": 1e308, "base": 1e308},
    {"cap": 10**400, "factor": 10**400}, {"cap": 10**400, "base": 10**400, "factor": 2},
])  # fmt: skip
def test_the_upper_end_holds_for_any_numbers(options: dict[str, Any]) -> None:
    """An integer may be larger than any float, and the draw would overflow."""
    policy = RetryPolicy(max_attempts=100, **options)
    assert 0.0 <= (policy.delay(99, ValueError(), Random(1)) or 0.0) <= LONGEST


def test_t1_a_hostile_failure_of_a_sub_job_is_like_any_other_error() -> None:
    """Whoever derives from our errors may raise where we only want to read."""

    class Hostile(JobFailed):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit if name == "retryable" else AttributeError(name)

    error = Hostile.__new__(Hostile, "no")
    assert RetryPolicy(max_attempts=2).retryable(error)
