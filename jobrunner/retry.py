"""When to try again: a pure function of the attempt, the error and a random number.

What many jobs share, the budget of their type, is apart from it: see `RetryBudget`.
"""

import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from .errors import InvalidOption, JobUnsuccessful, PermanentError, RetryableError
from .http_errors import may_pass, wait_of
from .limits import LONGEST
from .wording import class_name, traceback_text

logger = logging.getLogger("jobrunner.retry")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Whether, how often and after how long a failed attempt is tried again; times are seconds.

    The delay before attempt n + 1 is drawn evenly from 0 to `min(cap, base * factor ** (n - 1))`
    seconds: exponential backoff with full jitter, so that many jobs that failed together don't
    come back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    The first line that fits decides what is worth another attempt:

        RetryableError                                    retried
        PermanentError, or in `give_up_on`                not
        `retry_if` says True or False                     as it says
        not in `retry_on`                                 not
        status 4xx but 408, 409, 425, 429                 not
        status 429 for lack of money (`http_errors`)      not
        anything else                                     retried

    So a status narrows `retry_on` and never widens it: `retry_on=(HTTPStatusError,)` retries that
    class's 503 and not its 401. To retry a 401 say so in `retry_if`. The exception itself counts,
    and not what it was raised from.

    Raises:
        InvalidOption: A value is out of its range, or not of its type.

    Example:
        policy = RetryPolicy(max_attempts=5, max_time=1_800.0, give_up_on=(KeyError,))
        assert policy.retryable(ConnectionError()) and not policy.retryable(KeyError())
    """

    max_attempts: int = 3
    """How often a job is tried in all, at least 1."""
    base: float = 1.0
    """Upper end of the first delay, in seconds."""
    cap: float = 60.0
    """Upper end of every delay, in seconds; a `retry_after` or a `Retry-After` may be longer."""
    factor: float = 2.0
    """What the upper end is multiplied by from one attempt to the next, at least 1."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    """What is worth another attempt; SystemExit and the like are not, unless they stand here."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """What is not, though it is in `retry_on`."""
    retry_if: Callable[[BaseException], bool | None] | None = None
    """Asked whether to retry; its None leaves it to `retry_on` and the status.

    A plain, quick function without side effects: it runs on the event loop, more than once for a
    failure. What it raises, and an answer of another kind, counts as None and is logged once.
    """
    max_time: float | None = None
    """No attempt is put off past this many seconds from the job's first start; None for ever."""
    budget: float | None = 100.0
    """Retries a second that may come due for one job type; more are put off, and none is dropped.

    None for no limit. What it adds to a delay is not counted by `max_time`.
    """
    _logged: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """What was said of `retry_if` already: 10,000 failures shouldn't say it 10,000 times."""

    def __post_init__(self) -> None:
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise InvalidOption(
                f"max_attempts is {self.max_attempts!r}; it must be an integer, at least 1"
            )
        for name, least in (("base", 0.0), ("cap", 0.0), ("factor", 1.0)):
            _check_number(name, getattr(self, name), least)
        if self.max_time is not None:
            _check_number("max_time", self.max_time, 0.0)
        if self.budget is not None:
            _check_rate("budget", self.budget)
        for name in ("retry_on", "give_up_on"):
            _check_classes(name, getattr(self, name))
        if self.retry_if is not None:
            _check_predicate("retry_if", self.retry_if)

    def retryable(self, error: BaseException) -> bool:
        """Return whether `error` could go away by itself; it never raises."""
        if _is_one_of(error, (RetryableError,)):
            return True
        if _is_one_of(error, (PermanentError, *self.give_up_on)):
            return False
        answer = self._ask(error)
        if answer is not None:
            return answer
        return _is_one_of(error, self.retry_on) and may_pass(error) and not _settled(error)

    def delay(
        self,
        attempt: int,
        error: BaseException,
        random: Random,
        *,
        elapsed: float = 0.0,
        now: float | None = None,
    ) -> float | None:
        """Return the seconds to wait after `attempt` (from 1) failed, or None to give up.

        What a `RetryableError` or the response's headers say is waited at least; the jitter comes
        on top, so that what was told to wait together doesn't come back together.

        Args:
            elapsed: Seconds since the job's first start.
            now: Unix seconds, for a header that names a date; None if unknown.
        """
        if attempt >= self.max_attempts or not self.retryable(error):
            return None
        jitter = random.uniform(0.0, self.ceiling(attempt))
        delay = min(LONGEST, max(_told(error), wait_of(error, now)) + jitter)
        late = self.max_time is not None and elapsed + delay > self.max_time
        return None if late else delay

    def ceiling(self, attempt: int) -> float:
        """Return the upper end of the delay's draw after `attempt`, in seconds."""
        try:
            return min(LONGEST, self.cap, self.base * self.factor ** (attempt - 1))
        except OverflowError:
            return min(LONGEST, self.cap) if self.base else 0.0

    def _ask(self, error: BaseException) -> bool | None:
        if self.retry_if is None:
            return None
        try:
            answer: object = self.retry_if(error)
        except BaseException as broken:  # the guard's own path: not even SystemExit leaves it (T1)
            self._log("raised", f"raised {class_name(broken)}\n{traceback_text(broken)}")
            return None
        if answer is None or answer is True or answer is False:
            return answer
        self._log("answered", f"answered with {_kind(answer)}, and not True, False or None")
        return None

    def _log(self, what: str, text: str) -> None:
        if what not in self._logged:
            self._logged.add(what)
            logger.error("retry_if is left out, and this is said once: it %s", text)


