"""When to try again: a pure function of the attempt, the error and a random number."""

import math
from dataclasses import dataclass
from random import Random

from .errors import InvalidOption, PermanentError, RetryableError
from .limits import LONGEST


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after how long a failed attempt is tried again.

    The delay before attempt n + 1 is drawn evenly from 0 to `min(cap, base * factor ** (n - 1))`
    seconds: exponential backoff with full jitter, so that many jobs that failed together don't
    come back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Raises:
        InvalidOption: A number is out of its range.
    """

    max_attempts: int = 3
    """How often a job is tried in all, at least 1."""
    base: float = 1.0
    """Upper end of the first delay, in seconds."""
    cap: float = 60.0
    """Upper end of every delay, in seconds; a `retry_after` may be longer."""
    factor: float = 2.0
    """What the upper end is multiplied by from one attempt to the next, at least 1."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    """What is worth another attempt; SystemExit and the like are not, unless they stand here."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """What is not, though it is in `retry_on`."""

    def __post_init__(self) -> None:
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise InvalidOption(
                f"max_attempts is {self.max_attempts!r}; it must be an integer, at least 1"
            )
        for name, least in (("base", 0.0), ("cap", 0.0), ("factor", 1.0)):
            value = getattr(self, name)
            if not (least <= value < math.inf):
                raise InvalidOption(f"{name} is {value!r}; it must be at least {least} and finite")
        for name in ("retry_on", "give_up_on"):
            _check_classes(name, getattr(self, name))

    def retryable(self, error: BaseException) -> bool:
        """Return whether `error` could go away by itself."""
        if isinstance(error, RetryableError):
            return True
        if isinstance(error, (PermanentError, *self.give_up_on)):
            return False
        return isinstance(error, self.retry_on)

    def delay(self, attempt: int, error: BaseException, random: Random) -> float | None:
        """Return the seconds to wait after `attempt` (from 1) failed, or None to give up.

        A `RetryableError` with `retry_after` waits at least that long; the jitter comes on top,
        so that what was told to wait together doesn't come back together.
        """
        if attempt >= self.max_attempts or not self.retryable(error):
            return None
        jitter = random.uniform(0.0, self.ceiling(attempt))
        return min(LONGEST, _told(error) + jitter)

    def ceiling(self, attempt: int) -> float:
        """Return the upper end of the delay's draw after `attempt`, in seconds."""
        try:
            return min(self.cap, self.base * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap if self.base else 0.0


def _told(error: BaseException) -> float:
    """Return the seconds that the error says to wait; what isn't a number says nothing."""
    try:
        told = float(error.retry_after or 0.0) if isinstance(error, RetryableError) else 0.0
    except Exception:  # anybody's object or header; the guard's own path may not fail (T1, T13)
        return 0.0
    return max(0.0, told) if math.isfinite(told) else 0.0


def _check_classes(name: str, classes: object) -> None:
    if not isinstance(classes, tuple) or not all(
        isinstance(each, type) and issubclass(each, BaseException) for each in classes
    ):
        raise InvalidOption(f"{name} is {classes!r}; it must be a tuple of exception classes")


NO_RETRY = RetryPolicy(max_attempts=1)
"""One attempt: the default, since only a handler's author knows whether a second one is safe."""
