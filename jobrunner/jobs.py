"""The job: its record, its statuses, and one function for each way from one status to the next.

            +----------------- retrying <--------+
            v                                    |
 pending -> running -----------------------------+ error, attempts left
    |        | |  ^
    |        | |  +-> input_required                  a person is asked, and answers
    |        | +-> completed | failed | cancelled     final: never changes again
    |        +-> pending                              interrupted, the attempt is given back
    +-> cancelled | failed

The functions here are the only code that changes the status of a job. They are synchronous, and
whoever calls one saves the job with its event before anything else can run.
"""

import math
import os
import random
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from .batches import Batch
from .errors import IllegalTransition
from .events import EventLog
from .questions import Questions
from .timers import Timer
from .wording import class_name, describe, traceback_text


class JobStatus(StrEnum):
    """Where a job stands."""

    __hash__ = str.__hash__  # an enum's own is Python code, and statuses are keys everywhere

    PENDING = "pending"
    """Accepted; waits for a worker or for its time."""
    RUNNING = "running"
    """A handler works on it, also while it is asked to stop."""
    RETRYING = "retrying"
    """An attempt failed; `next_attempt_at` says when the next one may start."""
    INPUT_REQUIRED = "input_required"
    """It waits for a person's answer."""
    COMPLETED = "completed"
    """Ended with a result."""
    FAILED = "failed"
    """Ended with an error."""
    CANCELLED = "cancelled"
    """Ended because somebody asked for it, and nothing of it runs any more."""


_S = JobStatus

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset(
        {_S.PENDING, _S.RETRYING, _S.INPUT_REQUIRED, _S.COMPLETED, _S.FAILED, _S.CANCELLED}
    ),
    _S.RETRYING: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.INPUT_REQUIRED: frozenset({_S.RUNNING, _S.FAILED}),  # failed by a fault of our own
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}

FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
WAITING = frozenset({_S.PENDING, _S.RETRYING})

FailureReason: TypeAlias = Literal[
    "error",
    "timeout",
    "deadline",
    "stalled",
    "expired",
    "rejected",
    "result_not_serialisable",
    "too_large",
    "shutdown",
    "lost",
    "stuck",
]
CancelReason: TypeAlias = Literal["user", "timeout", "shutdown", "parent", "superseded"]


@dataclass(slots=True, frozen=True)
class JobError:
    """Why an attempt failed, as text: a kept exception would pin everything its frames hold."""

    reason: FailureReason
    """The kind of failure, from a closed set."""
    type: str
    """Name of the exception's class, or of the limit."""
    title: str
    """One line for a list."""
    detail: str
    """What the exception says, at most 8 kB."""
    attempt: int
    """The attempt that failed, from 1; 0 when none was started."""
    retryable: bool
    """Whether the same job could succeed when it is tried again."""
    traceback: str = ""
    """At most 64 kB; shown over HTTP only by an app in debug mode."""

    @classmethod
    def from_exception(
        cls,
        error: BaseException,
        *,
        attempt: int,
        reason: FailureReason = "error",
        retryable: bool = False,
    ) -> "JobError":
        """Describe `error`, which may be hostile."""
        kind, detail = class_name(error), describe(error)
        title = (detail.splitlines() or [kind])[0][:200] or kind
        return cls(reason, kind, title, detail, attempt, retryable, traceback_text(error))

    @classmethod
    def from_limit(cls, reason: FailureReason, detail: str, *, attempt: int) -> "JobError":
        """Describe a failure that no exception stands for: a limit was reached."""
        return cls(reason, reason, detail, detail, attempt, reason != "too_large")


class Step(NamedTuple):
    """Step `current` of `total`."""

    current: int
    total: int


@dataclass(slots=True, eq=False)
class Job:
    """The record of a job. The store owns it, this module changes it, everybody else reads it.

    Times ending in `_at` are unix seconds, durations seconds.
    """

    id: str
    """`job_` and 128 random bits; set at submit."""
    number: int
    """Position among all jobs of the runner, from 1; set at submit."""
    type: str
    """Name of the handler; set at submit."""
    params: bytes
    """The validated params as JSON, secrets masked; set at submit."""
    created_at: float
    """When it was accepted; set at submit."""
    log: EventLog
    """Its events; the store appends."""
    arguments: Mapping[str, Any] | None = None
    """The validated params as the handler takes them; None once the job is final."""
    context: Context | None = None
    """The submitter's context variables; None once the job is final."""
    priority: int = 0
    """Higher runs earlier; set at submit."""
    timeout: float | None = None
    """Limit of each attempt; None for none; set at submit."""
    deadline: float | None = None
    """Limit of the whole job, over waiting and retries; None for none; set at submit."""
    stall_timeout: float | None = None
    """How long an attempt may go on without a sign of life; None for ever; set at submit."""
    max_attempts: int = 1
    """How often it may be tried; set at submit, from the type's retry policy."""
    run_at: float | None = None
    """Not before this time; None for at once; set at submit."""
    expires_at: float | None = None
    """When it fails unless it has started; None for never; set at submit."""
    deadline_at: float | None = None
    """When it has to have ended; None for no deadline; set at submit."""
    owner: str | None = None
    """Whose it is; None when nobody owns jobs here; set at submit."""
    session_id: str | None = None
    batch_id: str | None = None
    batch: Batch | None = None
    """The batch that it was submitted with, which counts it; None once it is packed."""
    parent_id: str | None = None
    retry_of: str | None = None
    """The final job that this one runs again."""
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    """Jobs of a type that share it are limited together; set at submit."""
    metadata: Mapping[str, Any] | None = None
    webhook_url: str | None = None
    """Where its webhooks go; "" for nowhere, None for where the runner's go; set at submit."""
    traceparent: str | None = None
    """Where in a trace it was submitted (W3C Trace Context)."""
    status: JobStatus = JobStatus.PENDING
    """Changed by the functions below only."""
    attempt: int = 0
    """Attempts started, from 1; `start` counts up, `interrupt` gives one back."""
    progress: float = 0
    """0 to 100, as the handler says; 100 once completed."""
    progress_message: str | None = None
    step: Step | None = None
    updated_at: float = 0.0
    """When the last event was saved."""
    started_at: float | None = None
    """When the first attempt started."""
    finished_at: float | None = None
    """When it became final, None before: the one test for final."""
    next_attempt_at: float | None = None
    """While retrying: when the next attempt may start."""
    cancel_requested_at: float | None = None
    cancel_reason: CancelReason | None = None
    cancel_note: str | None = None
    """What the canceller said about it."""
    result: bytes | None = None
    """The handler's value as JSON, once completed."""
    error: JobError | None = None
    """The last attempt's failure; kept while retrying, and with a failed job."""
    listed_as: JobStatus = JobStatus.PENDING
    """The status under which the store lists it; the store's own."""
    questions: Questions | None = None
    """What it asks; None until it asks something, and once it is packed."""
    timer: Timer | None = None
    """What it waits for: its due time, its time limit, or the end of a grace."""
    alarms: tuple[Timer, ...] = ()
    """What strikes over all attempts: its expiry and its deadline."""
    begun: float | None = None
    """When the first attempt started, on the loop's clock."""
    due: float = 0.0
    """When it became due, on the loop's clock; the queue's own, which makes its rank of it."""
    due_by: float = math.inf
    """End of its deadline, on the loop's clock."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended, and will never change again."""
        return self.finished_at is not None


