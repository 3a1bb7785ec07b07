"""Older events of a log, with the output in them joined: what no longer stands there one by one.

A model's answer is ten thousand pieces of a few letters. As events they would cost 400 bytes each,
so a log keeps the newest so; of those before, neighbouring pieces become one, which costs their
text and two bytes a piece. Whoever comes late still reads all of it, and whoever goes on from a
number within a joined piece gets just the rest.

Nothing else of a log knows how: it gives events, the oldest first, and reads by number.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from .event import Event

MAX_JOINED = 16_384
"""Characters of a joined piece, as of one that was emitted; places in it fit into two bytes."""


class Joint(NamedTuple):
    """An older event, and where in its text those ended that it was joined of."""

    event: Event
    """Stands for each number since the event before it, up to its own."""
    ends: "array[int] | None"
    """For each number up to the event's own, where its text ended; None if nothing was joined."""

    def after(self, number: int) -> Event:
        """Return what of it is above `number`."""
        event, ends = self
        if ends is None or (passed := number - event.seq + len(ends)) <= 0:
            return event
        rest = event.data["text"][ends[passed - 1] :]
        return event._replace(data={**event.data, "text": rest, "from": number + 1})


class Older:
    """The events of a log up to some number, joined as far as that loses nothing.

    Of a run of pieces of one channel the text is joined; a progress that a later one has replaced
    is left out. Everything else stays as it is.

    Args:
        first: The oldest number that the events stand for.
    """

    __slots__ = ("first", "joints")

    def __init__(self, first: int, joints: Iterable[Joint] = ()) -> None:
        self.first = first
        self.joints = list(joints)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def last(self) -> int:
        """The newest number that the events stand for; `first - 1` when there are none."""
        return self.joints[-1].event.seq if self.joints else self.first - 1

    def fold(self, events: list[Event]) -> None:
        """Add the events that come next. O(their number)."""
        progress = max((event.seq for event in events if event.type == "progress"), default=0)
        run: list[Event] = []
        size = 0
        for event in events:
            if event.type == "progress" and event.seq < progress:
                continue
            length = len(event.data["text"]) if event.type == "output" else 0
            if run and not (size + length <= MAX_JOINED and _alike(run[-1], event)):
                self._add(run, size)
                run, size = [], 0
            run.append(event)
            size += length
        self._add(run, size)

    def _add(self, run: list[Event], size: int) -> None:
        """Add neighbouring pieces of one channel, or any one event."""
        before = self.joints[-1] if self.joints else None
        if before is not None and _alike(before.event, run[0]):
            if size + len(before.event.data["text"]) <= MAX_JOINED:
                self.joints[-1] = _joined(before, run)
                return
        first = Joint(run[0], None)
        self.joints.append(first if len(run) == 1 else _joined(first, run[1:]))

    def read(self, after: int, limit: int | None = None) -> list[Event]:
        """Return the first events that stand for a number above `after`."""
        place = bisect_right(self.joints, after, key=_number)
        stop = None if limit is None else place + limit
        events = [joint.event for joint in self.joints[place:stop]]
        if events:
            events[0] = self.joints[place].after(after)
        return events

    def drop(self) -> int:
        """Let go of the oldest event, and return its weight."""
        event = self.joints.pop(0).event
        self.first = event.seq + 1
        return event.weight


def _alike(one: Event, other: Event) -> bool:
    """Whether two events are pieces of one text; a JSON value is no piece of anything."""
    if one.type != "output" or other.type != "output":
        return False
    return one.data.get("stream") == other.data.get("stream") and not (
        "json" in one.data or "json" in other.data
    )


def _joined(joint: Joint, more: list[Event]) -> Joint:
    """Return one piece made of a piece and those that follow it."""
    event, ends = joint
    text = [event.data["text"]]
    at = len(text[0])
    ends = ends or array("H", [at])
    began = event.seq - len(ends) + 1
    for piece in more:
        ends.extend([at] * (piece.seq - began - len(ends)))  # what was left out in between
        text.append(piece.data["text"])
        at += len(text[-1])
        ends.append(at)
    data = {"stream": event.data.get("stream"), "text": "".join(text), "from": began}
    return Joint(more[-1]._replace(data=data), ends)


def _number(joint: Joint) -> int:
    return joint.event.seq
