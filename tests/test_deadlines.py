"""Deadlines: over waiting, retries and running, and never tried again."""

import asyncio
import threading
from typing import Any

import pytest

from jobrunner import JobRunner, JobStatus, RetryPolicy
from jobrunner.testing import EPOCH, unix_now, virtual_time
from tests.timed import AGAIN, by_name, new_runner, seconds_of, told


@virtual_time
async def test_a_deadline_ends_a_job_that_waits() -> None:
    """It is of no use any more, so no worker is spent on it."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        view = await (await runner.submit("slow", deadline=5.0)).wait()
    assert told(view) == ("deadline", "missed its deadline of 5 s")
    assert (view.started_at, seconds_of(view)) == (None, 5.0)


@virtual_time
async def test_a_deadline_ends_a_job_that_waits_for_a_retry() -> None:
    """The deadline is over the whole job, and the queue may be long behind a first attempt."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def flaky() -> None:
        runner.pause()
        raise OSError("first")

    async with runner:
        job = await runner.submit(flaky, deadline=5.0)
        await asyncio.sleep(1.0)
        assert job.status == "retrying"
        view = await job.wait()
    assert (told(view), seconds_of(view)) == (("deadline", "missed its deadline of 5 s"), 5.0)
    assert view.next_attempt_at is None


@virtual_time
async def test_a_missed_deadline_is_never_tried_again() -> None:
    """A timeout is: another attempt may be faster. Nothing brings a deadline back."""
    async with new_runner(retry=AGAIN) as runner:
        timed_out = await (await runner.submit("slow", timeout=5.0)).wait()
        missed = await (await runner.submit("slow", deadline=5.0)).wait()
    assert (timed_out.attempt, missed.attempt) == (3, 1)


@virtual_time
async def test_a_deadline_is_over_all_attempts() -> None:
    """Three attempts of four seconds don't fit into ten."""
    async with new_runner(retry=AGAIN) as runner:
        view = await (await runner.submit("slow", timeout=4.0, deadline=10.0)).wait()
    assert (told(view), view.attempt) == (("deadline", "missed its deadline of 10 s"), 3)
    assert seconds_of(view) == 10.0


@virtual_time
async def test_a_retry_past_the_deadline_is_not_waited_for() -> None:
    """The job fails at once, with what really went wrong."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, budget=None))
    async def throttled() -> None:
        raise RetryLater("busy")

    class RetryLater(Exception):
        retry_after = 30.0
        status_code = 503
        headers = {"retry-after": "30"}  # noqa: RUF012  # as an HTTP client's error has it

    async with runner:
        late = await (await runner.submit(throttled, deadline=30.0)).wait()
        job = await runner.submit(throttled, deadline=31.0)
        await asyncio.sleep(1.0)
        assert job.status == "retrying"
    assert (told(late), seconds_of(late)) == (("error", "busy"), 0.0)


@virtual_time
async def test_a_retry_that_the_budget_puts_past_the_deadline_is_not_waited_for() -> None:
    """A crowd's retries are spaced; who would come too late needn't wait to hear it."""
    runner = new_runner(workers=3)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, budget=0.1))
    async def failing() -> None:
        raise OSError("down")

    async with runner:
        jobs = [await runner.submit(failing, deadline=15.0) for _ in range(3)]
        await asyncio.sleep(0.1)
        for job in jobs:
            due, by = job.view().next_attempt_at, job.view().deadline_at
            assert by is not None
            assert job.status == "failed" or (due is not None and due < by)
        assert "failed" in {job.status for job in jobs}


@virtual_time
async def test_a_value_that_comes_after_the_deadline_is_dropped() -> None:
    """Whoever set the deadline has gone on without it."""
    runner = new_runner()

    @runner.job
    async def late() -> str:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(1.0)
        return "too late"

    async with runner:
        view = await (await runner.submit(late, deadline=5.0)).wait()
    assert (view.status, view.result, seconds_of(view)) == ("failed", None, 6.0)
    assert told(view) == ("deadline", "missed its deadline of 5 s")


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"deadline": 5.0, "timeout": 3.0}, "deadline"), ({"timeout": 3.0}, "timeout")],
)
async def test_a_handler_that_blocks_its_own_timers_is_late_all_the_same(
    options: dict[str, float], expected: str
) -> None:
    """T9: blocking code holds up the timer that would have stopped it, and returns first."""
    scale = 0.01
    runner = JobRunner(workers=1, watchdog=None)

    @runner.job
    async def blocking() -> str:
        threading.Event().wait(8.0 * scale)
        return "value"

    async with runner:
        given: Any = {name: value * scale for name, value in options.items()}
        view = await (await runner.submit(blocking, **given)).wait()
    assert (view.status, (told(view) or ("",))[0]) == ("failed", expected)


@virtual_time
async def test_a_deadline_while_a_handler_stops_for_its_timeout_wins() -> None:
    """The attempt can't be tried again, whatever it was stopped for first."""
    runner = new_runner(retry=AGAIN)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise

    async with runner:
        view = await (await runner.submit(stubborn, timeout=4.0, deadline=5.0)).wait()
    assert (told(view), view.attempt) == (("deadline", "missed its deadline of 5 s"), 1)
    assert seconds_of(view) == 7.0


