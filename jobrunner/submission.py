"""From a request to a job: options and params checked, the job made, saved and queued.

There is no await between the first check and the job, so that nothing can come in between (Q1).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, NamedTuple

from pydantic_core import to_json

from .control import Control
from .errors import (
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidOption,
    JobNotRetryable,
    PayloadTooLarge,
    QueueFull,
)
from .events import EventLog
from .handlers import Handler
from .handles import Outcome
from .heritage import NO_HERITAGE, Heritage, ended_with_parent, inherit
from .jobs import WAITING, Job, JobStatus, standing
from .limits import Limits, check_seconds
from .queue import JobQueue
from .redaction import MASK
from .retry import RetryPolicy
from .store import JobStore
from .subjobs import SubJobs
from .submit_options import Checked, Fields, SubmitOptions, check_name, check_submit
from .wording import describe

MASKED = to_json(MASK)
"""What a secret becomes in kept params."""
PACE_OF = 100
"""Jobs that ended last, from which the pace is taken."""


class Room(NamedTuple):
    """How much room a queue has."""

    free: int
    """Jobs that could be taken in now."""
    most: int
    """Jobs that may wait at once."""
    retry_after: float
    """Seconds in which a hundredth of the queue gets free at the present pace, 1 to 60."""


class Intake:
    """Takes requests in.

    Args:
        store: Where new jobs are kept.
        queue: Where they wait.
        control: What watches over their deadlines, and ends those that are replaced.
        limits: How large and how many they may be.
        timeout: Limit of an attempt in seconds, for types and jobs without one.
        retry: Policy of types without one.
        now: The current time in unix seconds.
        clock: The loop's clock in seconds.
        new_id: Makes ids.
        check_open: Raises when no job can be taken in.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        control: Control,
        limits: Limits,
        timeout: float | None,
        retry: RetryPolicy,
        now: Callable[[], float],
        clock: Callable[[], float],
        new_id: Callable[[], str],
        check_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._control = control
        self._limits = limits
        self._timeout = timeout
        self._retry = retry
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._check_open = check_open
        self._number = 0
        self._lines: dict[str, _Line] = {}

    async def take(
        self,
        handler: Handler,
        params: Mapping[str, Any],
        options: SubmitOptions,
        parent: SubJobs | None = None,
    ) -> tuple[Job, Outcome]:
        """Return the job that the request asks for, when there is room for it.

        Who waits for room is served first come, first served among those of one type.

        Raises:
            QueueFull: There is no room, after `max_wait` seconds.
            Exception: What `accept` raises.
        """
        max_wait = options.get("max_wait", 0.0)
        max_wait = max_wait and check_seconds("max_wait", max_wait)
        try:
            behind = handler.name in self._lines
            return self.accept(handler, params, options, behind=behind, parent=parent)
        except QueueFull:
            if max_wait == 0.0:
                raise
        try:
            async with asyncio.timeout(max_wait) as limit, self._turn(handler):
                while self._is_full(handler):
                    await self._store.feed.wait(self._store.feed.last)
                    self._check_open()
                return self.accept(handler, params, options, parent=parent)
        except TimeoutError:
            if not limit.expired():  # it is a validator's own
                raise
            raise self._full(handler) from None

    @asynccontextmanager
    async def _turn(self, handler: Handler) -> AsyncIterator[None]:
        line = self._lines.setdefault(handler.name, _Line())
        line.length += 1
        try:
            async with line.lock:
                self._check_open()
                yield
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[handler.name]

    def accept(
        self,
        handler: Handler,
        params: Mapping[str, Any],
        options: SubmitOptions,
        *,
        retry_of: str | None = None,
        behind: bool = False,
        parent: SubJobs | None = None,
    ) -> tuple[Job, Outcome]:
        """Return the job that the request asks for, and how it came about.

        Args:
            retry_of: The final job that is run again.
            behind: Whether others wait for the place that it would take.
            parent: The attempt that it is a sub-job of.

        Raises:
            InvalidOption: An option has a value that it can't have.
            InvalidParams: The params don't fit the handler's signature.
            PayloadTooLarge: Params or metadata are over their limit.
            QueueFull: Too many jobs wait already.
            IdempotencyKeyReused: The key came before, with another request.
            DuplicateJob: A job with the same concurrency key is live, and duplicates are rejected.
        """
        now = self._now()
        checked = check_submit(options, handler.options, self._timeout, self._limits, now)
        heritage = self._heritage(checked, parent)
        key, owner = checked.fields.get("idempotency_key"), checked.fields.get("owner")
        arguments, raw, whole = self._validate(handler, params, keyed=key is not None)
        if key is not None and (known := self._known(key, owner, handler, whole)) is not None:
            heritage.check(known)
            return known, "replayed"
        set_key(checked.fields, handler, arguments)
        rivals = self._rivals(checked, handler, heritage)
        if checked.on_duplicate == "join" and (joined := _going_on(rivals)) is not None:
            if key is not None:
                self._store.join(key, joined, whole)
            return joined, "joined"
        if rivals and checked.on_duplicate == "reject":
            raise duplicate(next(reversed(rivals.values())))
        replaced = list(rivals.values()) if checked.on_duplicate == "replace" else []
        outcome: Outcome = "replaced" if replaced else "enqueued" if rivals else "created"
        if (behind and not replaced) or self._is_full(handler, less=replaced):
            raise self._full(handler)
        for rival in replaced:
            self._control.cancel(rival, "superseded")
        job = self._job(handler, raw, arguments, checked.fields, now, retry_of)
        self._store.add(job, standing(job))
        if key is not None and whole != raw:
            self._store.join(key, job, whole)
        self._enqueue(job, checked, heritage)
        return job, outcome

    def _heritage(self, checked: Checked, parent: SubJobs | None) -> Heritage:
        """Return what a job has from its parent, and note it in its fields."""
        if parent is None:
            return NO_HERITAGE
        return inherit(checked.fields, parent, self._store, most=self._limits.max_depth)

    def _enqueue(self, job: Job, checked: Checked, heritage: Heritage) -> None:
        """Have a job that is in the store ended in time, and begun in its turn."""
        expires, delay = checked.expires, checked.delay
        self._control.set_alarms(job, expires=expires, delay=delay, due_by=heritage.due_by)
        self._queue.put(job, delay=delay, parent_due=heritage.due)

    def _job(
        self,
        handler: Handler,
        params: bytes,
        arguments: Mapping[str, Any],
        fields: Fields,
        now: float,
        retry_of: str | None,
    ) -> Job:
        self._number += 1
        return Job(
            id=self._new_id(),
            number=self._number,
            type=handler.name,
            params=params,
            created_at=now,
            log=EventLog(max_events=self._limits.max_events, max_bytes=self._limits.max_text),
            arguments=arguments,
            context=copy_context(),
            max_attempts=(handler.options.retry or self._retry).max_attempts,
            retry_of=retry_of,
            **fields,
        )

    def again(self, handler: Handler, job: Job) -> Job:
        """Return a new job that runs a final one again.

        Raises:
            JobNotRetryable: Its params held secrets, which are not kept.
        """
        if MASKED in job.params:
            raise JobNotRetryable(f"the params of job {job.id} held secrets; submit it anew")
        options = SubmitOptions(priority=job.priority, timeout=job.timeout, on_duplicate="enqueue",
                                deadline=job.deadline, stall_timeout=job.stall_timeout)  # fmt: skip
        for name in ("owner", "session_id", "concurrency_key", "metadata"):
            if (value := getattr(job, name)) is not None:
                options[name] = value
        if job.webhook_url is not None:
            options["webhook_url"] = job.webhook_url or None
        behind = handler.name in self._lines
        given = handler.given(job.params)
        return self.accept(handler, given, options, retry_of=job.id, behind=behind)[0]

    def _validate(
        self, handler: Handler, params: Mapping[str, Any], *, keyed: bool
    ) -> tuple[Mapping[str, Any], bytes, bytes]:
        arguments, raw, whole = handler.examine(params, keyed=keyed)
        if len(raw) > self._limits.max_params:
            raise PayloadTooLarge(
                f"the params are {len(raw)} bytes of JSON; the limit is {self._limits.max_params}"
            )
        return arguments, raw, whole

    def _known(self, key: str, owner: str | None, handler: Handler, request: bytes) -> Job | None:
        job = self._store.by_key(key, owner)
        if job is not None and ended_with_parent(job):
            return None
        if job is not None and not self._store.is_request(key, job, handler.name, request):
            raise IdempotencyKeyReused(
                f"the idempotency key {key!r} came before, with another type or other params, "
                f"for job {job.id}; make a new key for a new job"
            )
        if job is None and (batch := self._store.batches.by_key(key, owner)) is not None:
            raise IdempotencyKeyReused(
                f"the idempotency key {key!r} came before, for batch {batch.id}; make a new key "
                "for a new job"
            )
        return job

    def _rivals(self, checked: Checked, handler: Handler, heritage: Heritage) -> dict[str, Job]:
        """Return its owner's live jobs with the same concurrency key, in order of submission."""
        key, owner = checked.fields.get("concurrency_key"), checked.fields.get("owner")
        return {} if key is None else self._alike(handler.name, key, owner, heritage)

    def _alike(self, type: str, key: str, owner: str | None, heritage: Heritage) -> dict[str, Job]:
        """Return the live jobs with a key, but for those above, which would wait for themselves."""
        alike = self._store.live_with_key(type, key, owner)
        if heritage.above.isdisjoint(alike):
            return alike
        return {job_id: job for job_id, job in alike.items() if job_id not in heritage.above}

    def _is_full(
        self, handler: Handler, *, less: Sequence[Job] = (), more: int = 1, size: int = 1
    ) -> bool:
        """Whether there is no room for `more` jobs, without those that are to be replaced.

        Args:
            size: Bytes of their params; what comes alone may go over the limit by its own.
        """
        counts, bound, freed, freed_bytes = self._store.counts, handler.options.max_pending, 0, 0
        for job in less:
            if job.status in WAITING:  # one that has begun needs no room that it could make
                freed, freed_bytes = freed + 1, freed_bytes + len(job.params)
        waiting = counts[JobStatus.PENDING] + counts[JobStatus.RETRYING] - freed
        of_type = self._store.waiting[handler.name] - freed
        return (
            waiting + more > self._limits.max_pending
            or (bound is not None and of_type + more > bound)
            or self._store.live_bytes - freed_bytes + size > self._limits.max_live_bytes
        )

    def _full(self, handler: Handler) -> QueueFull:
        of_type, counts = self._store.waiting[handler.name], self._store.counts
        waiting = counts[JobStatus.PENDING] + counts[JobStatus.RETRYING]
        return QueueFull(
            f"{waiting} jobs wait already, {of_type} of them of type {handler.name!r}; there is no "
            "room for more: try again later, or submit with max_wait",
            retry_after=self.retry_after(),
        )

    def room(self, handler: Handler) -> Room:
        """Return how many jobs of the type could be taken in now."""
        counts, most = self._store.counts, self._limits.max_pending
        free = most - counts[JobStatus.PENDING] - counts[JobStatus.RETRYING]
        bound = handler.options.max_pending
        if bound is not None and (of_type := bound - self._store.waiting[handler.name]) < free:
            free, most = of_type, bound
        if self._store.live_bytes >= self._limits.max_live_bytes:
            free = 0
        return Room(max(0, free), most, self.retry_after())

    def retry_after(self) -> float:
        """Return the seconds, 1 to 60, in which a hundredth of the queue gets free at this pace."""
        count, since = self._store.recent_ends(PACE_OF)
        per_job = (self._clock() - since) / count if count else 0.0
        return min(60.0, max(1.0, per_job * self._limits.max_pending / 100))


def _going_on(rivals: dict[str, Job]) -> Job | None:
    """Return the newest that nobody has asked to stop: who joins one of those gets nothing."""
    return next((job for job in reversed(rivals.values()) if job.cancel_requested_at is None), None)


def duplicate(rival: Job) -> DuplicateJob:
    return DuplicateJob(
        f"job {rival.id} has the concurrency key {rival.concurrency_key!r} and is {rival.status}",
        job_id=rival.id,
    )


class _Line:
    """Those who wait to submit jobs of one type."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.length = 0


def set_key(fields: Fields, handler: Handler, arguments: Mapping[str, Any]) -> None:
    """Have the type make the concurrency key, where the submitter named none."""
    make = handler.options.concurrency_key
    if make is None or fields.get("concurrency_key") is not None:
        return
    try:
        key = make(dict(arguments))
    except Exception as error:  # the type's author's code, on values that nobody has seen yet
        raise InvalidOption(
            f"the concurrency_key of {handler.name!r} can't be made of these params: "
            f"{type(error).__name__}: {describe(error)}",
            option="concurrency_key",
        ) from error
    fields["concurrency_key"] = check_name("concurrency_key", key)
