"""Events of a job and the log that keeps them: append, read by number, wait for what is newer.

A log is the only thing that anybody watches. Its numbers start at 1, rise by one and are never
reused, so a reader needs to remember a single integer to lose nothing and to repeat nothing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

from .event import TEXTUAL
from .event import Event as Event
from .event import EventType as EventType
from .event import make_event as make_event
from .joining import Older

FEW = 16
"""With a bound below this, a log joins nothing."""


class Reading(NamedTuple):
    """What a log has after a number."""

    events: list[Event]
    """The events in order, the oldest first."""
    last: int
    """The number to read after next time."""
    missed: int
    """How many events between the number asked for and the first one here are no longer kept."""
    joined: int = 0
    """How many more numbers the events stand for than they are; see `joining`."""

    @property
    def begin(self) -> int:
        """The number before the first that the events stand for."""
        return self.last - len(self.events) - self.joined

    def numbered(self) -> Iterator[tuple[int, Event]]:
        """Yield the events with their numbers in this log, which of all jobs' isn't `seq`."""
        if self.joined:
            return ((event.seq, event) for event in self.events)
        return enumerate(self.events, self.begin + 1)


class EventLog:
    """The last events of one job, or of all jobs, numbered from 1.

    Appending is O(1) and never waits. When a bound is hit, older output is joined, and then the
    oldest events go, never the newest; a reader that asks for one that went is told how many it
    missed.

    Args:
        max_events: How many events to keep; a joined piece counts as one.
        max_bytes: How many characters of text in them to keep.
        last: Number after which the events are numbered; they go on from another log's then.
    """

    __slots__ = ("_bytes", "_events", "_gone", "_room", "_sweep_at", "_waiters", "closed", "last",
                 "max_bytes", "max_events", "older")  # fmt: skip

    def __init__(
        self, *, max_events: int = 1_000, max_bytes: int = 5_000_000, last: int = 0
    ) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.last = last
        self.older: Older | None = None
        """What no longer stands here one by one; None in most logs."""
        self.closed = False
        self._events: list[Event | None] = []
        self._gone = 0  # how many places at the front of the list are empty
        self._room = max_events + max_events // 4  # text goes at once, other events in sweeps
        self._sweep_at = last + self._room
        self._bytes = 0
        self._waiters: dict[asyncio.Future[None], int] | None = None

    def __len__(self) -> int:
        return self._single + (0 if self.older is None else len(self.older))

    @property
    def _single(self) -> int:
        return min(len(self._events) - self._gone, max(self.max_events, 1))

    @property
    def first(self) -> int:
        """The oldest number that a kept event stands for; `last + 1` when there is none."""
        return self.last - self._single + 1 if self.older is None else self.older.first

    @property
    def has_text(self) -> bool:
        """Whether any log line or output is kept."""
        return self._bytes > 0 or self.older is not None

    def append(self, event: Event) -> None:
        """Add the event as number `last + 1` and wake who waits for it."""
        self._events.append(event)
        self.last += 1
        if event.type in TEXTUAL:
            self._bytes += event.weight
            self._sweep_at += self.max_events - self._room
            self._room = self.max_events
        if self.last > self._sweep_at or self._bytes > self.max_bytes:
            self._evict()
        if self._waiters:
            self._wake()

    def _evict(self) -> None:
        """Let the oldest go; the list is swept seldom enough to cost nothing per event."""
        if self._room == self.max_events >= FEW and self._single * 8 > self.max_events * 5:
            self._join()
        surplus = len(self) - self.max_events
        while self.older and (surplus > 0 or self._bytes > self.max_bytes):
            self._bytes -= self.older.drop()
            surplus -= 1
        self.older = self.older or None
        events, gone = self._events, self._gone
        surplus = len(events) - gone - self.max_events
        if not self._bytes:  # none of them has a text, and none is looked at
            del events[: gone + max(0, min(surplus, len(events) - gone - 1))]
            gone = surplus = 0
        while len(events) - gone > 1 and (surplus > 0 or self._bytes > self.max_bytes):
            oldest = events[gone]
            assert oldest is not None, "only what is before `_gone` is empty"
            self._bytes -= oldest.weight
            events[gone] = None
            gone += 1
            surplus -= 1
        if gone * 2 > len(events):
            del events[:gone]
            gone = 0
        self._gone = gone
        kept = len(events) - gone + (0 if self.older is None else len(self.older))
        self._sweep_at = self.last - kept + self._room

    def _join(self) -> None:
        """Join the older half of the events that stand one by one."""
        events, stop = self._events, len(self._events) - self.max_events // 2
        begin = max(self._gone, len(events) - self.max_events - 1)
        older = self.older = self.older or Older(self.last - len(events) + begin + 1)
        older.fold(events[begin:stop])  # type: ignore[arg-type]  # none of them is empty
        del self._events[:stop]
        self._gone = 0

    def close(self) -> None:
        """Say that nothing will follow, and wake everybody who waits."""
        self.closed = True
        if self._waiters:
            self._wake()

    def read(self, after: int = 0, *, limit: int | None = None) -> Reading:
        """Return the events with a number above `after`, at most `limit` of them.

        Costs what it returns. Nothing newer, or a number not reached yet, is an empty reading.
        """
        after = max(after, 0)
        start = max(after + 1, self.first)
        if start > self.last:
            return Reading([], start - 1, start - after - 1)
        if self.older is not None and start <= self.older.last:
            return self._read_older(self.older, after, start, limit)
        place = len(self._events) - self.last + start - 1
        stop = None if limit is None else place + limit
        events = [event for event in self._events[place:stop] if event is not None]
        return Reading(events, start + len(events) - 1, start - after - 1)

    def _read_older(self, older: Older, after: int, start: int, limit: int | None) -> Reading:
        events = older.read(start - 1, limit)
        stop = None if limit is None else self._gone + limit - len(events)
        events += self._events[self._gone : stop]  # type: ignore[arg-type]  # none is empty
        last = events[-1].seq if events else start - 1
        return Reading(events, last, start - after - 1, last - start + 1 - len(events))

    def single(self) -> list[Event]:
        """Return the events that still stand one by one, in order."""
        return self._events[len(self._events) - self._single :]  # type: ignore[return-value]  # none is empty

    def kept(self) -> list[Event]:
        """Return all events that there still are, in order."""
        older = [] if self.older is None else self.older.joints
        return [joint.event for joint in older] + self.single()

    async def wait(self, after: int) -> None:
        """Wait until there is an event with a number above `after`, or the log is closed."""
        while self.last <= after and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self.add_waiter(waiter, after)
            try:
                await waiter
            finally:
                self.remove_waiter(waiter)

    async def wait_closed(self) -> None:
        """Wait until the log is closed; the events before don't wake it."""
        await self.wait(sys.maxsize)

    async def follow(
        self,
        after: int = 0,
        *,
        limit: int = 100,
        wait: Callable[[int], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Reading]:
        """Yield what is above `after`, and then what comes, until the log is closed and read.

        Args:
            limit: How many events are read at once.
            wait: Waits as `wait` does; who reads may have more to do around it.
        """
        wait = wait or self.wait
        while True:
            reading = self.read(after, limit=limit)
            if reading.events or reading.missed:
                yield reading
                after = reading.last
            elif self.closed:
                return
            else:
                await wait(after)

    def add_waiter(self, waiter: "asyncio.Future[None]", after: int) -> None:
        """Have `waiter` set when there is an event above `after`, or the log is closed.

        Each waiter brings a future of its own: the first to give up would cancel a shared one for
        all. Whoever adds one removes it, however its wait ends.
        """
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = after

    def remove_waiter(self, waiter: "asyncio.Future[None]") -> None:
        """Forget `waiter`; one that isn't there is no error."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def _wake(self) -> None:
        for waiter, after in (self._waiters or {}).items():
            if (self.closed or self.last > after) and not waiter.done():
                waiter.set_result(None)


def gap(job_id: str, at: float, reading: Reading) -> Event:
    """Return the event that stands for what `reading` missed; it has the number of the last."""
    last = reading.begin
    return Event(last, job_id, "gap", at, {"from": last - reading.missed + 1, "to": last})
