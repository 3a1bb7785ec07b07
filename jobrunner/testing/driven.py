"""A runner in a test's hands: the same one, driven step by step, and with faults on purpose."""

import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Literal, Self, TypeAlias, get_args

from .. import current
from ..batch_handles import BatchHandle
from ..batch_views import BatchView
from ..batches import Batch
from ..engines import Engine
from ..errors import InvalidOption
from ..events import Event
from ..handles import JobHandle
from ..jobs import Job, JobStatus
from ..runner import JobRunner
from ..store import Page
from ..views import JobView, Waited
from ..webhooks import Webhooks
from .clock import unix_now
from .driving import Driving
from .faults import Faults
from .receiver import WebhookReceiver
from .strict import StrictEngine, check_portable

Mode: TypeAlias = Literal["live", "paused", "inline"]
"""live: jobs run by themselves; paused: by `step` and `drain`; inline: within `submit`.

A handler that submits to its own runner goes on at once in each of them."""


class SeenHandle(JobHandle[Any]):
    """A handle that tells its runner when somebody has looked at the job's end."""

    __slots__ = ()

    @classmethod
    def of(cls, handle: JobHandle[Any]) -> "SeenHandle":
        """Return the handle's twin."""
        return cls(handle._job, handle._handler, handle._owner, outcome=handle._outcome)

    @property
    def status(self) -> JobStatus:
        """Where the job stands now."""
        return self.view().status

    def view(self) -> JobView:
        """Return the job as it stands now."""
        self._look()
        return super().view()

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the job's events, as `JobHandle.events`."""
        async for event in super().events(after):
            if event.type == "done":
                self._look()
            yield event

    def _look(self) -> None:
        if isinstance(self._owner, DrivenRunner):
            self._owner.see(self.id)


class SeenBatch(BatchHandle[Any]):
    """A handle that tells its runner when somebody has looked at the ends of the batch's jobs."""

    @classmethod
    def of(cls, handle: BatchHandle[Any]) -> "SeenBatch":
        """Return the handle's twin."""
        return cls(handle._batch, handle._handler, handle._owner, outcome=handle._outcome)

    @property
    def counts(self) -> dict[JobStatus, int]:
        """How many of its jobs have each status now."""
        self._look()
        return super().counts

    def view(self) -> BatchView:
        """Return the batch as it stands now."""
        self._look()
        return super().view()

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the batch's events, as `BatchHandle.events`."""
        async for event in super().events(after):
            if event.type == "done":
                self._look()
            yield event

    def _look(self) -> None:
        if isinstance(self._owner, DrivenRunner):
            self._owner.see(*self.job_ids)


