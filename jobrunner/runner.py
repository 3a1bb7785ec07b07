"""JobRunner: the one object behind every surface. It takes jobs in, and whatever it has begun
ends with it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from random import Random
from typing import Any, TypeVar, Unpack, overload

from . import current, jobs
from .asking import Asking
from .batch_intake import BatchIntake
from .control import Control
from .endings import Endings
from .engines import Engines
from .failures import Failures
from .handlers import Function
from .handles import JobHandle
from .job_types import JobTypes
from .jobs import Job
from .lifetime import Lifetime
from .limits import Limits, Retention, check_count, check_seconds
from .lookup import Lookup
from .nesting import Nesting
from .options import OnFailure, check_flag
from .outcomes import Outcomes
from .pool import WorkerPool
from .questions import Tokens
from .queue import JobQueue
from .retry import NO_RETRY, RetryPolicy
from .store import JobStore
from .submit_options import SubmitOptions
from .threads import Threads
from .timers import Timers
from .tooling import Tooling
from .webhooks import Announcer, Webhooks, needed
from .worker import Workers

T = TypeVar("T")


class JobRunner(JobTypes, Lifetime, Tooling, Nesting):
    """Runs jobs in this process: an asyncio queue, a pool of workers, and everything in memory.

    Use it as an async context manager, or give `lifespan` to the app that embeds it. Leaving it
    lets running jobs end within `shutdown_timeout`, interrupts the others, and leaves nothing
    behind; it may be entered again.

    Args:
        workers: How many jobs run at once, at least 1.
        timeout: Limit of each attempt in seconds, for types and jobs without one; None for none.
        retry: Retry policy of types without one; by default a job is tried once.
        on_failure: Called with the view of each job that has failed for good, for types without
            one of their own: an `async def`, or a `def` in a thread. What it does and raises
            touches no job; it may take 30 s.
        retention: How long final jobs are kept.
        limits: How large things may get.
        cancel_grace: Seconds for which a handler that was asked to stop may go on, before it is
            asked again, and for which it may then go on before its job is given up as stuck.
        shutdown_timeout: Seconds for which running jobs may go on when the runner is left.
        watchdog: Seconds for which a handler may block the event loop before it is named, in the
            log and in the job's events; None to watch nothing.
        capture_logs: Whether to keep with each job what its handler logs, warns of and prints, for
            types that don't say; see `JobOptions`.
        webhooks: How to tell others of jobs that end, by signed POSTs; None for nobody.
        now: Source of timestamps, in unix seconds.
        seed: Makes ids and jitter repeatable, for tests; None takes them from the system.

    Raises:
        InvalidOption: One of them has a value that it can't have.

    Example:
        runner = JobRunner(workers=3, timeout=60.0)

        @runner.job(retry=RetryPolicy(max_attempts=3))
        async def double(n: int) -> int:
            return 2 * n

        async with runner:
            job = await runner.submit(double, {"n": 21}, session_id="ada")
            assert await job.result(timeout=5.0) == 42
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        timeout: float | None = 600.0,
        retry: RetryPolicy = NO_RETRY,
        on_failure: OnFailure | None = None,
        retention: Retention | None = None,
        limits: Limits | None = None,
        cancel_grace: float = 5.0,
        shutdown_timeout: float = 10.0,
        watchdog: float | None = 0.25,
        capture_logs: bool = False,
        webhooks: Webhooks | None = None,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        if check_flag("capture_logs", capture_logs):
            current.want()
        self._given = {name: value for name, value in locals().items() if name != "self"}
        self.limits = limits or Limits()
        self._grace = check_seconds("cancel_grace", cancel_grace, zero=True) or 0.0
        self._shutdown = check_seconds("shutdown_timeout", shutdown_timeout, zero=True) or 0.0
        self._on_failure = on_failure
        self._timers = Timers()
        store = JobStore(
            retention=retention or Retention(),
            max_feed=self.limits.max_feed,
            now=now,
            timers=self._timers,
        )
        JobTypes.__init__(self)
        Lookup.__init__(self, store, now)
        self._queue = JobQueue(
            self._timers, lambda name: self._handlers.find(name).options, self._stir
        )
        threads = Threads(self.limits.max_threads)
        self._failures = Failures(threads)
        self._engines = Engines(threads, max_idle=check_count("workers", workers))
        self._endings = Endings(
            store=store, queue=self._queue, timers=self._timers, now=now, failed=self._failed,
            orphaned=self._orphaned,
        )  # fmt: skip
        tokens = Tokens(seed)
        self._asking = Asking(
            store=store, timers=self._timers, now=now, limits=self.limits, tokens=tokens
        )
        outcomes = Outcomes(
            queue=self._queue,
            store=store,
            endings=self._endings,
            timers=self._timers,
            now=now,
            random=Random(seed),
            retry=retry,
            max_result=self.limits.max_result,
        )
        self._workers = Workers(
            queue=self._queue,
            store=store,
            endings=self._endings,
            handlers=self._handlers,
            engines=self._engines,
            timers=self._timers,
            now=now,
            outcomes=outcomes,
            grace=self._grace,
            asking=self._asking,
            max_stuck=self.limits.max_stuck,
            max_aside=self.limits.max_aside,
            watchdog=check_seconds("watchdog", watchdog),
            kin=self,
            orphan=self._orphaned,
            capture_logs=capture_logs,
        )
        self._control = Control(
            store=store, workers=self._workers, endings=self._endings, timers=self._timers, now=now
        )
        self._intake = BatchIntake(
            store=store,
            queue=self._queue,
            control=self._control,
            limits=self.limits,
            timeout=check_seconds("timeout", timeout),
            retry=retry,
            now=now,
            clock=lambda: self._timers.now(),
            new_id=jobs.new_id_source(seed),
            check_open=self._check_running,
        )
        if webhooks is not None:
            self._webhooks = Announcer(
                webhooks,
                store=store,
                tokens=tokens,
                timers=self._timers,
                now=now,
                random=Random(seed),
            )
        self._pool = WorkerPool(self._queue, self._workers, size=workers)

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
            options: See `jobrunner.submit_options.SubmitOptions`.

        Raises:
            UnknownJobType: There is no such type.
            InvalidParams: The params don't fit; `errors` says where.
            InvalidOption: An option has a value that it can't have.
            PayloadTooLarge: Params or metadata are over their limit.
            QueueFull: Too many jobs wait already.
            IdempotencyKeyReused: The key came before, with another type or other params.
            DuplicateJob: A job with the same concurrency key is live, and duplicates are rejected.
            RunnerNotStarted, RunnerStopped, WrongLoop: The runner can't take jobs here and now.
        """
        self._check_running()
        handler = self._handlers.find(type)
        if (url := options.get("webhook_url")) is not None:
            await needed(self._webhooks).check(url)
            self._check_running()
        job, outcome = await self._intake.take(handler, params or {}, options)
        return JobHandle(job, handler, self, outcome=outcome)

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

    def _stir(self) -> None:
        self._pool.stir()

    def _failed(self, job: Job) -> None:
        """A job has failed for good: tell who wants to know."""
        told = self._handlers.find(job.type).options.on_failure or self._on_failure
        if told is not None:
            self._failures.tell(told, job)