@virtual_time
async def test_a_cancel_wins_over_a_deadline() -> None:
    """What somebody wanted to end has been cancelled, though it stopped late."""
    runner = new_runner()

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise

    async with runner:
        job = await runner.submit(stubborn, deadline=5.0)
        await asyncio.sleep(4.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, view.error, seconds_of(view)) == ("cancelled", None, 7.0)


@pytest.mark.parametrize(("option", "reason"), [("deadline", "deadline"), ("expires", "expired")])
@virtual_time
async def test_with_a_delay_a_limit_counts_from_when_the_job_is_due(
    option: str, reason: str
) -> None:
    """A job for tomorrow with a deadline of a minute has that minute tomorrow."""
    async with new_runner(workers=1) as runner:
        runner.pause()
        job = await runner.submit("slow", delay=100.0, **by_name(option, 5.0))
        shown = job.view().deadline_at or job.view().expires_at
        assert shown is not None
        view = await job.wait()
    assert ((told(view) or ("",))[0], seconds_of(view)) == (reason, 105.0)
    assert shown.timestamp() == EPOCH + 105.0


@virtual_time
async def test_a_job_that_ended_in_time_leaves_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """A deadline of an hour must not hold a job that took a second, nor ring for it (Q10)."""
    async with new_runner() as runner:
        job = await runner.submit("slow", {"seconds": 1.0}, deadline=5.0, expires=3.0)
        await job.wait()
        assert runner.record(job.id).alarms == ()
        await asyncio.sleep(10.0)
    assert (job.view().status, caplog.records) == ("completed", [])


@virtual_time
async def test_a_deadline_is_not_moved_by_the_wall_clock() -> None:
    """Q6: somebody sets the clock, and no job is early or late for it."""
    jump = 0.0
    runner = new_runner(now=lambda: unix_now() + jump)
    async with runner:
        job = await runner.submit("slow", deadline=5.0)
        jump = -86_400.0
        began = asyncio.get_running_loop().time()
        await job.wait()
        assert asyncio.get_running_loop().time() - began == 5.0


@pytest.mark.parametrize("limit", ["deadline", "expires"])
@virtual_time
async def test_t17_a_fault_as_a_limit_strikes_ends_the_job_all_the_same(limit: str) -> None:
    """Nobody would look at the job again: its alarm has rung, and who waits for it waits on."""
    faulty = False

    def now() -> float:
        nonlocal faulty
        if faulty:
            faulty = False
            raise OSError("no clock")
        return unix_now()

    runner = new_runner(now=now, workers=1)
    async with runner:
        await runner.submit("slow")
        job = await runner.submit("slow", **by_name(limit, 5.0))
        await asyncio.sleep(4.0)
        faulty = True
        view = await job.wait(timeout=2.0)
        assert await (await runner.submit("slow")).result() == "value"
    reason = {"deadline": "deadline", "expires": "expired"}[limit]
    assert view.error is not None and view.error.reason == reason


# --- many at once ---
@virtual_time
async def test_a_crowd_of_deadlines_in_one_moment_all_strike() -> None:
    """Q5: a morning's jobs that nobody could run end together, each once."""
    runner = new_runner()
    runner.pause()
    async with runner:
        jobs = [await runner.submit("slow", deadline=5.0) for _ in range(500)]
        await runner.wait(job.id for job in jobs)
        assert runner.stats().jobs[JobStatus.FAILED] == 500
    assert {(told(job.view()) or ("",))[0] for job in jobs} == {"deadline"}
