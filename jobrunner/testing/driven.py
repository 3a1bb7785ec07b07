"""A runner in a test's hands: the same one, driven step by step, and with faults on purpose."""

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, Self, TypeAlias, get_args

from ..engines import Engine
from ..errors import InvalidOption
from ..handles import JobHandle
from ..jobs import Job, JobStatus
from ..runner import JobRunner
from ..views import JobView, view
from ..webhooks import Webhooks
from .clock import unix_now
from .faults import Faults
from .receiver import WebhookReceiver
from .strict import StrictEngine, check_portable

Mode: TypeAlias = Literal["live", "paused", "inline"]
"""live: jobs run by themselves; paused: by `step` and `drain`; inline: within `submit`."""


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
        if isinstance(self._owner, DrivenRunner):
            self._owner.see(self._job)
        return super().view()


class DrivenRunner(JobRunner):
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

    async def _begin(self) -> None:
        if self._state == "new":
            await self.__aenter__()

    async def submit(self, type: Any, params: Any = None, /, **options: Any) -> JobHandle[Any]:
        """Take a job in, as `JobRunner.submit`; inline, return when it can't go on by itself."""
        await self._begin()
        return await self._taken(await super().submit(type, params, **options))

    async def submit_batch(self, type: Any, params: Any, /, **options: Any) -> Any:
        """Take a batch in, as `JobRunner.submit_batch`; inline, return when none can go on."""
        await self._begin()
        batch = await super().submit_batch(type, params, **options)
        if self.mode == "inline":
            await self._at_rest()
        return batch

    async def retry(self, job_id: str) -> JobHandle[Any]:
        """Run a final job again, as `JobRunner.retry`."""
        return await self._taken(await super().retry(job_id))

    async def _taken(self, handle: JobHandle[Any]) -> JobHandle[Any]:
        job = handle._job
        self.unseen[job.id] = job
        while self.mode == "inline" and _moves(job):
            await job.log.wait(job.log.last)
        return SeenHandle.of(handle)

    async def get(self, job_id: str) -> JobView:
        """Return the job as it stands now."""
        return view(self.record(job_id))

    def record(self, job_id: str, owner: str | None = None) -> Job:
        """Return the job's record, as `JobRunner.record`."""
        job = super().record(job_id, owner)
        self.see(job)
        return job

    def see(self, job: Job) -> None:
        """Somebody has looked at the job: its end, if it has ended, is known."""
        if job.is_final:
            self.unseen.pop(job.id, None)

    async def drain(self, *, until: float | None = None, timeout: float | None = None) -> None:
        """Carry out whatever is due, now and later, until nothing goes on by itself.

        Delays, retries and deadlines are waited for: in virtual time they pass at once. Jobs that
        wait for a person's answer are left waiting. A paused runner is paused again afterwards.

        Args:
            until: Let exactly so many seconds pass instead, and what comes due in them.
            timeout: Seconds after which it gives up.

        Raises:
            TimeoutError: Some jobs haven't ended after `timeout` seconds; they go on.
        """
        await self._begin()
        self.check_loop()
        if paused := self._queue.paused:
            self.resume()
        try:
            await (self._pass(until) if until is not None else self._rested(timeout))
        finally:
            if paused:
                self.pause()

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _rested(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._at_rest()
        except TimeoutError:
            raise TimeoutError(f"jobs still run or wait after {timeout:g} s; they go on") from None

    async def _at_rest(self) -> None:
        while (job := next(filter(_moves, self._store.live()), None)) is not None:
            await job.log.wait(job.log.last)

    async def step(self) -> JobView | None:
        """Carry out the next attempt, from its start to its end, its retry or its question.

        If none is due, the time passes until one is. Only a paused runner can be stepped.

        Returns:
            The job as it stands after the attempt; None when no job waits for its turn.

        Raises:
            InvalidOption: The runner isn't paused.
        """
        await self._begin()
        if not self._queue.paused:
            raise InvalidOption('only a paused runner can be stepped: DrivenRunner(mode="paused")')
        self._queue.let_one()
        try:
            job = await self._begun()
        finally:
            self._queue.let_one(False)
        while job is not None and job.status is JobStatus.RUNNING:
            await job.log.wait(job.log.last)
        return None if job is None else view(job)

    async def _begun(self) -> Job | None:
        """Wait until a job's attempt has begun; None when there is none to wait for."""
        feed = self.feed()
        after = feed.last
        while any(job.status in _WAITING for job in self._store.live()):
            await feed.wait(after)
            for event in feed.read(after).events:
                if event.type == "status" and event.data["status"] is JobStatus.RUNNING:
                    return super().record(event.job_id)
            after = feed.last
        return None

    def left(self) -> Iterator[str]:
        """Say what a test has left behind: jobs that go on, and failures that nobody looked at."""
        for job in self._store.live():
            yield f"job {job.id} ({job.type}) is still {job.status.value}"
        for job in self.unseen.values():
            if job.status is JobStatus.FAILED and job.error is not None:
                yield (
                    f"job {job.id} ({job.type}) failed, and nobody looked: {job.error.type}: "
                    f"{job.error.title}"
                )


_WAITING = (JobStatus.PENDING, JobStatus.RETRYING)


def _moves(job: Job) -> bool:
    """Return whether the job goes on by itself."""
    return not job.is_final and job.status is not JobStatus.INPUT_REQUIRED
