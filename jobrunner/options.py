"""What can be decided for a job type, and what is known of it once it is checked."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, get_args

from .errors import InvalidOption
from .limits import check_count, check_seconds
from .retry import RetryPolicy
from .views import JobView

OnDuplicate: TypeAlias = Literal["enqueue", "join", "reject", "replace"]
EngineName: TypeAlias = Literal["local", "process"]
OnFailure: TypeAlias = Callable[[JobView], Any]
PERIODS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3_600.0,
           "hour": 3_600.0, "day": 86_400.0}  # fmt: skip
MAX_RATE = 1_000_000


class RateLimit(NamedTuple):
    """At most `starts` in any `seconds`."""

    starts: int
    seconds: float


class JobOptions(TypedDict, total=False):
    """What `JobRunner.job` takes beside the name; durations are seconds."""

    timeout: float | EllipsisType | None
    """Limit of each attempt in seconds; None for none; the runner's if not given."""
    deadline: float | None
    """Limit of the whole job in seconds, over waiting and retries, from when it may start."""
    expires: float | None
    """Seconds for which a job may wait for its first start; then it fails as `expired`."""
    stall_timeout: float | None
    """Seconds that an attempt may go on without progress, a step, a log line or output."""
    retry: RetryPolicy | None
    """When to try again; the runner's policy if not given."""
    on_failure: OnFailure | None
    """Called with the job's view when it has failed for good; the runner's if not given."""
    max_concurrency: int | None
    """How many jobs of the type run at once, however many workers there are."""
    concurrency_key: Callable[[dict[str, Any]], str | None] | None
    """Makes a key of the params, as `lambda p: p["user_id"]`; jobs with one key are limited
    together."""
    max_per_key: int
    """How many jobs with the same concurrency key run at once, 1 if not given."""
    on_duplicate: OnDuplicate
    """What a submit does while a job with the same concurrency key is live: `enqueue` behind it,
    the default, `join` it, `replace` it, or `reject` the new one."""
    rate_limit: str | None
    """How many attempts may start in a time, as `60/min`; in any minute, not by the clock."""
    max_pending: int | None
    """How many jobs of the type may wait; the runner's bound holds too."""
    engine: EngineName
    """Where the handler runs: `local`, the default, or `process`, which can be killed."""
    capture_logs: bool | None
    """Whether to keep with each job what its handler logs, warns of and prints; the runner's if not
    given. Kept are records that come to the root logger, warnings that are shown, and lines on
    `sys.stdout`; of threads, those of plain functions and of `asyncio.to_thread`. They still go
    where they went before. Tracebacks in records are kept, too."""
    webhook_url: str | EllipsisType | None
    """Where the webhooks of its jobs go; None for nowhere; the runner's URL if not given."""
    description: str | None
    """For people and models; the docstring's first paragraph if not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeOptions:
    """The options of a job type, checked; see `JobOptions`.

    Raises:
        InvalidOption: One of them has a value that it can't have.
    """

    timeout: float | EllipsisType | None = ...
    deadline: float | None = None
    expires: float | None = None
    stall_timeout: float | None = None
    retry: RetryPolicy | None = None
    on_failure: OnFailure | None = None
    max_concurrency: int | None = None
    concurrency_key: Callable[[dict[str, Any]], str | None] | None = None
    max_per_key: int = 1
    on_duplicate: OnDuplicate = "enqueue"
    rate_limit: str | None = None
    max_pending: int | None = None
    engine: EngineName = "local"
    capture_logs: bool | None = None
    webhook_url: str | EllipsisType | None = ...

    def __post_init__(self) -> None:
        if self.timeout is not ...:
            check_seconds("timeout", self.timeout)
        for name in ("deadline", "expires", "stall_timeout"):
            check_seconds(name, getattr(self, name))
        for name in ("max_concurrency", "max_per_key", "max_pending"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        check_choice("on_duplicate", self.on_duplicate, OnDuplicate)
        check_choice("engine", self.engine, EngineName)
        for name in ("concurrency_key", "on_failure"):
            if (function := getattr(self, name)) is not None and not callable(function):
                raise InvalidOption(f"{name} is {function!r:.60}; it must be a function")
        if self.capture_logs is not None:
            check_flag("capture_logs", self.capture_logs)
        if not isinstance(self.webhook_url, str | EllipsisType | None):
            raise InvalidOption(f"webhook_url is {self.webhook_url!r:.60}; it must be a URL")
        if inspect.iscoroutinefunction(self.concurrency_key):
            raise InvalidOption("concurrency_key is a coroutine function; it must be a plain one")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise InvalidOption(f"retry is {self.retry!r:.60}; it must be a RetryPolicy")
        parse_rate(self.rate_limit)

    @property
    def is_plain(self) -> bool:
        """Whether a job of the type has no options of its own, but for the limit of an attempt."""
        timed = self.deadline is not None or self.expires is not None
        return not timed and self.stall_timeout is None and self.webhook_url is ...

    @property
    def rate(self) -> RateLimit | None:
        """The rate limit, read."""
        return parse_rate(self.rate_limit)


def checked_options(given: Mapping[str, Any], *, beside: Iterable[str] = ()) -> TypeOptions:
    """Return the options of a job type.

    Args:
        given: The options.
        beside: What else could have been meant by an unknown one.

    Raises:
        InvalidOption: One is unknown, or has a value that it can't have.
    """
    for unknown in given.keys() - JobOptions.__annotations__.keys():
        known = [*JobOptions.__annotations__, *beside]
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
        raise InvalidOption(f"there is no option {unknown!r}; {hint}", option=unknown)
    return TypeOptions(**{name: value for name, value in given.items() if name != "description"})


def check_flag(name: str, value: bool) -> bool:
    """Return `value` when it is True or False, and raise InvalidOption when it is neither."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} is {value!r:.60}; it must be True or False", option=name)
    return value


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise InvalidOption when `value` isn't one of a Literal's."""
    if value not in get_args(choices):
        raise InvalidOption(
            f"{name} is {value!r:.60}; it must be one of: {', '.join(get_args(choices))}",
            option=name,
        )


def parse_rate(text: str | None) -> RateLimit | None:
    """Read `60/min`, `5/s`, `1000/day`, `10/30s`.

    Raises:
        InvalidOption: It is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(
        r"([0-9]{1,7})\s*/\s*([0-9]{0,5})\s*([a-z]+?)s?", str(text).strip().lower()
    )
    count, times, unit = found.groups() if found else ("0", "", "")
    if unit not in PERIODS or not 0 < int(count) <= MAX_RATE or int(times or "1") == 0:
        raise InvalidOption(
            f"rate_limit is {text!r:.60}; write it as '60/min', '5/s', '1000/day' or '10/30s'",
            option="rate_limit",
        )
    return RateLimit(int(count), int(times or "1") * PERIODS[unit])


DEFAULT_OPTIONS = TypeOptions()
