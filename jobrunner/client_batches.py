"""A handle on a batch that is on a server, and what came of each of its jobs."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .batch_views import BatchView
from .client_waiting import until_batch_final
from .errors import JobGone, JobNotFinal
from .events import Event
from .jobs import FINAL, JobStatus
from .limits import check_seconds
from .views import ErrorView, JobPage, raise_cancelled, raise_failed

PAGE = 200
"""Jobs that are asked for at once."""


class Verbs(Protocol):
    """The client, as far as a handle needs it."""

    async def get_batch(self, batch_id: str, *, wait: int = 0) -> BatchView: ...
    def batch_events(self, batch_id: str, after: int = 0) -> AsyncGenerator[Event, None]: ...
    async def cancel_batch(self, batch_id: str, note: str | None = None) -> BatchView: ...
    async def list(
        self, *, batch_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> JobPage: ...


@dataclass(frozen=True, slots=True)
class RemoteItem:
    """One job of a batch, as it stood when the server was asked."""

    index: int
    """The place of its params in the batch, from 0."""
    job_id: str
    """The job; `get` has all of it."""
    status: JobStatus
    """Where it stands."""
    error: ErrorView | None = None
    """Why it failed; None when it didn't, or is no longer kept."""
    kept: bool = True
    """Whether the server still had its result or error."""
    reason: str | None = None
    """Why it failed, or who had it cancelled: user, parent, superseded, ..."""
    note: str | None = None
    """What was said when it was cancelled; None when it is no longer kept."""
    _result: Any = None

    def result(self) -> Any:
        """Return what the handler returned, as JSON values.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            JobNotFinal: It hasn't ended.
            JobGone: It is no longer kept.
        """
        if not self.kept:
            raise JobGone(f"job {self.job_id} has ended and is no longer kept")
        if self.status not in FINAL:
            raise JobNotFinal(f"job {self.job_id} is {self.status}; it has no result yet")
        if self.status is JobStatus.CANCELLED:
            raise_cancelled(self.job_id, self.reason or "user", self.note)
        if self.error is not None:
            raise_failed(self.job_id, self.error)
        return self._result


Counts: TypeAlias = dict[JobStatus, int]
Items: TypeAlias = list[RemoteItem]


class RemoteBatch:
    """Many jobs on a server, to be waited for, watched or cancelled together.

    What `JobClient.submit_batch` returns. It remembers an id and nothing else: each call asks the
    server.
    """

    def __init__(self, client: Verbs, batch_id: str, *, outcome: str = "created") -> None:
        self._client = client
        self._id = batch_id
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<RemoteBatch {self._id}>"

    @property
    def id(self) -> str:
        """The batch's id; its jobs have it as `batch_id`."""
        return self._id

    @property
    def outcome(self) -> str:
        """How `submit_batch` came by it: `created`, or `replayed` by its idempotency key."""
        return self._outcome

    async def view(self) -> BatchView:
        """Return the batch as it stands now: counts, progress, times."""
        return await self._client.get_batch(self._id)

    async def counts(self) -> Counts:
        """Return how many of its jobs have each status now, those too that are no longer kept."""
        return (await self.view()).counts

    async def wait(self, *, timeout: float | None = None) -> BatchView:
        """Wait until all of its jobs have ended, and return the batch as it is then.

        Failures aren't raised: they are in the counts, and in `results`.

        Raises:
            TimeoutError: Some haven't after `timeout` seconds; they go on.
            BatchNotFound, BatchGone: The server has no such batch any more.
            ServerUnreachable: There was no answer.
        """
        seconds = check_seconds("timeout", timeout, zero=True)
        return await until_batch_final(self._client.get_batch, self._id, seconds)

    async def as_completed(self) -> AsyncGenerator[RemoteItem, None]:
        """Yield each job once when it has ended, those that have by now first, in that order.

        It goes on over connections that break, as `events` does.
        """
        async with aclosing(self.events()) as events:
            async for event in events:
                if event.type == "item":
                    yield _item(event)

    async def results(self) -> Items:
        """Return all jobs in the order of their params, as far as each of them is by now.

        Those that have ended come in one stream, the others in pages of 200.
        """
        batch = await self.view()
        live = dict[str, JobStatus]()
        if batch.finished_at is None:
            live = await self._statuses()
            batch = await self.view()  # who hasn't ended by now hadn't before: none is left out
        items = {item.index: item for item in await self._ended(batch.last_seq)}
        for item in items.values():
            live.pop(item.job_id, None)
        rest = (index for index in range(batch.total) if index not in items)
        for index, (job_id, status) in zip(rest, live.items(), strict=True):
            items[index] = RemoteItem(index, job_id, status)
        return [items[index] for index in range(batch.total)]

    async def _statuses(self) -> dict[str, JobStatus]:
        """Return where each job stands that is kept, in the order of their params."""
        found, cursor = list[tuple[str, JobStatus]](), None
        while True:
            page = await self._client.list(batch_id=self._id, limit=PAGE, cursor=cursor)
            found += [(job.job_id, job.status) for job in page.jobs]
            if (cursor := page.next_cursor) is None:
                return dict(reversed(found))

    async def _ended(self, last: int) -> Items:
        """Return the jobs that have ended by event number `last`."""
        items = Items()
        if last:
            async with aclosing(self.events()) as events:
                async for event in events:
                    if event.type == "item":
                        items.append(_item(event))
                    if event.seq >= last:
                        break
        return items

    def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the batch's events above number `after`, then what comes, until its end.

        `item` is the end of a job, with its `index` and `status`, its `result` or its `error`;
        `progress` is that of all jobs, and `done` comes last. Each comes once and in order, over as
        many connections as it takes.

        Raises:
            BatchNotFound, BatchGone: There is no such batch any more.
            ServerUnreachable: There was no answer for `retry_for` seconds.
        """
        return self._client.batch_events(self._id, after)

    async def cancel(self, note: str | None = None) -> BatchView:
        """Ask all of its jobs to stop; see `JobClient.cancel_batch`."""
        return await self._client.cancel_batch(self._id, note)


def _item(event: Event) -> RemoteItem:
    """Return the job whose end an event tells of."""
    data = event.data
    error = data.get("error")
    return RemoteItem(
        data["index"],
        event.job_id,
        JobStatus(data["status"]),
        None if error is None else ErrorView.model_validate(error),
        "result" in data,  # which is there, null too, for as long as the job is
        data.get("reason"),
        data.get("cancel_note"),
        data.get("result"),
    )
