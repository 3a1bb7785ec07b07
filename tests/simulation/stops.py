"""Ways in which a scenario comes to its end: drained, stopped, left, torn, stopped twice."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeAlias

from .clients import retry_failed
from .world import World

Clients: TypeAlias = "list[asyncio.Task[None]]"
Stop: TypeAlias = Callable[["Stops", Clients], Coroutine[Any, Any, None]]


class Stops:
    """Stops the runner of one scenario.

    Args:
        world: The scenario.
        draw: Decides how and when.
        grace: Seconds that handlers have to stop, twice.
        shutdown: Seconds that running jobs have when no timeout is given.
    """

    def __init__(self, world: World, draw: Random, *, grace: float, shutdown: float) -> None:
        self.world = world
        self.random = draw
        self.grace = grace
        self.shutdown = shutdown

    async def one(self, clients: Clients) -> None:
        """Stop in one of the ways, which is drawn."""
        way = self.random.choice(_WAYS)
        if self.random.random() < 0.3:
            way = next((_LEADING_TO[p] for p in self.world.faults.active if p in _LEADING_TO), way)
        await way(self, clients)
        self.world.require(self.world.runner.stats().state == "stopped", "not stopped")

    async def drain(self, clients: Clients) -> None:
        """The clients come to their end, the faults stop, and every job ends."""
        await asyncio.wait(clients, timeout=self.random.choice((1, 5, 20)))
        if "client.drain" in self.world.faults.active:
            await self._give_up_draining()
        self.world.release()
        await asyncio.wait(clients)
        try:
            async with asyncio.timeout(1000):
                await self.world.runner.drain()
        except TimeoutError:
            self.world.require(False, "drain never ends", self.world.runner.stats())
        self.world.require(not self.world.live(), "drained, and jobs are live")
        await self._timed_stop(None)

    async def _give_up_draining(self) -> None:
        draining = asyncio.create_task(self.world.runner.drain(), name="client")
        await self._some_time()
        if not draining.done():
            self.world.faults.strike("client.drain")
            draining.cancel()
        await asyncio.wait([draining])

    async def stop(self, clients: Clients) -> None:
        """Stop in the middle."""
        await self._some_time()
        meddling = asyncio.create_task(self._meddle(), name="client")
        await self._timed_stop(self.random.choice((None, 0, 1)))
        await asyncio.wait([meddling])

    async def _meddle(self) -> None:
        """Turn knobs while the runner stops."""
        world = self.world
        for _ in range(self.random.randint(0, 3)):
            await asyncio.sleep(0)
        if world.faults.strikes("stop.retry_failed"):
            await retry_failed(world, None)
        if world.faults.strikes("stop.resize"):
            world.resize(self.random.randint(1, 4))
        if world.faults.strikes("stop.pause"):
            world.runner.pause()
            await asyncio.sleep(self.random.choice((0, 0.5)))
            world.resume()

    async def leave(self, clients: Clients) -> None:
        """Leave the block with an error: nothing is waited for."""
        await self._some_time()
        error = RuntimeError("from the block")
        leaving = self.world.runner.__aexit__(RuntimeError, error, None)
        await self.world.bounded(leaving, 3 * self.grace, "leaving")

    async def torn(self, clients: Clients) -> None:
        """Be cancelled while stopping: nobody is waited for any more."""
        await self._some_time()
        self.world.stops.append(self.world.now())
        stopping = asyncio.create_task(self.world.runner.stop(timeout=5), name="client")
        await self._some_time()
        if not stopping.done():
            self.world.faults.strike("client.stop")
            stopping.cancel()
        self.world.torn = True
        await asyncio.wait([stopping])
        if self.world.runner.stats().state == "running":
            await self._timed_stop(0)  # it was cancelled before its first step
        for _ in range(4):
            await asyncio.sleep(0)

    async def twice(self, clients: Clients) -> None:
        """Stop while stopping, in a hurry."""
        await self._some_time()
        self.world.stops.append(self.world.now())
        stopping = asyncio.create_task(self.world.runner.stop(timeout=50), name="client")
        await self._some_time()
        await self._timed_stop(0)
        await asyncio.wait([stopping])

    async def _some_time(self) -> None:
        await asyncio.sleep(self.random.choice((0, 0.5, 1, 1, 2, 3)))
        for _ in range(self.random.randint(0, 4)):
            await asyncio.sleep(0)

    async def _timed_stop(self, timeout: float | None) -> None:
        """Those who want to know of failures have a grace of their own."""
        wait = self.shutdown if timeout is None else timeout
        stopping = self.world.runner.stop(timeout=timeout)
        await self.world.bounded(stopping, wait + 3 * self.grace, "stop")


_WAYS: tuple[Stop, ...] = (
    Stops.drain, Stops.drain, Stops.stop, Stops.stop, Stops.leave, Stops.torn, Stops.twice,
)  # fmt: skip
_LEADING_TO: dict[str, Stop] = {"client.drain": Stops.drain, "client.stop": Stops.torn}
