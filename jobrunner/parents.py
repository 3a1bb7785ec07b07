"""The part of a job's context that has sub-jobs."""

import asyncio
import concurrent.futures
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from .errors import JobUnsuccessful, WrongLoop
from .subjobs import SubJob, SubJobs
from .submit_options import SubmitOptions

T = TypeVar("T")
P = ParamSpec("P")
Params: TypeAlias = Mapping[str, Any] | None
Calls: TypeAlias = dict[concurrent.futures.Future[Any], None]
"""What threads wait for."""


class Parent:
    """What a handler may do that other jobs work for."""

    __slots__ = ("_calls", "_subjobs")

    _calls: Calls | None
    _subjobs: SubJobs | None

    def check_cancelled(self) -> None:
        """Raise `asyncio.CancelledError` when this attempt is to stop."""

    @abstractmethod
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the runner works in."""

    @abstractmethod
    def _make_subjobs(self) -> SubJobs:
        """Return what takes the sub-jobs of this attempt in."""

    def _subjobs_of(self) -> SubJobs:
        if asyncio._get_running_loop() is not self._loop():
            raise WrongLoop(
                "a thread can't await: call ctx.run_async(ctx.submit, type, params) in it, and "
                "ctx.run_async(child.result)"
            )
        if self._subjobs is None:
            self._subjobs = self._make_subjobs()
        return self._subjobs

    def _stop_subjobs(self) -> None:
        """Take no more of them, and have no thread wait."""
        if self._subjobs is not None:
            self._subjobs.open = False
        for call in list(self._calls or ()):
            call.cancel()

    @overload
    async def submit(
        self,
        type: Callable[..., Coroutine[Any, Any, T]],
        params: Params = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> SubJob[T]: ...
    @overload
    async def submit(
        self,
        type: Callable[..., AsyncIterator[Any]],
        params: Params = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> SubJob[None]: ...
    @overload
    async def submit(
        self,
        type: Callable[..., T],
        params: Params = None,
        /,
        **options: Unpack[SubmitOptions],
    ) -> SubJob[T]: ...
    @overload
    async def submit(
        self, type: str, params: Params = None, /, **options: Unpack[SubmitOptions]
    ) -> SubJob[Any]: ...
    def submit(
        self, type: Any, params: Params = None, /, **options: Unpack[SubmitOptions]
    ) -> Coroutine[Any, Any, SubJob[Any]]:
        """Submit a sub-job of this job and return its handle, before it starts.

        It is cancelled, with the reason `parent`, when this attempt fails, is tried again, runs out
        of time, is cancelled or is interrupted; this attempt has ended when it has. Only a parent
        that completes leaves it running, and its log says so. It can't outlive the deadline of this
        job, whose owner, session, priority and trace it has unless given.

        The handle's `result`, `wait` and `events` give this job's worker, and its place among its
        type's limits, to others meanwhile: jobs that wait for their children hold up nobody.

        Args:
            type: Name of the job type, or the decorated function.
            params: Values for the handler's parameters.
            options: See `SubmitOptions`. An `idempotency_key` finds what an earlier attempt at this
                job has completed, and nothing that was cancelled with it.

        Raises:
            AttemptEnded: This attempt has ended, or was asked to stop.
            TooDeeplyNested: More generations would be live than `Limits.max_depth` says.
            InvalidOption: The handler runs in a process of its own.
            WrongLoop: Called from a thread; `run_async` is the way.
            JobRunnerError: What `JobRunner.submit` raises.
        """
        return self._subjobs_of().submit(type, params, options)

    @overload
    async def map(
        self,
        type: Callable[..., Coroutine[Any, Any, T]],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[SubmitOptions],
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        type: Callable[..., Coroutine[Any, Any, T]],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        return_exceptions: bool,
        **options: Unpack[SubmitOptions],
    ) -> list[T | JobUnsuccessful]: ...
    @overload
    async def map(
        self,
        type: str | Callable[..., Any],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        return_exceptions: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> list[Any]: ...
    def map(
        self,
        type: Any,
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        return_exceptions: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run a sub-job for each of the params and return their results, in that order.

        They are a batch: all params are checked before any job is taken in, and all are taken in or
        none. The first that fails or is cancelled cancels the rest, and is raised when that has
        ended. Until this handler says how far it is by itself, its progress is theirs: "23 of 50".

        Args:
            type: Name of the job type, or the decorated function.
            params: Values for the handler's parameters, once for each sub-job; none is no error.
            max_in_flight: How many of them run at once; None for as many as there are workers.
            return_exceptions: Have a JobFailed or a JobCancelled in the place of a result, and the
                others go on.
            options: See `SubmitOptions`; but for the `idempotency_key`, which is for single ones.

        Raises:
            JobFailed, JobCancelled: One of them was; `job_id` says which.
            JobRunnerError: What `submit` and `JobRunner.submit_batch` raise.
        """
        return self._subjobs_of().map(
            type,
            params,
            max_in_flight=max_in_flight,
            return_exceptions=return_exceptions,
            options=options,
        )

    def run_async(
        self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await a coroutine function in the event loop and return its value: for plain functions.

        As in `child = ctx.run_async(ctx.submit, "crunch", {"n": 1})`, then
        `ctx.run_async(child.result)`. Whoever is asked to stop waits no longer.

        Raises:
            asyncio.CancelledError: This attempt has ended, or was asked to stop.
            WrongLoop: Called in the event loop, which can `await`.
            Exception: What the function raises.
        """
        if asyncio._get_running_loop() is not None:
            raise WrongLoop("ctx.run_async is for handlers in threads; here, await the coroutine")
        self.check_cancelled()
        if self._calls is None:
            self._calls = {}

        async def await_it() -> T:
            return await function(*args, **kwargs)

        call = asyncio.run_coroutine_threadsafe(await_it(), self._loop())
        self._calls[call] = None
        try:
            self.check_cancelled()  # it may have been asked to just before
            return call.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError("stopped while it waited") from None
        finally:
            call.cancel()
            del self._calls[call]