def start(job: Job, now: float, clock: float) -> None:
    """An attempt begins: pending or retrying -> running.

    Args:
        now: Unix seconds.
        clock: Seconds on the loop's clock, which nobody can set.
    """
    _move(job, JobStatus.RUNNING)
    job.attempt += 1
    job.next_attempt_at = None
    job.progress, job.progress_message, job.step = 0, None, None
    if job.started_at is None:
        job.started_at, job.begun = now, clock


def ask(job: Job) -> None:
    """A person is asked: running -> input_required."""
    _move(job, JobStatus.INPUT_REQUIRED)


def go_on(job: Job) -> None:
    """No question is open any more: input_required -> running."""
    _move(job, JobStatus.RUNNING)


def complete(job: Job, now: float, result: bytes) -> None:
    """The handler returned: running -> completed."""
    _finish(job, JobStatus.COMPLETED, now)
    job.result = result
    job.error = None
    job.progress = 100


def fail(job: Job, now: float, error: JobError) -> None:
    """All is lost: pending, retrying or running -> failed."""
    _finish(job, JobStatus.FAILED, now)
    job.error = error


def cancel(job: Job, now: float, error: JobError | None = None) -> None:
    """It was asked to stop and nothing of it runs: pending, retrying or running -> cancelled.

    What went wrong while it stopped is kept with it.
    """
    _finish(job, JobStatus.CANCELLED, now)
    job.error = error or job.error
    if job.cancel_requested_at is None:
        job.cancel_requested_at = now
    job.cancel_reason = job.cancel_reason or "user"


def retry(job: Job, error: JobError, due_at: float) -> None:
    """An attempt failed and another one may start at `due_at`: running -> retrying."""
    _move(job, JobStatus.RETRYING)
    job.error = error
    job.next_attempt_at = due_at


def interrupt(job: Job) -> None:
    """The runner took the attempt away and gives it back: running -> pending."""
    _move(job, JobStatus.PENDING)
    job.attempt -= 1


def request_cancel(job: Job, now: float, reason: CancelReason, note: str | None) -> bool:
    """Note that somebody wants the job to stop; return whether they were the first to ask."""
    first = job.cancel_requested_at is None
    if first:
        job.cancel_requested_at = now
        job.cancel_reason = reason
        job.cancel_note = note
    return first


def report(job: Job, percent: float, message: str | None, step: Step | None) -> bool:
    """The handler says how far it is; return whether that is anything new."""
    new = (percent, message, step) != (job.progress, job.progress_message, job.step)
    job.progress, job.progress_message, job.step = percent, message, step
    return new


def _finish(job: Job, status: JobStatus, now: float) -> None:
    _move(job, status)
    job.finished_at = now
    job.next_attempt_at = None
    job.arguments = None
    job.context = None


def _move(job: Job, status: JobStatus) -> None:
    if status not in TRANSITIONS[job.status]:
        raise IllegalTransition(f"job {job.id} can't go from {job.status} to {status}")
    job.status = status


def standing(job: Job) -> dict[str, Any]:
    """Return what an event of its status says, in JSON values."""
    return {"status": job.status._value_, "attempt": job.attempt}


def log_fields(job: Job) -> dict[str, str]:
    """Return what a line of the log about the job has as `extra`."""
    return {"job_id": job.id, "job_type": job.type}


def new_id_source(seed: int | None = None) -> Callable[[], str]:
    """Return a function that makes job ids: `job_` and 128 random bits in hex.

    Reading the system's random source once for many ids costs a tenth of reading it for each. A
    seed makes them repeatable, for tests.
    """
    read = os.urandom if seed is None else random.Random(seed).randbytes
    pool: list[str] = []

    def new_id() -> str:
        if not pool:
            digits = read(16 * 128).hex()
            pool.extend(digits[i : i + 32] for i in range(0, len(digits), 32))
        return f"job_{pool.pop()}"

    return new_id
