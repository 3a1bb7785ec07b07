"""SIGTERM and SIGINT end the runner first, and whatever serves it afterwards.

A server that is told to stop waits for its connections before it ends the app's lifespan, and an
open stream ends only with its job: each would wait for the other (S1). So the runner hears the
signal itself, beside the server: jobs end, streams pass that on and close, and the server finds
nothing left to wait for.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeAlias

from .processes import kill_all

SIGNALS = (signal.SIGINT,) if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM)
"""What ends a server. Windows knows SIGTERM by name only."""
ECHO = 1.0
"""Seconds in which another SIGTERM is the same request, told twice: a supervisor passes on what
the whole group was sent already, as `uvicorn --reload` does with Ctrl-C."""
LAST_BYTES = 1.0
"""Seconds from the end of a runner that hurried to the end of the server's patience."""

Handler: TypeAlias = Callable[[int, FrameType | None], object]


class Stoppable(Protocol):
    """What can be stopped, as a `JobRunner` can."""

    async def stop(self, *, timeout: float | None = None) -> None:
        """Stop within `timeout` seconds; None for its own default."""


@contextmanager
def ending_on_signals(runner: Stoppable) -> Iterator[None]:
    """Stop `runner` when SIGTERM or SIGINT comes, and then do what would have been done anyway.

    A second one kills all commands and makes it hurry, and is passed on a second after the
    runner's end, since uvicorn would then drop what is still to be sent; a third one is passed on
    at once.

    Only what somebody handles already is heard: a signal that is ignored, or left to the system,
    or handled outside of Python, stays so. Outside of the main thread this does nothing. It may be
    nested, and used for several runners; a runner that has stopped already stays as it is.

    Args:
        runner: What to stop; its loop is the one that runs now.
    """
    ending = _Ending(runner)
    links = [link for number in SIGNALS if (link := _Link.install(number, ending)) is not None]
    try:
        yield
    finally:
        for link in links:
            link.leave()


class _Ending:
    """What the signals mean to one runner."""

    def __init__(self, runner: Stoppable) -> None:
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self._first: float | None = None
        self._hurried = False
        self._stops: set[asyncio.Task[None]] = set()

    def tell(self, number: int, then: Callable[[], None] | None) -> bool:
        """Note the signal, and return whether `then` will be called, when the runner has ended.

        Called between any two instructions of the main thread.
        """
        now = self._loop.time()
        if self._first is None:
            self._first = now
            self._schedule(None, None)
        elif number == signal.SIGINT or now > self._first + ECHO:
            later = self._schedule(0.0, None if self._hurried else then)
            self._hurried = True
            kill_all()  # here, since the loop may be busy, or have no time left
            return later
        return False

    def _schedule(self, timeout: float | None, then: Callable[[], None] | None) -> bool:
        if self._loop.is_closed():
            return False
        self._loop.call_soon_threadsafe(self._stop, timeout, then)
        return then is not None

    def _stop(self, timeout: float | None, then: Callable[[], None] | None) -> None:
        stop = self._loop.create_task(self._runner.stop(timeout=timeout), name="jobrunner stop")
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)
        if then is not None:
            stop.add_done_callback(lambda _: self._loop.call_later(LAST_BYTES, then))


class _Link:
    """A signal handler that tells an ending, and then calls the one that was there before.

    A loop's `add_signal_handler` is chained too: its Python handler does nothing, and the loop
    hears of the signal by a descriptor, whoever handles it.
    """

    def __init__(self, number: int, ending: _Ending, before: Handler) -> None:
        self._number = number
        self._ending: _Ending | None = ending
        self._before = before

    @classmethod
    def install(cls, number: int, ending: _Ending) -> "_Link | None":
        """Return the link, or None where there is nothing to be chained to."""
        before = signal.getsignal(number)
        if not callable(before):  # the system's, or one that was set in C
            return None
        link = cls(number, ending, before)
        try:
            signal.signal(number, link)
        except ValueError:  # not in the main thread
            return None
        return link

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self._ending is not None:
            then = None if isinstance(self._before, _Link) else self._pass_on
            if self._ending.tell(number, then):
                return
        self._before(number, frame)

    def _pass_on(self) -> None:
        if self._ending is not None:
            self._before(self._number, None)

    def leave(self) -> None:
        """Put back what was there; where somebody else has come after, only pass it on to it."""
        self._ending = None
        now: object = signal.getsignal(self._number)
        if now is self:
            signal.signal(self._number, self._still_there())

    def _still_there(self) -> Handler:
        """Return the handler before this one, but for links that have been left meanwhile."""
        before = self._before
        while isinstance(before, _Link) and before._ending is None:
            before = before._before
        return before
