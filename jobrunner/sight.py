"""What one thread can see of another's event loop: which callback stands, for how long, and where.

While a loop turns, it is in another callback each time one looks, or in none; one that is still
there after a while blocks all others. So an idle loop is never woken, and a busy one isn't
disturbed. A loop that isn't asyncio's own (uvloop) doesn't show its callbacks: there the loop has
to be asked for a sign of life, whenever it is seen in a task.

Code that keeps the interpreter for itself (a regular expression, a large `json.loads`) stops the
thread that looks as well. It is seen right afterwards, if the loop's thread has burnt processor
time meanwhile; if it has not, the machine was asleep or busy, or C code slept without letting
anybody else run, and nothing is known.
"""

import asyncio
import contextlib
import gc
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NamedTuple


class Place(NamedTuple):
    """Where a frame stands."""

    function: str
    file: str
    line: int

    @classmethod
    def of(cls, frame: FrameType) -> "Place":
        return cls(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})"


class Sight:
    """What another thread can see of a loop; keeps neither tasks nor frames.

    Made in the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.seen = 0.0
        """Seconds for which the loop has been seen in one callback."""
        self._thread = threading.get_ident()
        clock = getattr(time, "pthread_getcpuclockid", None)  # macOS has none
        self._clock: int | None = clock(self._thread) if clock else None
        self._plain = isinstance(loop, asyncio.BaseEventLoop)
        self._looked = math.inf
        self._burnt = math.inf
        self._callback: Callable[[], object] = _nothing
        self._sign = _Sign()
        self._task: Callable[[], object] = _nothing
        self._asked = False

    def look(self, tick: float, turned: float = -math.inf) -> bool:
        """Look where the loop stands; return whether it is where it was at the last look.

        Args:
            tick: Seconds between two looks.
            turned: When the loop has certainly turned, on the monotonic clock.
        """
        elapsed, burnt = self._times()
        late = elapsed > 2 * tick
        callback = self._in_callback() if self._plain else self._unanswered()
        same = callback is not None and callback is self._callback()
        if same:  # what passed while this thread didn't run isn't the loop's fault, unless it ran
            self.seen += max(burnt, 2 * tick) if late else elapsed
        else:
            self._callback = _nothing if callback is None else weakref.ref(callback)
            held = callback is not None and late  # nobody else ran while the thread did
            self.seen = min(burnt, self._looked - turned) if held else 0.0
        return same

    def look_away(self) -> None:
        """Don't count the time until the next look: it will not be late, but on purpose."""
        self._looked = self._burnt = math.inf

    def _times(self) -> tuple[float, float]:
        """Return how long ago the last look was, and how long the loop's thread ran since."""
        now, burnt = time.monotonic(), 0.0
        if self._clock is not None:
            with contextlib.suppress(OSError):  # the thread has ended
                burnt = time.clock_gettime(self._clock)
        passed = max(0.0, now - self._looked), max(0.0, burnt - self._burnt)
        self._looked, self._burnt = now, burnt
        return passed

    def _in_callback(self) -> object:
        """Return the handle that the loop carries out: a new one for each step of each task."""
        with uncollected():
            frame = self._innermost()
            while frame is not None and frame.f_code is not _STEP:
                frame = frame.f_back
            handle = None if frame is None else frame.f_locals.get("self")
        return handle if getattr(handle, "_loop", None) is self.loop else None

    def _unanswered(self) -> object:
        """Return the same sign as before while the loop hasn't answered, nor changed its task.

        One callback can't be told from a thousand short ones, so that only tasks are seen.
        """
        task = asyncio.current_task(self.loop)
        if task is None:
            return None
        if not self._asked or task is not self._task():
            self._sign = _Sign()
            self._task = weakref.ref(task)
        if not self._asked:
            self._asked = True
            with contextlib.suppress(RuntimeError):  # it has been closed
                self.loop.call_soon_threadsafe(self._answer)
        return self._sign

    def _answer(self) -> None:
        self._asked = False

    def places(self) -> "tuple[Place, Place] | None":
        """Return where the callback stands: in the user's code, and innermost; None if it ended."""
        places = []
        with uncollected():
            frame = self._innermost()
            while frame is not None and frame.f_code is not _STEP:
                if frame.f_globals.get("__name__") in _BELOW:
                    break
                places.append(Place.of(frame))
                frame = frame.f_back
        if frame is not None and not places:  # the callback is a function in C
            places.append(Place.of(frame))
        if not places or (self._plain and self._in_callback() is not self._callback()):
            return None  # other threads run meanwhile
        return _own(places), places[0]

    def _innermost(self) -> FrameType | None:
        return sys._current_frames().get(self._thread)


class _Sign:
    """Stands for a callback that can't be seen."""


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Have no garbage collected while the frames of another thread are walked.

    Python 3.11 collects garbage as it makes the object for a frame. If what is collected lets that
    thread run, the frame is gone and the object is made of whatever came in its place, which
    crashes the process. Later versions collect between instructions.
    """
    if not (_COLLECTS_ANYWHERE and gc.isenabled()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _nothing() -> None:
    return None


def _own(places: list[Place]) -> Place:
    """Return the innermost place in the user's code, or else outside of the standard library."""
    for foreign in (_is_library, _is_standard):
        for place in places:
            if not foreign(place.file):
                return place
    return places[0]


def _is_library(file: str) -> bool:
    return _is_standard(file) or f"-packages{os.sep}" in file or file.startswith(_PACKAGE)


def _is_standard(file: str) -> bool:
    return file.startswith(_STANDARD) and f"-packages{os.sep}" not in file


_COLLECTS_ANYWHERE = sys.version_info < (3, 12)
_STEP = asyncio.Handle._run.__code__
_BELOW = {"asyncio.runners", "uvloop"}
"""Modules whose functions run a loop that has no Python frame of its own."""
_STANDARD = (os.path.join(os.path.dirname(os.__file__), ""), "<frozen ")
_PACKAGE = os.path.join(os.path.dirname(__file__), "")
