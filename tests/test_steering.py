"""What can be done to jobs that were taken in: cancelled, run again, paused, forgotten."""

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from jobrunner import (
    JobGone,
    JobNotFinal,
    JobNotRetryable,
    JobStatus,
    Retention,
    RetryPolicy,
    Stats,
)
from jobrunner.testing import EPOCH, virtual_time
from tests.runners import new_runner


@pytest.mark.parametrize("delay", [0.0, 60.0])
@virtual_time
async def test_a_job_that_waits_is_cancelled_at_once(delay: float) -> None:
    """For a worker or for its time: nothing of it runs."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        job = await runner.submit("slow", delay=delay)
        view = await runner.cancel(job.id, "not needed")
        again = await runner.cancel(job.id, "twice is the same as once")
        await runner.drain()
    assert view == again == job.view()
    assert (view.status, view.started_at, view.cancel_reason, view.cancel_note) == (
        "cancelled",
        None,
        "user",
        "not needed",
    )


@virtual_time
async def test_a_job_that_runs_is_cancelled_when_it_has_stopped() -> None:
    """The answer tells the truth: it still runs, and it was asked to stop."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        asked = await runner.cancel(job.id)
        ended = await job.wait()
    assert (asked.status, ended.status) == ("running", "cancelled")
    assert asked.cancel_requested_at == datetime.fromtimestamp(EPOCH + 1.0, UTC)


@virtual_time
async def test_a_job_that_waits_for_a_retry_is_cancelled_at_once() -> None:
    """Its last failure is kept with it."""
    runner = new_runner(retry=RetryPolicy(max_attempts=2, base=100.0))

    @runner.job
    async def flaky() -> None:
        raise ValueError("first")

    async with runner:
        job = await runner.submit(flaky)
        await asyncio.sleep(0.001)
        assert job.status == "retrying"
        view = await job.cancel()
        await runner.drain()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.title) == ("cancelled", 1, "first")


@virtual_time
async def test_a_job_that_has_ended_stays_as_it_is() -> None:
    """A cancel that comes too late is no error, and changes nothing."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        before = await job.wait()
        assert await runner.cancel(job.id) == before


@virtual_time
async def test_a_final_job_can_be_run_again() -> None:
    """It is a new job, of the same params and for the same session."""
    async with new_runner() as runner:
        job = await runner.submit(
            "slow", {"n": 7}, priority=3, timeout=50.0, session_id="s1", metadata={"a": 1}
        )
        await job.wait()
        again = await runner.retry(job.id)
        assert await again.result() == 7
        old, new = job.view(), again.view()
    kept = ("type", "params", "priority", "timeout", "session_id", "metadata", "result")
    assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert (new.retry_of, old.retry_of, new.job_id != old.job_id) == (job.id, None, True)


@virtual_time
async def test_a_job_without_session_is_run_again_without_one() -> None:
    """What wasn't given isn't made up."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        await job.wait()
        again = (await runner.retry(job.id)).view()
    assert (again.session_id, again.metadata) == (None, {})


@virtual_time
async def test_a_job_that_runs_is_not_run_again() -> None:
    """There would be two of it."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        with pytest.raises(JobNotFinal) as caught:
            await runner.retry(job.id)
    assert str(caught.value) == (f"job {job.id} is pending; it can be run again when it has ended")


@virtual_time
async def test_a_job_with_secrets_is_not_run_again() -> None:
    """Secrets are not kept, so running it again would send stars to somebody's API."""
    runner = new_runner()

    @runner.job
    async def login(password: SecretStr) -> str:
        return password.get_secret_value()

    async with runner:
        job = await runner.submit(login, {"password": "s3cret"})
        assert await job.result() == "s3cret"
        assert job.view().params == {"password": "**********"}
        with pytest.raises(JobNotRetryable, match="held secrets; submit it anew"):
            await runner.retry(job.id)


@virtual_time
async def test_pausing_starts_no_job_and_stops_none() -> None:
    """What runs goes on, what is submitted waits."""
    async with new_runner(workers=2) as runner:
        running = await runner.submit("slow")
        await asyncio.sleep(1.0)
        runner.pause()
        waiting = await runner.submit("slow")
        await asyncio.sleep(60.0)
        assert (running.status, waiting.status) == ("completed", "pending")
        runner.resume()
        assert await waiting.result() == 1


@virtual_time
async def test_a_paused_runner_is_still_paused_when_it_is_started_again() -> None:
    """Whoever paused it meant it."""
    runner = new_runner()
    runner.pause()
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(60.0)
        assert (job.status, runner.stats().paused) == ("pending", True)
        runner.resume()
        assert await job.result() == 1


@virtual_time
async def test_a_job_can_be_forgotten_when_it_has_ended() -> None:
    """A user may delete what a job said; its id answers "gone"."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        with pytest.raises(JobNotFinal):
            await runner.forget(job.id)
        await job.wait()
        await runner.forget(job.id)
        with pytest.raises(JobGone):
            await runner.get(job.id)


@virtual_time
async def test_stats_count_what_there_is() -> None:
    """One look says how a runner does."""
    runner = new_runner(workers=1, retention=Retention(max_jobs=1))
    async with runner:
        for _ in range(3):
            await runner.submit("slow")
        await asyncio.sleep(25.0)
        stats = runner.stats()
    jobs = dict.fromkeys(JobStatus, 0) | {JobStatus.RUNNING: 1, JobStatus.COMPLETED: 1}
    assert stats == Stats(
        state="running", paused=False, workers=1, busy=1, aside=0, stuck=0, stuck_total=0,
        blocked=0, faults=0, unready=None, jobs=jobs, pruned=1, webhooks={},
    )  # fmt: skip
