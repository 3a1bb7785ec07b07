"""The store: all jobs by id, the ways to list them, and how they are forgotten.

Jobs are numbered as they come. For each value that a list can be filtered by (a status, a type, a
session, a batch) an index knows the numbers; a page takes what the filters have in common, newest
first, so that it costs what it returns, whatever the number of filters.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .errors import JobGone, JobNotFinal, JobNotFound
from .events import Event, EventLog, EventType
from .jobs import FINAL, Job, JobStatus
from .limits import Retention
from .pages import Ids, Index, decode_cursor, encode_cursor, newest
from .timers import Timer, Timers

FILTERS = ("status", "type", "session_id", "batch_id")
SHOWN_IN_FEED = frozenset({"status", "progress", "done"})


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
        self.feed = EventLog(max_events=max_feed)
        self.counts = dict.fromkeys(JobStatus, 0)
        self.pruned = 0
        self._now = now
        self._timers = timers
        self._sweep: Timer | None = None
        self._jobs: dict[str, Job] = {}
        self._ids = Ids()
        self._indexes = {name: Index() for name in FILTERS}
        self._keys: dict[str, Job] = {}
        self._final: deque[tuple[float, Job]] = deque()
        self._finals = 0
        self._forgotten = 0  # how many in _final are forgotten already
        self._gone: set[str] = set()
        self._gone_order: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, data: Mapping[str, Any]) -> None:
        """Take a new job in, with its first event. Numbers rise from one job to the next."""
        self._jobs[job.id] = job
        self._ids.add(job.number, job.id)
        if job.idempotency_key is not None:
            self._keys[job.idempotency_key] = job
        self.counts[job.status] += 1
        for name, index in self._indexes.items():
            if (value := getattr(job, name)) is not None:
                index.add(value, job.number)
        self._append(job, "status", data)

    def save(self, job: Job, kind: EventType, data: Mapping[str, Any]) -> None:
        """Make a change of `job` visible with its event.

        Synchronous: nobody sees the state without the event, or the event without the state.
        """
        if job.status is not job.listed_as:
            self._move(job)
        self._append(job, kind, data)
        if job.is_final:
            job.log.close()
            self._final.append((self._timers.now(), job))
            self._finals += 1
            self.prune()
            if self._sweep is None:
                self.schedule_prune()

    def _move(self, job: Job) -> None:
        was, by_status = job.listed_as, self._indexes["status"]
        self.counts[was] -= 1
        self.counts[job.status] += 1
        by_status.remove(was, job.number)
        by_status.add(job.status, job.number)
        job.listed_as = job.status

    def _append(self, job: Job, kind: EventType, data: Mapping[str, Any]) -> None:
        now = job.updated_at = self._now()
        event = Event(job.log.last + 1, job.id, kind, now, data)
        job.log.append(event)
        if kind in SHOWN_IN_FEED:
            self.feed.append(event)

    def get(self, job_id: str) -> Job:
        """Return the job. O(1).

        Raises:
            JobGone: It was there, and has been pruned or forgotten.
            JobNotFound: It never was, or so long ago that even its id is forgotten.
        """
        job = self._jobs.get(job_id)
        if job is not None:
            return job
        if job_id in self._gone:
            raise JobGone(f"job {job_id} has ended and is no longer kept")
        raise JobNotFound(f"there is no job {job_id[:100]!r}")

    def by_key(self, key: str) -> Job | None:
        """Return the job that was submitted with this idempotency key, while it is kept."""
        return self._keys.get(key)

    def page(
        self, filters: Mapping[str, str | None], *, limit: int, cursor: str | None = None
    ) -> Page:
        """Return a page of jobs, newest first; it costs what it returns.

        Args:
            filters: Values of status, type, session_id or batch_id; None matches everything.
            limit: How many jobs at most, 1 or more.
            cursor: Where to go on, from the page before.

        Raises:
            InvalidCursor: The cursor was not made here.
        """
        sets = [
            self._indexes[name].find(value) for name, value in filters.items() if value is not None
        ]
        jobs: list[Job] = []
        for number in newest(sets or [self._ids.numbers], before=decode_cursor(cursor)):
            if len(jobs) == limit:
                return Page(jobs, encode_cursor(jobs[-1].number))
            jobs.append(self.get(self._ids[number]))
        return Page(jobs, None)

    def live(self) -> Iterator[Job]:
        """Yield the jobs that haven't ended. Save none meanwhile: take them in a list for that."""
        for status in JobStatus:
            if status not in FINAL:
                for number in newest([self._indexes["status"].find(status)]):
                    yield self._jobs[self._ids[number]]

    def forget(self, job_id: str) -> None:
        """Remove a final job; its id answers "gone" from now on.

        Raises:
            JobNotFinal: It hasn't ended.
        """
        job = self.get(job_id)
        if not job.is_final:
            raise JobNotFinal(f"job {job_id} is {job.status}; cancel it before it is forgotten")
        self._remove(job)
        self._forgotten += 1
        if self._forgotten > 64 and self._forgotten * 2 > len(self._final):
            self._final = deque(entry for entry in self._final if entry[1].id in self._jobs)
            self._forgotten = 0

    def prune(self) -> int:
        """Remove the final jobs that are too old or too many, oldest first; O(removed)."""
        removed = 0
        while self._final and self._outlived(*self._final[0]):
            job = self._final.popleft()[1]
            if job.id in self._jobs:
                self._remove(job)
                removed += 1
            else:
                self._forgotten -= 1
        return removed

    def _outlived(self, ended: float, job: Job) -> bool:
        kept = self.retention
        if job.id not in self._jobs or (kept.max_jobs is not None and self._finals > kept.max_jobs):
            return True
        return kept.max_age is not None and ended + kept.max_age <= self._timers.now()

    def schedule_prune(self) -> None:
        """Have old jobs pruned in time, by one timer for the oldest; none is no error."""
        max_age = self.retention.max_age
        if self._sweep is None and max_age is not None and self._final:
            self._sweep = self._timers.at(self._final[0][0] + max_age, self._prune_old)

    def _prune_old(self) -> None:
        self._sweep = None
        self.prune()
        self.schedule_prune()

    def rest(self) -> None:
        """End the feed and forget the timer: the loop that they were on is going away."""
        self.feed.close()
        self._timers.cancel(self._sweep)
        self._sweep = None

    def wake(self) -> None:
        """Work again, with a feed that goes on where the last one ended."""
        if self.feed.closed:
            self.feed = EventLog(max_events=self.feed.max_events, last=self.feed.last)
        self.schedule_prune()

    def _remove(self, job: Job) -> None:
        self.pruned += 1
        del self._jobs[job.id]
        self._finals -= 1
        self.counts[job.status] -= 1
        self._ids.remove(job.number)
        for name, index in self._indexes.items():
            if (value := getattr(job, name)) is not None:
                index.remove(value, job.number)
        if job.idempotency_key is not None:
            del self._keys[job.idempotency_key]
        self._bury(job.id)

    def _bury(self, job_id: str) -> None:
        self._gone.add(job_id)
        self._gone_order.append(job_id)
        if len(self._gone_order) > self.retention.max_tombstones:
            self._gone.discard(self._gone_order.popleft())
