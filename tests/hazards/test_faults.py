"""A fault of the runner's own: no job hangs, and everybody can see it (T17)."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from jobrunner import JobRunner, JobView
from jobrunner.testing import simulate, unix_now, virtual_time
from jobrunner.web import create_app
from tests.runners import reason
from tests.serving import problem


class Fault(BaseException):
    """What nobody expects: not even an Exception."""


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """Have the collections below go through what comes from now on, and take a tenth."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _told_of_here(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Have the loop tell of a fault that ended a task, not later among another test's lines.

    Least of all while that one parses a source: then CPython 3.11 can't print a traceback.
    """
    yield
    caplog.get_records("call").clear()  # they lead to the task
    gc.collect()


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
        assert (runner.stats().busy, runner.stats().faults) == (0, struck)
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert (view.status, reason(view)) in [("completed", None), ("failed", "lost")]
    assert bool(critical) == struck
    told = {record.exc_info[0] for record in critical if record.exc_info}
    assert told == ({kind} if struck else set())  # the job's error says that it is in the log


@virtual_time
async def test_t17_a_runner_that_met_a_fault_is_unready_for_a_minute() -> None:
    """Whoever sends work here is told to send it elsewhere, and then that it is over."""
    broken = False

    def clock() -> float:
        if broken:
            raise OSError("no time")
        return unix_now()

    runner = JobRunner(workers=1, now=clock)

    @runner.job
    async def work() -> str:
        return "value"

    async with runner:
        job = await runner.submit(work)
        broken = True
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        broken = False
        assert (job.view().status, reason(job.view())) == ("failed", "lost")
        app = httpx2.ASGITransport(app=create_app(runner, auth=None))
        async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as client:
            red = await client.get("/readyz")
            assert (runner.stats().unready or "").startswith("a fault of the runner's own struck")
            await asyncio.sleep(61.0)
            green = await client.get("/readyz")
        assert await (await runner.submit(work)).result(timeout=60.0) == "value"
    assert (problem(red), green.status_code) == ((503, "unready"), 200)


@pytest.mark.parametrize("ticks", range(12))
@virtual_time
async def test_t17_who_cancels_all_tasks_of_the_loop_stops_no_queue(ticks: int) -> None:
    """Careless code does; the jobs that it hits fail, and all others run."""
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
        hit = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hit:
            task.cancel()
        ended = [str((await job.wait(timeout=60.0)).status) for job in jobs]
    assert ended.count("failed") <= len(hit) <= 2
    assert ended.count("completed") == 5 - ended.count("failed")


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
async def test_t17_a_fault_as_a_stuck_handler_is_given_up_keeps_no_place() -> None:
    """The timer that gives it up is nobody's task, and nobody else would notice."""
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


@virtual_time
async def test_t17_a_job_whose_task_can_not_be_made_keeps_no_place() -> None:
    """Its attempt is there already, and nobody else would take it away."""

    def refuse(loop: asyncio.AbstractEventLoop, run: Any, **options: Any) -> Any:
        run.close()
        loop.set_task_factory(None)
        raise OSError("no task")

    async with JobRunner(workers=1, now=unix_now) as runner:

        @runner.job
        async def work() -> str:
            return "value"

        asyncio.get_running_loop().set_task_factory(refuse)
        view = await (await runner.submit(work)).wait(timeout=10.0)
        assert (reason(view), runner.stats().busy) == ("lost", 0)
        assert await (await runner.submit(work)).result(timeout=10.0) == "value"


def test_t17_an_interrupt_in_the_runners_own_code_reaches_the_program() -> None:
    """Ctrl-C may come anywhere; the job is lost, and the loop knows what to do."""
    broken, views = False, list[JobView]()

    def clock() -> float:
        nonlocal broken
        if broken:
            broken = False
            raise KeyboardInterrupt
        return unix_now()

    async def main() -> None:
        nonlocal broken
        async with JobRunner(now=clock) as runner:

            @runner.job
            async def work() -> None:
                await asyncio.sleep(1.0)

            job = await runner.submit(work)
            await asyncio.sleep(0.5)
            broken = True
            try:
                await asyncio.sleep(10.0)
            finally:
                views.append(job.view())

    with pytest.raises(KeyboardInterrupt):
        simulate(main)
    assert [reason(view) for view in views] == ["lost"]
