"""Many jobs as one: the record of a batch, and how batches are kept and forgotten.

A batch counts its jobs in the step in which the store saves them, and has a log of its own: the end
of each job as it comes, one progress for all, and `done` at the end. Its log keeps the end of every
job, so nobody who reads by number misses one; what is bounded is how many jobs a batch has, and how
many batches are kept.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .events import Event, EventLog, EventType
from .limits import Retention

ITEM_BYTES = 600
"""Bytes that a batch keeps of each of its jobs: the id, and the event of its end."""
PROGRESSES = 100
"""How often a batch says how far it is: at each whole percent."""

Key: TypeAlias = tuple[str, str | None]
"""An idempotency key, and its owner's name."""


@dataclass(slots=True, eq=False)
class Batch:
    """The record of a batch. The store counts in it, everybody else reads it."""

    id: str
    """`batch_` and 128 random bits."""
    type: str
    """The job type of all its jobs."""
    job_ids: tuple[str, ...]
    """Its jobs, in the order of their params; their numbers rise by one."""
    first: int
    """Number of the first of them."""
    created_at: float
    """When it was accepted, in unix seconds."""
    counts: dict[str, int]
    """How many of its jobs have each status; also of those that are no longer kept."""
    owner: str | None = None
    session_id: str | None = None
    max_in_flight: int | None = None
    """How many of its jobs run at once; None for as many as there are workers."""
    idempotency_key: str | None = None
    request: bytes = b""
    """Digest of type and params, to know by it a request that comes again."""
    ended: int = 0
    """How many of them are final."""
    updated_at: float = 0.0
    """When its last event was."""
    finished_at: float | None = None
    """When the last of them ended; None before."""
    cancel_requested_at: float | None = None
    cancel_note: str | None = None
    log: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at
        self.counts["pending"] = self.total
        self.log = EventLog(max_events=self.total + PROGRESSES + 2)  # asked to stop, and done

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return len(self.job_ids)

    @property
    def progress(self) -> int:
        """How many percent of the jobs are final."""
        return 100 * self.ended // self.total if self.total else 100

    @property
    def is_final(self) -> bool:
        """Whether all of its jobs have ended."""
        return self.finished_at is not None

    def moved(self, was: str, status: str) -> None:
        """One of the jobs has another status."""
        self.counts[was] -= 1
        self.counts[status] += 1

    def job_ended(self, number: int, job_id: str, end: Mapping[str, Any], at: float) -> None:
        """Say that a job has become final, and how far the batch is.

        Args:
            number: The job's number.
            end: Its status, and why it failed or who had it cancelled.
            at: When, in unix seconds.
        """
        before = self.progress
        self.ended += 1
        self._say("item", at, {"index": number - self.first, **end}, job_id)
        if self.progress > before:
            self._say("progress", at, self.progress_fields())
        if self.ended == self.total:
            self.finish(at)

    def finish(self, at: float) -> None:
        """Say that all jobs have ended; at once in a batch of none."""
        self.finished_at = at
        self._say("done", at, {"counts": dict(self.counts)})
        self.log.close()

    def ask_to_stop(self, at: float, note: str | None) -> bool:
        """Note that somebody wants the batch to stop; return whether they were the first."""
        if self.is_final or self.cancel_requested_at is not None:
            return False
        self.cancel_requested_at, self.cancel_note = at, note
        self._say("status", at, {"cancel_requested": True, "cancel_note": note})
        return True

    def progress_fields(self) -> dict[str, Any]:
        """Return how far it is, as a job would say it."""
        bad = self.counts["failed"]
        message = f"{self.ended} of {self.total}" + (f", {bad} failed" if bad else "")
        step = {"current": self.ended, "total": self.total} if self.total else None
        return {"progress": self.progress, "progress_message": message, "step": step}

    def _say(self, kind: EventType, at: float, data: Mapping[str, Any], job_id: str = "") -> None:
        self.updated_at = at
        self.log.append(Event(self.log.last + 1, job_id, kind, at, data))


class Batches:
    """The batches that are kept: those with live jobs, and of the others as many as may be.

    A batch that has ended goes when it is too old, or when those that ended have more jobs together
    than may be kept; the newest stays whatever its size. Its jobs may be gone before it is, and
    the counts remain.

    Args:
        retention: How long final jobs are kept, and batches likewise.
        clock: Seconds on the loop's clock.
        forgotten: Called with each batch that is no longer kept.
    """

    def __init__(
        self,
        retention: Retention,
        clock: Callable[[], float],
        forgotten: Callable[[Batch], None],
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._forgotten = forgotten
        self._batches: dict[str, Batch] = {}
        self._keys: dict[Key, Batch] = {}
        self._ended: deque[tuple[float, Batch]] = deque()
        self._items = 0

    @property
    def oldest(self) -> float | None:
        """When the first of those that have ended did, on the loop's clock; None without any."""
        return self._ended[0][0] if self._ended else None

    def add(self, batch: Batch) -> None:
        """Keep a batch; one of no jobs has ended by that."""
        self._batches[batch.id] = batch
        if batch.idempotency_key is not None:
            self._keys[batch.idempotency_key, batch.owner] = batch
        if not batch.total:
            batch.finish(batch.created_at)
            self.end(batch)

    def find(self, batch_id: str) -> Batch | None:
        """Return the batch, None when it isn't kept."""
        return self._batches.get(batch_id)

    def by_key(self, key: str, owner: str | None) -> Batch | None:
        """Return the batch that its owner submitted with this idempotency key."""
        return self._keys.get((key, owner))

    def end(self, batch: Batch) -> None:
        """The last job of a batch has ended."""
        self._ended.append((self._clock(), batch))
        self._items += _size(batch)

    def prune(self) -> None:
        """Let go of what is too old or too much, the oldest first; O(removed)."""
        while self._ended and (self._too_much() or self._outlived()):
            _, batch = self._ended.popleft()
            self._items -= _size(batch)
            del self._batches[batch.id]
            if batch.idempotency_key is not None:
                del self._keys[batch.idempotency_key, batch.owner]
            self._forgotten(batch)

    def _too_much(self) -> bool:
        kept, items = self._retention, self._items
        over = kept.max_jobs is not None and items > kept.max_jobs
        heavy = kept.max_bytes is not None and items * ITEM_BYTES > kept.max_bytes
        return (over or heavy) and len(self._ended) > 1

    def _outlived(self) -> bool:
        most = self._retention.max_age
        return most is not None and self._ended[0][0] + most <= self._clock()


def _size(batch: Batch) -> int:
    return max(1, batch.total)
