"""Limits of types and batches: how many jobs run together, how many attempts start in a time.

A gate holds back the jobs that can't pass it now, in the queue's order, and calls the next one
when it opens. Nobody polls, and no worker is held: a job that was called goes through the queue
again, where one that is more urgent may overtake it.

    queue -> pass all gates of the type -> a worker
      ^        | one is closed
      +- call -+ wait there
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeAlias, final

from .batches import Batch
from .jobs import Job
from .options import RateLimit, TypeOptions
from .timers import Timer, Timers


@final
class Resumption:
    """An attempt that stood aside and waits for a worker again; to the queue it is like a job.

    Args:
        job: Its job.
        turn: What the attempt waits for.
        granted: Called when the queue gives it out.
    """

    __slots__ = ("granted", "is_final", "job", "timer", "turn")

    def __init__(self, job: Job, turn: "asyncio.Future[None]", granted: Callable[[], None]) -> None:
        self.job = job
        self.turn = turn
        self.granted = granted
        self.is_final = False
        """Whether it waits no more."""
        self.timer: Timer | None = None

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.job.id

    @property
    def number(self) -> int:
        """Number of the job."""
        return self.job.number

    @property
    def type(self) -> str:
        """Type of the job."""
        return self.job.type

    @property
    def priority(self) -> int:
        """Priority of the job."""
        return self.job.priority

    @property
    def concurrency_key(self) -> str | None:
        """The job's, whose slot it takes again."""
        return self.job.concurrency_key

    @property
    def owner(self) -> str | None:
        """The job's, to whom its slots belong."""
        return self.job.owner

    @property
    def batch(self) -> Batch | None:
        """The job's, whose slot it takes again."""
        return self.job.batch

    def __lt__(self, other: object) -> bool:
        return False  # all that is alike in rank and number is of one job

    __gt__ = __lt__


Queued: TypeAlias = Job | Resumption
Entry: TypeAlias = tuple[float, int, Queued]
"""Rank, number, job: as the queue orders them."""
Call: TypeAlias = Callable[[Entry], None]
Key: TypeAlias = tuple[Literal["key", "batch"], str, str | None]
"""A concurrency key and its owner's name, or the id of a batch and that of its owner."""


class Bound(Protocol):
    """What a gate opens and closes by."""

    def is_open(self) -> bool:
        """Return whether one more may pass."""
        ...

    def take(self) -> None:
        """Let one pass."""
        ...

    def give_back(self) -> None:
        """One that had passed has ended."""
        ...


class Slots:
    """At most `limit` together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def is_open(self) -> bool:
        """Return whether a slot is free."""
        return self.taken < self._limit

    def take(self) -> None:
        """Take a slot."""
        self.taken += 1

    def give_back(self) -> None:
        """Free a slot."""
        self.taken -= 1


class Window:
    """At most `rate.starts` in any `rate.seconds`: a sliding window over the last starts.

    Args:
        rate: The limit.
        timers: The clock, and what says when a start has left the window.
        opened: Called then, if `await_opening` was.
    """

    def __init__(self, rate: RateLimit, timers: Timers, opened: Callable[[], None]) -> None:
        self._rate = rate
        self._timers = timers
        self._opened = opened
        self._starts: deque[float] = deque(maxlen=rate.starts)
        self._timer: Timer | None = None

    def is_open(self) -> bool:
        """Return whether one may start; if not, have `opened` called when one may."""
        if len(self._starts) < self._rate.starts or self._free_at() <= self._timers.now():
            return True
        if self._timer is None:
            self._timer = self._timers.at(self._free_at(), self._ring)
        return False

    def take(self) -> None:
        """Note a start; the oldest leaves the window."""
        self._starts.append(self._timers.now())

    def give_back(self) -> None:
        """A start stays one, whenever it ends."""

    def _free_at(self) -> float:
        return self._starts[0] + self._rate.seconds

    def _ring(self) -> None:
        self._timer = None
        self._opened()


class Gate:
    """A bound, and the jobs that wait for it.

    Args:
        call: Puts a job back into the queue.
    """

    def __init__(self, call: Call) -> None:
        self.bound: Bound
        self._call = call
        self._waiting: list[Entry] = []
        self._dropped = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits here."""
        return len(self._waiting) == self._dropped

    def park(self, entry: Entry) -> None:
        """Have the job wait here."""
        heapq.heappush(self._waiting, entry)

    def drop(self) -> None:
        """One that waits here has become final; it is passed over when it is met, or swept."""
        self._dropped += 1
        if self._dropped > 64 and self._dropped * 2 > len(self._waiting):
            self._waiting = [entry for entry in self._waiting if not entry[2].is_final]
            heapq.heapify(self._waiting)
            self._dropped = 0

    def call_next(self) -> None:
        """Call the first of those who wait, if it could pass now."""
        while self._waiting and self.bound.is_open():
            entry = heapq.heappop(self._waiting)
            if not entry[2].is_final:
                self._call(entry)
                return
            self._dropped -= 1


