"""One timer of the event loop for everything that comes due: delays, retries, limits, graces.

A timer of the loop for each job would cost more than most jobs do, and a cancelled one stays in
the loop's heap. Here a cancelled timer lets go of what it would have called at once, and the heap
is swept when half of it is cancelled, so that each call is O(log n) on the average.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable


class Timer:
    """Something to call at a moment, unless it is cancelled before."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call


class Timers:
    """A table of timers on the clock of the event loop that it is open for, in seconds."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.now: Callable[[], float] = _closed
        """Returns the time on the loop's clock; nobody can set it (Q6)."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf  # a handle of uvloop's needn't know its time

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `loop` from now on."""
        self._loop = loop
        self.now = loop.time

    def after(self, delay: float, call: Callable[[], None]) -> Timer:
        """Call `call` after `delay` seconds."""
        return self.at(self.now() + delay, call)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call `call` when the loop's clock shows `when`; equal times run in the order given."""
        timer = Timer(call)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if when < self._alarm_at:
            self._arm(when)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Don't call it. None, one that has run or one that is cancelled is no error."""
        if timer is None or timer.call is None:
            return
        timer.call = None
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Forget all timers and let go of the loop."""
        for _, _, timer in self._heap:
            timer.call = None
        self._heap.clear()
        self._cancelled = 0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._alarm_at = None, math.inf
        self._loop, self.now = None, _closed

    def _arm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        assert self._loop is not None, "the timers are not open"
        self._alarm, self._alarm_at = self._loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        try:
            self._call_due(self.now())
        finally:
            if self._heap:
                self._arm(self._heap[0][0])

    def _call_due(self, now: float) -> None:
        """Call what was due before this; what that sets for now waits until tasks had a turn."""
        new = next(self._order)
        while self._heap and self._heap[0][0] <= now and self._heap[0][1] < new:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()


def _closed() -> float:
    raise AssertionError("the timers are not open")
