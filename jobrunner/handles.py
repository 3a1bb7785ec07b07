"""A handle on one job: what `submit` returns."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from .events import Event, gap
from .jobs import Job, JobStatus
from .limits import check_seconds
from .views import JobView, check_completed, view

T_co = TypeVar("T_co", covariant=True)
Outcome: TypeAlias = Literal["created", "replayed", "joined", "replaced", "enqueued"]


class Owner(Protocol):
    """The runner, as far as a handle needs it."""

    def check_loop(self) -> None:
        """Raise WrongLoop when this is not the runner's event loop."""

    async def cancel(self, job_id: str, note: str | None = None) -> JobView:
        """Ask the job to stop."""
        ...

    async def answer(self, job_id: str, question_id: str | None, value: Any) -> JobView:
        """Answer a question of the job."""
        ...


class Loader(Protocol):
    """The job's handler, as far as a handle needs it."""

    def load_result(self, raw: bytes) -> Any:
        """Return the result as the return annotation says."""


class JobHandle(Generic[T_co]):
    """A job, to be waited for, watched or cancelled; `T_co` is what its handler returns.

    It keeps the job readable for as long as it is held, also when the runner has pruned it.
    """

    __slots__ = ("__weakref__", "_handler", "_job", "_outcome", "_owner")

    def __init__(
        self,
        job: Job,
        handler: Loader,
        owner: Owner,
        *,
        outcome: Outcome = "created",
    ) -> None:
        self._job = job
        self._handler = handler
        self._owner = owner
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<JobHandle {self._job.id} {self._job.type} {self._job.status}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def status(self) -> JobStatus:
        """Where the job stands now."""
        return self._job.status

    @property
    def outcome(self) -> Outcome:
        """How `submit` came by this job.

        `created`; `replayed`, found by its idempotency key; or of those with its concurrency key
        it `joined` one, `replaced` them, or was `enqueued` behind them.
        """
        return self._outcome

    def view(self) -> JobView:
        """Return the job as it stands now."""
        return view(self._job)

    async def wait(self, *, timeout: float | None = None) -> JobView:
        """Wait for the job's end and return the job as it is then.

        Neither a timeout nor a cancellation of the wait touches the job.

        Raises:
            TimeoutError: It hasn't ended after `timeout` seconds; it goes on.
            InvalidOption: The timeout is negative, or no number.
            WrongLoop: The job runs in another event loop than this one.
        """
        await self._end(timeout)
        return self.view()

    async def result(self, *, timeout: float | None = None) -> T_co:
        """Wait for the job's end and return what its handler returned.

        The value comes from JSON, as the handler's return annotation says.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            TimeoutError: It hasn't ended after `timeout` seconds; it goes on.
            InvalidResult: The handler didn't return what it is annotated with.
        """
        await self._end(timeout)
        if self._job.status is not JobStatus.COMPLETED:
            check_completed(self.view())  # raises
        assert self._job.result is not None, "a completed job has its result"
        value: T_co = self._handler.load_result(self._job.result)
        return value

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the job's events above number `after`, then what comes, until its end.

        Where events are no longer kept, a `gap` event says which.
        """
        self._check_loop()
        async for reading in self._job.log.follow(after, wait=self._until):
            if reading.missed:
                yield gap(self.id, self._job.updated_at, reading)
            for event in reading.events:
                yield event

    async def cancel(self, note: str | None = None) -> JobView:
        """Ask the job to stop; see `JobRunner.cancel`."""
        return self.view() if self._job.is_final else await self._owner.cancel(self.id, note)

    async def answer(self, question_id: str | None, value: Any) -> JobView:
        """Answer a question of the job, None for the only open one; see `JobRunner.answer`."""
        return await self._owner.answer(self.id, question_id, value)

    async def _end(self, timeout: float | None) -> None:
        """Wait for the job's end."""
        self._check_loop()
        try:
            await self._until(sys.maxsize, check_seconds("timeout", timeout, zero=True))
        except TimeoutError:
            raise TimeoutError(
                f"job {self.id} is still {self.status} after {timeout:g} s; it goes on"
            ) from None

    async def _until(self, after: int, timeout: float | None = None) -> None:
        """Wait for an event above number `after`, or the end; `timeout` seconds at most."""
        if timeout is None:
            await self._job.log.wait(after)
        else:
            async with asyncio.timeout(timeout):
                await self._job.log.wait(after)

    def _check_loop(self) -> None:
        if not self._job.is_final:  # one that has ended can be read from anywhere
            self._owner.check_loop()
