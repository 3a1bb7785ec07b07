"""A fault of the runner's own: no job hangs, and everybody can see it (T17)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from jobrunner import JobHandle, JobRunner
from jobrunner.web import create_app
from tests.runners import reason
from tests.serving import problem
from tests.simulation.loop import unix_now, virtual_time


class Fault(BaseException):
    """What nobody expects: not even an Exception."""


@pytest.mark.parametrize("kind", [OSError, Fault])
@pytest.mark.parametrize("read", range(1, 6))
@virtual_time
async def test_t17_a_fault_of_the_runner_leaves_no_job_open(
    read: int, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The clock fails once, at each of its reads for a job in turn; work goes on all the same."""
    reads = -1

    def clock() -> float:
        nonlocal reads
        reads += reads >= 0
        if reads == read:
            raise kind("no time")
        return unix_now()

    runner = JobRunner(workers=1, now=clock)

    @runner.job
    async def work() -> str:
        await asyncio.sleep(1.0)
        return "value"

    async with runner:
        first = await runner.submit(work)
        reads = 0
        view = await first.wait(timeout=10.0)
        struck, reads = reads >= read, -1
        assert await (await runner.submit(work)).result(timeout=10.0) == "value"
        assert struck or read > 2  # it is read twice in an attempt at least
        assert (runner.stats().busy, len(workers())) == (0, 1)
        died = "a worker died and is replaced" in caplog.text
        assert runner.stats().worker_restarts == died <= struck
    critical = [record.name for record in caplog.records if record.levelno == logging.CRITICAL]
    assert (view.status, reason(view)) in [("completed", None), ("failed", "lost")]
    assert bool(critical) == struck


def workers() -> list["asyncio.Task[Any]"]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "jobrunner worker"]


def break_where_it_waits(task: "asyncio.Task[Any]") -> None:
    """Raise at the await where the task stands; it dies of it at once."""
    waiting: Any = task.get_coro()
    with contextlib.suppress(OSError):
        waiting.throw(OSError("a fault of ours"))
    task.cancel()  # wakes it


@asynccontextmanager
async def broken_worker(place: str) -> AsyncIterator[tuple[JobRunner, JobHandle[str]]]:
    """Yield a runner of one worker that has just died at one of its awaits, and a job."""
    runner = JobRunner(workers=1, now=unix_now)

    @runner.job
    async def work() -> str:
        await asyncio.sleep(1.0)
        return "value"

    async with runner:
        if place == "the queue is paused":
            runner.pause()
        job = None if place == "it waits for a job" else await runner.submit(work)
        await asyncio.sleep(0.5)
        break_where_it_waits(*workers())
        runner.resume()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield runner, job or await runner.submit(work)


PLACES = ("it waits for a job", "the queue is paused", "its job runs")


@pytest.mark.parametrize("place", PLACES)
@virtual_time
async def test_t17_a_worker_that_dies_at_an_await_is_replaced(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At each of the places where a worker waits: it is counted, and all jobs end."""
    async with broken_worker(place) as (runner, job):
        again = await runner.submit("work")
        values = [await job.result(timeout=60.0), await again.result(timeout=60.0)]
        assert (values, runner.stats().worker_restarts) == (["value", "value"], 1)
        assert len(workers()) == runner.stats().workers == 1
    assert "a worker died and is replaced" in caplog.text


@pytest.mark.parametrize("place", PLACES)
@virtual_time
async def test_t17_a_runner_whose_worker_died_is_unready_for_a_minute(place: str) -> None:
    """Whoever sends work here is told to send it elsewhere, and then that it is over."""
    async with broken_worker(place) as (runner, _):
        app = httpx2.ASGITransport(app=create_app(runner, auth=None))
        async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as client:
            red = await client.get("/readyz")
            assert (runner.stats().unready or "").startswith("a worker died of a fault in the")
            await asyncio.sleep(61.0)
            green = await client.get("/readyz")
    assert (problem(red), green.status_code) == ((503, "unready"), 200)


@pytest.mark.parametrize("ticks", range(12))
@virtual_time
async def test_t17_a_worker_that_somebody_cancels_is_replaced(ticks: int) -> None:
    """A handler that cancels all tasks of the loop, as careless code does, stops no queue."""
    runner = JobRunner(workers=2, now=unix_now)

    @runner.job
    async def short() -> str:
        for _ in range(4):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        jobs = [await runner.submit(short) for _ in range(5)]
        for _ in range(ticks):
            await asyncio.sleep(0)
        for task in workers():
            task.cancel()
        assert [await job.result(timeout=60.0) for job in jobs] == ["value"] * 5
        assert len(workers()) == 2


@pytest.mark.parametrize("limit", [{"expires": 1.0}, {"deadline": 1.0}])
@virtual_time
async def test_t17_a_fault_when_a_time_is_over_ends_the_job(
    limit: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A timer whose callback raises is never set again: nobody would look at its job."""
    broken, over = [False], {"expires": "expired", "deadline": "deadline"}[next(iter(limit))]

    def clock() -> float:
        if broken[0]:
            broken[0] = False
            raise OSError("no time")
        return unix_now()

    async with JobRunner(now=clock) as runner:

        @runner.job
        async def work() -> None: ...

        job = await runner.submit(work, delay=100.0, **limit)
        runner.pause()
        await asyncio.sleep(100.5)
        broken[0] = True
        view = await job.wait(timeout=60.0)
    assert (view.status, reason(view)) in [("failed", "lost"), ("failed", over)]
    assert [record.levelname for record in caplog.records if job.id in record.getMessage()] == [
        "CRITICAL"
    ]


@virtual_time
async def test_t17_a_fault_as_a_stuck_handler_is_given_up_keeps_no_worker() -> None:
    """The timer that gives it up is nobody's task: the worker has to notice by itself."""
    broken, release = False, asyncio.Event()

    def clock() -> float:
        nonlocal broken
        if broken and asyncio.current_task() is None:
            broken = False
            raise OSError("no time")
        return unix_now()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it is told of the fault
    async with JobRunner(workers=1, cancel_grace=1.0, now=clock) as runner:

        @runner.job
        async def stubborn() -> None:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        job = await runner.submit(stubborn, timeout=1.0)
        await asyncio.sleep(2.5)
        broken = True
        view = await job.wait(timeout=60.0)
        release.set()
        assert await (await runner.submit(stubborn)).wait(timeout=60.0)
    assert ((view.status, reason(view)), broken) == (("failed", "lost"), False)
