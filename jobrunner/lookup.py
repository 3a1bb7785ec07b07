"""What can be asked about jobs: one, a page, what happens, what has ended."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from .errors import InvalidOption, RunnerStopped
from .events import Event, EventLog
from .jobs import Job, JobStatus
from .limits import check_seconds
from .store import JobStore, Page
from .tally import Tally
from .views import JobPage, JobView, Waited, view
from .witnesses import Guarded, Witness

logger = logging.getLogger("jobrunner.lookup")

State: TypeAlias = Literal["new", "running", "draining", "stopped"]
MAX_PAGE = 200
"""Jobs on one page at most."""


class Stats(NamedTuple):
    """How a runner does, at one moment."""

    state: State
    """new, running, draining or stopped."""
    paused: bool
    """Whether no job is started for now."""
    workers: int
    """How many jobs may run at once."""
    busy: int
    """How many run, and have a worker."""
    aside: int
    """How many wait for an answer, for sub-jobs or for a worker after it, without one."""
    stuck: int
    """Handlers that refused to end and still run, their jobs long ended."""
    stuck_total: int
    """How many there have been."""
    blocked: int
    """How often the event loop was blocked, as far as the watchdog saw it."""
    faults: int
    """How often a fault of the runner's own has cost a job its attempt."""
    unready: str | None
    """Why no more work should come here; None when it may."""
    jobs: dict[JobStatus, int]
    """Jobs that are kept, by status."""
    pruned: int
    """Jobs that were kept and are gone: too old, too many, or forgotten."""
    webhooks: dict[str, int]
    """Deliveries: `pending` now, `delivered` and `dead` so far, and `failed` tries."""