class DrivenRunner(Driving):
    """A runner in a test's hands; all that it does, it does as a `JobRunner`.

    It starts when it is first used, so that it can be made outside of any loop. Its watchdog is off
    unless it is asked for: what a busy machine makes it see would stand in the jobs' events.

    Args:
        like: A runner whose job types, options and webhooks it has; None for none.
        mode: What makes jobs run: `live`, `paused` or `inline`.
        strict: Whether params and results have to survive JSON, and handlers another process.
        receiver: Where its webhooks go, whatever their URL is; one of its own if not given.
        faults: What goes wrong on purpose.
        options: Those of `JobRunner`, in place of the other runner's.

    Raises:
        InvalidOption: One of them has a value that it can't have.

    Example:
        async with DrivenRunner(runner, mode="inline") as driven:
            job = await driven.submit("double", {"n": 21})
            assert (job.status, await job.result()) == ("completed", 42)
    """

    def __init__(
        self,
        like: JobRunner | None = None,
        *,
        mode: Mode = "live",
        strict: bool = False,
        receiver: WebhookReceiver | None = None,
        faults: Faults | None = None,
        **options: Any,
    ) -> None:
        if mode not in get_args(Mode):
            raise InvalidOption(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}")
        own = {} if like is None else like._given
        given = {**own, "watchdog": None, "now": unix_now, **options}
        if mode == "inline":
            current.want()
        self.mode: Mode = mode
        self.strict = strict
        self.receiver = receiver or WebhookReceiver()
        self.faults = faults or Faults()
        self.unseen: dict[str, Job] = {}
        """Jobs whose end nobody has looked at."""
        super().__init__(**{**given, "webhooks": self._received(given.get("webhooks"), receiver)})
        self.faults.receiver = self.receiver
        self._engines.around = self._around
        for handler in () if like is None else like._handlers:
            self._handlers.add(handler)

    def _received(
        self, webhooks: Webhooks | None, wanted: WebhookReceiver | None
    ) -> Webhooks | None:
        """Return the options with which webhooks go to the receiver, and nowhere else."""
        receiver = self.receiver
        if webhooks is None:
            if wanted is None:
                return None
            webhooks = Webhooks(receiver.secret, url=receiver.url)
        receiver.secret = webhooks.secret
        return dataclasses.replace(webhooks, transport=receiver, resolve=receiver.resolve)

    def _around(self, engine: Engine) -> Engine:
        inner = StrictEngine(engine) if self.strict else engine
        return self.faults.around(inner)

    async def __aenter__(self) -> Self:
        if self.strict:
            for handler in self._handlers:
                check_portable(handler)
        await super().__aenter__()
        if self.mode == "paused":
            self.pause()
        return self

    async def submit(self, type: Any, params: Any = None, /, **options: Any) -> JobHandle[Any]:
        """Take a job in, as `JobRunner.submit`; inline, return when it can't go on by itself."""
        await self._begin()
        return await self._taken(await super().submit(type, params, **options))

    async def submit_batch(self, type: Any, params: Any, /, **options: Any) -> Any:
        """Take a batch in, as `JobRunner.submit_batch`; inline, return when none can go on."""
        await self._begin()
        batch = await super().submit_batch(type, params, **options)
        if batch.outcome == "created":
            self.unseen |= {job_id: self._store.get(job_id) for job_id in batch.job_ids}
        if self._is_awaited():
            await self._at_rest()
        return SeenBatch.of(batch)

    async def answer(self, job_id: str, question_id: str | None, value: Any, **options: Any) -> Any:
        """Answer a question, as `JobRunner.answer`; inline, return when the job can't go on."""
        await super().answer(job_id, question_id, value, **options)
        if self._is_awaited():
            await self._at_rest()
        return await self.get(job_id)

    async def retry(self, job_id: str) -> JobHandle[Any]:
        """Run a final job again, as `JobRunner.retry`."""
        return await self._taken(await super().retry(job_id))

    async def _taken(self, handle: JobHandle[Any]) -> JobHandle[Any]:
        job = handle._job
        self.unseen[job.id] = job
        while (
            self._is_awaited()
            and not job.is_final
            and await self._any(lambda each: each is job and self._family_moves(job))
        ):
            await self._change()
        return SeenHandle.of(handle)

    def _is_awaited(self) -> bool:
        """Return whether jobs are carried out before who asks goes on; a handler never waits."""
        asking = current.current_job()
        within = asking is not None and asking.job_id in self._workers.attempts
        return self.mode == "inline" and not within

    def handle(self, job_id: str) -> JobHandle[Any]:
        """Return a handle on a job that is kept, as `JobRunner.handle`."""
        return SeenHandle.of(super().handle(job_id))

    async def get(self, job_id: str) -> JobView:
        """Return the job as it stands now."""
        self.see(job_id)
        return await super().get(job_id)

    async def wait(self, job_ids: Iterable[str], **options: Any) -> Waited:
        """Wait until jobs have ended, as `JobRunner.wait`."""
        waited = await super().wait(job_ids, **options)
        self.see(*(job.job_id for job in waited.done))
        return waited

    def page(self, **query: Any) -> Page:
        """Return the records of a page of jobs, as `JobRunner.page`."""
        page = super().page(**query)
        self.see(*(job.id for job in page.jobs))
        return page

    def record(self, job_id: str, owner: str | None = None) -> Job:
        """Return the job's record, as `JobRunner.record`; whoever has it will know its end."""
        job = super().record(job_id, owner)
        self.unseen.pop(job_id, None)
        return job

    def batch_record(self, batch_id: str, owner: str | None = None) -> Batch:
        """Return the batch's record, as `JobRunner.batch_record`; likewise."""
        batch = super().batch_record(batch_id, owner)
        for job_id in batch.job_ids:
            self.unseen.pop(job_id, None)
        return batch

    def see(self, *job_ids: str) -> None:
        """Somebody has looked at the jobs: the ends of those that have ended are known."""
        for job_id in job_ids:
            if job_id in self.unseen and self.unseen[job_id].is_final:
                del self.unseen[job_id]

    def left(self) -> Iterator[str]:
        """Say what a test has left behind: jobs that go on, and failures that nobody looked at."""
        for job in self._store.live():
            yield f"job {job.id} ({job.type}) is still {job.status.value}"
        for job in self.unseen.values():
            told = job.id in self.receiver.told_of
            if job.status is JobStatus.FAILED and job.error is not None and not told:
                yield (
                    f"job {job.id} ({job.type}) failed, and nobody looked: {job.error.type}: "
                    f"{job.error.title}"
                )
