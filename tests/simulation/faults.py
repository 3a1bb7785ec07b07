"""Named places at which a scenario lets something go wrong, and how often each of them did.

A point is a place and a kind: `raise` an error there, `delay` what goes on there, or `cancel` it.
A scenario draws a few places, and one kind for each; the others stay quiet, so that what it finds
can be told from noise. Hits are counted over all scenarios of the process.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Literal, NoReturn, TypeAlias

Kind: TypeAlias = Literal["raise", "delay", "cancel"]

PLACES: dict[str, tuple[Kind, ...]] = {
    # in the handler
    "handler.entry": ("raise", "delay", "cancel"),
    "handler.tick": ("raise", "delay", "cancel"),
    "handler.pause": ("raise", "delay", "cancel"),
    "handler.gate": ("raise", "delay", "cancel"),
    "handler.piece": ("raise", "delay", "cancel"),
    "handler.cleanup": ("raise", "delay", "cancel"),
    "handler.swallow": ("raise", "delay"),
    "handler.asking": ("cancel",),
    "handler.notify": ("raise", "delay"),
    "handler.impatient": ("delay",),
    # in the clock, by who looks at it
    "clock.loop": ("raise",),
    "clock.job": ("raise",),
    # in functions that the kernel calls
    "user.key": ("raise",),
    "user.validator": ("raise",),
    "user.retry_if": ("raise",),
    "user.on_failure": ("raise", "delay", "cancel"),
    "user.on_failure_hangs": ("delay",),
    "user.on_failure_is_deaf": ("delay",),
    # in values that the kernel reads
    "result.repr": ("raise",),
    "result.items": ("raise",),
    "error.str": ("raise",),
    "error.status": ("raise",),
    "error.retry_after": ("raise",),
    "metadata.keys": ("raise",),
    "field.repr": ("raise",),
    "message.str": ("raise",),
    "note.str": ("raise",),
    # in those who wait
    "client.submit": ("cancel",),
    "client.wait": ("cancel",),
    "client.result": ("cancel",),
    "client.events": ("cancel",),
    "client.feed": ("cancel",),
    "client.retry_failed": ("cancel",),
    "client.drain": ("cancel",),
    "client.stop": ("cancel",),
    # while the runner stops
    "stop.retry_failed": ("delay",),
    "stop.resize": ("delay",),
    "stop.pause": ("delay",),
}
TREE_PLACES: dict[str, tuple[Kind, ...]] = {
    # in a handler that has sub-jobs
    "parent.submitted": ("raise", "delay", "cancel"),
    "parent.waits": ("cancel", "delay"),
    "parent.maps": ("cancel",),
    "parent.cleanup": ("raise", "delay"),
    # in one that asks
    "asker.notify": ("raise", "delay", "cancel"),
    "asker.waits": ("cancel", "delay"),
    "asker.answered": ("raise", "delay", "cancel"),
    # by those who answer, and those who cancel
    "answer.twice": ("delay",),
    "answer.then": ("cancel",),
    "cancel.then": ("delay",),
    "cancel.asking": ("cancel",),
    "cancel.parent": ("cancel",),
    "cancel.child": ("cancel",),
    "cancel.aside": ("cancel",),
}
"""The same for trees of jobs."""


def _points(places: dict[str, tuple[Kind, ...]]) -> tuple[str, ...]:
    return tuple(f"{place} {kind}" for place, kinds in places.items() for kind in kinds)


POINTS = _points(PLACES)
TREE_POINTS = _points(TREE_PLACES)
HITS: Counter[str] = Counter()
"""How often each point was hit, in this process."""

_RATES = (0.3, 0.6, 1.0)


class Injected(Exception):
    """What a fault raises; stands for any error of somebody else's."""


class InjectedExit(BaseException):
    """The same, of the kind that a plain `except Exception` lets through (T1)."""


class Faults:
    """The faults of one scenario.

    Args:
        seed: Everything is drawn from it.
        note: Takes a line for the trace.
        places: Where something may go wrong, and how.
    """

    def __init__(
        self,
        seed: int,
        note: Callable[[str], None],
        places: dict[str, tuple[Kind, ...]] = PLACES,
    ) -> None:
        self._random = Random(f"faults of {seed}")
        self._note = note
        self.calm = False
        self.rate = self._random.choice(_RATES)
        chosen = self._random.sample(tuple(places), self._random.choice((0, 6, 12)))
        self.active = {place: self._random.choice(places[place]) for place in chosen}
        """The kind for each place that is not quiet."""

    def strike(self, place: str) -> Kind | None:
        """Return what happens at `place` now, or None for nothing."""
        kind = self.active.get(place)
        if kind is None or self.calm or self._random.random() >= self.rate:
            return None
        HITS[f"{place} {kind}"] += 1
        self._note(f"fault {place} {kind}")
        return kind

    def strikes(self, place: str) -> bool:
        """Return whether the one thing that can happen at `place` happens now."""
        return self.strike(place) is not None

    def fail(self, place: str) -> None:
        """Raise, now and then, something that one has to reckon with."""
        if place in self.active and self.strikes(place):
            raise self.error(place)

    def error(self, place: str) -> BaseException:
        """Return an error, seldom of the worst kind."""
        return (InjectedExit if self._random.random() < 0.2 else Injected)(place)

    def arm(self, place: str) -> Callable[[], NoReturn]:
        """Return what raises when a hostile value is read; the hit is counted there."""

        def strike() -> NoReturn:
            HITS[f"{place} raise"] += 1
            raise self.error(place)

        return strike

    def wants(self, place: str) -> bool:
        """Return whether a hostile value is to be made now; it may never be read."""
        return place in self.active and not self.calm and self._random.random() < self.rate


def table(points: tuple[str, ...] = POINTS) -> str:
    """Return the hits of each point, the rarest first."""
    rows = sorted(points, key=lambda point: (HITS[point], point))
    return "\n".join(f"{HITS[point]:>9}  {point}" for point in rows)
