"""A scenario drawn from a seed: a small runner, odd handlers, a few clients, and an end.

Many small ones find more than a few long ones: a scenario takes milliseconds, and whatever goes
wrong in it can be read.
"""

import asyncio
import gc
import hashlib
from random import Random
from typing import Any

from jobrunner import QueueFull

from .bounds import Bounds
from .clients import Client
from .histories import Histories
from .invariants import Invariants
from .loop import SimulatedLoop, simulate
from .runners import draw_limits, draw_retention, draw_runner
from .stops import Stops
from .world import World

CROWD = 0.01
"""How often a client submits enough jobs at once for tables to be swept and blocks to be filled."""
MEMORY = 0.02
"""How often a scenario collects garbage in the middle, which unreferenced tasks don't survive."""


class Scenario:
    """What happens for one seed.

    Args:
        seed: Everything is drawn from it, the order of ready callbacks too.
    """

    def __init__(self, seed: int) -> None:
        draw = self.random = Random(seed)
        self.seed = seed
        grace, shutdown = draw.choice((0, 0.5, 1, 1)), draw.choice((0, 0.5, 2))
        retention, limits = draw_retention(draw), draw_limits(draw)
        world = self.world = World(seed)
        world.runner = draw_runner(
            world, draw, retention=retention, limits=limits,
            cancel_grace=grace, shutdown_timeout=shutdown,
        )  # fmt: skip
        self.stops = Stops(world, draw, grace=grace, shutdown=shutdown)
        self.bounds = Bounds(world, grace)
        self.checks = Invariants(world, retention, limits, self.bounds)
        self.histories = Histories(world, limits, grace)

    def run(self) -> str:
        """Play it and return a hash of all that happened.

        Raises:
            AssertionError: An invariant was broken.
        """
        try:
            simulate(self._main, seed=self.seed)
        except Exception as error:
            self.world.failures.append(repr(error))
        if self.world.failures:
            raise AssertionError("\n".join(self.world.failures[:10]))
        trace = [*self.world.trace, *(f"{event}" for job in self.world.jobs
                                      for event in job.log.read(0).events)]  # fmt: skip
        return hashlib.sha256("\n".join(trace).encode()).hexdigest()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.world.loop = loop
        loop.set_exception_handler(self._unhandled)
        loop.after_step, loop.at_rest = self.checks.after_step, self.checks.at_rest
        try:
            await self._season()
            if self.random.random() < 0.15 and not self.world.failures:
                self.world.faults.calm = False
                await self._season()
            await self._end()
        finally:
            self.world.release()

    async def _season(self) -> None:
        """From start to stop."""
        self.bounds.begin()
        await self.world.runner.__aenter__()
        clients = [
            asyncio.create_task(Client(self.world, f"{i}").run(), name="client")
            for i in range(self.random.randint(1, 3))
        ]
        if self.random.random() < CROWD:
            await self._crowd()
        if self.random.random() < MEMORY:
            await asyncio.sleep(self.random.choice((0, 0.5, 1.0)))
            gc.collect()
        await self.stops.one(clients)
        await self._clients_end(clients)

    async def _crowd(self) -> None:
        """Submit many jobs, and cancel most of them before they start."""
        for i in range(150):
            options: Any = {"delay": 1 + i % 3} if i % 2 else {}
            try:
                metadata = {"plan": "return", "n": 0, "seconds": 0, "client": "nobody"}
                handle = await self.world.runner.submit("once", metadata=metadata, **options)
            except QueueFull:
                return
            self.world.accepted(handle)
        for handle in self.world.handles[-150:]:
            if self.random.random() < 0.8:
                await handle.cancel()
                self.world.never_again.setdefault(handle.id, self.world.loop.time())

    async def _clients_end(self, clients: "list[asyncio.Task[None]]") -> None:
        """The clients find everything ended; of the runner nothing but stuck handlers is left."""
        self.checks.nothing_left()
        if clients:
            await asyncio.wait(clients)
        for client in clients:
            if (error := client.exception()) is not None:
                raise error
        following = [s.task for s in self.world.streams if s.task] + self.world.feeds
        if following:
            _, late = await asyncio.wait(following, timeout=1000)
            self.world.require(not late, "streams never end", len(late))

    async def _end(self) -> None:
        """Stuck handlers end at last, too late for anything, and the loop is as it was before."""
        self.histories.check()
        self.world.release()
        for _ in range(5):
            await asyncio.sleep(10)
        self.histories.check()
        self.checks.nothing_left()
        stats = self.world.runner.stats()
        left = (stats.stuck, stats.busy, stats.aside, self.world.active)
        self.world.require(not any(left), "left", stats)
        self.world.require(stats.faults <= self.world.broken, "a fault of our own", stats)
        timers = self.world.loop.timers()
        self.world.require(not timers, "timers are left", timers)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        self.world.failures.append(f"unhandled in the loop: {context}")


def play(seed: int) -> str:
    """Play the scenario of `seed` and return a hash of all that happened."""
    return Scenario(seed).run()
