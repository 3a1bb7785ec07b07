"""Chapter 4. Nothing runs for ever: limits on jobs, on types, and on your own patience."""

import asyncio

import pytest

from jobrunner import JobFailed, JobRunner
from jobrunner.testing import unix_now, virtual_time


@virtual_time
async def test_a_job_that_takes_too_long_fails() -> None:
    """The limit is on the type, in seconds, and the error names it."""
    runner = JobRunner(now=unix_now)

    @runner.job(timeout=300.0)
    async def analyse() -> None:
        await asyncio.sleep(86_400.0)

    async with runner:
        job = await runner.submit(analyse)
        with pytest.raises(JobFailed, match=r"timed out after 300 s$"):
            await job.result()
    assert asyncio.get_running_loop().time() == 300.0


@virtual_time
async def test_the_nearest_limit_counts() -> None:
    """A job's own goes before its type's, and that before the runner's; None is no limit."""
    runner = JobRunner(now=unix_now, timeout=30.0)

    @runner.job
    async def usual() -> None: ...

    @runner.job(timeout=300.0)
    async def long() -> None: ...

    async with runner:
        jobs = [
            await runner.submit(usual),
            await runner.submit(long),
            await runner.submit(long, timeout=5.0),
            await runner.submit(long, timeout=None),
        ]
    assert [job.view().timeout for job in jobs] == [30.0, 300.0, 5.0, None]


@virtual_time
async def test_a_handler_has_time_to_clean_up() -> None:
    """At its limit it is cancelled as any coroutine is, and its `finally` runs."""
    runner, steps = JobRunner(now=unix_now), []

    @runner.job(timeout=10.0)
    async def analyse() -> None:
        try:
            await asyncio.sleep(3_600.0)
        finally:
            await asyncio.sleep(2.0)
            steps.append("temporary files removed")

    async with runner:
        view = await (await runner.submit(analyse)).wait()
    assert (view.status, steps) == ("failed", ["temporary files removed"])


@virtual_time
async def test_your_patience_is_not_the_jobs_limit() -> None:
    """A wait that times out leaves the job alone: ask again later."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def analyse() -> str:
        await asyncio.sleep(120.0)
        return "12 pages"

    async with runner:
        job = await runner.submit(analyse)
        with pytest.raises(TimeoutError, match="it goes on"):
            await job.result(timeout=30.0)
        assert await job.result() == "12 pages"
