"""Clients that do what clients do, at random, and know what has to come of each call."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from jobrunner import (
    InvalidAnswer,
    InvalidOption,
    InvalidParams,
    JobCancelled,
    JobFailed,
    JobGone,
    JobHandle,
    JobNotFinal,
    JobNotFound,
    JobStatus,
    NotWaitingForInput,
    QuestionNotFound,
    QueueFull,
    RunnerStopped,
)
from jobrunner.jobs import Job

from . import hostile, watchers
from .faults import Injected, InjectedExit
from .runners import is_hostile_to_params
from .submits import draw_request, submit
from .world import CLIENT, WAITING, FaultyClock, Wait, World

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
            operation = self._next()
            self.world.trace.append(f"{self.world.loop.time()} {self.name} {operation.__name__}")
            await operation(self)

    def _next(self) -> "Operation":
        """Draw what to do, rather something that can go wrong."""
        leading = [LEADING_TO[place] for place in self.world.faults.active if place in LEADING_TO]
        if leading and self.random.random() < 0.35:
            return self.random.choice(leading)
        return self.random.choices(OPERATIONS, WEIGHTS)[0]

    async def submit(self) -> None:
        """Submit a job; one with a patient request lets the client go on."""
        request = draw_request(self.world, self.random, self.name)
        if request.max_wait == 0.0:
            await submit(self.world, request)
        else:
            await self._sometimes_cancelled("client.submit", submit(self.world, request))

    async def cancel(self) -> None:
        """Cancel a job."""
        if (handle := self.world.pick(self.random)) is None:
            return
        before, kept = handle.status, self.world.kept(self.world.job_of(handle))
        try:
            after = (await handle.cancel(self._note())).status
        except GONE:
            self.world.require(not kept, "a kept job is gone for cancel", handle.id)
            return
        except (Injected, InjectedExit):
            return  # the note can't be read
        expected = JobStatus.CANCELLED if before in WAITING else before
        if before is JobStatus.INPUT_REQUIRED:
            expected = JobStatus.RUNNING  # what it asked is withdrawn at once
        lost = self.world.broken > 0 and after is JobStatus.CANCELLED
        known = kept or handle.view().finished_at is not None  # a handle knows how its job ended
        self.world.require(known and (after is expected or lost), "cancel answers", before, after)
        if before in (*WAITING, JobStatus.RUNNING, JobStatus.INPUT_REQUIRED):
            self.world.never_again.setdefault(handle.id, self.world.loop.time())

    def _note(self) -> str:
        faults = self.world.faults
        note: Any = hostile.Text(faults.arm("note.str")) if faults.wants("note.str") else "enough"
        return note  # type: ignore[no-any-return]  # that is the point

    async def answer(self) -> None:
        """Answer a question that may be closed, with something that may not fit."""
        asking = [job for job in self.world.jobs if job.questions is not None]
        if not asking:
            return
        job = self.random.choice(asking[-4:])
        assert job.questions is not None
        number = self.random.randint(1, job.questions.asked + 1)
        name = self.random.choice((f"q{number}", *job.questions.open))
        value = self.random.choice((1, 2, 3, "x"))
        was_open, kept = name in job.questions.open and not job.is_final, self.world.kept(job)
        try:
            await self.runner.answer(job.id, name, value)
        except GONE:
            self.world.require(not kept, "a kept job is gone for answer", job.number)
        except InvalidAnswer:
            self.world.require(value == "x" and was_open, "refused", job.number, name, value)
        except (NotWaitingForInput, QuestionNotFound):
            asked = self.world.asking.get(job.id, 0) > 0
            self.world.require(not was_open or asked, "not waiting", job.number, name)
        except FaultyClock:
            pass
        else:
            self.world.require(was_open and value != "x", "answered", job.number, name, value)
            again = (job.id, name) in self.world.answered
            self.world.require(not again, "answered twice", job.number, name)
            self.world.answered[job.id, name] = value

    async def retry(self) -> None:
        """Run a job again."""
        if (handle := self.world.pick(self.random)) is None:
            return
        job = self.world.job_of(handle)
        running = self.runner.stats().state == "running"
        kept, final, full = self.world.kept(job), job.is_final, self.world.shut(job.type)
        try:
            again = await self.runner.retry(handle.id)
        except (*GONE, JobNotFinal, QueueFull, RunnerStopped) as error:
            wanted = {"JobNotFinal": not final, "QueueFull": full, "RunnerStopped": not running}
            self.world.require(wanted.get(type(error).__name__, not kept), "retry", repr(error))
            return
        except (InvalidOption, InvalidParams, Injected, InjectedExit) as error:
            self.world.require(job.type == "keyed", "an odd refusal of retry", repr(error))
            return
        sane = self.world.broken > 0 or (running and kept and final and not full)
        self.world.require(sane, "retried", job.number)
        self.world.accepted(again)
        self.world.require(self.world.jobs[-1].retry_of == job.id, "retry_of", job.number)

    async def retry_failed(self) -> None:
        """Run all failed jobs again."""
        type_name = self.random.choice((None, None, *self.world.options))
        await self._sometimes_cancelled("client.retry_failed", retry_failed(self.world, type_name))

    async def forget(self) -> None:
        """Remove a job."""
        if (handle := self.world.pick(self.random)) is None:
            return
        job = self.world.job_of(handle)
        kept = self.world.kept(job)
        try:
            await self.runner.forget(handle.id)
        except (*GONE, JobNotFinal) as error:
            refused = not job.is_final if isinstance(error, JobNotFinal) else not kept
            self.world.require(refused or self.world.broken > 0, "forget", repr(error))
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
        await self._sometimes_cancelled("client.wait", self._wait(wait, mode, timeout))

    async def _wait(self, wait: Wait, mode: Any, timeout: float | None) -> None:
        wait.jobs = [job for job in wait.jobs if self.world.kept(job)]
        wait.enough = min(wait.enough, len(wait.jobs))
        self.world.waits.append(wait)
        began = self.world.loop.time()
        try:
            waited = await self.runner.wait(
                [job.id for job in wait.jobs], mode=mode, timeout=timeout
            )
        finally:
            self.world.waits.remove(wait)
        took = self.world.loop.time() - began
        over = len(waited.done) >= wait.enough
        self.world.require(over or timeout is not None, "a wait ended early", mode)
        self.world.require(timeout is None or took <= timeout + 1e-6, "a wait was long", took)
        self.world.require(over or took >= (timeout or 0.0) - 1e-6, "a short timeout", took)

    async def result(self) -> None:
        """Wait for a job's value."""
        if (handle := self.world.pick(self.random)) is not None:
            timeout = self.random.choice((0, 0.5, 2, 2, 9))
            await self._sometimes_cancelled("client.result", self._result(handle, timeout))

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

    async def _sometimes_cancelled(self, place: str, waiting: Coroutine[Any, Any, None]) -> None:
        """Await it, or cancel it meanwhile: a waiter never touches the job (T6)."""
        task = asyncio.create_task(waiting, name="client")
        if self.random.random() < 0.25 or place in self.world.faults.active:
            for _ in range(self.random.randint(0, 5)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.random.choice(PAUSES))
            if not task.done():
                self.world.faults.strike(place)
                task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.require(False, "a wait raised", repr(error))

    async def follow(self) -> None:
        """Follow a job's events from some number on."""
        if (handle := self.world.pick(self.random)) is not None:
            job = self.world.job_of(handle)
            after = self.random.choice((0, 0, self.random.randint(0, job.log.last + 2)))
            slow = self.random.random() < 0.2
            stream = watchers.follow(self.world, handle, job, after, slow=slow)
            strike = self.world.faults.strikes("client.events")
            if strike or self.random.random() < 0.1:
                await asyncio.sleep(self.random.choice(PAUSES))
                stream.give_up()

    async def follow_all(self) -> None:
        """Follow what happens to all jobs, until the runner stops."""
        if self.runner.stats().state == "running":
            feed = watchers.follow_all(self.world)
            if self.world.faults.strikes("client.feed"):
                await asyncio.sleep(self.random.choice(PAUSES))
                feed.cancel()

    async def list(self) -> None:
        """Page through the jobs while they change."""
        limit = self.random.choice((1, 2, 3, 4, 64))
        await watchers.page(self.world, self.random, self.random.choice((None, "a")), limit)

    async def pause(self) -> None:
        """Pause the runner for a while."""
        self.runner.pause()
        await asyncio.sleep(self.random.choice(PAUSES))
        self.world.resume()

    async def resize(self) -> None:
        """Change the number of workers."""
        self.world.resize(self.random.randint(1, 4))


