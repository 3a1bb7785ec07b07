"""The store: all jobs by id, what is saved of them, and how they are forgotten.

A job is a record for as long as it is live, and is packed when it ends. Who holds its record then
goes on reading that one; who asks for the job gets a record that is like it, and not the same.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from .batches import Batch, Batches
from .errors import BatchGone, BatchNotFound, JobGone, JobNotFinal, JobNotFound
from .events import EventType, make_event
from .feed import Feed
from .fingerprints import fingerprint
from .groups import Groups
from .jobs import WAITING, Job, JobStatus
from .limits import Retention
from .listing import LATE, Listing
from .packing import Archive
from .pages import decode_cursor, encode_cursor
from .timers import Timer, Timers
from .witnesses import Witness

SWEEP = 1_000
"""How many jobs are pruned for their age before others have a turn."""
RECENT = 1_000
"""How many ends are remembered for a rate."""
SHOWN_IN_FEED = frozenset({"status", "progress", "question", "answer", "done"})
Key: TypeAlias = str | tuple[str, str]
"""An idempotency key; with an owner the two of them, so that nobody meets another one's."""


class Page(NamedTuple):
    """Part of a list, newest first."""

    jobs: list[Job]
    next_cursor: str | None
    """Where the next part begins; None at the end."""


class JobStore:
    """Keeps jobs. `save` is the one way by which anything about a job becomes visible.

    Args:
        retention: How long final jobs are kept.
        max_feed: How many events of all jobs together are kept in `feed`.
        now: The current time in unix seconds.
        timers: The clock that ages are measured on, and what wakes the store to prune (Q6).
    """

    def __init__(
        self,
        *,
        retention: Retention,
        max_feed: int,
        now: Callable[[], float],
        timers: Timers,
    ) -> None:
        self.retention = retention
        self.feed = Feed(max_events=max_feed)
        self.counts = dict.fromkeys(JobStatus, 0)
        self.pruned = 0
        self.live_bytes = 0
        """Bytes of the params of all live jobs."""
        self.waiting: Counter[str] = Counter()
        """Jobs of each type that wait: for a worker, their time, or a retry."""
        self.batches = Batches(
            retention, lambda: timers.now(), lambda batch: self._bury(batch.id, batch.owner)
        )
        self.witnesses: tuple[Witness, ...] = ()
        self._now = now
        self._timers = timers
        self._sweep: Timer | None = None
        self._live: dict[str, Job] = {}
        self._listing = Listing()
        self._final = Archive(self._listing.ids, self._listing.update)
        self._keys: dict[Key, str] = {}
        self._joined: dict[str, dict[Key, bytes]] = {}
        self._limited = Groups[tuple[str, str, str | None]]()
        self._retries: dict[str, int] = {}
        self._children = Groups[str]()
        self._ends: deque[float] = deque(maxlen=RECENT)
        self._gone: set[str] = set()
        self._gone_order: deque[str] = deque()
        self._gone_owners: dict[str, str] = {}

    @property
    def final_bytes(self) -> int:
        """Bytes of all final jobs, as `Retention.max_bytes` counts them."""
        return self._final.size

    def __len__(self) -> int:
        return len(self._live) + len(self._final)

    def add(self, job: Job, data: Mapping[str, Any]) -> None:
        """Take a new job in, with its first event. Numbers rise from one job to the next."""
        for witness in self.witnesses:
            witness.added(job)
        self._live[job.id] = job
        self.live_bytes += len(job.params)
        if job.idempotency_key is not None:
            self._keys[_key(job.idempotency_key, job.owner)] = job.id
        if job.retry_of is not None:
            self._retries[job.retry_of] = self._retries.get(job.retry_of, 0) + 1
        if job.concurrency_key is not None:
            self._limited.add((job.type, job.concurrency_key, job.owner), job)
        if job.parent_id is not None:
            self._children.add(job.parent_id, job)
        self.counts[job.status] += 1
        self.waiting[job.type] += 1
        self._listing.note(job)
        self._append(job, "status", job.created_at, data)

    def save(
        self, job: Job, kind: EventType, data: Mapping[str, Any], *, at: float | None = None
    ) -> None:
        """Make a change of `job` visible with its event.

        Synchronous: nobody sees the state without the event, or the event without the state. A
        job that was saved as final stays as it was then.

        Args:
            at: When it changed, in unix seconds. Who changes a status reads the clock before: a
                clock that fails must leave nothing half done.
        """
        if job.id not in self._live:
            return
        at = self._now() if at is None else at
        if job.status is not job.listed_as:
            self._move(job, at)
        self._append(job, kind, at, data)
        if job.finished_at is not None:
            now = self._timers.now()
            self._end(job, now)
            self._prune(now)
            if self._sweep is None and self.retention.max_age is not None:
                self.schedule_prune()

    def _end(self, job: Job, now: float) -> None:
        """Keep the job packed from now on; a record that somebody holds stays as it is (Q8)."""
        self._final.add(job, now)
        self._ends.append(now)
        del self._live[job.id]
        self.live_bytes -= len(job.params)
        if job.concurrency_key is not None:
            self._limited.remove((job.type, job.concurrency_key, job.owner), job)
        if job.parent_id is not None:
            self._children.remove(job.parent_id, job)
        job.log.close()
        if job.batch is not None:
            self._end_in_batch(job, job.batch)

    def _end_in_batch(self, job: Job, batch: Batch) -> None:
        cancelled = job.status is JobStatus.CANCELLED
        reason = job.cancel_reason if cancelled else job.error and job.error.reason
        batch.job_ended(
            job.number, job.id, {"status": job.status.value, "reason": reason}, job.updated_at
        )
        if batch.is_final:
            self.batches.end(batch)
            self.batches.prune()

    def _move(self, job: Job, at: float) -> None:
        was, status = job.listed_as, job.status
        job.listed_as = status
        self.counts[was] -= 1
        self.counts[status] += 1
        self.waiting[job.type] += (status in WAITING) - (was in WAITING)
        if job.batch is not None:
            job.batch.moved(was, status)
        self._listing.note(job)
        for witness in self.witnesses:
            witness.moved(job, was, at, self._timers.now())

    def _append(self, job: Job, kind: EventType, at: float, data: Mapping[str, Any]) -> None:
        job.updated_at = at
        log = job.log
        event = make_event((log.last + 1, job.id, kind, at, data))
        log.append(event)
        if kind in SHOWN_IN_FEED:
            self.feed.append(event)

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """Return the job: the live record, or a new one of a job that has ended. O(1).

        Args:
            owner: Who asks: another one's job is as unknown as one that never was; None sees all.

        Raises:
            JobGone: It was there, and has been pruned or forgotten.
            JobNotFound: It never was, or so long ago that even its id is forgotten.
        """
        job = self._live.get(job_id) or self._final.get(job_id)
        if job is not None and owner in (None, job.owner):
            return job
        if job_id in self._gone and owner in (None, self._gone_owners.get(job_id)):
            raise JobGone(f"job {job_id} has ended and is no longer kept")
        raise JobNotFound(f"there is no job {job_id[:100]!r}")

    def add_batch(self, batch: Batch) -> None:
        """Keep the record of a batch whose jobs are added next."""
        self.batches.add(batch)
        if batch.is_final:  # it has no jobs
            self.batches.prune()
            self.schedule_prune()

    def batch(self, batch_id: str, owner: str | None = None) -> Batch:
        """Return the batch's record. O(1).

        Raises:
            BatchGone: It was there, and has been pruned.
            BatchNotFound: It never was, or is another owner's.
        """
        batch = self.batches.find(batch_id)
        if batch is not None and owner in (None, batch.owner):
            return batch
        if batch_id in self._gone and owner in (None, self._gone_owners.get(batch_id)):
            raise BatchGone(f"batch {batch_id} has ended and is no longer kept")
        raise BatchNotFound(f"there is no batch {batch_id[:100]!r}")

    def live_job(self, job_id: str) -> Job | None:
        """Return the record of a job that hasn't ended, None for any other."""
        return self._live.get(job_id)

    def owner_of(self, job_id: str) -> str | None:
        """Return whose job it is or was; None of one without an owner, and of an unknown one."""
        if (job := self._live.get(job_id)) is not None:
            return job.owner
        if job_id in self._final:
            return self._final.owner_of(job_id)
        return self._gone_owners.get(job_id)

    def by_key(self, key: str, owner: str | None = None) -> Job | None:
        """Return the job that its owner submitted with this idempotency key, while it is kept."""
        job_id = self._keys.get(_key(key, owner))
        return None if job_id is None else self.get(job_id)

    def join(self, key: str, job: Job, request: bytes) -> None:
        """Have an idempotency key lead to a job whose params aren't the whole of the request.

        Another request has made it, or the params had secrets.

        Args:
            request: The params of the request with this key, to know it by.
        """
        own = _key(key, job.owner)
        self._keys[own] = job.id
        self._joined.setdefault(job.id, {})[own] = fingerprint((request,))

    def is_request(self, key: str, job: Job, type: str, request: bytes) -> bool:
        """Return whether the request that brought this idempotency key to `job` was the same."""
        if (digest := self._joined.get(job.id, {}).get(_key(key, job.owner))) is not None:
            return (job.type, digest) == (type, fingerprint((request,)))
        return (job.type, job.params) == (type, request)

    def live_with_key(self, type: str, key: str, owner: str | None = None) -> dict[str, Job]:
        """Return an owner's live jobs of the type with a concurrency key, in order of submission.

        What is returned changes as they do: take a list of it to end them. O(1).
        """
        return self._limited.of((type, key, owner))

    def children(self, job_id: str) -> dict[str, Job]:
        """Return the live jobs that this one has submitted, likewise."""
        return self._children.of(job_id)

    def retried(self, job_id: str) -> bool:
        """Return whether a job that is kept runs this one again, or did."""
        return job_id in self._retries

    def recent_ends(self, k: int) -> tuple[int, float]:
        """Return how many jobs ended last, `k` or fewer, and since when, on the loop's clock.

        They count though they are pruned by now. None have ended: 0, and now. O(1), up to 1,000.
        """
        count = min(k, len(self._ends))
        return count, self._ends[-count] if count > 0 else self._timers.now()

    def page(
        self, filters: Mapping[str, str | None], *, limit: int, cursor: str | None = None
    ) -> Page:
        """Return a page of jobs, newest first; it costs what it returns.

        Args:
            filters: Values of status, type, owner, session_id, batch_id or parent_id; None matches
                everything.
            limit: How many jobs at most, 1 or more.
            cursor: Where to go on, from the page before.

        Raises:
            InvalidCursor: The cursor was not made here.
        """
        jobs: list[Job] = []
        for number in self._listing.find(filters, before=decode_cursor(cursor)):
            if len(jobs) == limit:
                return Page(jobs, encode_cursor(jobs[-1].number))
            jobs.append(self.get(self._listing.ids[number]))
        return Page(jobs, None)

    def live(self) -> Iterator[Job]:
        """Yield the jobs that haven't ended, the oldest first; to save them, take a list of it."""
        return iter(self._live.values())

    def forget(self, job_id: str) -> None:
        """Remove a final job; its id answers "gone" from now on.

        Raises:
            JobNotFinal: It hasn't ended.
        """
        if job_id not in self._final:
            job = self.get(job_id)
            raise JobNotFinal(f"job {job_id} is {job.status}; cancel it before it is forgotten")
        self._remove(job_id)

    def _prune(self, now: float) -> None:
        """Remove the final jobs that are too many, too large or too old, oldest first; O(removed).

        Never too much is kept. Of those too old, some stay for the sweep that is due by then:
        thousands at once would hold up everybody.
        """
        age, removed = self.retention.max_age, 0
        age = math.inf if age is None else age
        while (much := self._too_much()) or (self._final.since + age <= now and removed < SWEEP):
            oldest = self._oldest()
            if oldest is None or not (much or oldest[1] + age <= now):
                return
            self._remove(oldest[0])
            removed += 1

    def _oldest(self) -> tuple[str, float] | None:
        if len(self._final) <= LATE:  # among more, the oldest is listed already
            self._listing.update()
        return self._final.oldest()

    def _too_much(self) -> bool:
        kept, count = self.retention, len(self._final)
        if kept.max_jobs is not None and count > kept.max_jobs:
            return True
        return kept.max_bytes is not None and self._final.size > kept.max_bytes and count > 1

    def schedule_prune(self) -> None:
        """Have old jobs and batches pruned in time, by one timer; none is no error."""
        max_age = self.retention.max_age
        oldest, ended = self._oldest(), self.batches.oldest
        if oldest is not None and (ended is None or oldest[1] < ended):
            ended = oldest[1]
        if self._sweep is None and max_age is not None and ended is not None:
            self._sweep = self._timers.at(ended + max_age, self._prune_old)

    def _prune_old(self) -> None:
        self._sweep = None
        self._prune(self._timers.now())
        self.batches.prune()
        self.schedule_prune()

    def rest(self) -> None:
        """End the feed and forget the timer: the loop that they were on is going away."""
        self.feed.close()
        self._timers.cancel(self._sweep)
        self._sweep = None

    def wake(self) -> None:
        """Work again, with a feed that goes on where the last one ended."""
        if self.feed.closed:
            self.feed = Feed(max_events=self.feed.max_events, last=self.feed.last)
        self.schedule_prune()

    def _remove(self, job_id: str) -> None:
        job = self._final.remove(job_id)
        self.pruned += 1
        self.counts[job.status] -= 1
        self._listing.remove(job)
        if job.idempotency_key is not None:
            own = _key(job.idempotency_key, job.owner)
            if self._keys.get(own) == job_id:
                del self._keys[own]
        for key in self._joined.pop(job_id, ()):
            if self._keys.get(key) == job_id:
                del self._keys[key]
        if job.retry_of is not None:
            self._retries[job.retry_of] -= 1
            if not self._retries[job.retry_of]:
                del self._retries[job.retry_of]
        self._bury(job_id, job.owner)

    def _bury(self, job_id: str, owner: str | None) -> None:
        self._gone.add(job_id)
        self._gone_order.append(job_id)
        if owner is not None:
            self._gone_owners[job_id] = owner
        if len(self._gone_order) > self.retention.max_tombstones:
            forgotten = self._gone_order.popleft()
            self._gone.discard(forgotten)
            self._gone_owners.pop(forgotten, None)


def _key(key: str, owner: str | None) -> Key:
    return key if owner is None else (owner, key)