class RetryBudget:
    """Spaces the moments at which retries come due to `rate` a second, in the long run.

    Time is cut into periods of one second, or of what `rate` needs to be a whole number in each.
    A retry is counted in the period in which it is due; if that is full it goes to the next one
    that isn't, to a place of its own there. So a period holds one second's worth, all of which may
    come at once, and any second less than two; a long delay takes a place at its own time and puts
    off nobody before it, and the order of reserving doesn't matter. (A single theoretical arrival
    time, as GCRA has it, ITU-T I.371, would be moved by a long delay for all that come later.)

    The next period with room is found by disjoint sets with path halving (Tarjan and van Leeuwen,
    1984), so that 10,000 that failed together don't look at each full one. A place is given for
    good: a job that is cancelled leaves it empty.

    Args:
        rate: Retries a second.
        remembered: How many periods are counted; past it those farthest from now are forgotten,
            down to half as many, and can be filled again.

    Raises:
        InvalidOption: The rate isn't a finite number above 0.
    """

    def __init__(self, rate: float, *, remembered: int = 100_000) -> None:
        _check_rate("budget", rate)
        self._rate = rate
        self._capacity = math.ceil(rate)
        self._width = self._capacity / rate
        self._remembered = remembered
        self._crowded = 1
        self._used: dict[int, int] = {}
        self._beyond: dict[int, int] = {}
        """For a full period, one after it: the next with room is there or farther."""

    @property
    def periods(self) -> int:
        """How many periods are remembered, some that are just over among them."""
        return max(len(self._used), len(self._beyond))

    def reserve(self, now: float, delay: float) -> float:
        """Return `delay`, lengthened to where there is room; O(log n) on the average.

        Args:
            now: Seconds on a clock that nobody sets, the event loop's.
            delay: Seconds, finite.
        """
        wanted = math.floor((now + delay) / self._width)
        period = self._with_room(wanted)
        place = self._used.get(period, 0)
        self._used[period] = place + 1
        if place + 1 >= self._capacity:
            self._beyond[period] = period + 1
        if len(self._used) > self._crowded:
            self._forget(math.floor(now / self._width))
        if period == wanted:
            return delay
        return max(delay, min(LONGEST, period * self._width + place / self._rate - now))

    def _with_room(self, period: int) -> int:
        while (later := self._beyond.get(period)) is not None:
            farther = self._beyond.get(later)
            if farther is None:
                return later
            self._beyond[period] = farther
            period = farther
        return period

    def _forget(self, current: int) -> None:
        """Drop the periods that are over, and then the farthest; each pays for itself once."""
        kept = sorted(period for period in self._used if period >= current)
        del kept[self._remembered // 2 :]
        self._used = {period: self._used[period] for period in kept}
        self._beyond = {p: later for p, later in self._beyond.items() if p in self._used}
        self._crowded = 2 * len(kept)


def _told(error: BaseException) -> float:
    """Return the seconds that the handler says to wait; what isn't a number says nothing."""
    if not _is_one_of(error, (RetryableError,)):
        return 0.0
    try:
        told = float(error.retry_after or 0.0)  # type: ignore[attr-defined]  # it is one
    except BaseException:  # anybody's object or header; the guard's own path may not fail (T1, T13)
        return 0.0
    return told if math.isfinite(told) else 0.0


def _settled(error: BaseException) -> bool:
    """Whether a sub-job ended for good: refused, or cancelled by somebody."""
    if not _is_one_of(error, (JobUnsuccessful,)):
        return False
    try:
        return error.retryable is False  # type: ignore[attr-defined]  # it is one
    except BaseException:  # anybody's subclass (T1)
        return False


def _is_one_of(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Match as an `except` clause does: `isinstance` asks a `__class__` that could raise (T13)."""
    return any(type.__subclasscheck__(each, type(error)) for each in classes)


def _kind(value: object) -> str:
    """Return the name of a value's class, which a hostile metaclass can't hide."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def _check_number(name: str, value: object, least: float) -> None:
    if not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise InvalidOption(f"{name} is {value!r}; it must be at least {least} and finite")


def _check_rate(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
        raise InvalidOption(f"{name} is {value!r}; it must be above 0 and finite, or None")


def _check_predicate(name: str, value: object) -> None:
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise InvalidOption(f"{name} is {value!r}; it must be a plain function of the exception")


def _check_classes(name: str, classes: object) -> None:
    if not isinstance(classes, tuple) or not all(
        isinstance(each, type) and issubclass(each, BaseException) for each in classes
    ):
        raise InvalidOption(f"{name} is {classes!r}; it must be a tuple of exception classes")


NO_RETRY = RetryPolicy(max_attempts=1)
"""One attempt: the default, since only a handler's author knows whether a second one is safe."""
