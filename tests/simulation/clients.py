"""Clients that do what clients do, at random, and know what has to come of each call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from jobrunner import (
    Event,
    IdempotencyKeyReused,
    JobCancelled,
    JobFailed,
    JobGone,
    JobHandle,
    JobNotFinal,
    JobNotFound,
    JobStatus,
    QueueFull,
    RunnerStopped,
)
from jobrunner.jobs import Job

from .behaviours import draw_plan
from .world import CLIENT, Stream, Wait, World

PAUSES = (0, 0, 0, 0, 0.5, 0.5, 1, 1, 2)
GONE = (JobGone, JobNotFound)


class Client:
    """One client: a few operations, one after the other.

    Args:
        world: The scenario that it is in.
        name: Makes its draws its own.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.runner = world.runner
        self.name = name
        self.random = Random(f"{world.seed} {name}")

    async def run(self) -> None:
        """Do a few operations."""
        CLIENT.set(self.name)
        for _ in range(self.random.randint(3, 7)):
            if pause := self.random.choice(PAUSES):
                await asyncio.sleep(pause)
            operation = self.random.choices(OPERATIONS, WEIGHTS)[0]
            self.world.trace.append(f"{self.world.loop.time()} {self.name} {operation.__name__}")
            await operation(self)

    async def submit(self) -> None:
        options, type_name = (
            self._options(),
            self.random.choice(("once", "once", "again", "pieces")),
        )
        refused, known = self._expected(options.get("idempotency_key"), type_name)
        try:
            handle = await self.runner.submit(type_name, **options)
        except (QueueFull, RunnerStopped, IdempotencyKeyReused) as error:
            self.world.require(type(error) is refused, "wrong refusal", repr(error), refused)
            return
        self.world.require(refused is None, "not refused", refused)
        self.world.require((handle.outcome == "replayed") == (known is not None), "replayed or not", handle.id)
        if known is None:
            self.world.accepted(handle)
        else:
            self.world.require(handle.id == known.id, "the key's job is another", known.number)

    def _options(self) -> Any:
        draw = self.random
        options: dict[str, Any] = {"metadata": draw_plan(draw, self.name)}
        if draw.random() < 0.3:
            options["delay"] = draw.choice((0.5, 1, 2, 3))
        if draw.random() < 0.3:
            options["priority"] = draw.randint(-2, 2)
        if draw.random() < 0.4:
            options["timeout"] = draw.choice((0.5, 1, 2, None))
        if draw.random() < 0.3:
            options["session_id"] = draw.choice("ab")
        if draw.random() < 0.3:
            options["idempotency_key"] = draw.choice("kl")
        return options

    def _expected(
        self, key: str | None, type_name: str
    ) -> tuple[type[Exception] | None, Job | None]:
        """Return the error that a submit has to raise, or the job that it has to find."""
        if self.runner.stats().state != "running":
            return RunnerStopped, None
        for job in self.world.jobs:
            if key is not None and job.idempotency_key == key and self.world.kept(job):
                return (None, job) if job.type == type_name else (IdempotencyKeyReused, None)
        return (QueueFull if self._full() else None), None

    def _full(self) -> bool:
        jobs = self.runner.stats().jobs
        waiting = jobs[JobStatus.PENDING] + jobs[JobStatus.RETRYING]
        return waiting >= self.runner.limits.max_pending

    async def cancel(self) -> None:
        if (handle := self.world.pick(self.random)) is None:
            return
        before, kept = handle.status, self.world.kept(self.runner_record(handle))
        try:
            after = (await handle.cancel("not needed")).status
        except GONE:
            self.world.require(not kept, "a kept job is gone for cancel", handle.id)
            return
        waiting = before in (JobStatus.PENDING, JobStatus.RETRYING)
        expected = JobStatus.CANCELLED if waiting else before
        lost = self.world.faults > 0 and after is JobStatus.CANCELLED
        known = kept or handle.view().finished_at is not None  # a handle knows how its job ended
        self.world.require(known and (after is expected or lost), "cancel answers", before, after)
        if before in (JobStatus.PENDING, JobStatus.RETRYING, JobStatus.RUNNING):
            self.world.never_again.setdefault(handle.id, self.world.loop.time())

    def runner_record(self, handle: JobHandle[Any]) -> Job:
        """Return the handle's job, kept or not."""
        return self.world.jobs[self.world.handles.index(handle)]

    async def retry(self) -> None:
        if (handle := self.world.pick(self.random)) is None:
            return
        job = self.runner_record(handle)
        running = self.runner.stats().state == "running"
        kept, final, full = self.world.kept(job), job.is_final, self._full()
        try:
            again = await self.runner.retry(handle.id)
        except (*GONE, JobNotFinal, QueueFull, RunnerStopped) as error:
            wanted = {"JobNotFinal": not final, "QueueFull": full, "RunnerStopped": not running}
            self.world.require(wanted.get(type(error).__name__, not kept), "retry", repr(error))
            return
        self.world.require(running and kept and final and not full, "retried", job.number)
        self.world.accepted(again)
        self.world.require(self.world.jobs[-1].retry_of == job.id, "retry_of", job.number)

    async def forget(self) -> None:
        if (handle := self.world.pick(self.random)) is None:
            return
        job = self.runner_record(handle)
        kept = self.world.kept(job)
        try:
            await self.runner.forget(handle.id)
        except (*GONE, JobNotFinal) as error:
            refused = not job.is_final if isinstance(error, JobNotFinal) else not kept
            self.world.require(refused, "forget", repr(error))
            return
        self.world.require(kept and job.is_final, "forgot a live job", job.number)
        self.world.require(not self.world.kept(job), "forgotten and kept", job.number)
        self.world.forgotten.add(job.id)

    async def wait(self) -> None:
        """Wait for some jobs; the time may end, or the wait be cancelled."""
        kept = [job for job in self.world.jobs if self.world.kept(job)]
        jobs = self.random.sample(kept, min(len(kept), self.random.randint(0, 3)))
        mode = self.random.choice(("all", "any"))
        timeout = self.random.choice((None, 0, 0.5, 2, 2))
        wait = Wait(jobs, min(1, len(jobs)) if mode == "any" else len(jobs))
        await self._sometimes_cancelled(self._wait(wait, mode, timeout))

    async def _wait(self, wait: Wait, mode: Any, timeout: float | None) -> None:
        wait.jobs = [job for job in wait.jobs if self.world.kept(job)]
        wait.enough = min(wait.enough, len(wait.jobs))
        self.world.waits.add(wait)
        began = self.world.loop.time()
        try:
            waited = await self.runner.wait(
                [job.id for job in wait.jobs], mode=mode, timeout=timeout
            )
        finally:
            self.world.waits.discard(wait)
        took = self.world.loop.time() - began
        over = len(waited.done) >= wait.enough
        self.world.require(over or timeout is not None, "a wait ended early", mode)
        self.world.require(timeout is None or took <= timeout + 1e-6, "a wait was long", took)
        self.world.require(over or took >= (timeout or 0.0) - 1e-6, "a short timeout", took)

    async def result(self) -> None:
        """Wait for a job's value."""
        if (handle := self.world.pick(self.random)) is not None:
            timeout = self.random.choice((0, 0.5, 2, 2, 9))
            await self._sometimes_cancelled(self._result(handle, timeout))

    async def _result(self, handle: JobHandle[Any], timeout: float) -> None:
        status: JobStatus | None
        try:
            await handle.result(timeout=timeout)
            status = JobStatus.COMPLETED
        except JobFailed:
            status = JobStatus.FAILED
        except JobCancelled:
            status = JobStatus.CANCELLED
        except TimeoutError:
            status = None
        self.world.require(status in (None, handle.status), "result against status", status)

    async def _sometimes_cancelled(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Await it, or cancel it meanwhile: a waiter never touches the job (T6)."""
        task = asyncio.create_task(waiting, name="client")
        if self.random.random() < 0.5:
            await asyncio.wait([task])
        else:
            for _ in range(self.random.randint(0, 5)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.random.choice(PAUSES))
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.require(False, "a wait raised", repr(error))

    async def follow(self) -> None:
        """Follow a job's events from some number on."""
        if (handle := self.world.pick(self.random)) is None:
            return
        job = self.runner_record(handle)
        after = self.random.choice((0, 0, self.random.randint(0, job.log.last + 2)))
        stream = Stream(job, after, slow=self.random.random() < 0.2)
        self.world.streams.append(stream)
        stream.task = asyncio.create_task(self._follow(handle, stream), name="client")
        if self.random.random() < 0.1:
            await asyncio.sleep(self.random.choice(PAUSES))
            stream.given_up = True
            stream.task.cancel()

    async def _follow(self, handle: JobHandle[Any], stream: Stream) -> None:
        async for event in handle.events(stream.after):
            stream.seen.append(event)
            if stream.slow:
                await asyncio.sleep(1)

    async def follow_all(self) -> None:
        """Follow what happens to all jobs, until the runner stops."""
        if self.runner.stats().state == "running":
            feed = asyncio.create_task(self._follow_all(self.runner.events()), name="client")
            self.world.feeds.append(feed)

    async def _follow_all(self, events: AsyncIterator[Event]) -> None:
        last: dict[str, int] = {}
        async for event in events:
            if event.type == "gap":
                continue
            newer = event.seq > last.get(event.job_id, 0)
            self.world.require(newer, "the feed goes back", event.seq)
            last[event.job_id] = event.seq

    async def list(self) -> None:
        """Page through the jobs while they change."""
        session, limit = self.random.choice((None, "a")), self.random.choice((1, 2, 3, 4, 64))
        at_first = [job for job in self.world.jobs if session in (None, job.session_id)]
        numbers: list[int] = []
        cursor: str | None = None
        while True:
            page = self.runner.page(session_id=session, limit=limit, cursor=cursor)
            numbers.extend(job.number for job in page.jobs)
            self.world.require(len(page.jobs) <= limit, "a long page", len(page.jobs))
            if (cursor := page.next_cursor) is None:
                break
            await asyncio.sleep(self.random.choice((0, 0, 0.5)))
        self.world.require(numbers == sorted(set(numbers), reverse=True), "order of pages", numbers)
        missed = [j.number for j in at_first if self.world.kept(j) and j.number not in numbers]
        self.world.require(not missed, "pages left out", missed)

    async def pause(self) -> None:
        """Pause the runner for a while."""
        self.runner.pause()
        await asyncio.sleep(self.random.choice(PAUSES))
        self.runner.resume()

    async def resize(self) -> None:
        """Change the number of workers."""
        self.world.resize(self.random.randint(1, 4))


Operation = Callable[[Client], Awaitable[None]]
_WEIGHED: dict[Operation, int] = {
    Client.submit: 50, Client.cancel: 16, Client.retry: 6, Client.forget: 6, Client.wait: 10,
    Client.result: 6, Client.follow: 14, Client.follow_all: 3, Client.list: 4, Client.pause: 5,
    Client.resize: 6,
}  # fmt: skip
OPERATIONS = tuple(_WEIGHED)
WEIGHTS = tuple(_WEIGHED.values())
