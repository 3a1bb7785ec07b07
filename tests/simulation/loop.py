"""An event loop in which time jumps and the order of ready callbacks is drawn from a seed.

Time passes only when nothing is ready, and then at once, to the next timer. There are no sockets,
no threads and no subprocesses in it: whatever needs one is an error, not a wrong result. The same
seed gives the same order to the letter.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

EPOCH = 1_700_000_000.0
"""Unix time at which simulated time begins."""


class Deadlock(Exception):
    """Somebody waits, and nothing can ever wake them."""


class _NoSelector:
    """Instead of waiting for sockets, moves the clock to the next timer."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("nothing is ready, no timer is set, and the main task isn't done")
        if timeout > 0:
            self._loop.at_rest()
            self._loop.jump(timeout)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop. Without a seed, ready callbacks run in the usual order."""

    _ready: "deque[asyncio.Handle]"
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _NoSelector(self)
        self._random = None if seed is None else Random(seed)
        self.steps = 0
        self.after_step: Callable[[], None] = _nothing
        """Called when a round of ready callbacks has run."""
        self.at_rest: Callable[[], None] = _nothing
        """Called when nothing can happen any more before time passes."""

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def settle(self) -> None:
        """Run what is ready, and what that makes ready; no time passes."""
        self.run_until_complete(self._settle())

    async def _settle(self) -> None:
        """Twice nothing: what runs behind us in this round may make something ready yet."""
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0)
            due = self._scheduled and self._scheduled[0].when() <= self._now
            quiet = 0 if self._ready or due else quiet + 1

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return what is set to happen later."""
        return [timer for timer in self._scheduled if not timer.cancelled()]

    def _run_once(self) -> None:
        self.steps += 1
        if self._random is not None and len(self._ready) > 1:
            handles = list(self._ready)
            self._random.shuffle(handles)
            self._ready.clear()
            self._ready.extend(handles)
        super()._run_once()  # type: ignore[misc]  # the one method of the loop that typeshed hides
        self.after_step()

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _nothing() -> None:
    pass


def unix_now() -> float:
    """Return the simulated time in unix seconds; give it to a runner as `now`."""
    return EPOCH + asyncio.get_running_loop().time()


def simulate(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run `main` to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed)) as runner:
        return runner.run(main())


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a coroutine function in which hours pass in no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        simulate(lambda: test(*args, **kwargs))

    return run
