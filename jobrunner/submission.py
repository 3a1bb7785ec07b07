"""From a request to a job: options and params checked, the job made, saved and queued.

There is no await in here, so that nothing can come in between (Q1).
"""

from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import datetime
from types import EllipsisType
from typing import Any, TypedDict

from pydantic_core import PydanticSerializationError, from_json, to_json

from .errors import IdempotencyKeyReused, InvalidOption, JobNotRetryable, PayloadTooLarge, QueueFull
from .events import EventLog
from .handlers import Handler
from .jobs import Job, JobStatus
from .limits import LONGEST, Limits, check_seconds
from .queue import MAX_PRIORITY, JobQueue
from .retry import RetryPolicy
from .store import JobStore

MASKED = b'"**********"'
"""What a SecretStr becomes in kept params."""
MAX_NAME = 256
"""Characters of a session id or an idempotency key."""


class SubmitOptions(TypedDict, total=False):
    """What `JobRunner.submit` takes beside the type and the params."""

    priority: int
    """-100 to 100, 0 if not given; one point is worth a minute of waiting."""
    delay: float
    """Seconds to wait before the job may start."""
    run_at: datetime
    """Moment before which the job may not start, with a time zone; instead of `delay`."""
    timeout: float | None
    """Limit of each attempt in seconds; None for none; the type's or the runner's if not given."""
    session_id: str
    """Session to list and watch the job by."""
    batch_id: str
    """Batch to list the job by."""
    idempotency_key: str
    """A second submit with the same key gets the first one's job, for as long as that is kept."""
    metadata: Mapping[str, Any]
    """JSON values to keep with the job."""


class Checked(TypedDict):
    """The options of a job, as its record has them."""

    priority: int
    timeout: float | None
    run_at: float | None
    session_id: str | None
    batch_id: str | None
    idempotency_key: str | None
    metadata: Mapping[str, Any] | None


