"""Whose jobs a request may see: the one place where it is decided, for each route by itself.

The endpoints know no owners. What they take for the runner is an `OwnedRunner`, which shows them
the jobs of whoever asks, and no others: `Guard` says who that is, for as long as it answers.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias, Unpack

from starlette.requests import HTTPConnection

from ..batch_handles import BatchHandle
from ..batches import Batch
from ..deliveries import DeliveryView
from ..errors import RunnerNotStarted
from ..events import EventLog
from ..handlers import Handler
from ..handles import JobHandle
from ..jobs import Job
from ..lookup import Stats
from ..questions import Question
from ..runner import JobRunner
from ..store import Page
from ..submission import Room
from ..submit_options import SubmitOptions

Auth: TypeAlias = str | Callable[[HTTPConnection], str | Awaitable[str | None] | None] | None
"""A token, what makes an owner of a connection (None: not allowed), or None for an open door."""

_asking: ContextVar[str] = ContextVar("jobrunner owner")


class asking:
    """Have everything that is done in the block done for `owner`; None for nobody in particular."""

    __slots__ = ("_owner", "_token")

    def __init__(self, owner: str | None) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._token = None if self._owner is None else _asking.set(self._owner)

    def __exit__(self, *raised: object) -> None:
        if self._token is not None:
            _asking.reset(self._token)


class OwnedRunner:
    """The runner as whoever asks may see it; another one's job is an unknown one.

    A method that a new route needs is added here, so that nobody forgets to ask whose job it is.

    Args:
        runner: The runner.
        owners: Whether jobs have owners; if not, everybody who comes in sees all of them.
    """

    def __init__(self, runner: JobRunner, *, owners: bool) -> None:
        self._runner = runner
        self._owners = owners

    @property
    def owner(self) -> str | None:
        """Who asks; None when jobs have no owners here.

        Raises:
            LookupError: Nobody has been asked who it is, so nothing is shown.
        """
        return _asking.get() if self._owners else None

    @property
    def job_types(self) -> list[Handler]:
        """The job types, which are everybody's."""
        return self._runner.job_types

    def stats(self) -> Stats:
        """Return how the runner does."""
        return self._runner.stats()

    def shown_stats(self) -> Stats:
        """Return how the runner does, without what would tell owners of other people's jobs."""
        stats = self._runner.stats()
        if self.owner is None:
            return stats
        return stats._replace(jobs={}, pruned=0, webhooks={})

    def room(self, type: str) -> Room:
        """Return how many jobs of the type could be taken in now."""
        return self._runner.room(type)

    def sees(self, job_id: str) -> bool:
        """Return whether the job is or was one of theirs; for events of all jobs."""
        owner = self.owner
        return owner is None or self._runner.owner_of(job_id) == owner

    def feed(self) -> EventLog:
        """Return the log of all jobs; `sees` says which of its events are to be shown.

        Raises:
            RunnerNotStarted: Nothing comes before, and a stream of nothing would keep a server.
            RunnerStopped: Nothing will happen any more.
        """
        if self.stats().state == "new":
            raise RunnerNotStarted("the runner has not been started")
        return self._runner.feed()

    def record(self, job_id: str) -> Job:
        """Return the job's record.

        Raises:
            JobNotFound: There is none, or it is another one's.
            JobGone: It was theirs, and is no longer kept.
        """
        return self._runner.record(job_id, self.owner)

    def page(self, **query: Any) -> Page:
        """Return a page of their jobs."""
        return self._runner.page(**query, owner=self.owner)

    def poll_after(self, job_id: str) -> float:
        """Return after how many seconds it is worth asking again."""
        self._check(job_id)
        return self._runner.poll_after(job_id)

    async def submit(
        self, type: str, params: Mapping[str, Any], **options: Unpack[SubmitOptions]
    ) -> JobHandle[Any]:
        """Take in a job that is theirs."""
        if (owner := self.owner) is not None:
            options["owner"] = owner
        return await self._runner.submit(type, params, **options)

    async def cancel(self, job_id: str, note: str | None = None) -> None:
        """Ask a job to stop."""
        self._check(job_id)
        await self._runner.cancel(job_id, note)

    async def answer(self, job_id: str, question_id: str | None, value: Any) -> None:
        """Answer a question of a job."""
        await self._runner.answer(job_id, question_id, value, owner=self.owner)

    def question_by_token(self, token: str) -> Question:
        """Return the question of a link; who has the token needs to be no owner.

        Raises:
            QuestionNotFound: It isn't open.
        """
        return self._runner.question_by_token(token)

    async def answer_by_token(self, token: str, value: Any) -> None:
        """Answer the question of a link."""
        await self._runner.answer_by_token(token, value)

    async def retry(self, job_id: str) -> JobHandle[Any]:
        """Run a final job again."""
        self._check(job_id)
        return await self._runner.retry(job_id)

    async def retry_failed(self, type: str | None) -> list[JobHandle[Any]]:
        """Run their failed jobs again."""
        return await self._runner.retry_failed(type, owner=self.owner)

    async def deliveries(self, job_id: str) -> list[DeliveryView]:
        """Return the webhook deliveries of a job."""
        self._check(job_id)
        return await self._runner.deliveries(job_id)

    async def resend(self, job_id: str, delivery_id: str) -> DeliveryView:
        """Send a webhook of a job again."""
        self._check(job_id)
        return await self._runner.resend(job_id, delivery_id)

    async def forget(self, job_id: str) -> None:
        """Remove a final job."""
        self._check(job_id)
        await self._runner.forget(job_id)

    async def submit_batch(
        self,
        type: str,
        params: Sequence[Mapping[str, Any]],
        max_in_flight: int | None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[Any]:
        """Take in a batch that is theirs."""
        if (owner := self.owner) is not None:
            options["owner"] = owner
        return await self._runner.submit_batch(type, params, max_in_flight=max_in_flight, **options)

    def batch_record(self, batch_id: str) -> Batch:
        """Return the batch's record.

        Raises:
            BatchNotFound: There is none, or it is another one's.
            BatchGone: It was theirs, and is no longer kept.
        """
        return self._runner.batch_record(batch_id, self.owner)

    def poll_batch_after(self, batch_id: str) -> float:
        """Return after how many seconds it is worth asking again."""
        self.batch_record(batch_id)
        return self._runner.poll_batch_after(batch_id)

    async def cancel_batch(self, batch_id: str, note: str | None = None) -> None:
        """Ask all jobs of a batch to stop."""
        self.batch_record(batch_id)
        await self._runner.cancel_batch(batch_id, note)

    def _check(self, job_id: str) -> None:
        """Raise what `record` raises."""
        if self.owner is not None:
            self.record(job_id)
