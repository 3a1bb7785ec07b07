"""The kit's virtual time, in a loop that can be looked at between its turns."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from jobrunner.testing.clock import EPOCH, Deadlock, VirtualLoop, unix_now, virtual_time

__all__ = ["EPOCH", "Deadlock", "SimulatedLoop", "simulate", "unix_now", "virtual_time"]

T = TypeVar("T")


class SimulatedLoop(VirtualLoop):
    """A virtual loop that says where it is."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self.after_step: Callable[[], None] = _nothing
        """Called when a round of ready callbacks has run."""
        self.at_rest: Callable[[], None] = _nothing
        """Called when nothing can happen any more before time passes."""

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

    def pass_time(self, seconds: float | None) -> None:
        if seconds is not None:
            self.at_rest()
        super().pass_time(seconds)

    def _run_once(self) -> None:
        super()._run_once()
        self.after_step()


def _nothing() -> None:
    pass


def simulate(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run `main` to its end in a loop of its own."""
    loop = SimulatedLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main())
        finally:
            loop.check()
