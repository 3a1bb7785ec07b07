"""Chapter 5. Somebody changes their mind, and `cancelled` means that the work has stopped."""

import asyncio
import threading

import pytest

from jobrunner import JobCancelled, JobContext, JobRunner
from jobrunner.testing import unix_now, virtual_time


@virtual_time
async def test_a_job_that_waits_is_cancelled_at_once() -> None:
    """It never starts."""
    runner, ran = JobRunner(now=unix_now), []

    @runner.job
    async def deploy() -> None:
        ran.append(True)

    async with runner:
        job = await runner.submit(deploy, delay=60.0)
        view = await job.cancel("wrong branch")
    assert (view.status, view.cancel_note, ran) == ("cancelled", "wrong branch", [])


@virtual_time
async def test_a_job_that_runs_is_asked_to_stop() -> None:
    """Until it has stopped, its status tells the truth: it is still running."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def deploy() -> None:
        try:
            await asyncio.sleep(600.0)
        finally:
            await asyncio.sleep(3.0)  # roll back

    async with runner:
        job = await runner.submit(deploy)
        await asyncio.sleep(60.0)
        asked = await job.cancel()
        assert (asked.status, asked.cancel_requested_at is not None) == ("running", True)
        with pytest.raises(JobCancelled):
            await job.result()


@virtual_time
async def test_a_result_that_was_reached_all_the_same_counts() -> None:
    """Work that is done isn't thrown away because the cancel came too late."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def deploy() -> str:
        try:
            await asyncio.sleep(600.0)
        except asyncio.CancelledError:
            pass  # past the point of no return
        return "deployed"

    async with runner:
        job = await runner.submit(deploy)
        await asyncio.sleep(60.0)
        await job.cancel()
        assert await job.result() == "deployed"


async def test_a_thread_looks_whether_it_is_to_stop() -> None:
    """Nobody can stop a thread from outside: call `check_cancelled` in long loops."""
    runner, begun = JobRunner(), threading.Event()

    @runner.job
    def crawl(ctx: JobContext) -> None:
        while True:
            begun.set()
            ctx.check_cancelled()

    async with runner:
        job = await runner.submit(crawl)
        await asyncio.to_thread(begun.wait)
        await job.cancel()
        assert (await job.wait()).status == "cancelled"


@virtual_time
async def test_a_handler_that_never_stops_is_named() -> None:
    """After two graces the job has failed as stuck, with the stack, and its worker is free."""
    runner = JobRunner(now=unix_now, cancel_grace=5.0)

    @runner.job
    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(3_600.0)
            except asyncio.CancelledError:
                pass

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(60.0)
        await job.cancel()
        error = (await job.wait()).error
    assert error is not None and error.traceback is not None
    assert (error.reason, "in stubborn" in error.traceback) == ("stuck", True)