class Lookup:
    """The reading half of a runner; nothing here changes a job.

    Args:
        store: The jobs.
        now: The current time in unix seconds.
    """

    def __init__(self, store: JobStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self.retention = store.retention

    def check_loop(self) -> None:
        """Raise WrongLoop when this is not the event loop that the jobs run in."""

    def _check_process(self) -> None:
        """Raise ForkedRunner in a fork of the runner's process, where no job ever goes on."""

    async def get(self, job_id: str) -> JobView:
        """Return the job as it stands now. O(1).

        Raises:
            JobNotFound: There is no such job.
            JobGone: It has ended and is no longer kept.
        """
        self._check_process()
        return view(self._store.get(job_id))

    def record(self, job_id: str, owner: str | None = None) -> Job:
        """Return the job's record, to read and not to change; raises what `get` raises.

        Of a job that has ended it is a copy, made from what is kept.

        Args:
            owner: Who asks: another one's job is as unknown as one that never was; None sees all.
        """
        return self._store.get(job_id, owner)

    def owner_of(self, job_id: str) -> str | None:
        """Return whose job it is or was; None of one without an owner, and of an unknown one."""
        return self._store.owner_of(job_id)

    async def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        owner: str | None = None,
        session_id: str | None = None,
        batch_id: str | None = None,
        parent_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return jobs, newest first; costs what it returns.

        Args:
            status: Only jobs with this status; likewise the other filters.
            limit: How many at most, 1 to 200.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidOption: There is no such status, or the limit is below 1.
            InvalidCursor: The cursor was not made by a runner.
        """
        page = self.page(
            status=status, type=type, owner=owner, session_id=session_id, batch_id=batch_id,
            parent_id=parent_id, limit=limit, cursor=cursor,
        )  # fmt: skip
        return JobPage([view(job) for job in page.jobs], page.next_cursor)

    def page(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        owner: str | None = None,
        session_id: str | None = None,
        batch_id: str | None = None,
        parent_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return the records of a page of `list`, to read and not to change."""
        self._check_process()
        if status is not None and status not in list(JobStatus):
            raise InvalidOption(f"there is no status {status!r}; there are: {', '.join(JobStatus)}")
        if not isinstance(limit, int) or limit < 1:
            raise InvalidOption(f"limit is {limit!r}; it must be an integer, 1 or more")
        filters = {"status": status, "type": type, "owner": owner,
                   "session_id": session_id, "batch_id": batch_id,
                   "parent_id": parent_id}  # fmt: skip
        return self._store.page(filters, limit=min(limit, MAX_PAGE), cursor=cursor)

    def tally(self) -> Tally:
        """Return what counts the jobs by type, from the first call on; it is always the same."""
        found = [each for each in self._store.witnesses if isinstance(each, Tally)] or [Tally()]
        if found[0] not in self._store.witnesses:
            self._store.witnesses += (found[0],)
        return found[0]

    def add_witness(self, witness: Witness) -> None:
        """Show `witness` each change of a job's status from now on; what it raises is logged."""
        self._store.witnesses += (Guarded(witness),)

    def events(self) -> AsyncIterator[Event]:
        """Yield what happens to all jobs from this call on, until the runner is stopped.

        Statuses, progress and ends; log lines and output are with their jobs. An event's `seq` is
        its number in its job's log. Whoever is too slow misses the oldest, and is told how many by
        a `gap` event of no job.
        """
        self.check_loop()
        return self._follow(self._store.feed, self._store.feed.last)

    def feed(self) -> EventLog:
        """Return the log that `events` reads, to read by its own numbers and not to change.

        Raises:
            RunnerStopped: Nothing will happen any more.
            WrongLoop: Nothing will happen in this event loop.
        """
        self.check_loop()
        if self._store.feed.closed:
            raise RunnerStopped("the runner has stopped, so nothing happens to its jobs")
        return self._store.feed

    async def _follow(self, feed: EventLog, after: int) -> AsyncIterator[Event]:
        async for reading in feed.follow(after):
            if reading.missed:
                yield Event(0, "", "gap", self._now(), {"missed": reading.missed})
            for event in reading.events:
                yield event

    async def wait(
        self,
        job_ids: Iterable[str],
        *,
        mode: Literal["all", "any"] = "all",
        timeout: float | None = None,
    ) -> Waited:
        """Wait until all or any of the jobs have ended, or the time is over.

        Never raises for time: whatever hasn't ended is in `pending`, and goes on.

        Raises:
            JobNotFound, JobGone: One of them isn't kept.
            InvalidOption: The mode is neither "all" nor "any", or the timeout no duration.
        """
        if mode not in ("all", "any"):
            raise InvalidOption(f"mode is {mode!r}; it must be 'all' or 'any'")
        self.check_loop()
        wanted = [self._store.get(job_id) for job_id in job_ids]
        enough = 1 if mode == "any" else len(wanted)
        try:
            async with asyncio.timeout(check_seconds("timeout", timeout, zero=True)):
                await _ended(wanted, enough=min(enough, len(wanted)))
        except TimeoutError:
            pass
        done = [view(job) for job in wanted if job.is_final]
        return Waited(done, [view(job) for job in wanted if not job.is_final])

    def poll_after(self, job_id: str) -> float:
        """Return after how many seconds it is worth asking again, 1 to 60, from what is known.

        A job that isn't due yet says when; one that runs is taken to go on as fast as until now.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
        """
        job, now = self._store.get(job_id), self._now()
        left = 0.0
        if job.status is JobStatus.RUNNING and job.started_at is not None and job.progress > 0:
            left = (now - job.started_at) * (100 - job.progress) / job.progress
        elif job.status is JobStatus.INPUT_REQUIRED:
            left = 5.0  # a person takes longer than any guess
        elif (due := job.next_attempt_at or job.run_at) is not None:
            left = due - now
        return max(1.0, min(60.0, left))

    async def drain(self, *, timeout: float | None = None) -> None:
        """Wait until every job has ended, those that wait for their time or a retry too.

        And those that wait for a person's answer: for ever, if nobody answers. The log says of how
        many it is, as soon as the oldest job is one of them; a `timeout` doesn't count on people.

        Raises:
            TimeoutError: Some haven't after `timeout` seconds; they go on.
        """
        self.check_loop()
        try:
            async with asyncio.timeout(check_seconds("timeout", timeout, zero=True)):
                await self._drained()
        except TimeoutError:
            asking = self._store.counts[JobStatus.INPUT_REQUIRED]
            said = f", {asking} of them for an answer" if asking else ""
            raise TimeoutError(
                f"jobs still run or wait{said} after {timeout:g} s; they go on"
            ) from None

    async def _drained(self) -> None:
        told = False
        while (job := next(self._store.live(), None)) is not None:
            if job.status is JobStatus.INPUT_REQUIRED and not told:
                told = True
                asking = self._store.counts[JobStatus.INPUT_REQUIRED]
                logger.warning("drain waits for answers to the questions of %d jobs", asking)
            await job.log.wait_closed()


async def _ended(wanted: Sequence[Job], *, enough: int) -> None:
    """Wait until `enough` of the jobs have ended."""
    if enough == len(wanted):
        for job in wanted:  # one after the other: waiting for all at each end would be quadratic
            await job.log.wait_closed()
        return
    while sum(job.is_final for job in wanted) < enough:
        waiter = asyncio.get_running_loop().create_future()
        live = [job for job in wanted if not job.is_final]
        for job in live:
            job.log.add_waiter(waiter, sys.maxsize)
        try:
            await waiter
        finally:
            for job in live:
                job.log.remove_waiter(waiter)
