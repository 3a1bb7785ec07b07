"""Chapter 3. Things go wrong: the error stays with the job, and some jobs are tried again.

From here on hours pass in these tests, and none of them takes a moment: see `virtual_time`.
"""

import asyncio

import pytest

from jobrunner import (
    JobContext,
    JobFailed,
    JobRunner,
    PermanentError,
    RetryableError,
    RetryPolicy,
)
from jobrunner.testing import unix_now, virtual_time


@virtual_time
async def test_an_exception_fails_the_job() -> None:
    """`result()` raises, and the job keeps what was said."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def divide(a: int, b: int) -> float:
        return a / b

    async with runner:
        job = await runner.submit(divide, {"a": 1, "b": 0})
        with pytest.raises(JobFailed, match="division by zero"):
            await job.result()
        error = (await runner.get(job.id)).error
    assert error is not None
    assert (error.reason, error.type, error.title) == (
        "error",
        "ZeroDivisionError",
        "division by zero",
    )


@virtual_time
async def test_a_job_is_tried_once_unless_you_say_otherwise() -> None:
    """Only you know whether a second attempt at your deployment is safe."""
    runner, attempts = JobRunner(now=unix_now), []

    @runner.job
    async def deploy(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        raise ConnectionError

    async with runner:
        await (await runner.submit(deploy)).wait()
    assert attempts == [1]


@virtual_time
async def test_a_retry_policy_tries_again() -> None:
    """Each attempt waits longer than the last one, at random, up to a cap."""
    runner = JobRunner(now=unix_now)

    @runner.job(retry=RetryPolicy(max_attempts=4))
    async def fetch(ctx: JobContext) -> str:
        if ctx.attempt < 4:
            raise ConnectionError("connection refused")
        return "page"

    async with runner:
        job = await runner.submit(fetch)
        assert await job.result() == "page"
        assert job.view().attempt == 4


@virtual_time
async def test_a_job_that_waits_for_its_next_attempt_says_so() -> None:
    """A rate limit names its time: raise `RetryableError` with `retry_after`, and it is kept."""
    runner = JobRunner(now=unix_now, retry=RetryPolicy(max_attempts=2))

    @runner.job
    async def ask_model(ctx: JobContext) -> str:
        if ctx.attempt == 1:
            raise RetryableError("rate limit", retry_after=3_600.0)
        return "answer"

    async with runner:
        job = await runner.submit(ask_model)
        await asyncio.sleep(60.0)
        view = await runner.get(job.id)
        assert view.next_attempt_at is not None and view.error is not None
        assert (view.status, view.error.title) == ("retrying", "rate limit")
        assert await job.result() == "answer"
    assert asyncio.get_running_loop().time() >= 3_600.0


@virtual_time
async def test_a_permanent_error_gives_up_at_once() -> None:
    """A prompt that was refused is refused again: raise `PermanentError`."""
    runner = JobRunner(now=unix_now, retry=RetryPolicy(max_attempts=5))

    @runner.job
    async def ask_model() -> None:
        raise PermanentError("content policy")

    async with runner:
        view = await (await runner.submit(ask_model)).wait()
    assert (view.status, view.attempt) == ("failed", 1)


@virtual_time
async def test_a_failed_job_can_be_run_again_by_hand() -> None:
    """It is a new job; `retry_of` leads back to the old one."""
    runner = JobRunner(now=unix_now)
    server_is_up = asyncio.Event()

    @runner.job
    async def fetch() -> str:
        if not server_is_up.is_set():
            raise ConnectionError
        return "page"

    async with runner:
        failed = await runner.submit(fetch)
        await failed.wait()
        server_is_up.set()
        again = await runner.retry(failed.id)
        assert await again.result() == "page"
        assert again.view().retry_of == failed.id
