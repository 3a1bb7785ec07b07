"""One attempt: whatever the handler does, the job ends, once, and the pool goes on."""

import asyncio
import logging
import time

import pytest

from jobrunner import JobContext, JobRunner, PermanentError, RetryableError, RetryPolicy
from jobrunner.testing import unix_now, virtual_time
from tests.runners import ended_after, reason, runner_with


@virtual_time
async def test_a_cleanup_within_the_grace_is_waited_for() -> None:
    """`cancelled` is said when nothing of the job runs any more."""
    runner, steps = runner_with(), []

    @runner.job
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)
            steps.append("tidied")

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(1.0)
        assert (await job.cancel()).status == "running"
        view = await ended_after(3.0, job)
    assert (view.status, steps) == ("cancelled", ["tidied"])


@virtual_time
async def test_an_error_while_stopping_is_kept_with_the_cancelled_job() -> None:
    """What went wrong in a cleanup is worth knowing, and doesn't undo the cancel."""
    runner = runner_with()

    @runner.job
    async def clumsy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            raise ValueError("cleanup failed")

    async with runner:
        job = await runner.submit(clumsy)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert view.error is not None
    assert (view.status, view.error.title) == ("cancelled", "cleanup failed")


@virtual_time
async def test_a_handler_that_cancels_its_own_job_is_cancelled() -> None:
    """T6: a handler may decide that its own job is no longer wanted."""
    runner = runner_with()

    @runner.job
    async def suicidal(ctx: JobContext) -> None:
        await runner.cancel(ctx.job_id, "no longer wanted")
        await asyncio.sleep(100.0)

    async with runner:
        view = await (await runner.submit(suicidal)).wait()
    assert (view.status, view.cancel_note) == ("cancelled", "no longer wanted")


@virtual_time
async def test_a_time_limit_fails_the_job_and_names_itself() -> None:
    """The message says what the limit was."""
    runner = runner_with()

    @runner.job(timeout=2.5)
    async def slow() -> None:
        await asyncio.sleep(100.0)

    async with runner:
        view = await ended_after(2.5, await runner.submit(slow))
    assert view.error is not None
    assert (view.status, view.error.reason, view.error.type, view.error.title) == (
        "failed",
        "timeout",
        "TimeoutError",
        "timed out after 2.5 s",
    )


@virtual_time
async def test_a_value_after_the_time_limit_does_not_count() -> None:
    """The promise is a value within the limit, or a timeout."""
    runner = runner_with()

    @runner.job(timeout=2.0)
    async def slow() -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            pass
        return "too late"

    async with runner:
        view = await (await runner.submit(slow)).wait()
    assert (view.status, view.result, reason(view)) == ("failed", None, "timeout")


@virtual_time
async def test_a_handlers_own_timeout_is_an_error_and_no_limit() -> None:
    """A request that timed out within the job is told apart from the job's own limit."""
    runner = runner_with()

    @runner.job
    async def request() -> None:
        async with asyncio.timeout(1.0):
            await asyncio.sleep(100.0)

    async with runner:
        view = await (await runner.submit(request)).wait()
    assert reason(view) == "error"


@virtual_time
async def test_an_attempt_that_timed_out_is_tried_again() -> None:
    """Each attempt has the whole limit to itself."""
    runner = runner_with(retry=RetryPolicy(max_attempts=3, base=0.0))

    @runner.job(timeout=2.0)
    async def slow(ctx: JobContext) -> int:
        await asyncio.sleep(1.5 if ctx.attempt == 3 else 100.0)
        return ctx.attempt

    async with runner:
        assert await (await runner.submit(slow)).result() == 3


@virtual_time
async def test_a_failed_attempt_is_tried_again_when_it_is_due() -> None:
    """`retrying` is visible, with its error and the next time."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2, base=0.0))

    @runner.job
    async def limited(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise RetryableError("rate limit", retry_after=30.0)
        return ctx.attempt

    async with runner:
        job = await runner.submit(limited)
        await asyncio.sleep(10.0)
        view = job.view()
        assert view.error is not None and view.next_attempt_at is not None
        assert (view.status, view.attempt, view.error.title, view.error.retryable) == (
            "retrying",
            1,
            "rate limit",
            True,
        )
        assert view.next_attempt_at.timestamp() == unix_now() + 20.0
        done = await ended_after(20.0, job)
        events = [e.data["status"] async for e in job.events() if e.type in ("status", "done")]
    assert (done.result, done.attempt, done.error, done.next_attempt_at) == (2, 2, None, None)
    assert events == ["pending", "running", "retrying", "running", "completed"]


@virtual_time
async def test_a_permanent_error_is_not_tried_again() -> None:
    """A refused prompt is refused again, whatever attempts are left."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5))

    @runner.job
    async def refused() -> None:
        raise PermanentError("content policy")

    async with runner:
        view = await (await runner.submit(refused)).wait()
    assert view.error is not None
    assert (view.attempt, view.max_attempts, view.error.retryable) == (1, 5, False)


