"""The runner of a scenario: its limits, its job types and all that can be decided for them."""

import asyncio
from random import Random
from typing import Annotated, Any

from pydantic import AfterValidator

from jobrunner import JobContext, JobRunner, JobView, Limits, Retention, RetryPolicy
from jobrunner.options import JobOptions

from .behaviours import Behaviours
from .faults import Faults
from .world import World

KEYED = 0.15
"""How often there is a type with params; to build the model of a signature is what costs most."""
KEYS = ("x", "y")
"""Concurrency keys."""


def draw_retention(draw: Random) -> Retention:
    """Return how long final jobs are kept."""
    return Retention(
        max_age=draw.choice((None, None, 0, 1, 4)),
        max_jobs=draw.choice((None, None, 0, 1, 3)),
        max_tombstones=draw.choice((0, 2, 100)),
        max_bytes=draw.choice((None, None, None, None, 0, 1_500)),
    )


def draw_limits(draw: Random) -> Limits:
    """Return how large things may get."""
    return Limits(
        max_pending=draw.choice((2, 4, 500, 500)),
        max_live_bytes=draw.choice((6, 500, 10_000, 10_000)),
        max_events=draw.choice((1, 3, 100, 100)),
        max_text=draw.choice((20, 1000)),
        max_feed=draw.choice((2, 50)),
        max_stuck=draw.choice((1, 2, 100, 100)),
        max_result=200,
    )


def draw_runner(
    world: World, draw: Random, *, retention: Retention, limits: Limits, **options: Any
) -> JobRunner:
    """Return a runner with its job types."""
    workers = draw.randint(1, 3)
    ears = Ears(world)
    runner = JobRunner(
        workers=workers,
        timeout=draw.choice((None, 1, 3)),
        retention=retention,
        limits=limits,
        on_failure=ears.of_runner,
        watchdog=None,
        now=world.now,
        seed=world.seed,
        **options,
    )
    handlers = Behaviours(world)
    retry_on = draw.choice(((Exception,), (BaseException,)))
    retry = RetryPolicy(
        max_attempts=3,
        base=draw.choice((0, 1)),
        cap=2,
        retry_on=retry_on,
        retry_if=draw.choice((None, ears.retry_if)),
        max_time=draw.choice((None, None, 1)),
        budget=draw.choice((None, 100.0, 1.0)),
    )
    once, again, pieces = draw_options(draw), draw_options(draw), draw_options(draw)
    again["retry"], again["on_failure"], pieces["timeout"] = retry, ears.of_type, 2
    runner.job("once", **once)(handlers.once)
    runner.job("again", **again)(handlers.again)
    runner.job("pieces", **pieces)(handlers.pieces)
    if draw.random() < KEYED or is_hostile_to_params(world.faults):
        of_key = draw_options(draw)
        of_key["concurrency_key"], of_key["max_per_key"] = ears.key, draw.randint(1, 2)
        runner.job("keyed", **of_key)(keyed(handlers))
    world.options = {handler.name: handler.options for handler in runner.job_types}
    world.ceiling = workers
    return runner


def is_hostile_to_params(faults: Faults) -> bool:
    """Return whether something goes wrong where params are read."""
    return not faults.active.keys().isdisjoint(("user.key", "user.validator"))


def draw_options(draw: Random) -> JobOptions:
    """Return a few of the options of a type; most have none of most."""
    drawn: JobOptions = {}
    if draw.random() < 0.15:
        drawn["deadline"] = draw.choice((1, 2, 4))
    if draw.random() < 0.15:
        drawn["expires"] = draw.choice((0.5, 1, 2))
    if draw.random() < 0.15:
        drawn["stall_timeout"] = draw.choice((0.5, 1, 2))
    if draw.random() < 0.25:
        drawn["max_concurrency"] = draw.choice((1, 1, 2))
    if draw.random() < 0.25:
        drawn["rate_limit"] = draw.choice(("1/s", "2/s", "2/2s", "3/5s"))
    if draw.random() < 0.15:
        drawn["max_pending"] = draw.randint(1, 3)
    if draw.random() < 0.25:
        drawn["on_duplicate"] = draw.choice(("join", "replace", "reject"))
    return drawn


def keyed(handlers: Behaviours) -> Any:
    """Return a handler with params, for whom the type makes a concurrency key."""
    faults = handlers.world.faults

    def check(value: int) -> int:
        faults.fail("user.validator")
        return value

    async def handler(
        ctx: JobContext, key: str | None = None, size: Annotated[int, AfterValidator(check)] = 0
    ) -> object:
        return await handlers.once(ctx)

    return handler


class Ears:
    """Functions that the kernel calls, and that may do anything."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def of_runner(self, job: JobView) -> None:
        """The runner's `on_failure`."""
        await self._hear("runner", job)

    async def of_type(self, job: JobView) -> None:
        """The `on_failure` of one type."""
        await self._hear("type", job)

    async def _hear(self, who: str, job: JobView) -> None:
        world, faults = self.world, self.world.faults
        right = (who == "type") == (job.type == "again")
        world.require(job.status == "failed" and right, "on_failure", who, job.status)
        world.told[job.job_id] += 1
        world.trace.append(f"{world.loop.time()} told {job.job_id}")
        if faults.strikes("user.on_failure_hangs"):
            await world.gate()
        if faults.strikes("user.on_failure_is_deaf"):
            while not world.calm:
                try:
                    await world.gate()
                except BaseException:  # it hears nothing, and so not even this
                    continue
        if (kind := faults.strike("user.on_failure")) == "delay":
            await asyncio.sleep(1.0)
        elif kind == "cancel":
            raise asyncio.CancelledError
        elif kind == "raise":
            raise faults.error("user.on_failure")

    def retry_if(self, error: BaseException) -> bool | None:
        """The policy's `retry_if`."""
        self.world.faults.fail("user.retry_if")
        return None

    def key(self, params: dict[str, Any]) -> str | None:
        """The type's `concurrency_key`."""
        if self.world.faults.strikes("user.key"):
            raise KeyError("user")
        key: str | None = params["key"]
        return key
