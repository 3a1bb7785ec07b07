"""Handlers that behave as well or as badly as the job's metadata says.

The plan is in the metadata, not in the params: to build the model of a signature costs more than
the rest of a scenario.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from jobrunner import JobContext, PermanentError, RetryableError

from .world import CLIENT, World

Behaviour = Callable[["Behaviours", JobContext], Awaitable[object]]


class Behaviours:
    """The handlers of one scenario."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def once(self, ctx: JobContext) -> object:
        """A type with one attempt."""
        with self._inside(ctx):
            return await PLANS[ctx.metadata["plan"]](self, ctx)

    async def again(self, ctx: JobContext) -> object:
        """A type with several attempts."""
        with self._inside(ctx):
            return await PLANS[ctx.metadata["plan"]](self, ctx)

    async def pieces(self, ctx: JobContext) -> AsyncIterator[str]:
        """A generator: a few pieces, then the plan."""
        with self._inside(ctx):
            for piece in range(_n(ctx)):
                yield f"piece {piece}"
                await asyncio.sleep(0)
            await PLANS[ctx.metadata["plan"]](self, ctx)

    @contextmanager
    def _inside(self, ctx: JobContext) -> Iterator[None]:
        world = self.world
        job = world.runner.record(ctx.job_id)
        whose = CLIENT.get()
        CLIENT.set("leaked")
        world.require(
            job.retry_of is not None or whose == ctx.metadata["client"], "foreign context", whose
        )
        world.require(ctx.job_id not in world.never_again, "a cancelled job runs", job.number)
        world.require(not job.is_final and job.attempt == ctx.attempt, "a late start", job.number)
        world.entered[ctx.job_id] = world.entered.get(ctx.job_id, 0) + 1
        world.active += 1
        try:
            yield
        finally:
            world.active -= 1

    async def _return(self, ctx: JobContext) -> object:
        return {"attempt": ctx.attempt}

    async def _tick(self, ctx: JobContext) -> object:
        for i in range(_n(ctx)):
            ctx.step(i + 1, _n(ctx), "ticking")
            await asyncio.sleep(0)
        return None

    async def _fail(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        if ctx.attempt <= _n(ctx):
            raise RuntimeError(f"attempt {ctx.attempt}")
        return "at last"

    async def _told_to_retry(self, ctx: JobContext) -> object:
        if ctx.attempt <= _n(ctx):
            raise RetryableError("later", retry_after=ctx.metadata["seconds"])
        return "at last"

    async def _refuse(self, ctx: JobContext) -> object:
        raise PermanentError("never")

    async def _sleep(self, ctx: JobContext) -> object:
        await asyncio.sleep(ctx.metadata["seconds"])
        return "slept"

    async def _hang(self, ctx: JobContext) -> object:
        await self.world.gate()
        return "released"

    async def _swallow(self, ctx: JobContext) -> object:
        """Ignore so many requests to stop."""
        for _ in range(_n(ctx)):
            try:
                await self.world.gate()
            except asyncio.CancelledError:
                ctx.log("swallowed")
        await self._pause(ctx)
        return "swallowed"

    async def _stubborn(self, ctx: JobContext) -> object:
        """Ignore all requests to stop."""
        while not self.world.calm:
            try:
                await self.world.gate()
            except asyncio.CancelledError:
                ctx.progress(50, "no")
        return "late"

    async def _spiteful(self, ctx: JobContext) -> object:
        """Fail in another way when asked to stop."""
        try:
            await self.world.gate()
        except asyncio.CancelledError:
            raise RuntimeError("I was busy") from None
        return "released"

    async def _tidy(self, ctx: JobContext) -> object:
        """Take time to clean up."""
        try:
            await self.world.gate()
        finally:
            await self._pause(ctx)
        return "tidy"

    async def _leak(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        raise asyncio.CancelledError("my own")

    async def _exit(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        raise SystemExit(3) if _n(ctx) % 2 else KeyboardInterrupt

    async def _report(self, ctx: JobContext) -> object:
        for i in range(_n(ctx) + 2):
            ctx.progress(i * 10, f"at {i}")
            ctx.log("line", i=i)
            ctx.emit("x" * 10 * i)
            await asyncio.sleep(0)
        await self._pause(ctx)
        return None

    async def _odd_value(self, ctx: JobContext) -> object:
        return object() if _n(ctx) % 2 else "x" * 300

    async def _pause(self, ctx: JobContext) -> None:
        seconds = ctx.metadata["seconds"]
        if seconds:
            await asyncio.sleep(seconds)


PLANS: dict[str, Behaviour] = {
    name: getattr(Behaviours, f"_{name}")
    for name in (
        "return", "tick", "fail", "told_to_retry", "refuse", "sleep", "hang", "swallow",
        "stubborn", "spiteful", "tidy", "leak", "exit", "report", "odd_value",
    )
}  # fmt: skip


RESISTING = ("swallow", "stubborn", "tidy")
"""Plans that may go on after they were asked to stop; all others stop at once."""


def draw_plan(random: Random, client: str) -> dict[str, Any]:
    """Return the metadata of a job that does something."""
    return {
        "plan": random.choice(list(PLANS)),
        "n": random.randint(0, 3),
        "seconds": random.choice((0, 0, 0.5, 1, 1, 2, 3)),
        "client": client,
    }


def _n(ctx: JobContext) -> int:
    value: int = ctx.metadata["n"]
    return value
