"""What can be watched, as its watchers see it: a log, read by number and made into frames.

A job, a batch and all jobs together are watched alike, and so is each over Server-Sent Events and
over a WebSocket: whoever sends frames has them from here.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..batch_views import batch_event_json
from ..batches import Batch
from ..events import Event, EventLog, Reading, gap
from ..jobs import Job
from ..views import event_json

BATCH = 100
"""Events that are read at once at most."""
PIECE = 32_768
"""Bytes after which no more events are read; a dead reader leaves one piece in memory (S4)."""


class Frame(NamedTuple):
    """What a watcher is sent: an event, a gap, or a snapshot."""

    number: int | None
    """The number after which to go on from here; None for a snapshot that stands for none."""
    type: str
    """The event's type, or `snapshot`."""
    data: bytes
    """A JSON object in one line."""


class Frames(NamedTuple):
    """What a log has after a number, for one watcher."""

    frames: list[Frame]
    """What to send, in order; nothing, also where all that came is not for this watcher."""
    last: int
    """The number to read after next time."""


class Source:
    """A log, and how it looks from outside.

    One is kept for each watcher, so it is an object with slots: closures would be 600 bytes more.
    """

    __slots__ = ("log",)

    live = False
    """Whether who has no number begins with what comes now, instead of all that is kept."""
    alike = True
    """Whether all watchers of the log see the same."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    def snapshot(self) -> bytes:
        """Return the whole as a JSON object, as it stands now."""
        raise NotImplementedError

    def data(self, event: Event) -> bytes:
        """Return an event as a JSON object."""
        raise NotImplementedError

    def gap(self, reading: Reading) -> Event:
        """Return the event that stands for what is missing in a reading."""
        raise NotImplementedError

    def shows(self, event: Event) -> bool:
        """Return whether this watcher may see an event; the others are passed over."""
        return True

    def begin(self, after: int | None) -> Frames:
        """Return what a watcher gets first, and the number to read after.

        Without a number that is a snapshot. One that was never reached is some other log's: a live
        log begins anew then, one that ends goes on from its last.
        """
        last = self.log.last
        if self.live and (after is None or after > last):
            return Frames([Frame(last, *self._snapshot())], last)
        if after is None:
            return Frames([Frame(None, *self._snapshot())], 0)
        return Frames([], min(after, last))

    def read(self, after: int, *, fresh: bool = False) -> Frames:
        """Return what is newer than `after`, as much as is sent in one piece.

        A gap comes with a snapshot, unless there was one just now, when it is `fresh`.
        """
        reading = self.log.read(after, limit=BATCH)
        frames, last = list[Frame](), reading.begin
        if reading.missed:
            frames.append(Frame(last, "gap", self.data(self.gap(reading))))
            if not fresh:
                frames.append(Frame(None, *self._snapshot()))
        size = sum(len(frame.data) for frame in frames)
        for number, event in reading.numbered():
            if size >= PIECE:
                break
            last = number
            if self.shows(event):
                frames.append(Frame(last, event.type, self.data(event)))
                size += len(frames[-1].data)
        return Frames(frames, last)

    def _snapshot(self) -> tuple[str, bytes]:
        return "snapshot", b'%b,"seq":%d}' % (self.snapshot()[:-1], self.log.last)


class JobSource(Source):
    """A job as its watchers see it; its last event has the result in it.

    Args:
        job: The job's record.
        view: Makes it JSON, as it stands when called.
    """

    __slots__ = ("_job", "_view")

    def __init__(self, job: Job, view: Callable[[], bytes]) -> None:
        super().__init__(job.log)
        self._job = job
        self._view = view

    def snapshot(self) -> bytes:
        """Return the job."""
        return self._view()

    def data(self, event: Event) -> bytes:
        """Return an event of the job."""
        return event_json(event, job=self._job)

    def gap(self, reading: Reading) -> Event:
        """Return what says which events are no longer kept."""
        return gap(self._job.id, self._job.updated_at, reading)


class BatchSource(Source):
    """A batch as its watchers see it; each job's end has its result in it.

    Args:
        batch: The batch's record.
        view: Makes it JSON, as it stands when called.
        kept: Finds a job by its id, None when it is no longer kept.
    """

    __slots__ = ("_batch", "_kept", "_view")

    def __init__(
        self, batch: Batch, view: Callable[[], bytes], kept: Callable[[str], Job | None]
    ) -> None:
        super().__init__(batch.log)
        self._batch = batch
        self._view = view
        self._kept = kept

    def snapshot(self) -> bytes:
        """Return the batch."""
        return self._view()

    def data(self, event: Event) -> bytes:
        """Return an event of the batch."""
        job = self._kept(event.job_id) if event.type == "item" else None
        return batch_event_json(self._batch, event, job)

    def gap(self, reading: Reading) -> Event:
        """Return what says which events are no longer kept: none, for as long as the batch is."""
        return gap("", self._batch.updated_at, reading)  # pragma: no cover  # as it says


class FeedSource(Source):
    """The log of all jobs; an event's `seq` is its number in its job's own log.

    Args:
        feed: The log.
        sees: Whether this watcher may see a job, given its id.
    """

    __slots__ = ("_sees",)

    live = True
    alike = False

    def __init__(self, feed: EventLog, sees: Callable[[str], bool]) -> None:
        super().__init__(feed)
        self._sees = sees

    def snapshot(self) -> bytes:
        """Return what stands for all jobs: a list of them is asked for elsewhere."""
        return b'{"job_id":""}'

    def data(self, event: Event) -> bytes:
        """Return an event of a job."""
        return event_json(event)

    def gap(self, reading: Reading) -> Event:
        """Return what says which events are no longer kept."""
        return gap("", reading.events[0].at if reading.events else 0.0, reading)

    def shows(self, event: Event) -> bool:
        """Return whether the event's job is one that this watcher may see."""
        return self._sees(event.job_id)