class Intake:
    """Takes requests in.

    Args:
        store: Where new jobs are kept.
        queue: Where they wait.
        limits: How large and how many they may be.
        timeout: Limit of an attempt in seconds, for types and jobs without one.
        retry: Policy of types without one.
        now: The current time in unix seconds.
        new_id: Makes ids.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        limits: Limits,
        timeout: float | None,
        retry: RetryPolicy,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._queue = queue
        self._limits = limits
        self._timeout = timeout
        self._retry = retry
        self._now = now
        self._new_id = new_id
        self._number = 0

    def accept(
        self,
        handler: Handler,
        params: Mapping[str, Any],
        options: SubmitOptions,
        *,
        retry_of: str | None = None,
    ) -> tuple[Job, bool]:
        """Return the job that the request asks for, and whether it was there before.

        Raises:
            InvalidOption: An option has a value that it can't have.
            InvalidParams: The params don't fit the handler's signature.
            PayloadTooLarge: Params or metadata are over their limit.
            QueueFull: Too many jobs wait already.
            IdempotencyKeyReused: The key came before, with another request.
        """
        now = self._now()
        checked, delay = self._check(options, handler, now)
        arguments, raw = handler.validate(params)
        if len(raw) > self._limits.max_params:
            raise PayloadTooLarge(
                f"the params are {len(raw)} bytes of JSON; the limit is {self._limits.max_params}"
            )
        if (known := self._known(checked["idempotency_key"], handler, raw)) is not None:
            return known, True
        self._check_room()
        self._number += 1
        job = Job(
            id=self._new_id(),
            number=self._number,
            type=handler.name,
            params=raw,
            created_at=now,
            log=EventLog(max_events=self._limits.max_events, max_bytes=self._limits.max_text),
            arguments=arguments,
            context=copy_context(),
            max_attempts=(handler.retry or self._retry).max_attempts,
            retry_of=retry_of,
            **checked,
        )
        self._store.add(job, {"status": job.status, "attempt": 0})
        self._queue.put(job, delay=delay)
        return job, False

    def again(self, handler: Handler, job: Job) -> Job:
        """Return a new job that runs a final one again.

        Raises:
            JobNotRetryable: Its params held secrets, which are not kept.
        """
        if MASKED in job.params:
            raise JobNotRetryable(f"the params of job {job.id} held secrets; submit it anew")
        options = SubmitOptions(priority=job.priority, timeout=job.timeout)
        if job.session_id is not None:
            options["session_id"] = job.session_id
        if job.metadata is not None:
            options["metadata"] = job.metadata
        return self.accept(handler, handler.given(job.params), options, retry_of=job.id)[0]

    def _check(self, options: SubmitOptions, handler: Handler, now: float) -> tuple[Checked, float]:
        if unknown := options.keys() - SubmitOptions.__annotations__.keys():
            raise InvalidOption(
                f"submit has no option {min(unknown)!r}; params are its second argument, a dict",
                option=min(unknown),
            )
        delay = _delay(options, now)
        checked: Checked = {
            "priority": _priority(options.get("priority", 0)),
            "timeout": _timeout(options.get("timeout", ...), handler, self._timeout),
            "run_at": now + delay if delay else None,
            "session_id": _name("session_id", options.get("session_id")),
            "batch_id": _name("batch_id", options.get("batch_id")),
            "idempotency_key": _name("idempotency_key", options.get("idempotency_key")),
            "metadata": _metadata(options.get("metadata"), self._limits),
        }
        return checked, delay

    def _known(self, key: str | None, handler: Handler, params: bytes) -> Job | None:
        job = None if key is None else self._store.by_key(key)
        if job is not None and (job.type, job.params) != (handler.name, params):
            raise IdempotencyKeyReused(
                f"the idempotency key {key!r} came before, with another type or other params, "
                f"for job {job.id}; make a new key for a new job"
            )
        return job

    def _check_room(self) -> None:
        counts = self._store.counts
        waiting = counts[JobStatus.PENDING] + counts[JobStatus.RETRYING]
        if waiting >= self._limits.max_pending:
            raise QueueFull(f"{waiting} jobs wait already, the limit; try again later")


def _priority(value: int) -> int:
    if not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise InvalidOption(
            f"priority is {value!r}; it must be an integer, -{MAX_PRIORITY} to {MAX_PRIORITY}",
            option="priority",
        )
    return value


def _timeout(
    value: float | EllipsisType | None, handler: Handler, default: float | None
) -> float | None:
    if value is ...:
        return default if handler.timeout is ... else handler.timeout
    return check_seconds("timeout", value)


def _delay(options: SubmitOptions, now: float) -> float:
    delay, run_at = options.get("delay"), options.get("run_at")
    if run_at is None:
        return check_seconds("delay", delay, zero=True) or 0.0
    if delay is not None:
        raise InvalidOption("delay and run_at are both given; one of them says when")
    if not isinstance(run_at, datetime) or run_at.tzinfo is None:
        raise InvalidOption(f"run_at is {run_at!r}; it must be a datetime with a time zone")
    if run_at.timestamp() - now > LONGEST:
        raise InvalidOption(f"run_at is {run_at.isoformat()}; it must be within a hundred years")
    return max(0.0, run_at.timestamp() - now)


def _name(option: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise InvalidOption(
            f"{option} is {value!r:.60}; it must be a text of 1 to {MAX_NAME} printable characters",
            option=option,
        )
    return value


def _metadata(value: Mapping[str, Any] | None, limits: Limits) -> Mapping[str, Any] | None:
    if not value:
        return None
    try:
        raw = to_json(dict(value), inf_nan_mode="null")
        kept: dict[str, Any] = from_json(raw)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise InvalidOption(f"the metadata can't be JSON: {error}", option="metadata") from None
    if len(raw) > limits.max_metadata:
        raise PayloadTooLarge(
            f"the metadata is {len(raw)} bytes of JSON; the limit is {limits.max_metadata}"
        )
    return kept
