"""Workers: each makes an attempt at a job, in a task of its own.

    begin -> _run (the job's task) ------> outcomes: complete, fail, retry, ...
      |                                   ^
      +-> stop: cancel, grace, cancel ----+--> _abandon: stuck, the place is given back without it

An attempt is settled once. Its task never lets an exception out, since one that leaves a task can
end the loop (T1, T4); and nobody waits in the handler, only for it (T2, T3). A fault of our own
ends the job that it struck, and is counted (T17).
"""

import asyncio
import contextlib
import logging
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from . import current, jobs
from .aside import Sideline
from .asking import Asking
from .attempt import Attempt, StopReason
from .capture import capture
from .context import Desk, JobContext
from .endings import Endings
from .engines import Engines
from .gates import Resumption
from .handlers import Handlers
from .jobs import Job, JobError, log_fields
from .outcomes import Outcomes
from .queue import JobQueue
from .store import JobStore
from .stuck import Stuck
from .subjobs import Kin
from .timers import Timers
from .watchdog import Blockage, Watchdog

logger = logging.getLogger("jobrunner.worker")


_Task: Any = asyncio.Task  # of 3.12, where it has `eager_start`
_AT_ONCE = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""Has a task make its first step at once, without a turn of the loop before it."""


class Workers:
    """Carries out attempts.

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
        asking: How they ask people.
        max_stuck: How many stuck handlers may run before no job is begun any more.
        max_aside: How many may stand aside.
        watchdog: Seconds for which a handler may block the event loop; None to watch nothing.
        kin: Takes sub-jobs in.
        orphan: Cancels the sub-jobs of a job.
        capture_logs: Whether to keep what handlers log and print, of types that don't say.
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
        asking: Asking,
        max_stuck: int,
        max_aside: int,
        watchdog: float | None,
        kin: Kin,
        orphan: Callable[[Job], None],
        capture_logs: bool,
    ) -> None:
        self.attempts: dict[str, Attempt] = {}
        """All attempts, those that stand aside too."""
        self.aside = Sideline(
            queue=queue,
            timers=timers,
            find=self._find,
            moved=self._look_after,
            watch=self._watch,
            close=asking.close_all,
            limit=max_aside,
        )
        self._asking = asking
        self.blocked = 0
        """How often a handler, or anything else, has blocked the event loop."""
        self.stuck = Stuck(max_stuck, queue.hold)
        self.faults = 0
        """How often a fault of the runner's own has cost a job its attempt."""
        self.faulted_at = -math.inf
        """When the last one did, on the loop's clock."""
        self._emptied: asyncio.Event | None = None
        self._unbegun: list[Attempt] = []
        self._queue = queue
        self._store = store
        self._endings = endings
        self._handlers = handlers
        self._engines = engines
        self._timers = timers
        self._now = now
        self._outcomes = outcomes
        self._grace = grace
        self._kin = kin
        self._orphan = orphan
        self._watchdog = None
        if watchdog:
            self._watchdog = Watchdog(limit=watchdog, report=self._note, fields=self._log_fields)
        self._capture_logs = capture_logs

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `loop` from now on; call it in the loop's thread."""
        self._loop = loop
        self._desk = Desk(
            loop,
            record=self._store.save,
            extend=self._extend,
            aside=self.aside,
            ask=self._asking.ask,
            kin=self._kin,
        )
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

    def _log_fields(self, job_id: str) -> dict[str, str]:
        attempt = self.attempts.get(job_id)
        return {} if attempt is None else log_fields(attempt.job)

    @property
    def busy(self) -> int:
        """How many attempts have a worker."""
        return len(self.attempts) - self.aside.count

    async def emptied(self, timeout: float, *, aside: bool = False) -> None:
        """Wait until no worker is busy, `timeout` seconds at most.

        Args:
            aside: Wait for those who stand aside, too.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.attempts if aside else self.busy:
                    self._emptied = asyncio.Event()
                    await self._emptied.wait()

    def begin(self, job: Job) -> None:
        """Start an attempt at `job`."""
        try:
            self._begin(job)
        except BaseException as fault:  # of our own, and nobody else would end the job
            self._lose(job, fault)

    def resume(self, resumption: Resumption) -> None:
        """Let an attempt go on that stood aside."""
        try:
            resumption.granted()
        except BaseException as fault:  # pragma: no cover  # of our own: nobody else's code runs
            self._lose(resumption.job, fault)

    def _begin(self, job: Job) -> None:
        now, clock = self._now(), self._timers.now()
        jobs.start(job, now, clock)
        self._store.save(job, "status", jobs.standing(job), at=now)
        handler = self._handlers.find(job.type)
        attempt = Attempt(job, handler, JobContext(job, self._desk), self._release)
        self.attempts[job.id] = attempt
        if self._watchdog is not None:
            self._watchdog.watch()
        if job.timeout is not None:
            attempt.limit = job.timeout
            attempt.ends_by = clock + job.timeout
        self._watch(attempt)
        self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        """Run it, in a context of its own; at once, where a task can."""
        job, loop = attempt.job, self._loop
        assert job.context is not None, "a job that isn't final has its context"
        context, run = job.context.copy(), self._run(attempt)
        if current.is_wanted():
            current.mark(attempt.context, context)
            wanted = attempt.handler.options.capture_logs
            if self._capture_logs if wanted is None else wanted:
                capture(attempt.context)
        if loop.get_task_factory() is None:
            attempt.task = _Task(run, loop=loop, name=job.id, context=context, **_AT_ONCE)
        else:
            attempt.task = loop.create_task(run, name=job.id, context=context)
        if not attempt.begun:  # pragma: no branch  # on 3.12 it has
            self._look_soon(attempt)

    def _look_soon(self, attempt: Attempt) -> None:
        """Look for a cancel before the task's first step, which nothing else would notice."""
        if not self._unbegun:
            self._loop.call_soon(self._look)
        self._unbegun.append(attempt)

    def _look(self) -> None:
        attempts, self._unbegun = self._unbegun, []
        for attempt in attempts:
            if not attempt.begun and not attempt.settled:
                assert attempt.task is not None, "what is started has its task"
                if attempt.task.done():
                    self._settle(attempt, asyncio.CancelledError())
                else:
                    self._look_soon(attempt)

    def _lose(self, job: Job, fault: BaseException) -> None:
        """End a job that a fault of our own has left in whatever state (T17)."""
        self.faults += 1
        self.faulted_at = self._timers.now()
        logger.critical("a fault of the runner's own has struck job %s", job.id,
                        exc_info=fault, extra=log_fields(job))  # fmt: skip
        if (attempt := self.attempts.get(job.id)) is not None:
            self._release(attempt)
        if not job.log.closed:  # pragma: no branch  # what comes after the end is guarded itself
            self._endings.lost(job, "a fault of the runner's own; its traceback is in the log")
        if not isinstance(fault, Exception):
            raise fault  # the loop knows what to do with a KeyboardInterrupt

    def _extend(self, job: Job, seconds: float) -> None:
        attempt = self.attempts.get(job.id)
        if attempt is not None and attempt.stop is None:
            attempt.extend(seconds)
            self._watch(attempt)

    def _find(self, context: JobContext) -> Attempt | None:
        """Return the attempt of a context, unless it has ended."""
        attempt = self.attempts.get(context.job_id)
        return attempt if attempt is not None and attempt.context is context else None

    def _look_after(self) -> None:
        """Have the loop watched while a worker is busy."""
        if self.busy == 0:
            self._rest()
        elif self._watchdog is not None:
            self._watchdog.watch()

    def _watch(self, attempt: Attempt) -> None:
        """Look at the limits when the next of them may be over."""
        if attempt.job.timer is not None:
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
            value = await self._entered(attempt)
        except BaseException as error:  # anything may come out of a handler, and ends here (T1)
            if self._store.children(attempt.job.id):
                await self._children_ended(attempt)
            self._settle(attempt, error)
        else:
            self._settle(attempt, None, value)

    async def _children_ended(self, attempt: Attempt) -> None:
        """Stop the sub-jobs of an attempt that has failed, and wait for it.

        They end as every job that was cancelled does: within two graces, whatever they do, and so
        before this attempt could be given up for what somebody asks of it meanwhile.
        """
        self._timers.cancel(attempt.job.timer)
        attempt.job.timer = None
        attempt.context._request_stop()
        self._orphan(attempt.job)
        while children := self._store.children(attempt.job.id):
            try:
                await next(iter(children.values())).log.wait_closed()
            except asyncio.CancelledError:
                continue  # its handler has ended: nothing else can be stopped

    def _settle(self, attempt: Attempt, error: BaseException | None, value: Any = None) -> None:
        try:
            if error is None:
                self._outcomes.settle_value(attempt, value)
            else:
                self._outcomes.settle_error(attempt, error)
        except BaseException as fault:  # of our own, and nobody else would end the job
            self._lose(attempt.job, fault)

    def _entered(self, attempt: Attempt) -> Awaitable[Any]:
        """Return what comes of the handler, to be awaited."""
        attempt.begun = True
        attempt.task = attempt.task or asyncio.current_task()  # one that is eager has none yet
        if attempt.stop is not None:
            raise asyncio.CancelledError("stopped before the first step")
        handler, arguments = attempt.handler, attempt.job.arguments
        assert arguments is not None, "a job that isn't final has its arguments"
        return self._engines.of(handler).run(handler, attempt.context, arguments)

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Ask the attempt to end: now, again after a grace, and give it up after another."""
        if attempt.ask(reason) and not attempt.settled:
            attempt.context._request_stop()
            self._orphan(attempt.job)
            self.aside.interrupt(attempt)
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
        """Declare the handler stuck: the job ends, the place is free, a late value is dropped."""
        assert attempt.task is not None, "what is begun has its task"
        self.stuck.add(attempt.task)
        try:
            error = self._stuck_error(attempt)
            logger.error("job %s is stuck: %s\n%s", attempt.job.id, error.detail, error.traceback,
                         extra=log_fields(attempt.job))  # fmt: skip
            self._release(attempt)
            self._endings.fail(attempt.job, error)
        except BaseException as fault:  # of our own, and nobody else would end the job
            self._lose(attempt.job, fault)

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
        """Settle the attempt: no limit, no event and no place belongs to it any more."""
        try:
            if self._watchdog is not None:
                self._watchdog.flush()
            attempt.context._close()
        finally:  # whatever was still to be said, a fault in it must not keep the place
            attempt.settled = True
            self._timers.cancel(attempt.job.timer)
            attempt.job.timer = None
            attempts = self.attempts
            del attempts[attempt.job.id]
            if attempt.standing is not None:
                self.aside.release(attempt)
            self._queue.leave(attempt.job)
            if len(attempts) == self.aside.count:
                self._rest()

    def _rest(self) -> None:
        """No worker is busy."""
        if self._watchdog is not None:
            self._watchdog.rest()
        if self._emptied is not None:
            self._emptied.set()
