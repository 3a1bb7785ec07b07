"""What can be decided for a job type, and what is refused where it is decided."""

from typing import Any

import pytest

from jobrunner import InvalidOption, JobRunner, RetryPolicy
from jobrunner.options import DEFAULT_OPTIONS, RateLimit, TypeOptions, checked_options, parse_rate
from tests.tabled import each_of


async def nothing() -> None: ...


def register(**options: Any) -> None:
    """Register a job type with options, as an author does."""
    JobRunner().job("work", **options)(nothing)


async def make_key_later(params: dict[str, Any]) -> str:
    """A submit doesn't wait for it."""
    return "key"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout is 0; it must be a number of seconds above 0"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"deadline": -1}, "deadline is -1; it must be a number of seconds above 0"),
        ({"expires": float("nan")}, "expires is nan"),
        ({"stall_timeout": True}, "stall_timeout is True"),
        ({"stall_timeout": 1e12}, "stall_timeout is 1000000000000.0"),
        ({"max_concurrency": 0}, "max_concurrency is 0; it must be an integer, 1 or more"),
        ({"max_concurrency": 1.5}, r"max_concurrency is 1\.5"),
        ({"max_per_key": 0}, "max_per_key is 0"),
        ({"max_pending": -1}, "max_pending is -1"),
        ({"on_duplicate": "drop"}, "on_duplicate is 'drop'; it must be one of: enqueue, join, "),
        ({"on_duplicate": None}, "on_duplicate is None"),
        ({"on_duplicate": []}, r"on_duplicate is \[\]"),
        ({"engine": "gpu"}, "engine is 'gpu'; it must be one of: local, process"),
        ({"concurrency_key": "user_id"}, "concurrency_key is 'user_id'; it must be a function"),
        ({"concurrency_key": make_key_later}, "concurrency_key is a coroutine function; it must"),
        ({"on_failure": 5}, "on_failure is 5; it must be a function"),
        ({"retry": 3}, "retry is 3; it must be a RetryPolicy"),
        ({"rate_limit": "often"}, "rate_limit is 'often'; write it as '60/min', '5/s', "),
    ],
)
def test_refuses_a_value_that_can_not_be(options: dict[str, Any], said: str) -> None:
    """When the module is imported, and not when the first job comes at night."""
    with pytest.raises(InvalidOption, match=f"^{said}"):
        register(**options)


def test_refuses_an_option_that_there_is_not_and_names_the_nearest() -> None:
    """A limit that was misspelt is no limit, and nobody would notice."""
    with pytest.raises(InvalidOption) as caught:
        register(max_concurency=3)
    assert str(caught.value) == (
        "there is no option 'max_concurency'; did you mean 'max_concurrency'?"
    )
    assert caught.value.option == "max_concurency"


def test_an_option_like_no_other_is_answered_with_all_there_are() -> None:
    """Whoever guesses gets the list."""
    with pytest.raises(InvalidOption, match=r"there is no option 'zzzz'; there are: .*deadline, "):
        register(zzzz=3)


def test_what_was_not_given_is_as_documented() -> None:
    """The defaults limit nothing but what overlaps by key."""
    options = checked_options({"description": "is kept elsewhere"})
    assert options == DEFAULT_OPTIONS == TypeOptions()
    assert (options.timeout, options.deadline, options.expires, options.stall_timeout) == (
        ..., None, None, None,
    )  # fmt: skip
    assert (options.max_concurrency, options.max_per_key, options.max_pending) == (None, 1, None)
    assert (options.on_duplicate, options.engine, options.rate) == ("enqueue", "local", None)


def test_what_was_given_is_kept() -> None:
    """All at once; None is as good as not given where it means none."""

    def key(params: dict[str, Any]) -> str:
        return "k"

    given: dict[str, Any] = {
        "timeout": None, "deadline": 5, "expires": None, "stall_timeout": 0.5,
        "retry": RetryPolicy(), "on_failure": print, "max_concurrency": 3,
        "concurrency_key": key, "max_per_key": 2, "on_duplicate": "join",
        "rate_limit": "5/s", "max_pending": 1, "engine": "process",
    }  # fmt: skip
    options = checked_options(given)
    assert {name: getattr(options, name) for name in given} == given
    assert options.rate == RateLimit(5, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60/min", (60, 60.0)), ("5/s", (5, 1.0)), ("5/sec", (5, 1.0)), ("5/seconds", (5, 1.0)),
        ("1000/day", (1_000, 86_400.0)), ("10/30s", (10, 30.0)), ("2/h", (2, 3_600.0)),
        ("2/2hours", (2, 7_200.0)), (" 7 / 15 Minutes ", (7, 900.0)), ("1000000/s", (10**6, 1.0)),
        ("1/99999days", (1, 99_999 * 86_400.0)), ("05/010s", (5, 10.0)),
    ],
)  # fmt: skip
def test_reads_a_rate(text: str, expected: tuple[int, float]) -> None:
    """As people write it."""
    assert parse_rate(text) == expected


@each_of(
    ["", "5", "5/", "/s", "0/s", "-5/s", "5.5/s", "5/0s", "5/00s", "5/000min", "5/week", "5/m",
     "5/s/s", "5 per s", "1000001/s", "99999999/s", "5/100000s", "5/-1s", "\u0665/s", "5/s\n5/s",
     5, 5.0, True, b"5/s", ["5/s"]],
)  # fmt: skip
def test_refuses_a_rate_that_says_nothing(text: Any) -> None:
    """A rate of no time, or of none, would be no limit or no job."""
    with pytest.raises(InvalidOption, match=r"^rate_limit is ") as caught:
        parse_rate(text)
    assert caught.value.option == "rate_limit"


def test_no_rate_is_none() -> None:
    """Not given is not limited."""
    assert parse_rate(None) is None
