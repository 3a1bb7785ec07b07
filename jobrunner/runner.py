"""JobRunner: the one object behind every surface. It takes jobs in, and whatever it has begun
ends with it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from . import jobs
from .engines.local import LocalEngine
from .errors import (
    InvalidOption,
    JobNotFinal,
    RunnerNotStarted,
    RunnerStopped,
    WrongLoop,
    clip,
)
from .handlers import Function
from .handles import JobHandle
from .job_types import JobTypes
from .jobs import CancelReason, Job, JobError
from .limits import Limits, Retention, check_seconds, check_workers
from .lookup import Lookup, State, Stats
from .pool import WorkerPool
from .queue import JobQueue
from .retry import NO_RETRY, RetryPolicy
from .store import JobStore
from .submission import Intake, SubmitOptions
from .timers import Timers
from .views import JobView, error_fields, stop_fields, view
from .worker import Workers

T = TypeVar("T")


class JobRunner(JobTypes, Lookup):
    """Runs jobs in this process: an asyncio queue, a pool of workers, and everything in memory.

    Use it as an async context manager, or give `lifespan` to the app that embeds it. Leaving it
    lets running jobs end within `shutdown_timeout`, interrupts the others, and leaves nothing
    behind; it may be entered again.

    Args:
        workers: How many jobs run at once, at least 1.
        timeout: Limit of each attempt in seconds, for types and jobs without one; None for none.
        retry: Retry policy of types without one; by default a job is tried once.
        retention: How long final jobs are kept.
        limits: How large things may get.
        cancel_grace: Seconds for which a handler that was asked to stop may go on, before it is
            asked again, and for which it may then go on before its job is given up as stuck.
        shutdown_timeout: Seconds for which running jobs may go on when the runner is left.
        now: Source of timestamps, in unix seconds.
        seed: Makes ids and jitter repeatable, for tests; None takes them from the system.

    Raises:
        InvalidOption: One of them has a value that it can't have.
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        timeout: float | None = 600.0,
        retry: RetryPolicy = NO_RETRY,
        retention: Retention | None = None,
        limits: Limits | None = None,
        cancel_grace: float = 5.0,
        shutdown_timeout: float = 10.0,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._grace = check_seconds("cancel_grace", cancel_grace, zero=True) or 0.0
        self._shutdown = check_seconds("shutdown_timeout", shutdown_timeout, zero=True) or 0.0
        self._state: State = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._timers = Timers()
        store = JobStore(
            retention=retention or Retention(),
            max_feed=self.limits.max_feed,
            now=now,
            timers=self._timers,
        )
        JobTypes.__init__(self)
        Lookup.__init__(self, store, now)
        self._queue = JobQueue(self._timers)
        self._intake = Intake(
            store=store,
            queue=self._queue,
            limits=self.limits,
            timeout=check_seconds("timeout", timeout),
            retry=retry,
            now=now,
            new_id=jobs.new_id_source(seed),
        )
        self._workers = Workers(
            queue=self._queue,
            store=store,
            handlers=self._handlers,
            engine=LocalEngine(max_threads=self.limits.max_threads),
            timers=self._timers,
            now=now,
            random=Random(seed),
            retry=retry,
            grace=self._grace,
            max_result=self.limits.max_result,
        )
        self._pool = WorkerPool(self._workers, size=check_workers(workers), lost=self._lost)

    @overload
    async def submit(
        self,
        type: Callable[..., Coroutine[Any, Any, T]],
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> JobHandle[T]: ...
    @overload
    async def submit(
        self,
        type: Callable[..., AsyncIterator[Any]],
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> JobHandle[None]: ...
    @overload
    async def submit(
        self,
        type: Callable[..., T],
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> JobHandle[T]: ...
    @overload
    async def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> JobHandle[Any]: ...
    async def submit(
        self,
        type: str | Function,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> JobHandle[Any]:
        """Take a job in and return its handle, before the handler starts. O(log n).

        The params are validated first, against the handler's signature; what is accepted is kept
        until it has ended. The job runs with the context variables as they are now.

        Args:
            type: Name of the job type, or the decorated function.
            params: Values for the handler's parameters.
            options: See `SubmitOptions`.

        Raises:
            UnknownJobType: There is no such type.
            InvalidParams: The params don't fit; `errors` says where.
            InvalidOption: An option has a value that it can't have.
            PayloadTooLarge: Params or metadata are over their limit.
            QueueFull: Too many jobs wait already.
            IdempotencyKeyReused: The key came before, with another type or other params.
            RunnerNotStarted, RunnerStopped, WrongLoop: The runner can't take jobs here and now.
        """
        self._check_running()
        handler = self._handlers.find(type)
        job, known = self._intake.accept(handler, params or {}, options)
        return JobHandle(job, handler, self, replayed=known)

    def submit_threadsafe(
        self,
        type: str | Function,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> "Future[JobHandle[Any]]":
        """Submit from another thread than the runner's; the future has the handle or the error.

        Raises:
            RunnerNotStarted, RunnerStopped: The runner doesn't run.
        """
        self._check_state()
        assert self._loop is not None, "a running runner has its loop"
        submit: Coroutine[Any, Any, JobHandle[Any]] = self.submit(type, params, **options)
        return asyncio.run_coroutine_threadsafe(submit, self._loop)

    def handle(self, job_id: str) -> JobHandle[Any]:
        """Return a handle on a job that is kept; raises what `get` raises."""
        job = self._store.get(job_id)
        return JobHandle(job, self._handlers.find(job.type), self)

    def stats(self) -> Stats:
        """Return how the runner does. O(1)."""
        return Stats(
            state=self._state,
            paused=self._queue.paused,
            workers=self._pool.size,
            busy=len(self._workers.attempts),
            stuck=len(self._workers.stuck),
            worker_restarts=self._pool.restarts,
            jobs=dict(self._store.counts),
            pruned=self._store.pruned,
        )

    async def cancel(
        self, job_id: str, note: str | None = None, *, reason: CancelReason = "user"
    ) -> JobView:
        """Ask a job to stop, and return it as it stands then.

        A job that waits is cancelled at once. One that runs is asked to stop: it is `cancelled`
        when it has stopped, and `completed` if it returned a value instead. A job that has ended
        stays as it is, so twice is the same as once.

        Args:
            note: Why, for whoever looks at the job.
            reason: Who asks.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
            WrongLoop: Called from another loop than the runner's.
        """
        self.check_loop()
        job = self._store.get(job_id)
        if not job.is_final:
            note = None if note is None else clip(str(note), 1_000)
            first = jobs.request_cancel(job, self._now(), reason, note)
            attempt = self._workers.attempts.get(job.id)
            if attempt is None:
                self._end_waiting(job, None)
            elif first:
                self._store.save(job, "status", stop_fields(job))
                self._workers.stop(attempt, "cancel")
        return view(job)

    def _end_waiting(self, job: Job, error: JobError | None) -> None:
        """End a job that no worker holds: cancelled, or failed with an error."""
        if error is None:
            jobs.cancel(job, self._now())
        else:
            jobs.fail(job, self._now(), error)
        self._queue.discard(job)
        self._store.save(job, "done", {"status": job.status, "error": error_fields(job.error)})

    async def retry(self, job_id: str) -> JobHandle[Any]:
        """Run a final job again, as a new job with `retry_of`, and return its handle.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotRetryable: Its params held secrets, which are not kept.
            JobNotFound, JobGone: There is no such job any more.
        """
        self._check_running()
        job = self._store.get(job_id)
        if not job.is_final:
            raise JobNotFinal(
                f"job {job_id} is {job.status}; it can be run again when it has ended"
            )
        handler = self._handlers.find(job.type)
        return JobHandle(self._intake.again(handler, job), handler, self)

    async def forget(self, job_id: str) -> None:
        """Remove a final job now; its id answers "gone" from then on.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotFound, JobGone: There is no such job any more.
        """
        self.check_loop()
        self._store.forget(job_id)

    def pause(self) -> None:
        """Start no job until `resume`; jobs that run go on, and submits are taken."""
        self.check_loop()
        self._queue.pause()

    def resume(self) -> None:
        """Start jobs again."""
        self.check_loop()
        self._queue.resume()

    def resize(self, workers: int) -> None:
        """Run `workers` jobs at once from now on; what runs already goes on to its end.

        Raises:
            InvalidOption: It is below 1.
        """
        self.check_loop()
        self._pool.resize(check_workers(workers))

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run for as long as an app does: `Starlette(lifespan=runner.lifespan)`, or FastAPI's.

        The lifespan of a mounted app is never run by Starlette, so give it to the outermost app.
        """
        async with self:
            yield

    async def __aenter__(self) -> Self:
        if self._state in ("running", "draining"):
            raise InvalidOption(f"the runner is {self._state}; enter it again when it has stopped")
        self._loop = asyncio.get_running_loop()
        self._timers.open(self._loop)
        self._store.wake()
        self._state = "running"
        self._queue.open()
        self._pool.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop(timeout=self._shutdown if error is None else 0.0)

    async def stop(self, *, timeout: float | None = None) -> None:
        """Stop: take no more jobs, let running ones end, interrupt the rest, fail what waits.

        Bounded in time whatever the handlers do. A runner that doesn't run is no error; while it
        stops, a second call waits for the same end, and with a timeout of 0 makes it hurry.

        Args:
            timeout: Seconds for which running jobs may go on; None for `shutdown_timeout`.
        """
        if self._state == "draining":
            if timeout == 0:
                self._pool.interrupt()
            await self._stopped.wait()
            return
        if self._state != "running":
            return
        self._state = "draining"
        self._stopped = asyncio.Event()
        try:
            wait = self._shutdown if timeout is None else timeout
            await self._pool.stop(timeout=wait, grace=2 * self._grace + 1.0)
            await self._workers.press_stuck()
        finally:
            self._close()

    def _close(self) -> None:
        self._workers.abandon_all()  # none, unless `stop` itself was cancelled
        self._workers.disown_stuck()
        for job in list(self._store.live()):
            ended = JobError.from_limit("shutdown", _SHUTDOWN, attempt=job.attempt)
            self._end_waiting(job, ended)
        self._store.rest()
        self._timers.close()
        self._state = "stopped"
        self._stopped.set()

    def _lost(self, job: Job) -> None:
        """A worker died with this job in hand: end it, whatever state it was left in."""
        if not job.is_final:
            detail = "the worker that held the job died; its traceback is in the log"
            jobs.fail(job, self._now(), JobError.from_limit("lost", detail, attempt=job.attempt))
        self._store.save(job, "done", {"status": job.status, "error": error_fields(job.error)})

    def _check_running(self) -> None:
        self._check_state()
        self.check_loop()

    def _check_state(self) -> None:
        if self._state == "new":
            raise RunnerNotStarted(
                "the runner has not been started: use `async with runner:`, or give "
                "lifespan=runner.lifespan to the outermost app (a mounted app's lifespan never "
                "runs, nor does any under TestClient without `with`)"
            )
        if self._state != "running":
            raise RunnerStopped(f"the runner is {self._state} and takes no more jobs")

    def check_loop(self) -> None:
        """Raise WrongLoop when this is not the event loop that the runner works in."""
        if self._state in ("running", "draining") and _running_loop() is not self._loop:
            raise WrongLoop(
                "the runner belongs to another event loop; from another thread use "
                "submit_threadsafe, or asyncio.run_coroutine_threadsafe with the runner's loop"
            )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_SHUTDOWN = "the runner was shut down before the job had ended"
