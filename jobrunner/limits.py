"""The bounds of a runner: what it keeps and how much it takes. All of them have a default."""

import math
from dataclasses import dataclass, fields
from types import NoneType
from typing import get_args

from .errors import InvalidOption

LONGEST = 3_153_600_000.0
"""Seconds that a duration may have, a hundred years: every time to come has four digits of year."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long final jobs are kept, in seconds, jobs and bytes. A live job is never pruned.

    Raises:
        InvalidOption: A number is negative.
    """

    max_age: float | None = 86_400.0
    """Seconds after its end for which a job is kept; None for no limit."""
    max_jobs: int | None = 10_000
    """How many final jobs are kept, the newest; None for no limit."""
    max_tombstones: int = 100_000
    """How many ids of pruned jobs are remembered, to answer "gone" instead of "unknown"."""
    max_bytes: int | None = 268_435_456
    """Memory of all final jobs in bytes, what each costs in tables included; the oldest go first.
    The newest is kept however large it is, or nobody could read its result. None for no limit."""

    def __post_init__(self) -> None:
        _check_not_negative(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large things may get, and how many there may be; what is over it is refused by name.

    Sizes are bytes of JSON, or characters of text. Each field has its text in the source, and a row
    in the README's table of limits.

    Raises:
        InvalidOption: A number is negative.
    """

    max_pending: int = 100_000
    """Jobs that wait for a worker, for their time or for a retry; `submit` refuses more."""
    max_live_bytes: int = 268_435_456
    """Params of all jobs together that haven't ended; `submit` refuses more."""
    max_params: int = 262_144
    """Params of one job."""
    max_metadata: int = 16_384
    """Metadata of one job."""
    max_result: int = 1_048_576
    """Result of one job."""
    max_events: int = 1_000
    """Events kept of one job, the newest."""
    max_text: int = 5_000_000
    """Text of log lines and output kept of one job, the newest."""
    max_threads: int = 1_000
    """Threads of plain functions at once, those of handlers that were given up too."""
    max_stuck: int = 100
    """Handlers that refused to end and still run, 1 or more; with so many no job is begun."""
    max_aside: int = 20_000
    """Attempts that wait for somebody, and so have no worker."""
    max_questions: int = 100
    """Open questions of one job."""
    max_prompt: int = 16_384
    """Characters of a question."""
    max_answer: int = 16_384
    """An answer to one."""
    max_batch: int = 10_000
    """Jobs of one batch."""
    max_depth: int = 20
    """Generations of sub-jobs that are live at once: a sub-job of a sub-job is the second."""
    max_feed: int = 10_000
    """Events kept of all jobs together, for readers of the runner's log."""

    def __post_init__(self) -> None:
        _check_not_negative(self)
        check_count("max_stuck", self.max_stuck)


def _check_not_negative(limits: Retention | Limits) -> None:
    for field in fields(limits):
        value = getattr(limits, field.name)
        if value is None and NoneType in get_args(field.type):
            continue
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InvalidOption(f"{field.name} is {value!r}; it must be a number, 0 or more")


def check_seconds(name: str, value: float | None, *, zero: bool = False) -> float | None:
    """Return `value` when it is a duration or None.

    Raises:
        InvalidOption: It is negative, 0 where `zero` isn't allowed, above a hundred years, or no
            number.
    """
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 <= value <= LONGEST) or (value == 0 and not zero):
        least = "0 or more" if zero else "above 0"
        raise InvalidOption(
            f"{name} is {value!r:.60}; it must be a number of seconds {least}, "
            f"at most {LONGEST:.0f}, or None",
            option=name,
        )
    return float(value)


def check_count(name: str, value: int) -> int:
    """Return `value` when it is a number of things.

    Raises:
        InvalidOption: It is below 1, or no integer.
    """
    if not isinstance(value, int) or value < 1:
        raise InvalidOption(
            f"{name} is {value!r:.60}; it must be an integer, 1 or more", option=name
        )
    return value
