"""A scenario drawn from a seed: a small runner, odd handlers, a few clients, and an end.

Many small ones find more than a few long ones: a scenario takes milliseconds, and whatever goes
wrong in it can be read.
"""

import asyncio
import gc
import hashlib
from random import Random
from typing import Any

from jobrunner import JobRunner, Limits, QueueFull, Retention, RetryPolicy

from .behaviours import Behaviours
from .clients import Client
from .invariants import Invariants
from .loop import SimulatedLoop, simulate
from .world import World

CROWD = 0.02
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
        self.grace = draw.choice((0, 0.5, 1, 1))
        self.shutdown = draw.choice((0, 0.5, 2))
        self.world = World(seed, fault_rate=draw.choice((0, 0, 0, 0.1)))
        self.retention = Retention(
            max_age=draw.choice((None, None, 0, 1, 4)),
            max_jobs=draw.choice((None, None, 0, 1, 3)),
            max_tombstones=draw.choice((0, 2, 100)),
        )
        self.limits = Limits(
            max_pending=draw.choice((2, 4, 500, 500)),
            max_events=draw.choice((1, 3, 100, 100)),
            max_text=draw.choice((20, 1000)),
            max_feed=draw.choice((2, 50)),
            max_result=200,
        )
        self.world.runner = self._runner()
        self.checks = Invariants(self.world, self.retention, self.limits, self.grace)

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

    def _runner(self) -> JobRunner:
        draw = self.random
        workers = draw.randint(1, 3)
        runner = JobRunner(
            workers=workers,
            timeout=draw.choice((None, 1, 3)),
            retention=self.retention,
            limits=self.limits,
            cancel_grace=self.grace,
            shutdown_timeout=self.shutdown,
            watchdog=None,
            now=self.world.now,
            seed=self.seed,
        )
        handlers = Behaviours(self.world)
        retry_on = draw.choice(((Exception,), (BaseException,)))
        retry = RetryPolicy(max_attempts=3, base=draw.choice((0, 1)), cap=2, retry_on=retry_on)
        runner.job("once")(handlers.once)
        runner.job("again", retry=retry)(handlers.again)
        runner.job("pieces", timeout=2)(handlers.pieces)
        self.world.ceiling = workers
        return runner

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.world.loop = loop
        loop.set_exception_handler(self._unhandled)
        loop.after_step, loop.at_rest = self.checks.after_step, self.checks.at_rest
        try:
            await self._season()
            if self.random.random() < 0.15 and not self.world.failures:
                self.world.calm = False
                await self._season()
            await self._end()
        finally:
            self.world.release()

    async def _season(self) -> None:
        """From start to stop."""
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
        endings = (self._drain, self._drain, self._stop, self._leave, self._torn, self._twice)
        await self.random.choice(endings)(clients)
        self.world.require(self.world.runner.stats().state == "stopped", "not stopped")
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

    async def _drain(self, clients: "list[asyncio.Task[None]]") -> None:
        """The clients come to their end, the faults stop, and every job ends."""
        await asyncio.wait(clients, timeout=self.random.choice((1, 5, 20)))
        self.world.release()
        await asyncio.wait(clients)
        try:
            async with asyncio.timeout(1000):
                await self.world.runner.drain()
        except TimeoutError:
            self.world.require(False, "drain never ends", self.world.runner.stats())
        await self._timed_stop(None)

    async def _stop(self, clients: "list[asyncio.Task[None]]") -> None:
        """Stop in the middle."""
        await self._some_time()
        await self._timed_stop(self.random.choice((None, 0, 1)))

    async def _leave(self, clients: "list[asyncio.Task[None]]") -> None:
        """Leave the block with an error: nothing is waited for."""
        await self._some_time()
        error = RuntimeError("from the block")
        leaving = self.world.runner.__aexit__(RuntimeError, error, None)
        await self.world.bounded(leaving, 2 * self.grace, "leaving")

    async def _torn(self, clients: "list[asyncio.Task[None]]") -> None:
        """Be cancelled while stopping: nobody is waited for any more."""
        await self._some_time()
        self.world.stops.append(self.world.now())
        stopping = asyncio.create_task(self.world.runner.stop(timeout=5), name="client")
        await self._some_time()
        stopping.cancel()
        self.world.torn = True
        await asyncio.wait([stopping])
        if self.world.runner.stats().state == "running":
            await self._timed_stop(0)  # it was cancelled before its first step
        for _ in range(4):
            await asyncio.sleep(0)

    async def _twice(self, clients: "list[asyncio.Task[None]]") -> None:
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
        wait = self.shutdown if timeout is None else timeout
        stopping = self.world.runner.stop(timeout=timeout)
        await self.world.bounded(stopping, wait + 2 * self.grace, "stop")

    async def _end(self) -> None:
        """Stuck handlers end at last, too late for anything, and the loop is as it was before."""
        self.checks.at_end()
        self.world.release()
        for _ in range(5):
            await asyncio.sleep(10)
        self.checks.at_end()
        self.checks.nothing_left()
        stats = self.world.runner.stats()
        self.world.require(stats.stuck == stats.busy == self.world.active == 0, "left", stats)
        settled_by_handler = 0 if self.world.faulty == "jobrunner worker" else self.world.faults
        restarts = stats.worker_restarts + settled_by_handler
        self.world.require(restarts >= self.world.faults, "a worker died silently", stats)
        dead = stats.worker_restarts if not self.world.faults else 0
        self.world.require(not dead, "a worker died without a fault", stats)
        timers = self.world.loop.timers()
        self.world.require(not timers, "timers are left", timers)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        self.world.failures.append(f"unhandled in the loop: {context}")


def play(seed: int) -> str:
    """Play the scenario of `seed` and return a hash of all that happened."""
    return Scenario(seed).run()
