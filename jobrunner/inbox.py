"""Calls made in threads and carried out in the event loop, in order."""

import asyncio
import threading
from collections.abc import Callable

MAX_ON_THE_WAY = 1_000
"""Calls that the loop hasn't carried out yet; who makes the next one waits."""


class Inbox:
    """Hands calls from threads to a loop: one wake-up for all that wait, never more than a bound.

    A call from the loop's own thread is carried out at once.
    """

    __slots__ = ("_calls", "_changed", "_loop", "_thread", "closed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._calls: list[Callable[[], None]] = []
        self._changed: threading.Condition | None = None
        self.closed = False
        """Whether nothing is carried out any more."""

    def do(self, call: Callable[[], None]) -> None:
        """Carry `call` out in the loop; after `close` it has no effect."""
        if threading.get_ident() == self._thread:
            if not self.closed:
                call()
        else:
            self._put(call, wait=True)

    def offer(self, call: Callable[[], None]) -> bool:
        """Do as `do`, but never wait; return False when the call is dropped instead."""
        if threading.get_ident() != self._thread:
            return self._put(call, wait=False)
        self.do(call)
        return True

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Carry out what is on the way, then `last`, and nothing after; from the loop's thread."""
        if self._changed is not None:
            self._take()
        if last is not None:
            last()
        self.closed = True
        if self._changed is not None:  # made by now; who makes it later sees that it is closed
            with self._changed:
                self._changed.notify_all()

    def _put(self, call: Callable[[], None], *, wait: bool) -> bool:
        changed = self._condition()
        with changed:
            while len(self._calls) >= MAX_ON_THE_WAY and not self.closed:
                if not wait:
                    return False
                changed.wait()
            if self.closed:
                return True
            self._calls.append(call)
            if len(self._calls) == 1:
                self._loop.call_soon_threadsafe(self._take)
            return True

    def _condition(self) -> threading.Condition:
        if self._changed is None:  # most jobs call from no thread, and a condition costs
            with _creation:
                self._changed = self._changed or threading.Condition()
        return self._changed

    def _take(self) -> None:
        assert self._changed is not None, "nothing is put without the condition"
        with self._changed:
            calls = list(self._calls)
            self._calls.clear()
            self._changed.notify_all()
        for call in calls:
            if not self.closed:
                call()


_creation = threading.Lock()