async def retry_failed(world: World, type_name: str | None) -> None:
    """Run failed jobs again, all that there is room for."""
    before = [job for job in world.jobs if _can_be_retried(world, job, type_name)]
    world.hidden_submits += 1
    try:
        handles = await world.runner.retry_failed(type_name)
    except (QueueFull, RunnerStopped, InvalidOption, InvalidParams, Injected, InjectedExit):
        return
    finally:
        world.discover()
        world.hidden_submits -= 1
    made = {handle.id: world.job_of(world.handles[_place(world, handle.id)]) for handle in handles}
    origins = [job.retry_of for job in made.values()]
    world.require(len(set(origins)) == len(origins), "retried twice", origins)
    again = {job.retry_of for job in world.jobs}
    missed = [j for j in before if world.kept(j) and j.id not in again]
    full = world.broken > 0 or any(world.shut(job.type) for job in missed)
    world.require(not missed or full, "not retried", [job.number for job in missed])


def _can_be_retried(world: World, job: Job, type_name: str | None) -> bool:
    right = type_name in (None, job.type) and job.status is JobStatus.FAILED
    refused = job.type == "keyed" and is_hostile_to_params(world.faults)
    return right and not refused and job.log.closed and world.kept(job)


def _place(world: World, job_id: str) -> int:
    return next(i for i, handle in enumerate(world.handles) if handle.id == job_id)


Operation = Callable[[Client], Awaitable[None]]
_WEIGHED: dict[Operation, int] = {
    Client.submit: 56, Client.cancel: 14, Client.retry: 6, Client.forget: 6, Client.wait: 8,
    Client.result: 6, Client.follow: 10, Client.follow_all: 3, Client.list: 4, Client.pause: 5,
    Client.resize: 6, Client.retry_failed: 4, Client.answer: 20,
}  # fmt: skip
LEADING_TO: dict[str, Operation] = {
    "client.submit": Client.submit, "client.wait": Client.wait, "client.result": Client.result,
    "client.retry_failed": Client.retry_failed,
}  # fmt: skip
OPERATIONS = tuple(_WEIGHED)
WEIGHTS = tuple(_WEIGHED.values())
