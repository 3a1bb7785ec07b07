"""One attempt at a job: a task of its own, under its time limit, its outcome made a transition.

    begin -> _run (the job's task) -> _settle_value | _settle_error -> complete, fail, retry, ...
      |                                   ^
      +-> stop: cancel, grace, cancel ----+--> _abandon: stuck, the slot is given back without it

An attempt is settled once. The task never lets an exception out, since one that leaves a task can
end the loop or the pool (T1, T4); and nobody waits in the handler, only for it (T2, T3).
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from traceback import StackSummary
from types import FrameType
from typing import Any, Literal, TypeAlias

from . import jobs
from .context import JobContext
from .engines import Engine
from .errors import InvalidResult, PayloadTooLarge, clip
from .handlers import Handler, Handlers
from .jobs import FailureReason, Job, JobError
from .queue import JobQueue
from .retry import RetryPolicy
from .store import JobStore
from .timers import Timers
from .views import error_fields, iso

logger = logging.getLogger("jobrunner.worker")

StopReason: TypeAlias = Literal["shutdown", "timeout", "cancel"]
_WEIGHT: dict[StopReason | None, int] = {None: 0, "shutdown": 1, "timeout": 2, "cancel": 3}
"""A wanted cancel wins over a limit and over a shutdown: what was cancelled never runs again."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that runs, or that was given up."""

    job: Job
    handler: Handler
    context: JobContext
    released: "asyncio.Future[None]"
    """Set when the worker's slot is free again."""
    task: "asyncio.Task[None] | None" = None
    begun: bool = False
    """Whether the task has had its first step; before that a cancel would skip the guard."""
    settled: bool = False
    stop: StopReason | None = None
    deadline: float = math.inf
    """End of the time limit, on the loop's clock."""


@dataclass(slots=True, eq=False)
class Seat:
    """A worker coroutine's place in the pool, with the job that it holds."""

    superfluous: Callable[[], bool]
    """Whether the pool has been made smaller, and can do without a worker."""
    job: Job | None = None


