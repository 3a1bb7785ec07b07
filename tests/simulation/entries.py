"""What the model is made of: job types, submits, jobs, and what happens to them later."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from jobrunner import JobRunnerError, JobStatus
from jobrunner.options import OnDuplicate, RateLimit

Refusal = type[JobRunnerError]
Stop = Literal["timeout", "deadline", "cancel"]
STRENGTH: tuple[Stop | None, ...] = (None, "timeout", "deadline", "cancel")
"""A later one wins over an earlier one."""
Outcome = Literal["value", "error", "later", "never"]
WAITING = (JobStatus.PENDING, JobStatus.RETRYING)
FINAL = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
MINUTE = 60.0
"""What one point of priority is worth."""


class Kind(NamedTuple):
    """A job type: how often it is tried, whether its handler stops when asked to, and limits."""

    attempts: int
    obeys: bool
    together: int | None = None
    """How many run at once."""
    rate: RateLimit | None = None
    pending: int | None = None
    """How many may wait."""


KINDS = {
    "work": Kind(1, True),
    "flaky": Kind(3, True),
    "stubborn": Kind(1, False),
    "mule": Kind(2, False),
    "pair": Kind(2, True, together=2),
    "single": Kind(1, False, together=1, pending=2),
    "rated": Kind(2, True, rate=RateLimit(2, 60.0)),
}


class Options(NamedTuple):
    """What a submit says."""

    type: str
    priority: int = 0
    delay: float = 0.0
    session: str | None = None
    key: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    expires: float | None = None
    together: str | None = None
    """Concurrency key: of the jobs of a type with one key, one runs at a time."""
    duplicate: OnDuplicate = "enqueue"


@dataclass(eq=False)
class Entry:
    """A job."""

    number: int
    options: Options
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    rank: float = 0.0
    stop: Stop | None = None
    due_by: float = math.inf
    ended: float = 0.0
    retry_of: "Entry | None" = None
    joined: list[str | None] = field(default_factory=list)
    """Idempotency keys of submits that joined it."""
    history: list[tuple[JobStatus, float]] = field(default_factory=list)
    asked: bool = False
    """Whether somebody wants it to stop."""
    ends_by: float = math.inf
    """End of its time limit."""
    left: float = math.inf
    """Seconds that are left of it while that stands still."""
    questions: int = 0
    """How many it has asked in all its attempts."""
    open: bool = False
    """Whether the newest of them waits for an answer."""
    answer: int = 0
    """What it goes on with when it has a worker again."""

    @property
    def final(self) -> bool:
        return self.status in FINAL


class Alarm(NamedTuple):
    """Something that happens to a job later."""

    when: float
    order: int
    entry: Entry
    call: Callable[[Entry], None]
    lasting: bool = False
    """Whether it strikes whatever becomes of an attempt."""
