"""A handle on a batch: what `submit_batch` returns."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .batch_intake import BatchOutcome
from .batch_views import BatchView, batch_view, too_late
from .batches import Batch
from .errors import JobGone, JobNotFinal, RequestError
from .events import Event
from .handlers import Handler
from .jobs import FINAL, Job, JobStatus
from .limits import check_seconds
from .views import JobView, check_completed, view

T_co = TypeVar("T_co", covariant=True)

TURN = 200
"""Jobs that are read before others have a turn."""


class Owner(Protocol):
    """The runner, as far as a handle needs it."""

    def check_loop(self) -> None:
        """Raise WrongLoop when this is not the runner's event loop."""

    def record(self, job_id: str) -> Job:
        """Return a job's record."""
        ...

    async def cancel_batch(self, batch_id: str, note: str | None = None) -> BatchView:
        """Ask all jobs to stop."""
        ...


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[T_co]):
    """One job of a batch, as it stood when somebody asked."""

    index: int
    """The place of its params in the batch, from 0."""
    job_id: str
    """The job."""
    status: JobStatus | None
    """Where it stands; None when it is no longer kept, and its end wasn't asked for in time."""
    job: JobView | None
    """All of it, its error too; None when it is no longer kept."""
    _raw: bytes | None
    _handler: Handler

    def result(self) -> T_co:
        """Return what the handler returned.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            JobNotFinal: It hasn't ended.
            JobGone: It is no longer kept.
            InvalidResult: The handler didn't return what it is annotated with.
        """
        if self.job is None:
            raise JobGone(f"job {self.job_id} has ended and is no longer kept")
        if self.status not in FINAL:  # one that is tried again has an error, too
            raise JobNotFinal(f"job {self.job_id} is {self.status}; it has no result yet")
        check_completed(self.job)
        assert self._raw is not None, "a completed job has its result"
        value: T_co = self._handler.load_result(self._raw)
        return value


class BatchHandle(Generic[T_co]):
    """Many jobs, to be waited for, watched or cancelled together.

    `T_co` is what their handler returns. It keeps the batch readable for as long as it is held, but
    not its jobs: those are kept as `Retention` says.
    """

    def __init__(
        self, batch: Batch, handler: Handler, owner: Owner, *, outcome: BatchOutcome = "created"
    ) -> None:
        self._batch = batch
        self._handler = handler
        self._owner = owner
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<BatchHandle {self.id} {self._batch.type} {self._batch.ended} of {self.total}>"

    @property
    def id(self) -> str:
        """The batch's id; its jobs have it as `batch_id`."""
        return self._batch.id

    @property
    def outcome(self) -> BatchOutcome:
        """How `submit_batch` came by it: `created`, or `replayed` by its idempotency key."""
        return self._outcome

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return self._batch.total

    @property
    def job_ids(self) -> tuple[str, ...]:
        """Its jobs, in the order of their params."""
        return self._batch.job_ids

    @property
    def counts(self) -> dict[JobStatus, int]:
        """How many of its jobs have each status now, those too that are no longer kept."""
        return {status: self._batch.counts[status] for status in JobStatus}

    def view(self) -> BatchView:
        """Return the batch as it stands now: counts, progress, times."""
        return batch_view(self._batch)

    async def wait(self, *, timeout: float | None = None) -> BatchView:
        """Wait until all of its jobs have ended, and return the batch as it is then.

        Failures aren't raised: they are in the counts, and in `results`.

        Raises:
            TimeoutError: Some haven't after `timeout` seconds; they go on.
            WrongLoop: The jobs run in another event loop than this one.
        """
        self._check_loop()
        try:
            async with asyncio.timeout(check_seconds("timeout", timeout, zero=True)):
                await self._batch.log.wait_closed()
        except TimeoutError:
            raise too_late(self.view(), timeout) from None
        return self.view()

    async def as_completed(self) -> AsyncIterator[BatchItem[T_co]]:
        """Yield each job once when it has ended, those that have by now first, in that order."""
        async for event in self.events():
            if event.type == "item":
                yield self._item(event.data["index"], JobStatus(event.data["status"]))
            if event.seq % TURN == 0:
                await asyncio.sleep(0)

    async def results(self) -> list[BatchItem[T_co]]:
        """Return all jobs in the order of their params, as far as each of them is by now."""
        items = list[BatchItem[T_co]]()
        for index in range(self.total):
            items.append(self._item(index))
            if index % TURN == TURN - 1:
                await asyncio.sleep(0)
        return items

    def _item(self, index: int, status: JobStatus | None = None) -> BatchItem[T_co]:
        job_id = self._batch.job_ids[index]
        try:
            job = self._owner.record(job_id)
        except RequestError:  # gone, or so long gone that it is unknown
            return BatchItem(index, job_id, status, None, None, self._handler)
        return BatchItem(index, job_id, job.status, view(job), job.result, self._handler)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the batch's events above number `after`, then what comes, until its end.

        `item` is the end of a job, with its `index` and `status`, and the `reason` if it failed or
        was cancelled;
        `progress` is that of all jobs, and `done` comes last. The log keeps them all.
        """
        self._check_loop()
        async for reading in self._batch.log.follow(after):
            for event in reading.events:
                yield event

    async def cancel(self, note: str | None = None) -> BatchView:
        """Ask all of its jobs to stop; see `JobRunner.cancel_batch`."""
        final = self._batch.is_final
        return self.view() if final else await self._owner.cancel_batch(self.id, note)

    def _check_loop(self) -> None:
        if not self._batch.is_final:  # one that has ended can be read from anywhere
            self._owner.check_loop()
