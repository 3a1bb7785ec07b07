"""The watchdog: a thread that sees the event loop stand still, and says in whose code (T9).

It looks a few times a second while there is work, and sleeps while there is none. What it sees it
says at once in the log, since the loop can't; the rest is for the loop, when it turns again.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .sight import Place, Sight

logger = logging.getLogger("jobrunner.watchdog")

LOOKS = 4
"""How often the thread looks within the limit."""
REST = 1.0
"""Seconds of rest after which the thread goes to sleep until it is woken."""
WAIT = 0.001
"""Seconds that the thread fights for the interpreter before a busy loop lets it have it."""
YIELD = 0.0001
"""Seconds for which the loop lets the thread have it; about what it needs for a look."""
THREAD = "jobrunner watchdog"
"""Name of the thread."""
JOIN = 1.0
"""Seconds that `close` waits for the thread at most; it may stand in a log handler."""


class Blockage(NamedTuple):
    """One time that the event loop stood still."""

    task: "asyncio.Task[Any] | None"
    """Whose step it was; None for a callback."""
    function: str
    """Where it stood when it was noticed: the innermost place that is no library's."""
    file: str
    """Path of the source file."""
    line: int
    """Line in it."""
    seconds: float
    """For how long, to a quarter of the limit."""


class Watchdog:
    """Names what blocks an event loop, in the log at once, and to `report` when the loop turns.

    Args:
        limit: Seconds for which the loop may stand still.
        report: Called in the loop, once for each blockage.
        fields: Returns what a line of the log has as `extra`, by the task's name; in any thread.
    """

    def __init__(
        self,
        *,
        limit: float,
        report: Callable[[Blockage], None],
        fields: Callable[[str], dict[str, str]] = lambda task: {},
    ) -> None:
        self._limit = limit
        self._report = report
        self._fields = fields
        self._watching = False
        self._turned = -math.inf
        self._due = math.inf
        self._asleep = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._sight: Sight | None = None
        self._standing: _Standing | None = None
        self._noticed: deque[tuple[_Standing, asyncio.Task[Any] | None, Place]] = deque()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `loop` from now on; call it in the loop's thread. Starts nothing yet."""
        self.close()
        self._wake = threading.Condition()  # a fork could have copied the old one while held
        self._sight = Sight(loop)

    def close(self) -> None:
        """Stop watching, and end the thread. Takes a second at most."""
        self.rest()
        self._sight = None  # tells the thread that it isn't wanted any more
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():  # it isn't in a fork
            with self._wake:
                self._wake.notify()
            thread.join(JOIN)
        self._noticed.clear()

    def watch(self) -> None:
        """Begin to watch, unless it does so already. Costs less than 0.1 µs then.

        Called for each attempt, it shows that the loop turns: a thread that gets no time to look
        on a busy machine can't tell that from code that lets no thread run.
        """
        self._turned = now = time.monotonic()
        if now > self._due:
            self._give_way(now)
        if not self._watching:
            self._watching = True
            if self._asleep:
                with self._wake:
                    self._wake.notify()
            elif self._thread is None:
                self._start()

    def _give_way(self, now: float) -> None:
        """Let the thread have the interpreter, which it would fight for through 100 ms and more.

        A loop gives it up and takes it again at each turn, faster than another thread wakes up.
        """
        self._due = now + 10 * WAIT
        time.sleep(YIELD)

    def rest(self) -> None:
        """Watch no more until `watch`: nobody wakes the loop, and soon nobody the thread."""
        self._watching = False

    def flush(self) -> None:
        """Report now what was noticed; call it in the loop, before what it is about ends.

        Without it a handler that blocks and returns has ended before its blockage is reported.
        """
        while self._noticed:
            standing, task, place = self._noticed.popleft()
            end = min(time.monotonic(), standing.until)
            self._report(Blockage(task, *place, seconds=end - standing.since))

    def _start(self) -> None:
        assert self._sight is not None, "the watchdog is not open"
        thread = threading.Thread(target=self._run, args=(self._sight,), name=THREAD, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # pragma: no cover  # no more threads: better unwatched than not run
            logger.warning("no thread could be started; nobody watches the event loop")
        self._thread = thread

    def _run(self, sight: Sight) -> None:
        """The thread: look, while somebody wants it; sleep after a while without."""
        tick = self._limit / LOOKS
        worked = time.monotonic()
        while self._sight is sight and not sight.loop.is_closed():
            if self._watching:
                worked = time.monotonic()
                self._look(sight, tick)
            else:
                sight.look_away()
            with self._wake:
                if time.monotonic() - worked >= REST:
                    self._sleep(sight)
                elif self._sight is sight:  # pragma: no branch  # a close within microseconds
                    self._due = time.monotonic() + tick + WAIT
                    self._wake.wait(tick)
                    self._due = math.inf

    def _sleep(self, sight: Sight) -> None:
        """Sleep until `watch`; it looks at `_asleep` after it has set `_watching`, we before."""
        self._asleep = True
        while not self._watching and self._sight is sight:
            self._wake.wait()
        self._asleep = False

    def _look(self, sight: Sight, tick: float) -> None:
        if not sight.look(tick, self._turned):
            self._standing = None
        if self._standing is not None:
            self._standing.until = time.monotonic() + tick
        elif sight.seen >= self._limit:
            self._notice(sight, tick)
            sight.look_away()  # a handler of the log may have taken its time

    def _notice(self, sight: Sight, tick: float) -> None:
        """Have the loop report what blocks it when it turns, and say it now."""
        task = asyncio.current_task(sight.loop)
        places = sight.places()
        if places is None:  # pragma: no cover  # it turns again, within these microseconds
            return
        own, innermost = places
        now = time.monotonic()
        self._standing = _Standing(now - sight.seen, now + tick)
        self._noticed.append((self._standing, task, own))
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            sight.loop.call_soon_threadsafe(self.flush)
        with contextlib.suppress(Exception):  # a filter of the log's; the thread has to go on
            logger.warning(
                "%s blocks the event loop, for %.2f s until now: %s%s",
                "a callback" if task is None else f"task {task.get_name()}",
                sight.seen, own, "" if innermost is own else f", in {innermost}",
                extra=None if task is None else self._fields(task.get_name()),
            )  # fmt: skip


@dataclass(slots=True)
class _Standing:
    """When the loop stood still; keeps no task, since the thread may look at it for long."""

    since: float
    until: float
    """The last moment at which it may have, for all that is known."""
