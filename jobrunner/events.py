"""Events of a job and the log that keeps them: append, read by number, wait for what is newer.

A log is the only thing that anybody watches. Its numbers start at 1, rise by one and are never
reused, so a reader needs to remember a single integer to lose nothing and to repeat nothing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

EventType: TypeAlias = Literal["status", "progress", "log", "output", "item", "gap", "done"]


_TEXTUAL = frozenset({"log", "output"})


class Event(NamedTuple):
    """Something that happened to a job."""

    seq: int
    """Number of the event in its job's log, from 1."""
    job_id: str
    """The job it happened to."""
    type: EventType
    """What happened; `done` is the last event of every job, `item` a job's end in its batch."""
    at: float
    """When, in unix seconds."""
    data: Mapping[str, Any]
    """What goes with the type; JSON values only."""

    @property
    def weight(self) -> int:
        """What the event's text weighs against a log's `max_bytes`, in characters."""
        if self.type not in _TEXTUAL:
            return 0
        return len(self.data["text"]) + len(str(self.data.get("fields", "")))


make_event: Callable[[tuple[int, str, EventType, float, Mapping[str, Any]]], Event]
make_event = partial(tuple.__new__, Event)
"""Make an event of its fields; costs a third of `Event(...)`."""


class Reading(NamedTuple):
    """What a log has after a number."""

    events: list[Event]
    """The events in order, the oldest first."""
    last: int
    """The number to read after next time."""
    missed: int
    """How many events between the number asked for and the first one here are no longer kept."""


class EventLog:
    """The last events of one job, or of all jobs, numbered from 1.

    Appending is O(1) and never waits. When a bound is hit the oldest events go, never the newest;
    a reader that asks for one that went is told how many it missed.

    Args:
        max_events: How many events to keep.
        max_bytes: How many characters of text in them to keep.
        last: Number after which the events are numbered; they go on from another log's then.
    """

    __slots__ = ("_bytes", "_events", "_gone", "_room", "_sweep_at", "_waiters", "closed", "last",
                 "max_bytes", "max_events")  # fmt: skip

    def __init__(
        self, *, max_events: int = 1_000, max_bytes: int = 5_000_000, last: int = 0
    ) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.last = last
        self.closed = False
        self._events: list[Event | None] = []
        self._gone = 0  # how many places at the front of the list are empty
        self._room = max_events + max_events // 4  # text goes at once, other events in sweeps
        self._sweep_at = last + self._room
        self._bytes = 0
        self._waiters: dict[asyncio.Future[None], int] | None = None

    def __len__(self) -> int:
        return min(len(self._events) - self._gone, max(self.max_events, 1))

    @property
    def first(self) -> int:
        """Number of the oldest event that is kept; `last + 1` when there is none."""
        return self.last - len(self) + 1

    def append(self, event: Event) -> None:
        """Add the event as number `last + 1` and wake who waits for it."""
        self._events.append(event)
        self.last += 1
        if event.type in _TEXTUAL:
            self._bytes += event.weight
            self._room = self.max_events
            self._evict()
        elif self.last > self._sweep_at or self._bytes > self.max_bytes:
            self._evict()
        if self._waiters:
            self._wake()

    def _evict(self) -> None:
        """Let the oldest go; the list is swept seldom enough to cost nothing per event."""
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
        self._sweep_at = self.last - len(events) + gone + self._room

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
        place = len(self._events) - self.last + start - 1
        stop = None if limit is None else place + limit
        events = [event for event in self._events[place:stop] if event is not None]
        return Reading(events, start + len(events) - 1, start - after - 1)

    def kept(self) -> list[Event]:
        """Return all events that there still are, in order."""
        return self._events[len(self._events) - len(self) :]  # type: ignore[return-value]  # none is empty

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
    last = reading.last - len(reading.events)
    return Event(last, job_id, "gap", at, {"from": last - reading.missed + 1, "to": last})
