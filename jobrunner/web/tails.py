"""What sockets send: JSON frames, read from logs by number as event streams are.

A tail remembers numbers and nothing else, whoever reads it and however slowly; what a log has
dropped meanwhile comes as a gap.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeAlias

from pydantic_core import to_json

from ..errors import JobGone, JobNotFound
from ..jobs import FINAL, Job, JobStatus
from ..views import event_json
from .owners import OwnedRunner
from .sessions import SessionIndex
from .sources import BATCH, PIECE, Frame, JobSource

MAX_SNAPSHOTS = 200
"""Live jobs of a session that are shown at once: those of each status at most, the newest."""

Snapshot: TypeAlias = Callable[[Job], bytes]
"""Makes a job as JSON, as it stands when called."""


class JobTail:
    """A job's events above `after`, and those that come, until its end.

    Args:
        job: The job's record.
        after: Number to go on after; None for everything that is kept.
        greet: Whether a snapshot comes first.
        snapshot: Makes a job as JSON.
    """

    def __init__(self, job: Job, *, after: int | None, greet: bool, snapshot: Snapshot) -> None:
        self.job = job
        self._after = min(after or 0, job.log.last)  # a number never reached is another log's
        self._greet = greet
        self._snapshot = snapshot
        self._source = JobSource(job, lambda: b"{}")

    @property
    def ended(self) -> bool:
        """Whether all has been read, and nothing will follow."""
        log = self.job.log
        return log.closed and self._after >= log.last and not self._greet

    def read(self) -> list[bytes]:
        """Return the frames that are sent next; none when nothing has come."""
        greeting = [_snapshot_frame(self.job, self._snapshot)] if self._greet else []
        frames, self._after = self._source.read(self._after, fresh=self._greet)
        self._greet = False
        return greeting + [self._framed(frame) for frame in frames]

    def _framed(self, frame: Frame) -> bytes:
        if frame.type == "snapshot":
            return _snapshot_frame(self.job, self._snapshot)
        return _framed(frame.type, frame.data)

    def add_waiter(self, waiter: "asyncio.Future[None]") -> None:
        """Have `waiter` set when there is more."""
        self.job.log.add_waiter(waiter, self._after)

    def remove_waiter(self, waiter: "asyncio.Future[None]") -> None:
        """Forget `waiter`."""
        self.job.log.remove_waiter(waiter)


class SessionTail:
    """What happens to all jobs of a session, as the runner's feed has it: no logs and no output.

    Frames have the feed's number, `feed`, to go on after.

    Args:
        session_id: The session.
        index: Which events of the feed are the session's.
        runner: The jobs of whoever asks.
        after: Number in the feed to go on after; None for everything that is kept.
        greet: Whether the live jobs come first, as they stand.
        snapshot: Makes a job as JSON.
        left_out: Whether a job is told of by a tail of its own.
    """

    def __init__(
        self,
        session_id: str,
        index: SessionIndex,
        runner: OwnedRunner,
        *,
        after: int | None,
        greet: bool,
        snapshot: Snapshot,
        left_out: Callable[[str], bool],
    ) -> None:
        self._session_id = session_id
        self._index = index
        self._runner = runner
        self._snapshot = snapshot
        self._left_out = left_out
        self._known = index.feed.last  # jobs that come later are shown when they come
        self._after = index.feed.first - 1 if after is None else min(after, self._known)
        self._dropped = index.feed.first - 1
        self._live = self._live_jobs() if greet else None

    @property
    def ended(self) -> bool:
        """Whether all has been read, and nothing will follow: the runner has stopped."""
        feed = self._index.feed
        return feed.closed and self._after >= feed.last

    def read(self) -> list[bytes]:
        """Return the frames that are sent next; none when nothing has come."""
        self._index.catch_up()
        frames = self._missed()
        while self._live is not None and not frames:
            frames += self._shown(self._live)
        while not frames and self._after < self._index.feed.last:
            frames += self._events()
        return frames

    def _missed(self) -> list[bytes]:
        """Return what stands for events that the feed has dropped; some may be of the session."""
        first, feed = self._after + 1, self._index.feed
        last = max(self._dropped, self._index.dropped(self._session_id))
        if first > last:
            return []
        self._after, self._live, self._known = last, self._live_jobs(), feed.last
        return [_framed("gap", b'{"feed":%d,"from":%d,"to":%d}' % (last, first, last))]

    def _shown(self, live: Iterator[bytes]) -> list[bytes]:
        """One at a time: two hundred jobs may have 50 MB of params."""
        shown = next(live, None)
        if shown is None:
            self._live = None
            return []
        return [shown]

    def _live_jobs(self) -> Iterator[bytes]:
        for status in JobStatus:
            if status not in FINAL:
                page = self._runner.page(
                    session_id=self._session_id, status=status, limit=MAX_SNAPSHOTS
                )
                for job in page.jobs:
                    yield _snapshot_frame(job, self._snapshot)

    def _events(self) -> list[bytes]:
        numbers = self._index.after(self._session_id, self._after, limit=BATCH)
        frames: list[bytes] = []
        size = 0
        for number in numbers:
            for frame in self._frames(number):
                frames.append(frame)
                size += len(frame)
            self._after = number
            if size >= PIECE:
                return frames
        if len(numbers) < BATCH:
            self._after = self._index.feed.last
        return frames

    def _frames(self, number: int) -> Iterator[bytes]:
        (event,) = self._index.feed.read(number - 1, limit=1).events
        if self._left_out(event.job_id) or not self._runner.sees(event.job_id):
            return
        job = None
        if event.seq == 1 or event.type == "done":
            try:
                job = self._runner.record(event.job_id)
            except (JobNotFound, JobGone):
                pass  # what is known of it is in the event
        if event.seq == 1 and number > self._known and job is not None:
            yield _snapshot_frame(job, self._snapshot)
        data = b'{"feed":%d,%b' % (number, event_json(event, job=job)[1:])
        yield _framed(event.type, data)

    def add_waiter(self, waiter: "asyncio.Future[None]") -> None:
        """Have `waiter` set when there is more."""
        self._index.add_waiter(self._session_id, waiter)

    def remove_waiter(self, waiter: "asyncio.Future[None]") -> None:
        """Forget `waiter`."""
        self._index.remove_waiter(self._session_id, waiter)


def _framed(kind: str, data: bytes) -> bytes:
    """Return a JSON object with its type in it; the last event of a job has one of its own."""
    return b'{"type":"%b",%b' % (b"job_complete" if kind == "done" else kind.encode(), data[1:])


def _snapshot_frame(job: Job, snapshot: Snapshot) -> bytes:
    """Return a job as it stands; the number is that of the newest event in it."""
    head = b'"type":"snapshot","seq":%d,"job_id":%b' % (job.log.last, to_json(job.id))
    return b'{%b,"job":%b}' % (head, snapshot(job))
