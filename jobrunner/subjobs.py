"""Sub-jobs: what a handler submits belongs to its job, and ends with it.

    ctx.submit -> a job with parent_id -> SubJob: result(), wait(), events() stand aside meanwhile
    ctx.map    -> a batch of them -----> results in order; the first failure cancels the rest

An attempt that ends otherwise than with a value ends after its children: they are asked to stop in
the step in which it is, or in which it fails, and no new ones are taken from then on.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from .batches import Batch
from .errors import AttemptEnded, InvalidOption, JobUnsuccessful, QueueFull
from .handles import JobHandle, Loader, Outcome, Owner
from .jobs import CancelReason, Job, JobStatus, Step
from .limits import check_seconds
from .submit_options import SubmitOptions
from .views import JobView, raise_cancelled, raise_failed

T_co = TypeVar("T_co", covariant=True)


class Kin(Owner, Protocol):
    """The runner, as far as sub-jobs need it."""

    async def _submit_child(
        self, parent: "SubJobs", type: Any, params: Any, options: SubmitOptions
    ) -> tuple[Job, Loader, Outcome]:
        """Take in a sub-job."""
        ...

    async def _submit_children(
        self,
        parent: "SubJobs",
        type: Any,
        params: Any,
        max_in_flight: int | None,
        options: SubmitOptions,
    ) -> tuple[Batch, Loader, list[Job]]:
        """Take in a batch of sub-jobs."""
        ...

    async def cancel(
        self, job_id: str, note: str | None = None, *, reason: CancelReason = "user"
    ) -> JobView:
        """Ask a job to stop."""
        ...

    async def cancel_batch(
        self, batch_id: str, note: str | None = None, *, reason: CancelReason = "user"
    ) -> object:
        """Ask all jobs of a batch to stop."""


class SubJob(JobHandle[T_co]):
    """A handle on a sub-job, for the handler that has submitted it.

    Waiting for it gives the handler's own worker back meanwhile, and takes one again before the
    handler goes on; so a timeout may be kept late where workers are busy. Elsewhere than in that
    handler, take `runner.handle(job_id)`.
    """

    __slots__ = ("_kin", "_parent")

    def __init__(
        self, job: Job, handler: Loader, kin: Kin, parent: "SubJobs", outcome: Outcome
    ) -> None:
        super().__init__(job, handler, kin, outcome=outcome)
        self._kin = kin
        self._parent = parent

    async def cancel(self, note: str | None = None) -> JobView:
        """Ask the sub-job to stop, with the reason `parent`."""
        final = self._job.is_final
        return self.view() if final else await self._kin.cancel(self.id, note, reason="parent")

    async def _until(self, after: int, timeout: float | None = None) -> None:
        log = self._job.log
        if log.closed or log.last > after or timeout == 0:
            await super()._until(after, timeout)
        else:
            async with self._parent.aside():
                await super()._until(after, timeout)


class SubJobs:
    """The sub-jobs of one attempt at a job.

    Args:
        job: The parent.
        kin: The runner; None where there is none.
        aside: Returns what gives the attempt's worker back while it is entered.
        say: Says how far the parent is.
    """

    __slots__ = ("_aside", "_kin", "_maps", "_said", "_say", "attempt", "job", "open")

    def __init__(
        self,
        job: Job,
        kin: Kin | None,
        *,
        aside: Callable[[], AbstractAsyncContextManager[None]],
        say: Callable[[float, str, Step], None],
    ) -> None:
        self.job = job
        self.attempt = job.attempt
        self.open = True
        """Whether the attempt goes on, and nobody has asked it to stop."""
        if kin is None:
            raise InvalidOption(
                "a handler in a process of its own submits no sub-jobs; let a coroutine do that, "
                "and submit the job of the process from there"
            )
        self._kin = kin
        self._aside = aside
        self._say = say
        self._maps: dict[Batch, None] = {}
        self._said: tuple[float, str | None, Step | None] = (0, None, None)

    def check(self) -> None:
        """Raise AttemptEnded when nothing may be submitted any more."""
        if not self.open:
            raise AttemptEnded(
                f"attempt {self.attempt} at job {self.job.id} has ended or is to stop, and submits "
                "no more sub-jobs; what has to outlive it is for runner.submit"
            )

    def aside(self) -> AbstractAsyncContextManager[None]:
        """Return what stands aside while it is entered; who is to stop has nothing to give back."""
        return self._aside() if self.open else nullcontext()

    async def submit(self, type: Any, params: Any, options: SubmitOptions) -> SubJob[Any]:
        """Take in a sub-job; see `Parent.submit`."""
        self.check()
        kin = self._kin
        job, handler, outcome = await self._with_room(
            lambda more: kin._submit_child(self, type, params, more), options
        )
        return SubJob(job, handler, kin, self, outcome)

    async def map(
        self,
        type: Any,
        params: Any,
        *,
        max_in_flight: int | None,
        return_exceptions: bool,
        options: SubmitOptions,
    ) -> list[Any]:
        """Run a sub-job for each of the params; see `Parent.map`."""
        self.check()
        if "idempotency_key" in options:
            raise InvalidOption(
                "ctx.map takes no idempotency_key: a batch that ended with its parent would be "
                "found again; give one to each sub-job, with ctx.submit",
                option="idempotency_key",
            )
        kin = self._kin
        batch, handler, jobs = await self._with_room(
            lambda more: kin._submit_children(self, type, params, max_in_flight, more), options
        )
        self._maps[batch] = None
        self._roll_up()
        try:
            async with self.aside():
                return await self._gather(batch, handler, jobs, return_exceptions)
        finally:
            if all(each.is_final for each in self._maps):
                self._maps.clear()

    async def _with_room(self, take: Callable[[SubmitOptions], Any], options: SubmitOptions) -> Any:
        """Take in now, or stand aside while there is no room: it may be this worker that makes it.

        Args:
            take: Takes in, waiting for room as long as its options say.
        """
        max_wait = options.get("max_wait", 0.0)
        check_seconds("max_wait", max_wait, zero=True)
        now: SubmitOptions = {**options, "max_wait": 0.0}
        try:
            return await take(now)
        except QueueFull:
            if max_wait == 0.0:
                raise
        async with self.aside():
            return await take(options)

    async def _gather(
        self, batch: Batch, handler: Loader, jobs: Sequence[Job], return_exceptions: bool
    ) -> list[Any]:
        """Return what comes of all jobs, in their order; records are let go of as they end."""
        live: list[Job | None] = list(jobs)
        outcomes: list[Any] = [None] * len(live)
        try:
            async for reading in batch.log.follow():
                for event in reading.events:
                    if event.type == "progress":
                        self._roll_up()
                    elif event.type == "item":
                        index = event.data["index"]
                        ended, live[index] = live[index], None
                        assert ended is not None, "a job ends once"
                        outcomes[index] = _outcome(ended, handler, return_exceptions)
                await asyncio.sleep(0)
        except BaseException as error:
            await self._stop(batch, error)
            raise
        return outcomes

    async def _stop(self, batch: Batch, error: BaseException) -> None:
        """Cancel the rest, and wait until it has ended."""
        if batch.is_final:  # and may be gone by now
            return
        told = str(error) if isinstance(error, JobUnsuccessful) else "the wait was cancelled"
        await self._kin.cancel_batch(batch.id, f"ctx.map ended: {told}"[:500], reason="parent")
        await batch.log.wait_closed()

    def _roll_up(self) -> None:
        """Say how far the maps are that run, unless the handler says its own."""
        job = self.job
        if (job.progress, job.progress_message, job.step) != self._said or not self.open:
            return
        total = sum(batch.total for batch in self._maps)
        ended = sum(batch.ended for batch in self._maps)
        bad = sum(batch.counts.get(JobStatus.FAILED, 0) for batch in self._maps)
        if total:
            message = f"{ended} of {total}" + (f", {bad} failed" if bad else "")
            self._said = (100 * ended // total, message, Step(ended, total))
            self._say(100 * ended // total, message, Step(ended, total))


def _outcome(job: Job, handler: Loader, return_exceptions: bool) -> Any:
    """Return the value of a job that has ended, or raise what `SubJob.result` would."""
    try:
        if job.status is JobStatus.CANCELLED:
            raise_cancelled(job.id, job.cancel_reason or "user", job.cancel_note)
        if job.error is not None:
            raise_failed(job.id, job.error)
        assert job.result is not None, "a completed job has its result"
        return handler.load_result(job.result)
    except JobUnsuccessful as error:
        if not return_exceptions:
            raise
        return error