class Workers:
    """Carries out attempts. As many coroutines run `work` as there are slots.

    Args:
        queue: Where jobs come from.
        store: Where what happens is saved.
        handlers: The job types.
        engine: Where handlers run.
        timers: Time limits and graces.
        now: The current time in unix seconds.
        random: Source of jitter.
        retry: Policy of types that have none.
        grace: Seconds that a handler has to end after it was asked to, twice.
        max_result: Bytes of JSON that a result may have.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        store: JobStore,
        handlers: Handlers,
        engine: Engine,
        timers: Timers,
        now: Callable[[], float],
        random: Random,
        retry: RetryPolicy,
        grace: float,
        max_result: int,
    ) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.stuck: set[asyncio.Task[None]] = set()
        self._queue = queue
        self._store = store
        self._handlers = handlers
        self._engine = engine
        self._timers = timers
        self._now = now
        self._random = random
        self._retry = retry
        self._grace = grace
        self._max_result = max_result

    async def work(self, seat: Seat) -> None:
        """Carry out one job after the other, until there are too many workers.

        Cancelled, it ends when the job in hand has.
        """
        while True:
            seat.job = await self._queue.get()
            leaving = await self._released(self.begin(seat.job))
            seat.job = None
            if leaving or seat.superfluous():
                return

    async def _released(self, attempt: Attempt) -> bool:
        """Wait until the slot is free; return whether this worker was cancelled meanwhile."""
        leaving = False
        while not attempt.settled:
            try:
                await attempt.released
            except asyncio.CancelledError:
                leaving = True
                if not attempt.settled:
                    attempt.released = asyncio.get_running_loop().create_future()
        if (fault := _fault(attempt)) is not None:
            raise fault
        return leaving

    def begin(self, job: Job) -> Attempt:
        """Start an attempt at `job`."""
        loop = asyncio.get_running_loop()
        jobs.start(job, self._now())
        self._store.save(job, "status", {"status": job.status, "attempt": job.attempt})
        attempt = Attempt(
            job,
            self._handlers.find(job.type),
            JobContext(job, partial(self._store.save, job), loop),
            loop.create_future(),
        )
        self.attempts[job.id] = attempt
        assert job.context is not None, "a job that isn't final has its context"
        attempt.task = loop.create_task(self._run(attempt), name=job.id, context=job.context.copy())
        if job.timeout is not None:
            attempt.deadline = self._timers.now() + job.timeout
            job.timer = self._timers.at(attempt.deadline, lambda: self.stop(attempt, "timeout"))
        return attempt

    async def _run(self, attempt: Attempt) -> None:
        """The job's own task: whatever the handler does, an outcome comes of it."""
        try:
            attempt.begun = True
            if attempt.stop is not None:
                raise asyncio.CancelledError("stopped before the first step")
            assert attempt.job.arguments is not None, "a job that isn't final has its arguments"
            value = await self._engine.run(attempt.handler, attempt.context, attempt.job.arguments)
        except BaseException as error:
            self._settle_error(attempt, error)
        else:
            self._settle_value(attempt, value)

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Ask the attempt to end: now, again after a grace, and give it up after another."""
        asked = attempt.stop is not None
        if _WEIGHT[reason] > _WEIGHT[attempt.stop]:
            attempt.stop = reason
        if not asked and not attempt.settled:
            attempt.context._request_stop()
            self._press(attempt, lambda: self._press(attempt, lambda: self._abandon(attempt)))

    def _press(self, attempt: Attempt, then: Callable[[], None]) -> None:
        if attempt.begun and attempt.task is not None:
            attempt.task.cancel()
        self._timers.cancel(attempt.job.timer)
        attempt.job.timer = self._timers.after(self._grace, then)

    async def press_stuck(self) -> None:
        """Ask the stuck handlers once more, and let those end that do so at once."""
        for task in self.stuck:
            task.cancel()
        if self.stuck:
            await asyncio.wait(self.stuck, timeout=0)

    def disown_stuck(self) -> None:
        """Take the stuck handlers out of asyncio's list: `asyncio.run` would wait for ever (T3)."""
        for task in self.stuck:
            asyncio.tasks._unregister_task(task)  # public: "Extending", in asyncio's documentation
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was said before

    def abandon_all(self) -> None:
        """Give up whatever still runs, without a grace: the runner is going away."""
        for attempt in list(self.attempts.values()):
            attempt.stop = attempt.stop or "shutdown"
            self._abandon(attempt)
            if attempt.begun and attempt.task is not None:
                attempt.task.cancel()

    def _abandon(self, attempt: Attempt) -> None:
        """Declare the handler stuck: the job ends, the slot is free, a late value is dropped."""
        assert attempt.task is not None
        self.stuck.add(attempt.task)
        attempt.task.add_done_callback(self.stuck.discard)
        reason: FailureReason = "timeout" if attempt.stop == "timeout" else "stuck"
        detail = f"{self._why(attempt)}, and the handler did not end within {2 * self._grace:g} s"
        error = JobError(
            reason, "Stuck", detail, detail, attempt.job.attempt, False, _stack(attempt.task)
        )
        logger.error("job %s is stuck: %s\n%s", attempt.job.id, detail, error.traceback)
        self._release(attempt)
        self._fail(attempt.job, error)

    def _why(self, attempt: Attempt) -> str:
        if attempt.stop == "timeout":
            return f"timed out after {attempt.job.timeout:g} s"
        return "cancelled" if attempt.stop == "cancel" else "the runner is shutting down"

    def _settle_value(self, attempt: Attempt, value: Any) -> None:
        """The handler returned: its job is completed, unless the time was over before."""
        if self._late(attempt):
            return
        if attempt.stop is None and self._timers.now() > attempt.deadline:
            attempt.stop = "timeout"  # it blocked the loop, and so its own timer
        if attempt.stop == "timeout":
            self._settle_error(attempt, asyncio.CancelledError())
            return
        job = attempt.job
        try:
            result = attempt.handler.dump_result(value, limit=self._max_result)
        except (InvalidResult, PayloadTooLarge) as error:
            too_large = isinstance(error, PayloadTooLarge)
            reason: FailureReason = "too_large" if too_large else "result_not_serialisable"
            self._release(attempt)
            self._fail(job, JobError.from_exception(error, attempt=job.attempt, reason=reason))
        else:
            self._release(attempt)
            jobs.complete(job, self._now(), result)
            self._store.save(job, "done", {"status": job.status, "error": None})

    def _settle_error(self, attempt: Attempt, error: BaseException) -> None:
        """The handler raised, or was stopped, or both."""
        if self._late(attempt):
            return
        job = attempt.job
        self._release(attempt)
        if attempt.stop == "cancel":
            self._cancel(job, error)
        elif attempt.stop == "timeout":
            limit = TimeoutError(self._why(attempt))
            if not isinstance(error, asyncio.CancelledError):
                limit.__context__ = error  # what went wrong while it stopped is told with it
            self._retry_or_fail(attempt, limit, "timeout")
        elif not isinstance(error, asyncio.CancelledError):
            self._retry_or_fail(attempt, error, "error")
        elif attempt.stop == "shutdown":
            self._interrupt(job)
        else:
            leaked = _Leaked("the handler raised CancelledError, but nobody had cancelled the job")
            self._retry_or_fail(attempt, leaked, "error")

    def _late(self, attempt: Attempt) -> bool:
        if attempt.settled:
            logger.warning("job %s was stuck and has ended now; its value is dropped",
                           attempt.job.id)  # fmt: skip
        return attempt.settled

    def _release(self, attempt: Attempt) -> None:
        """Settle the attempt: no limit, no event and no worker belongs to it any more."""
        attempt.settled = True
        attempt.context._close()
        self._timers.cancel(attempt.job.timer)
        attempt.job.timer = None
        del self.attempts[attempt.job.id]
        if not attempt.released.done():
            attempt.released.set_result(None)

    def _retry_or_fail(self, attempt: Attempt, error: BaseException, reason: FailureReason) -> None:
        job = attempt.job
        policy = attempt.handler.retry or self._retry
        described = JobError.from_exception(
            error, attempt=job.attempt, reason=reason, retryable=policy.retryable(error)
        )
        delay = policy.delay(job.attempt, error, self._random)
        if delay is None:
            logger.warning("job %s (%s) failed in attempt %d: %s",
                           job.id, job.type, job.attempt, described.type)  # fmt: skip
            self._fail(job, described)
            return
        jobs.retry(job, described, self._now() + delay)
        self._store.save(job, "status", {
            "status": job.status,
            "attempt": job.attempt,
            "next_attempt_at": iso(job.next_attempt_at),
            "error": error_fields(described),
        })  # fmt: skip
        self._queue.put(job, delay=delay)

    def _fail(self, job: Job, error: JobError) -> None:
        jobs.fail(job, self._now(), error)
        self._store.save(job, "done", {"status": job.status, "error": error_fields(error)})

    def _cancel(self, job: Job, error: BaseException) -> None:
        """End a job that was asked to stop; what went wrong meanwhile is kept with it."""
        told = isinstance(error, asyncio.CancelledError)
        described = None if told else JobError.from_exception(error, attempt=job.attempt)
        jobs.cancel(job, self._now(), described)
        data = {"status": job.status, "error": error_fields(job.error)}
        self._store.save(job, "done", data)

    def _interrupt(self, job: Job) -> None:
        jobs.interrupt(job)
        self._store.save(job, "status", {"status": job.status, "attempt": job.attempt})
        self._queue.put(job)


class _Leaked(Exception):
    """A CancelledError that the handler made itself."""


_Leaked.__name__ = "CancelledError"


def _fault(attempt: Attempt) -> BaseException | None:
    """Return what came through the guard: a fault of the runner's own, for the pool (T17)."""
    task = attempt.task
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception()


def _stack(task: "asyncio.Task[None]") -> str:
    """Return where the task waits, to the innermost await; `Task.get_stack` has the outermost."""
    frames: list[tuple[FrameType, int]] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = next((f for f in (getattr(awaited, n, None) for n in _FRAMES) if f), None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = next((a for a in (getattr(awaited, n, None) for n in _AWAITS) if a), None)
    return clip("".join(StackSummary.extract(iter(frames)).format()), 65_536)


_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_AWAITS = ("cr_await", "ag_await", "gi_yieldfrom")
