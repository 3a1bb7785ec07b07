"""Trees of jobs, drawn from a seed: parents that wait for children, or fail, or are cancelled.

Apart from the other scenarios, so that each tree may go its own way: what a handler does is drawn
from its job's id, and what has to hold is about kin only.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from jobrunner import (
    JobContext,
    JobGone,
    JobNotFound,
    JobRunner,
    JobStatus,
    JobUnsuccessful,
    Limits,
    PermanentError,
    Question,
    Retention,
    RetryPolicy,
    SubJob,
)
from jobrunner.events import EventLog
from jobrunner.jobs import Job
from jobrunner.options import JobOptions, OnDuplicate

from .faults import TREE_PLACES, Faults
from .loop import SimulatedLoop, simulate, unix_now
from .people import PAUSES, TYPES, People
from .world import FaultyClock

DEPTH = 4
"""Generations below the first that trees have at most; the runner's own limit may be less."""
EPSILON = 1e-3


class Forest:
    """One scenario.

    Args:
        seed: Everything is drawn from it, the order of ready callbacks too.
    """

    loop: SimulatedLoop

    def __init__(self, seed: int) -> None:
        self.seed = seed
        draw = self.draw = Random(f"forest {seed}")
        self.grace = draw.choice((0, 0.5, 1))
        self.workers = draw.randint(1, 3)
        self.faulty = draw.random() < 0.2
        self.broken = 0
        self.calm = False
        self.failures: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.at_work: dict[str, JobContext] = {}
        self.resisting: set[str] = set()
        self.trace: list[str] = []
        self.faults = Faults(seed, self.trace.append, TREE_PLACES)
        self.people = People(self)
        self._feed: EventLog | None = None
        self._read = 0
        self.runner = self._runner(draw)

    def _runner(self, draw: Random) -> JobRunner:
        runner = JobRunner(
            workers=self.workers,
            timeout=draw.choice((None, None, 3, 10)),
            retention=Retention(max_jobs=draw.choice((None, None, 0, 2))),
            limits=Limits(
                max_pending=draw.choice((3, 8, 500, 500)), max_depth=draw.choice((1, 3, 20, 20))
            ),
            cancel_grace=self.grace,
            shutdown_timeout=draw.choice((0, 1)),
            watchdog=None,
            now=self._now,
            seed=self.seed,
        )
        again = RetryPolicy(max_attempts=2, base=draw.choice((0, 1)))
        runner.job("node", deadline=draw.choice((None, None, 5)))(self.node)
        runner.job("again", retry=again)(self.again)
        runner.job("single", max_concurrency=1)(self.single)
        duplicates: tuple[OnDuplicate, ...] = ("enqueue", "replace", "reject")
        duplicate = draw.choice(duplicates)
        keyed: JobOptions = {"concurrency_key": lambda _: "k", "on_duplicate": duplicate}
        runner.job("keyed", **keyed)(self.keyed)
        return runner

    def _now(self) -> float:
        if self.faulty and not self.calm and self.draw.random() < 0.01:
            task = asyncio.current_task()
            if task is None or task.get_name().startswith("job_"):
                self.broken += 1
                raise FaultyClock
        return unix_now()

    async def node(self, ctx: JobContext) -> int:
        return await self._live(ctx)

    async def again(self, ctx: JobContext) -> int:
        return await self._live(ctx)

    async def single(self, ctx: JobContext) -> int:
        return await self._live(ctx)

    async def keyed(self, ctx: JobContext) -> int:
        return await self._live(ctx)

    async def _live(self, ctx: JobContext) -> int:
        """Do a few things with sub-jobs, and then return or raise."""
        kin = [job.number for job in self.jobs.values() if _live_child(job, ctx.job_id)]
        self.require(not kin, "an attempt begins among children", ctx.job_id, kin)
        draw = Random(f"{self.seed} {ctx.job_id} {ctx.attempt}")
        children: list[SubJob[Any]] = []
        self.at_work[ctx.job_id] = ctx
        try:
            for _ in range(draw.randint(0, 4)):
                await draw.choice(STEPS)(self, ctx, draw, children)
        except asyncio.CancelledError:
            if draw.random() < 0.2 and not self.calm:
                self.resisting.add(ctx.job_id)
                await asyncio.sleep(draw.choice((0.3, 5)))
            await self._fault(ctx, "parent.cleanup")
            raise
        finally:
            self.at_work.pop(ctx.job_id, None)
        if draw.random() < 0.15:
            raise draw.choice((RuntimeError, PermanentError))("of its own")
        return draw.randint(0, 9)

    @asynccontextmanager
    async def _waits(self, ctx: JobContext, place: str | None = None) -> AsyncIterator[None]:
        """It may have no worker in here, and may be cancelled by its own means.

        Args:
            place: Where this is a fault.
        """
        self.at_work.pop(ctx.job_id, None)
        kind = self.faults.strike(place) if place is not None else None
        task = asyncio.current_task()
        assert task is not None
        if kind == "cancel":
            self.loop.call_soon(task.cancel)
        try:
            async with asyncio.timeout(0.5 if kind == "delay" else None):
                yield
        finally:
            self.at_work[ctx.job_id] = ctx

    async def _fault(self, ctx: JobContext, place: str) -> None:
        """Have something go wrong here, if this is such a forest."""
        kind = self.faults.strike(place)
        if kind == "delay":
            self.resisting.add(ctx.job_id)
            await asyncio.sleep(0.5)
        elif kind == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        elif kind == "raise":
            raise self.faults.error(place)

    async def _ask(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        """Ask a person, who may be told slowly, and whose answer may be waited for in vain."""

        async def notify(question: Question) -> None:
            self.people.links[question.token] = (question.job_id, question.question_id)
            self.at_work[ctx.job_id] = ctx
            await self._fault(ctx, "asker.notify")
            self.at_work.pop(ctx.job_id, None)

        timeout = draw.choice((0.5, 1, 3))
        default = draw.choice(({}, {"default": -1}))
        try:
            async with self._waits(ctx, "asker.waits"):
                value = await ctx.ask("?", schema=int, timeout=timeout, notify=notify, **default)
        except TimeoutError:
            return
        self.require(value == -1 or self.people.gave(ctx.job_id, value), "an odd answer", value)
        await self._fault(ctx, "asker.answered")

    async def _pause(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        await asyncio.sleep(draw.choice(PAUSES))

    async def _submit(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        if (options := self._options(ctx, draw)) is not None:
            async with self._waits(ctx):
                children.append(await ctx.submit(draw.choice(TYPES), **options))
            await self._fault(ctx, "parent.submitted")

    async def _wait(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        if not children:
            return
        child = draw.choice(children)
        way = draw.choice(("result", "result", "wait", "timeout", "own", "events"))
        async with self._waits(ctx, "parent.waits"):
            try:
                if way == "events":
                    async for _ in child.events():
                        await asyncio.sleep(0)
                elif way == "own":
                    async with asyncio.timeout(1):
                        await child.wait()
                elif way == "wait":
                    self.require((await child.wait()).finished_at is not None, "no end", child.id)
                else:
                    await child.result(timeout=1 if way == "timeout" else None)
            except (JobUnsuccessful, TimeoutError):
                if draw.random() < 0.3:
                    raise

    async def _together(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        """Wait for several at once, in tasks."""
        async with self._waits(ctx):
            try:
                async with asyncio.TaskGroup() as group:
                    for child in children:
                        group.create_task(child.result(), name=ctx.job_id)
            except* JobUnsuccessful:
                pass

    async def _map(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        if (options := self._options(ctx, draw)) is None:
            return
        count, soft = draw.randint(0, 4), draw.random() < 0.5
        most = draw.choice((None, 1))
        async with self._waits(ctx, "parent.maps"):
            try:
                results = await ctx.map(
                    draw.choice(TYPES[:3]), [{}] * count, max_in_flight=most,
                    return_exceptions=soft, **options,
                )  # fmt: skip
            except JobUnsuccessful as error:
                self.require(not soft, "a soft map raises", error.job_id)
                mapped = self.jobs.get(error.job_id)
                live = mapped and [job for job in self.jobs.values() if _mapped(job, mapped)]
                self.require(not live or self.broken > 0, "a map raises and goes on", live)
                if draw.random() < 0.5:
                    raise
            else:
                fits = all(isinstance(each, int) for each in results) or soft
                self.require(len(results) == count and fits, "results", results)

    async def _cancel(self, ctx: JobContext, draw: Random, children: list[SubJob[Any]]) -> None:
        if children:
            await draw.choice(children).cancel("not that one")

    def _options(self, ctx: JobContext, draw: Random) -> dict[str, Any] | None:
        depth = ctx.metadata["depth"] + 1
        if depth > DEPTH:
            return None
        options: dict[str, Any] = {"metadata": {"depth": depth}}
        if draw.random() < 0.2:
            options["delay"] = draw.choice((0.5, 2))
        if draw.random() < 0.2:
            options["deadline"] = draw.choice((1, 30))
        if draw.random() < 0.3:
            options["max_wait"] = draw.choice((None, 1))
        return options

    def require(self, held: bool, message: str, *values: object) -> None:
        """Note a broken promise; it is raised at the end."""
        if not held:
            self.failures.append(f"{self.loop.time()}: {message} {values}")

    def run(self) -> str:
        """Play it and return a hash of all that happened."""
        try:
            simulate(self._main, seed=self.seed)
        except Exception as error:
            self.failures.append(repr(error))
        if self.failures:
            raise AssertionError("\n".join(self.failures[:10]))
        events = [str(event) for job in self.jobs.values() for event in job.log.read(0).events]
        return hashlib.sha256("\n".join(events).encode()).hexdigest()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.loop = loop
        loop.set_exception_handler(lambda _, context: self.failures.append(f"unhandled {context}"))
        loop.after_step = self._after_step
        await self.runner.__aenter__()
        self._feed = self.runner.feed()
        people = asyncio.create_task(self.people.live(), name="people")
        try:
            await self.people.submit_roots(self.draw)
            if self.draw.random() < 0.7:
                await self._drain()
        finally:
            await self.runner.stop(timeout=self.draw.choice((None, 0)))
            self.calm = self.faults.calm = True
            await people
        await asyncio.sleep(60)  # stuck handlers end, and nothing else is there
        self._check_end()

    async def _drain(self) -> None:
        try:
            await self.runner.drain(timeout=10_000)
        except TimeoutError:
            stands = [
                (job.number, job.type, job.status.value, job.parent_id) for job in self._live_jobs()
            ]
            self.require(False, "jobs wait for ever", stands)

    def _live_jobs(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.is_final]

    def _after_step(self) -> None:
        reading = self._reading()
        for job_id in reading:
            if job_id not in self.jobs:
                try:
                    self.jobs[job_id] = self.runner.record(job_id)
                except (JobGone, JobNotFound):
                    continue  # it has come and gone in this step
        stats = self.runner.stats()
        self.require(stats.busy <= self.workers, "too many run", stats.busy)
        working = [ctx.job_id for ctx in self.at_work.values() if not ctx.cancel_requested]
        self.require(len(working) <= stats.busy + stats.stuck, "at work without a worker", working)
        if reading:
            self._check_kin()

    def _reading(self) -> list[str]:
        """Return the ids of the jobs of which something was said since."""
        if self._feed is None:
            return []
        reading = self._feed.read(self._read)
        self._read = reading.last
        return [event.job_id for event in reading.events]

    def _check_kin(self) -> None:
        now = unix_now()
        for job in self.jobs.values():
            if not job.log.closed:
                due = math.inf if job.deadline_at is None else job.deadline_at + 2 * self.grace
                self.require(now <= due + EPSILON, "alive after a deadline", job.number)
                if (parent := self.jobs.get(job.parent_id or "")) is None:
                    continue
                if parent.log.closed:
                    self._check_left(job, parent)
                elif parent.cancel_requested_at is not None and not self.broken:
                    told = job.cancel_requested_at is not None
                    self.require(told, "not told of its parent's cancel", job.number)

    def _check_left(self, job: Job, parent: Job) -> None:
        """A live job whose parent has ended: that has completed, or was given up."""
        excused, failed = self.broken > 0, parent.status is JobStatus.FAILED
        cancelled = parent.status is JobStatus.CANCELLED
        self.require(not cancelled or excused, "alive without its parent", job.number)
        asked = job.cancel_requested_at is not None
        self.require(asked or not failed or excused, "left by a failed parent", job.number)

    def _check_end(self) -> None:
        stats = self.runner.stats()
        live = [job.number for job in self._live_jobs()]
        self.require(not live, "jobs never ended", live)
        self.require(stats.busy == stats.aside == stats.stuck == 0, "left", stats)
        self.require(stats.faults <= self.broken, "a fault of our own", stats.faults)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self.require(not others, "tasks are left", others)
        self.require(not self.loop.timers(), "timers are left", self.loop.timers())
        for job in self.jobs.values():
            self._check_one(job)
            self.people.check(job)

    def _check_one(self, job: Job) -> None:
        ends = [event.seq for event in job.log.read(0).events if event.type == "done"]
        self.require(ends == [job.log.last], "not one end", job.number, ends)
        stuck = job.error is not None and job.error.type == "Stuck"
        resists = job.id in self.resisting or self.grace == 0
        self.require(not stuck or resists, "an obedient handler is given up", job.number)
        parent = self.jobs.get(job.parent_id or "")
        if parent is not None and parent.deadline_at is not None:
            within = job.deadline_at is not None and job.deadline_at <= parent.deadline_at
            self.require(within, "a later deadline than its parent's", job.number)


def _live_child(job: Job, parent_id: str) -> bool:
    return job.parent_id == parent_id and not job.log.closed


def _mapped(job: Job, other: Job) -> bool:
    """Whether they are of one batch, and the job is live."""
    return job.batch_id == other.batch_id and not job.log.closed


Step = Callable[[Forest, JobContext, Random, list[SubJob[Any]]], Awaitable[None]]
STEPS: tuple[Step, ...] = (
    Forest._pause, Forest._submit, Forest._submit, Forest._submit, Forest._wait, Forest._wait,
    Forest._together, Forest._map, Forest._cancel, Forest._ask, Forest._ask,
)  # fmt: skip


def play(seed: int) -> str:
    """Play the forest of `seed` and return a hash of all that happened."""
    return Forest(seed).run()
