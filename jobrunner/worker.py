"""Workers: each takes a job, makes an attempt at it in a task of its own, and the next one.

    begin -> _run (the job's task) ------> outcomes: complete, fail, retry, ...
      |                                   ^
      +-> stop: cancel, grace, cancel ----+--> _abandon: stuck, the slot is given back without it

An attempt is settled once. Its task never lets an exception out, since one that leaves a task can
end the loop or the pool (T1, T4); and nobody waits in the handler, only for it (T2, T3).
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import jobs
from .attempt import Attempt, StopReason
from .context import JobContext
from .endings import Endings
from .engines import Engines
from .handlers import Handlers
from .jobs import Job, JobError, JobStatus
from .outcomes import Outcomes
from .queue import JobQueue
from .store import JobStore
from .stuck import Stuck
from .timers import Timers
from .watchdog import Blockage, Watchdog

logger = logging.getLogger("jobrunner.worker")


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
        endings: How jobs end.
        handlers: The job types.
        engines: Where handlers run.
        timers: Time limits and graces.
        now: The current time in unix seconds.
        outcomes: What becomes of attempts.
        grace: Seconds that a handler has to end after it was asked to, twice.
        max_stuck: How many stuck handlers may run before no job is begun any more.
        watchdog: Seconds for which a handler may block the event loop; None to watch nothing.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        store: JobStore,
        endings: Endings,
        handlers: Handlers,
        engines: Engines,
        timers: Timers,
        now: Callable[[], float],
        outcomes: Outcomes,
        grace: float,
        max_stuck: int,
        watchdog: float | None,
    ) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.blocked = 0
        """How often a handler, or anything else, has blocked the event loop."""
        self.stuck = Stuck(max_stuck, queue.hold)
        self._queue = queue
        self._store = store
        self._endings = endings
        self._handlers = handlers
        self._engines = engines
        self._timers = timers
        self._now = now
        self._outcomes = outcomes
        self._grace = grace
        self._watchdog = Watchdog(limit=watchdog, report=self._note) if watchdog else None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `loop` from now on."""
        self.stuck.open(loop)
        if self._watchdog is not None:
            self._watchdog.open(loop)

    def close(self) -> None:
        """Let go of the loop; nobody waits for what is stuck."""
        self.stuck.disown()
        if self._watchdog is not None:
            self._watchdog.close()

    def _note(self, blockage: Blockage) -> None:
        """Somebody's code has blocked the loop: count it, and tell the job whose task it was."""
        self.blocked += 1
        attempt = self.attempts.get(blockage.task.get_name()) if blockage.task else None
        if attempt is not None and not attempt.settled:
            fields = {"function": blockage.function, "file": blockage.file, "line": blockage.line}
            text = f"blocked the event loop for {blockage.seconds:.2g} s"
            self._store.save(attempt.job, "log", {"text": text, "fields": fields})

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
        if self._unfinished(attempt.job):
            raise RuntimeError(f"the attempt at job {attempt.job.id} ended without an outcome")
        return leaving

    def _unfinished(self, job: Job) -> bool:
        """Whether a fault while the attempt was given up has left the job without an end."""
        return job.status is JobStatus.RUNNING and job.id not in self.attempts

    def begin(self, job: Job) -> Attempt:
        """Start an attempt at `job`."""
        loop = asyncio.get_running_loop()
        now = self._now()
        jobs.start(job, now, self._timers.now())
        self._store.save(job, "status", {"status": job.status, "attempt": job.attempt}, at=now)
        attempt = self._attempt(job, loop)
        self.attempts[job.id] = attempt
        if self._watchdog is not None:
            self._watchdog.watch()
        assert job.context is not None, "a job that isn't final has its context"
        attempt.task = loop.create_task(self._run(attempt), name=job.id, context=job.context.copy())
        if job.timeout is not None:
            attempt.limit = job.timeout
            attempt.ends_by = self._timers.now() + job.timeout
        self._watch(attempt)
        return attempt

    def _attempt(self, job: Job, loop: asyncio.AbstractEventLoop) -> Attempt:
        context = JobContext(
            job,
            partial(self._store.save, job),
            loop,
            extend=lambda seconds: self._extend(attempt, seconds),
        )
        handler = self._handlers.find(job.type)
        attempt = Attempt(job, handler, context, loop.create_future(), self._release)
        return attempt

    def _extend(self, attempt: Attempt, seconds: float) -> None:
        if attempt.stop is None:
            attempt.extend(seconds)
            self._watch(attempt)

    def _watch(self, attempt: Attempt) -> None:
        """Look at the limits when the next of them may be over."""
        self._timers.cancel(attempt.job.timer)
        if (next_check := attempt.next_check) < math.inf:
            attempt.job.timer = self._timers.at(next_check, lambda: self._check(attempt))

    def _check(self, attempt: Attempt) -> None:
        limit = attempt.overdue(self._timers.now())
        if limit is None:  # it was extended, or said something
            self._watch(attempt)
        else:
            self.stop(attempt, limit)

    async def _run(self, attempt: Attempt) -> None:
        """The job's own task: whatever the handler does, an outcome comes of it."""
        try:
            attempt.begun = True
            if attempt.stop is not None:
                raise asyncio.CancelledError("stopped before the first step")
            assert attempt.job.arguments is not None, "a job that isn't final has its arguments"
            engine = self._engines.of(attempt.handler)
            value = await engine.run(attempt.handler, attempt.context, attempt.job.arguments)
        except BaseException as error:  # anything may come out of a handler, and ends here (T1)
            self._outcomes.settle_error(attempt, error)
        else:
            self._outcomes.settle_value(attempt, value)

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Ask the attempt to end: now, again after a grace, and give it up after another."""
        if attempt.ask(reason) and not attempt.settled:
            attempt.context._request_stop()
            self._press(attempt, lambda: self._press(attempt, lambda: self._abandon(attempt)))

    def _press(self, attempt: Attempt, then: Callable[[], None]) -> None:
        if attempt.begun and attempt.task is not None:
            attempt.task.cancel()
        self._timers.cancel(attempt.job.timer)
        attempt.job.timer = self._timers.after(self._grace, then)

    def abandon_all(self) -> None:
        """Give up whatever still runs, without a grace: the runner is going away."""
        for attempt in list(self.attempts.values()):
            attempt.ask("shutdown")
            self._abandon(attempt)
            if attempt.begun and attempt.task is not None:
                attempt.task.cancel()

    def _abandon(self, attempt: Attempt) -> None:
        """Declare the handler stuck: the job ends, the slot is free, a late value is dropped."""
        assert attempt.task is not None, "what is begun has its task"
        self.stuck.add(attempt.task)
        try:
            error = self._stuck_error(attempt)
            logger.error("job %s is stuck: %s\n%s", attempt.job.id, error.detail, error.traceback)
        finally:  # a fault in here must not keep the slot
            self._release(attempt)
        self._endings.fail(attempt.job, error)

    def _stuck_error(self, attempt: Attempt) -> JobError:
        detail = f"{attempt.why()}, and the handler did not end within {2 * self._grace:g} s"
        return JobError(
            reason=attempt.failure or "stuck",
            type="Stuck",
            title=detail,
            detail=detail,
            attempt=attempt.job.attempt,
            retryable=False,
            traceback=attempt.stack(),
        )

    def _release(self, attempt: Attempt) -> None:
        """Settle the attempt: no limit, no event and no worker belongs to it any more."""
        try:
            if self._watchdog is not None:
                self._watchdog.flush()
            attempt.context._close()
        finally:  # whatever was still to be said, a fault in it must not keep the slot
            attempt.settled = True
            self._timers.cancel(attempt.job.timer)
            attempt.job.timer = None
            del self.attempts[attempt.job.id]
            self._queue.leave(attempt.job)
            if self._watchdog is not None and not self.attempts:
                self._watchdog.rest()
            if not attempt.released.done():
                attempt.released.set_result(None)


def _fault(attempt: Attempt) -> BaseException | None:
    """Return what came through the guard: a fault of the runner's own, for the pool (T17)."""
    task = attempt.task
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception()