@virtual_time
async def test_a_types_own_policy_goes_before_the_runners() -> None:
    """Only a handler's author knows whether a second attempt is safe."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5, base=0.0))

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def flaky() -> None:
        raise ValueError

    async with runner:
        view = await (await runner.submit(flaky)).wait()
    assert (view.attempt, view.max_attempts) == (2, 2)


@virtual_time
async def test_a_shutdown_gives_the_attempt_back() -> None:
    """It wasn't the job's fault: the attempt doesn't count, and the job says why it ended."""
    runner = runner_with(shutdown_timeout=1.0)

    @runner.job
    async def long() -> None:
        await asyncio.sleep(3_600.0)

    async with runner:
        job = await runner.submit(long)
        await asyncio.sleep(1.0)
    view = job.view()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.reason) == ("failed", 0, "shutdown")


@virtual_time
async def test_the_log_names_the_job_and_never_its_params(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure can be found in the server's log, and secrets can't."""
    caplog.set_level(logging.DEBUG, "jobrunner")
    runner = runner_with()

    @runner.job
    async def login(password: str) -> None:
        raise ValueError(password)

    async with runner:
        job = await runner.submit(login, {"password": "s3cret"})
        await job.wait()
    assert [record.getMessage() for record in caplog.records if record.name[:3] == "job"] == [
        f"job {job.id} (login) failed in attempt 1: ValueError"
    ]


@virtual_time
async def test_being_asked_to_stop_is_an_event() -> None:
    """Whoever watches sees that a job is being stopped, and by whom, before it has stopped."""
    runner = runner_with()

    @runner.job
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(2.0)

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(1.0)
        await job.cancel("enough")
        await job.cancel("once more")
        events = [event async for event in job.events()]
    assert [(event.type, event.data["status"]) for event in events] == [
        ("status", "pending"), ("status", "running"), ("status", "running"), ("done", "cancelled"),
    ]  # fmt: skip
    asked = dict(events[2].data)
    assert (asked["cancel_reason"], asked["cancel_note"]) == ("user", "enough")
    assert asked["cancel_requested_at"] == "2023-11-14T22:13:21.000Z"


@virtual_time
async def test_an_attempt_begins_with_no_progress() -> None:
    """A bar that shows the failed attempt's 90 % lies about the one that runs."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2))
    seen: list[tuple[float, str | None, object]] = []

    @runner.job
    async def flaky(ctx: JobContext) -> None:
        view = await runner.get(ctx.job_id)
        seen.append((view.progress, view.progress_message, view.step))
        ctx.step(9, 10, "nearly")
        if ctx.attempt == 1:
            raise ConnectionError

    async with runner:
        await (await runner.submit(flaky)).result()
    assert seen == [(0, None, None), (0, None, None)]


async def test_a_value_that_comes_after_the_limit_does_not_count() -> None:
    """A handler that blocks the loop stops its own timer; the clock goes on all the same (T9)."""
    runner = JobRunner()

    @runner.job(timeout=0.01)
    async def block() -> int:
        time.sleep(0.05)  # noqa: ASYNC251  # as careless code does
        return 5

    async with runner:
        view = await (await runner.submit(block)).wait()
    assert (view.status, reason(view)) == ("failed", "timeout")


@virtual_time
async def test_what_goes_wrong_while_a_handler_stops_is_told_with_its_timeout() -> None:
    """The limit is why the job failed; the traceback says what the clean-up made of it."""
    runner = runner_with()

    @runner.job(timeout=1.0)
    async def clumsy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            raise OSError("the disk is full")

    async with runner:
        view = await (await runner.submit(clumsy)).wait()
    assert view.error is not None
    assert (view.error.reason, view.error.detail) == ("timeout", "timed out after 1 s")
    assert "the disk is full" in (view.error.traceback or "")
