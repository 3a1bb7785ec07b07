"""Handlers that behave as well or as badly as the job's metadata says.

The plan is in the metadata, not in the params: to build the model of a signature costs more than
the rest of a scenario.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

from jobrunner import JobContext, PermanentError, Question, RetryableError

from . import hostile
from .faults import Faults
from .world import CLIENT, World

ANSWER = int
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
                self.world.sign(ctx)
                yield f"piece {piece}"
                await self._step(ctx, "handler.piece")
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

    async def _fault(self, ctx: JobContext, place: str) -> None:
        """Have something go wrong here, if this is such a scenario."""
        kind = self.world.faults.strike(place)
        if kind == "raise":
            raise self.world.faults.error(place)
        if kind == "delay":
            self.world.resisting.add(ctx.job_id)
            await asyncio.sleep(0.5)
        elif kind == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async def _step(self, ctx: JobContext, place: str) -> None:
        """Let others run, and perhaps more than that."""
        await asyncio.sleep(0)
        if place in self.world.faults.active:
            await self._fault(ctx, place)

    async def _hung(self, ctx: JobContext) -> None:
        """Wait for longer than anybody wants."""
        await self._step(ctx, "handler.gate")
        await self.world.gate()

    async def _pause(self, ctx: JobContext) -> None:
        if seconds := ctx.metadata["seconds"]:
            await asyncio.sleep(seconds)
        if "handler.pause" in self.world.faults.active:
            await self._fault(ctx, "handler.pause")

    async def _return(self, ctx: JobContext) -> object:
        if "handler.entry" in self.world.faults.active:
            await self._fault(ctx, "handler.entry")
        return {"attempt": ctx.attempt}

    async def _tick(self, ctx: JobContext) -> object:
        for i in range(_n(ctx)):
            self.world.sign(ctx)
            ctx.step(i + 1, _n(ctx), "ticking")
            await self._step(ctx, "handler.tick")
        return None

    async def _fail(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        if ctx.attempt <= _n(ctx):
            raise hostile.error(self.world.faults)
        return "at last"

    async def _told_to_retry(self, ctx: JobContext) -> object:
        if ctx.attempt <= _n(ctx):
            raise RetryableError("later", retry_after=ctx.metadata["seconds"])
        return "at last"

    async def _refused(self, ctx: JobContext) -> object:
        """An HTTP API says no, or not now."""
        await self._pause(ctx)
        if ctx.attempt <= _n(ctx):
            raise hostile.Refused((503, 429, 404, 401)[_n(ctx)], ctx.metadata["seconds"])
        return "at last"

    async def _refuse(self, ctx: JobContext) -> object:
        raise PermanentError("never")

    async def _sleep(self, ctx: JobContext) -> object:
        """Return in the tick of whatever comes after so many seconds."""
        await asyncio.sleep(ctx.metadata["seconds"])
        return "slept"

    async def _talk(self, ctx: JobContext) -> object:
        """Give a sign of life twice a second."""
        for i in range(2 * _n(ctx)):
            await asyncio.sleep(0.4)
            self.world.sign(ctx)
            ctx.progress(i, hostile_text(self.world))
        return "talked"

    async def _extend(self, ctx: JobContext) -> object:
        """Ask for more time, and use it; or a bit more than that."""
        seconds = ctx.metadata["seconds"] or 0.5
        for _ in range(_n(ctx)):
            self.world.sign(ctx)
            self.world.extended(ctx, seconds)
            ctx.extend_timeout(seconds)
            await asyncio.sleep(seconds)
        await self._pause(ctx)
        return "extended"

    async def _ask(self, ctx: JobContext) -> object:
        """Ask a person, one question after the other."""
        answers = []
        for number in range(_n(ctx) + 1):
            answers.append(await self._question(ctx, f"{number}?"))
            self.world.sign(ctx)
            ctx.progress(number)
            await self._pause(ctx)
        return answers

    async def _ask_all(self, ctx: JobContext) -> object:
        """Ask several at once."""
        with self.world.asks(ctx):
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(
                        ctx.ask(f"{i}?", schema=int, timeout=i + 1, default=-1), name="client"
                    )
                    for i in range(_n(ctx) + 1)
                ]
        await self._pause(ctx)
        return [each.result() for each in asked]

    async def _question(self, ctx: JobContext, prompt: str) -> object:
        """Ask, be it with less patience than the question has."""
        faults = self.world.faults
        patience = 0.5 if faults.strikes("handler.impatient") else None
        if "handler.asking" in faults.active and faults.strikes("handler.asking"):
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        try:
            with self.world.asks(ctx):
                async with asyncio.timeout(patience):
                    return await ctx.ask(
                        prompt,
                        schema=ANSWER,
                        timeout=2.0,
                        default=-1,
                        notify=partial(self._notify, ctx),
                    )
        except TimeoutError:
            return "impatient"

    async def _notify(self, ctx: JobContext, question: Question) -> None:
        kind = self.world.faults.strike("handler.notify")
        if kind == "delay":
            with self.world.works_on(ctx):
                await asyncio.sleep(0.5)
        elif kind == "raise":
            raise self.world.faults.error("handler.notify")

    async def _hang(self, ctx: JobContext) -> object:
        await self._hung(ctx)
        return "released"

    async def _swallow(self, ctx: JobContext) -> object:
        """Ignore so many requests to stop."""
        for _ in range(_n(ctx)):
            try:
                await self._hung(ctx)
            except asyncio.CancelledError:
                self.world.sign(ctx)
                ctx.log("swallowed", field=self._field())
                await self._step(ctx, "handler.swallow")
        await self._pause(ctx)
        return "swallowed"

    async def _stubborn(self, ctx: JobContext) -> object:
        """Ignore all requests to stop."""
        while not self.world.calm:
            try:
                await self.world.gate()
            except asyncio.CancelledError:
                self.world.sign(ctx)
                ctx.progress(50, "no")
        return "late"

    async def _spiteful(self, ctx: JobContext) -> object:
        """Fail in another way when asked to stop."""
        try:
            await self._hung(ctx)
        except asyncio.CancelledError:
            raise RuntimeError("I was busy") from None
        return "released"

    async def _tidy(self, ctx: JobContext) -> object:
        """Take time to clean up."""
        try:
            await self._hung(ctx)
        finally:
            await self._step(ctx, "handler.cleanup")
            await self._pause(ctx)
        return "tidy"

    async def _messy(self, ctx: JobContext) -> object:
        """Fail while cleaning up."""
        try:
            await self._pause(ctx)
        finally:
            await self._step(ctx, "handler.cleanup")
            raise RuntimeError("the broom broke")

    async def _leak(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        raise asyncio.CancelledError("my own")

    async def _exit(self, ctx: JobContext) -> object:
        await self._pause(ctx)
        raise SystemExit(3) if _n(ctx) % 2 else KeyboardInterrupt

    async def _report(self, ctx: JobContext) -> object:
        for i in range(_n(ctx) + 2):
            self.world.sign(ctx)
            ctx.progress(i * 10, f"at {i}")
            ctx.log("line", i=i, field=self._field())
            ctx.emit("x" * 10 * i)
            await asyncio.sleep(0)
        await self._pause(ctx)
        return None

    async def _odd_value(self, ctx: JobContext) -> object:
        return hostile.result(self.world.faults) if _n(ctx) % 2 else "x" * 300

    def _field(self) -> object:
        faults = self.world.faults
        return hostile.Text(faults.arm("field.repr")) if faults.wants("field.repr") else 1


def hostile_text(world: World) -> str:
    """Return a text that may not be one."""
    if world.faults.wants("message.str"):
        text: Any = hostile.Text(world.faults.arm("message.str"))
        return text  # type: ignore[no-any-return]  # that is the point
    return "talking"


PLANS: dict[str, Behaviour] = {
    name: getattr(Behaviours, f"_{name}")
    for name in (
        "return", "tick", "fail", "told_to_retry", "refused", "refuse", "sleep", "talk", "extend",
        "hang", "swallow", "stubborn", "spiteful", "tidy", "messy", "leak", "exit", "report",
        "odd_value", "ask", "ask_all",
    )
}  # fmt: skip


PLAN_NAMES = list(PLANS)
RESISTING = ("swallow", "stubborn", "tidy", "messy")
"""Plans that may go on after they were asked to stop; all others stop at once."""
GROUPS = ("ask_all",)
"""Plans that stop a group of tasks first, for which a grace of nothing has no turn."""


LEADING_TO = {
    "handler.entry": ("return",) * 4, "handler.tick": ("tick",) * 2, "handler.piece": ("return",),
    "handler.pause": ("fail", "tidy", "leak"), "handler.cleanup": ("tidy", "messy", "messy"),
    "handler.gate": ("hang", "tidy"), "handler.swallow": ("swallow",) * 3, "error.str": ("fail",),
    "error.status": ("fail",), "error.retry_after": ("fail",), "result.repr": ("odd_value",),
    "result.items": ("odd_value",) * 2, "field.repr": ("report",), "message.str": ("talk",),
    "user.retry_if": ("fail", "refused"), "handler.asking": ("ask",) * 3,
    "handler.notify": ("ask",) * 3, "handler.impatient": ("ask",) * 2,
}  # fmt: skip
"""Plans that come by a place where something can go wrong."""


def draw_plan(random: Random, faults: Faults, client: str) -> dict[str, Any]:
    """Return the metadata of a job that does something, rather where something goes wrong."""
    leading = [plan for place in faults.active for plan in LEADING_TO.get(place, ())]
    led = bool(leading) and random.random() < 0.7
    return {
        "plan": random.choice(leading if led else PLAN_NAMES),
        "n": random.randint(led, 3),
        "seconds": random.choice((0, 0, 0.5, 1, 1, 2, 3)),
        "client": client,
    }


def _n(ctx: JobContext) -> int:
    value: int = ctx.metadata["n"]
    return value
