"""The log of all jobs together, whose older events are kept in blocks.

Ten thousand events that lie about one by one double the time for which the garbage collector stops
everybody. A block of them is five columns of what it doesn't follow. Who follows the feed is at its
end, where events still stand one by one.
"""

import marshal
import sys
from typing import NamedTuple

from .event import Event, EventType, make_event
from .events import EventLog, Reading
from .packing import dump

BLOCK = 256
"""Events that are put into a block together, in less than a tenth of a millisecond."""
_SHARING = 4
"""Of `marshal`: the first format that keeps a text once which comes again and again."""


class _Block(NamedTuple):
    """Events by their fields."""

    seqs: tuple[int, ...]
    job_ids: tuple[str, ...]
    types: tuple[EventType, ...]
    times: tuple[float, ...]
    data: bytes

    def events(self) -> list[Event]:
        return list(map(make_event, zip(*self[:4], marshal.loads(self.data), strict=True)))


class Feed(EventLog):
    """A log of the newest `max_events` of all jobs, read by its own numbers.

    Args:
        max_events: How many are kept.
        last: The number after which it begins.
    """

    __slots__ = ("_blocks", "_made", "_size")

    def __init__(self, *, max_events: int, last: int = 0) -> None:
        super().__init__(max_events=max_events, max_bytes=sys.maxsize, last=last)
        self._size = max(1, min(BLOCK, max_events // 4))
        self._blocks: list[_Block] = []
        self._made: tuple[_Block | None, list[Event]] = None, []  # of the block that was read last
        self._sweep_at = last + 2 * self._size

    def __len__(self) -> int:
        there = len(self._blocks) * self._size + len(self._events)
        return min(there, max(self.max_events, 1))

    @property
    def first(self) -> int:
        """The oldest number that is kept; `last + 1` when there is none."""
        return self.last - len(self) + 1

    def _evict(self) -> None:
        """Make a block of the older half that stands one by one, and let go of what is too much."""
        *fields, data = zip(*self._events[: self._size], strict=True)
        self._blocks.append(_Block._make((*fields, dump(data, _SHARING))))
        del self._events[: self._size]
        surplus = len(self._blocks) * self._size + len(self._events) - self.max_events
        del self._blocks[: max(0, surplus) // self._size]
        self._sweep_at = self.last + self._size

    def read(self, after: int = 0, *, limit: int | None = None) -> Reading:
        """Return the events with a number above `after`, at most `limit` of them.

        Costs what it returns, and at most a block.
        """
        start = max(after + 1, self.first)
        single = self.last - len(self._events) + 1  # the oldest that stands by itself
        if start >= single:
            return super().read(after, limit=limit)
        place, skipped = divmod(start - single, self._size)  # both from the end
        events: list[Event] = []
        for block in self._blocks[place:]:
            events += self._of(block)[skipped:]
            skipped = 0
            if limit is not None and len(events) >= limit:
                del events[limit:]
                break
        else:
            events += self.single()[: None if limit is None else limit - len(events)]
        return Reading(events, start + len(events) - 1, start - max(after, 0) - 1)

    def kept(self) -> list[Event]:
        """Return all events that there still are, in order."""
        return self.read().events

    def _of(self, block: _Block) -> list[Event]:
        if self._made[0] is not block:
            self._made = block, block.events()
        return self._made[1]
