"""What is measured: one function for each way to run jobs, all given the same work.

A way takes a number of jobs and returns the seconds from the first submit until every result can
be read by its id; or the seconds from submit to start of single jobs on an idle pool.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from jobrunner import JobRunner, Limits, Retention

WORKERS = 10
Way = Callable[[int], Awaitable[list[float]]]


async def bare_throughput(count: int) -> list[float]:
    """What people write by hand: a queue, workers, and a dict of slotted records."""
    pool = BareLoop()
    began = time.perf_counter()
    for number in range(count):
        await pool.submit(number)
    await pool.queue.join()
    assert all(job.status == "completed" for job in pool.jobs.values())
    took = time.perf_counter() - began
    pool.stop()
    return [took]


async def runner_throughput(count: int) -> list[float]:
    """The runner with everything on: validation, time limit, events, result, retention."""
    runner = make_runner(count)
    async with runner:
        began = time.perf_counter()
        handles = [await runner.submit("echo", {"n": number}) for number in range(count)]
        await runner.drain()
        assert all(handle.status == "completed" for handle in handles)
        return [time.perf_counter() - began]


async def bare_latency(count: int) -> list[float]:
    """Submit to start, one job at a time, by hand."""
    pool = BareLoop()
    latencies = []
    for number in range(count):
        began = time.perf_counter()
        await pool.submit(number)
        await pool.queue.join()
        latencies.append(pool.started - began)
    pool.stop()
    return latencies


async def runner_latency(count: int) -> list[float]:
    """Submit to start, one job at a time, by the runner."""
    runner = JobRunner(workers=WORKERS)
    started = 0.0

    @runner.job
    async def echo(n: int) -> int:
        nonlocal started
        started = time.perf_counter()
        return n

    latencies = []
    async with runner:
        for number in range(count):
            began = time.perf_counter()
            handle = await runner.submit(echo, {"n": number})
            await handle.wait()
            latencies.append(started - began)
    return latencies


def make_runner(count: int) -> JobRunner:
    """Return a runner that keeps `count` jobs, with one type."""
    runner = JobRunner(
        workers=WORKERS, retention=Retention(max_jobs=count), limits=Limits(max_pending=count)
    )

    @runner.job
    async def echo(n: int) -> int:
        return n

    return runner


class BareJob:
    """A record as one would write it."""

    __slots__ = ("created", "finished", "id", "param", "result", "status")

    def __init__(self, param: int) -> None:
        self.id = str(uuid.uuid4())
        self.param = param
        self.status = "pending"
        self.result: int | None = None
        self.created = time.time()
        self.finished: float | None = None


class BareLoop:
    """The hundred lines that everybody writes, in thirty."""

    def __init__(self) -> None:
        self.jobs: dict[str, BareJob] = {}
        self.queue: asyncio.Queue[BareJob] = asyncio.Queue()
        self.started = 0.0
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work()) for _ in range(WORKERS)]

    async def submit(self, param: int) -> str:
        job = BareJob(param)
        self.jobs[job.id] = job
        await self.queue.put(job)
        return job.id

    async def _echo(self, n: int) -> int:
        self.started = time.perf_counter()
        return n

    async def _work(self) -> None:
        while True:
            job = await self.queue.get()
            job.status = "running"
            job.result = await self._echo(job.param)
            job.finished = time.time()
            job.status = "completed"
            self.queue.task_done()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


WAYS: dict[str, dict[str, Way]] = {
    "throughput": {"bare loop": bare_throughput, "jobrunner": runner_throughput},
    "latency": {"bare loop": bare_latency, "jobrunner": runner_latency},
}
