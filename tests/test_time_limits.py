"""What ends a job for its time: each limit by its name, and who may have more of it."""

import asyncio
from typing import Any, cast

import pytest

from jobrunner import JobContext, JobRunner, RetryPolicy
from jobrunner.testing import virtual_time
from tests.timed import AGAIN, by_name, new_runner, pause, seconds_of, told


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"timeout": 5.0}, ("timeout", "timed out after 5 s")),
        ({"stall_timeout": 5.0}, ("stalled", "stalled: no sign of life for 5 s")),
        ({"deadline": 5.0}, ("deadline", "missed its deadline of 5 s")),
    ],
)
@virtual_time
async def test_each_limit_of_a_running_job_has_its_own_reason(
    options: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Whoever looks at the failure has to know which number to change."""
    async with new_runner() as runner:
        view = await (await runner.submit("slow", **options)).wait()
    assert (view.status, told(view), seconds_of(view)) == ("failed", expected, 5.0)


@pytest.mark.parametrize("option", ["timeout", "stall_timeout", "deadline"])
@virtual_time
async def test_a_limit_of_the_type_is_its_jobs_limit(option: str) -> None:
    """Decided once, where the handler is; a submit may still say otherwise, or none."""
    runner, no_options = new_runner(workers=3, timeout=None), cast(Any, {})

    @runner.job("limited", **by_name(option, 5.0))
    async def limited() -> None:
        await asyncio.sleep(60.0)

    async with runner:
        jobs = [
            await runner.submit("limited", **options)
            for options in (no_options, by_name(option, 9.0), by_name(option, None))
        ]
        views = [await job.wait() for job in jobs]
    assert [seconds_of(view) for view in views] == [5.0, 9.0, 60.0]
    assert views[2].status == "completed"


@virtual_time
async def test_a_job_that_waits_too_long_for_a_worker_expires() -> None:
    """A chat answer that comes after ten minutes is no answer; it isn't begun."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        view = await (await runner.submit("slow", expires=5.0)).wait()
    assert told(view) == ("expired", "it expired before a worker was free")
    assert (view.started_at, view.attempt, seconds_of(view)) == (None, 0, 5.0)


@virtual_time
async def test_a_job_that_has_started_does_not_expire() -> None:
    """It is a limit of the waiting, not of the work."""
    async with new_runner() as runner:
        view = await (await runner.submit("slow", expires=5.0)).wait()
    assert (view.status, seconds_of(view)) == ("completed", 60.0)


@virtual_time
async def test_a_job_that_waits_for_its_second_attempt_does_not_expire() -> None:
    """What was begun in time is finished."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, retry_on=(OSError,)))
    async def flaky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            runner.pause()
            raise OSError("first")
        return ctx.attempt

    async with runner:
        job = await runner.submit(flaky, expires=5.0)
        await asyncio.sleep(20.0)
        assert job.status == "retrying"
        runner.resume()
        assert await job.result() == 2


@virtual_time
async def test_an_interrupted_job_does_not_expire() -> None:
    """It had started; that a shutdown took its attempt away is told as the shutdown it was."""
    runner = new_runner(workers=2, shutdown_timeout=0.0)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(4.0)
            raise

    async with runner:
        job = await runner.submit("slow", expires=3.0)
        await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await runner.stop()
    assert told(job.view()) == ("shutdown", "the runner was shut down before the job had ended")
    assert seconds_of(job.view()) == 5.0


# --- extend_timeout ---
@virtual_time
async def test_a_handler_can_give_itself_more_time() -> None:
    """It knows that the file is larger than usual, and says so; the sentence has the sum."""
    runner = new_runner()

    @runner.job
    async def careful(ctx: JobContext) -> None:
        ctx.extend_timeout(10.0)
        await asyncio.sleep(8.0)
        ctx.extend_timeout(2.5)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(careful, timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (("timeout", "timed out after 17.5 s"), 17.5)


@virtual_time
async def test_more_time_is_for_one_attempt() -> None:
    """The next one begins with the limit that the job was given."""
    runner = new_runner(retry=AGAIN)

    @runner.job
    async def careful(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            ctx.extend_timeout(10.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(careful, timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (("timeout", "timed out after 5 s"), 25.0)


@virtual_time
async def test_more_time_does_not_move_the_deadline() -> None:
    """The deadline is the submitter's, not the handler's."""
    runner = new_runner()

    @runner.job
    async def greedy(ctx: JobContext) -> None:
        ctx.extend_timeout(1_000.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(greedy, timeout=5.0, deadline=7.0)).wait()
    assert (told(view), seconds_of(view)) == (("deadline", "missed its deadline of 7 s"), 7.0)


@virtual_time
async def test_more_time_after_a_stop_has_no_effect() -> None:
    """What was asked to stop is given up after its graces, whatever it asks for then."""
    runner = new_runner(cancel_grace=2.0)

    @runner.job
    async def greedy(ctx: JobContext) -> None:
        while True:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                ctx.extend_timeout(1_000.0)

    async with runner:
        view = await (await runner.submit(greedy, timeout=5.0)).wait()
    assert seconds_of(view) == 9.0
    assert told(view) == (
        "timeout", "timed out after 5 s, and the handler did not end within 4 s",
    )  # fmt: skip


@virtual_time
async def test_more_time_without_a_limit_has_no_effect() -> None:
    """A handler needn't know whether it has a limit."""
    runner = new_runner(timeout=None)

    @runner.job
    async def careful(ctx: JobContext) -> str:
        ctx.extend_timeout(1.0)
        await asyncio.sleep(60.0)
        return "value"

    async with runner:
        assert await (await runner.submit(careful)).result() == "value"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5", True])
@virtual_time
async def test_more_time_has_to_be_time(seconds: Any) -> None:
    """A handler that computes nonsense hears of it where it computes it."""
    runner = new_runner()

    @runner.job
    async def confused(ctx: JobContext) -> None:
        ctx.extend_timeout(seconds)

    async with runner:
        view = await (await runner.submit(confused)).wait()
    assert view.error is not None
    assert (view.error.type, view.error.detail.startswith("seconds is ")) == ("InvalidOption", True)


@pytest.mark.slow  # a busy machine takes its time to start a thread, which has to say it before
async def test_a_thread_can_give_itself_more_time() -> None:
    """A plain function has no other way to say that it needs longer."""
    runner = JobRunner()

    @runner.job(timeout=2.0)
    def careful(ctx: JobContext) -> str:
        ctx.extend_timeout(30.0)
        pause(2.2)
        ctx.check_cancelled()
        return "value"

    async with runner:
        assert await (await runner.submit(careful)).result() == "value"


async def test_a_thread_that_is_asked_to_stop_gets_no_more_time() -> None:
    """It is told by `cancel_requested`, and what it says after that is too late."""
    runner = JobRunner()

    @runner.job(timeout=0.02)
    def greedy(ctx: JobContext) -> None:
        while not ctx.cancel_requested:
            pause(0.002)
        ctx.extend_timeout(30.0)
        ctx.check_cancelled()

    async with runner:
        view = await (await runner.submit(greedy)).wait()
    assert told(view) == ("timeout", "timed out after 0.02 s")
