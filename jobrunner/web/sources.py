"""What can be watched, as its watchers see it: a log, read by number and made into frames.

A job, a batch and all jobs together are watched alike, and so is each over Server-Sent Events and
over a WebSocket: whoever sends frames has them from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Source:
    """A log, and how it looks from outside.

    Args:
        log: The log.
        snapshot: Makes the whole a JSON object, as it stands when called.
        data: Makes an event a JSON object.
        gap: Makes the event that stands for what is missing in a reading.
        live: Whether who has no number begins with what comes now, instead of all that is kept.
        shows: Whether this watcher may see an event; the others are passed over.
        alike: Whether all watchers of the log see the same.
    """

    log: EventLog
    snapshot: Callable[[], bytes]
    data: Callable[[Event], bytes]
    gap: Callable[[Reading], Event]
    live: bool = False
    shows: Callable[[Event], bool] = lambda event: True
    alike: bool = True

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
        frames, last = list[Frame](), reading.last - len(reading.events)
        if reading.missed:
            frames.append(Frame(last, "gap", self.data(self.gap(reading))))
            if not fresh:
                frames.append(Frame(None, *self._snapshot()))
        size = sum(len(frame.data) for frame in frames)
        for event in reading.events:
            if size >= PIECE:
                break
            last += 1
            if self.shows(event):
                frames.append(Frame(last, event.type, self.data(event)))
                size += len(frames[-1].data)
        return Frames(frames, last)

    def _snapshot(self) -> tuple[str, bytes]:
        return "snapshot", b'%b,"seq":%d}' % (self.snapshot()[:-1], self.log.last)


def job_source(job: Job, snapshot: Callable[[], bytes]) -> Source:
    """Return a job as its watchers see it; its last event has the result in it."""
    return Source(
        log=job.log,
        snapshot=snapshot,
        data=lambda event: event_json(event, job=job),
        gap=lambda reading: gap(job.id, job.updated_at, reading),
    )


def batch_source(
    batch: Batch, snapshot: Callable[[], bytes], kept: Callable[[str], Job | None]
) -> Source:
    """Return a batch as its watchers see it; each job's end has its result in it.

    Args:
        kept: Finds a job by its id, None when it is no longer kept.
    """

    def data(event: Event) -> bytes:
        job = kept(event.job_id) if event.type == "item" else None
        return batch_event_json(batch, event, job)

    return Source(
        log=batch.log,
        snapshot=snapshot,
        data=data,
        gap=lambda reading: gap("", batch.updated_at, reading),
    )


def feed_source(feed: EventLog, shows: Callable[[Event], bool]) -> Source:
    """Return the log of all jobs; an event's `seq` is its number in its job's own log."""
    return Source(
        log=feed,
        snapshot=lambda: b'{"job_id":""}',
        data=event_json,
        gap=lambda reading: gap("", reading.events[0].at if reading.events else 0.0, reading),
        live=True,
        shows=shows,
        alike=False,
    )