class TypeGates:
    """The gates of one job type: of the type, each concurrency key, each batch, and its rate."""

    def __init__(self, options: TypeOptions, timers: Timers, call: Call) -> None:
        self._call = call
        self._per_key = options.max_per_key
        self._keys: dict[Key, Gate] = {}
        self._common: list[Gate] = []
        if options.max_concurrency is not None:
            self._common.append(self._gate(Slots(options.max_concurrency)))
        if (rate := options.rate) is not None:
            gate = Gate(call)
            gate.bound = Window(rate, timers, gate.call_next)
            self._common.append(gate)
        self.limits_all = bool(self._common)
        """Whether something limits every job of the type."""

    def _gate(self, bound: Bound) -> Gate:
        gate = Gate(self._call)
        gate.bound = bound
        return gate

    def open_to(self, job: Queued) -> bool:
        """Return whether nothing limits the job."""
        return not self.limits_all and not _has_own(job)

    def closed(self, job: Queued) -> Gate | None:
        """Return a gate that the job can't pass now, or None."""
        return next((gate for gate in self._of(job) if not gate.bound.is_open()), None)

    def enter(self, job: Queued) -> None:
        """Let the job pass all gates, and call who else could."""
        gates = self._of(job)
        for gate in gates:
            gate.bound.take()
        for gate in gates:
            gate.call_next()

    def leave(self, job: Job) -> None:
        """Give back what the job had taken."""
        for gate in self._of(job):
            gate.bound.give_back()
        self.pass_on(job)

    def pass_on(self, job: Queued) -> None:
        """Call the next one at each gate of a job that was called and won't pass."""
        for gate in self._of(job):
            gate.call_next()
        self._forget_keys(job)

    def _of(self, job: Queued) -> list[Gate]:
        common = self._common
        if type(job) is Resumption:  # no start, and so nothing to the rate
            common = [gate for gate in common if not isinstance(gate.bound, Window)]
        return [*self._own(job), *common] if _has_own(job) else common

    def _own(self, job: Queued) -> Iterator[Gate]:
        """Yield the gates that the job shares with those of its key, and of its batch, only."""
        for key, limit in self._keys_of(job):
            gate = self._keys.get(key)
            if gate is None:
                gate = self._keys[key] = self._gate(Slots(limit))
            yield gate

    def _keys_of(self, job: Queued) -> Iterator[tuple[Key, int]]:
        if job.concurrency_key is not None:
            yield ("key", job.concurrency_key, job.owner), self._per_key
        if (batch := job.batch) is not None and batch.max_in_flight is not None:
            yield ("batch", batch.id, job.owner), batch.max_in_flight

    def _forget_keys(self, job: Queued) -> None:
        """A key that nobody holds or waits for costs nothing."""
        for key, _ in self._keys_of(job):
            gate = self._keys[key]
            assert isinstance(gate.bound, Slots), "a key is limited by slots"
            if gate.bound.taken == 0 and gate.idle:
                del self._keys[key]


def _has_own(job: Queued) -> bool:
    """Whether the job has a key, or a batch of which only so many run."""
    batch = job.batch
    return job.concurrency_key is not None or (
        batch is not None and batch.max_in_flight is not None
    )
