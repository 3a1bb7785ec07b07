"""The part of the synchronous client that watches, and has many jobs as one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack

from .batch_views import BatchView
from .client_async import JobClient
from .client_batches import Counts, Items, RemoteBatch, RemoteItem
from .client_bridge import Bridge
from .client_jobs import ClientOptions, DeliveryViews, Types
from .deliveries import DeliveryView
from .events import Event
from .stats_views import StatsView
from .views import JobPage


class SyncBatchVerbs:
    """Does what `BatchVerbs` does, and waits for it."""

    _client: JobClient
    _bridge: Bridge

    def submit_batch(
        self,
        type: str,
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[ClientOptions],
    ) -> "SyncRemoteBatch":
        """Hand in a job for each of the params, all of them or none; see `JobClient`'s."""
        given = list(params)  # here, since making them may take a while
        batch = self._bridge.call(
            lambda: self._client.submit_batch(type, given, max_in_flight=max_in_flight, **options)
        )
        return SyncRemoteBatch(self._bridge, batch)

    def batch(self, batch_id: str) -> "SyncRemoteBatch":
        """Return a handle on a batch; the server isn't asked whether there is one."""
        return SyncRemoteBatch(self._bridge, self._client.batch(batch_id))

    def get_batch(self, batch_id: str, *, wait: int = 0) -> BatchView:
        """Return the batch as it stands now, or as it ended within `wait` seconds, at most 30."""
        return self._bridge.call(lambda: self._client.get_batch(batch_id, wait=wait))

    def batch_events(self, batch_id: str, after: int = 0) -> Iterator[Event]:
        """Yield the batch's events above number `after`; see `RemoteBatch.events`."""
        return self._bridge.iterate(self._client.batch_events(batch_id, after))

    def cancel_batch(self, batch_id: str, note: str | None = None) -> BatchView:
        """Ask all jobs of a batch to stop, and return it as it stands then."""
        return self._bridge.call(lambda: self._client.cancel_batch(batch_id, note))

    def events(self, job_id: str | None = None, after: int = 0) -> Iterator[Event]:
        """Yield a job's events, or without a job those of all; see `JobClient.events`."""
        return self._bridge.iterate(self._client.events(job_id, after))

    def logs(self, job_id: str) -> str:
        """Return what the job has said so far as text: log lines with their time, and output."""
        return self._bridge.call(lambda: self._client.logs(job_id))

    def deliveries(self, job_id: str) -> DeliveryViews:
        """Return the webhook deliveries of a job, the oldest first, as they stand now."""
        return self._bridge.call(lambda: self._client.deliveries(job_id))

    def resend(self, job_id: str, delivery_id: str) -> DeliveryView:
        """Send a webhook again, and return it as it stands then; see `JobClient.resend`."""
        return self._bridge.call(lambda: self._client.resend(job_id, delivery_id))

    def types(self) -> Types:
        """Return the server's job types, with the schemas of their params and results."""
        return self._bridge.call(self._client.types)

    def stats(self) -> StatsView:
        """Return how the server's runner does; see `JobClient.stats`."""
        return self._bridge.call(self._client.stats)

    def unready(self) -> str | None:
        """Return why the server takes or starts no jobs; None when it does."""
        return self._bridge.call(self._client.unready)

    def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        session_id: str | None = None,
        batch_id: str | None = None,
        parent_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return jobs, newest first; see `JobClient.list`."""
        return self._bridge.call(
            lambda: self._client.list(
                status=status, type=type, session_id=session_id, batch_id=batch_id,
                parent_id=parent_id, limit=limit, cursor=cursor,
            )
        )  # fmt: skip


class SyncRemoteBatch:
    """Many jobs on a server, to be waited for, watched or cancelled; see `RemoteBatch`."""

    def __init__(self, bridge: Bridge, batch: RemoteBatch) -> None:
        self._bridge = bridge
        self._batch = batch

    def __repr__(self) -> str:
        return f"<Sync{repr(self._batch)[1:]}"

    @property
    def id(self) -> str:
        """The batch's id; its jobs have it as `batch_id`."""
        return self._batch.id

    @property
    def outcome(self) -> str:
        """How `submit_batch` came by it: `created`, or `replayed` by its idempotency key."""
        return self._batch.outcome

    def view(self) -> BatchView:
        """Return the batch as it stands now: counts, progress, times."""
        return self._bridge.call(self._batch.view)

    def counts(self) -> Counts:
        """Return how many of its jobs have each status now, those too that are no longer kept."""
        return self._bridge.call(self._batch.counts)

    def wait(self, *, timeout: float | None = None) -> BatchView:
        """Wait until all of its jobs have ended; see `RemoteBatch.wait`."""
        return self._bridge.call(lambda: self._batch.wait(timeout=timeout))

    def as_completed(self) -> Iterator[RemoteItem]:
        """Yield each job once when it has ended, those that have by now first, in that order."""
        return self._bridge.iterate(self._batch.as_completed())

    def results(self) -> Items:
        """Return all jobs in the order of their params, as far as each of them is by now."""
        return self._bridge.call(self._batch.results)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Yield the batch's events above number `after`; see `RemoteBatch.events`."""
        return self._bridge.iterate(self._batch.events(after))

    def cancel(self, note: str | None = None) -> BatchView:
        """Ask all of its jobs to stop, and return it as it stands then."""
        return self._bridge.call(lambda: self._batch.cancel(note))
