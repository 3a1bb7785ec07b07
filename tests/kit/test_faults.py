"""Faults on purpose meet the limits, retries and cancellations that real ones would meet."""

import asyncio

import pytest

from jobrunner import InvalidOption, RetryPolicy
from jobrunner.testing import DrivenRunner, Faults, RateLimited, WebhookReceiver, virtual_time


def runner_with(faults: Faults, **options: object) -> DrivenRunner:
    """Return a runner with a job type that takes a second and is tried three times."""
    runner = DrivenRunner(seed=1, faults=faults, cancel_grace=5.0)

    @runner.job(retry=RetryPolicy(max_attempts=3, base=0.0), timeout=60.0)
    async def ask(n: int = 1) -> int:
        await asyncio.sleep(1.0)
        return n

    return runner


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_an_attempt_fails_and_the_next_does_not() -> None:
    """The commonest fault of all."""
    faults = Faults()
    faults.fail("ask")
    async with runner_with(faults) as runner:
        view = await (await runner.submit("ask")).wait()
        assert (view.status, view.attempt, view.result) == ("completed", 2, 1)


@virtual_time
async def test_a_rate_limit_is_waited_for() -> None:
    """What an API asks for has to be obeyed, and a flow has to live with it."""
    faults = Faults()
    faults.fail("ask", attempt=1, error=RateLimited(retry_after=30))
    faults.fail("ask", attempt=2, error=RateLimited("slow down"))
    async with runner_with(faults) as runner:
        job = await runner.submit("ask")
        view = await job.wait()
        assert (view.status, view.attempt, now() >= 31.0) == ("completed", 3, True)
        told = [e.data["error"]["detail"] async for e in job.events() if e.data.get("error")]
        assert told == ["too many requests", "slow down"]


@virtual_time
async def test_every_attempt_fails() -> None:
    """Until nothing is left but the failure."""
    faults, runner_faults = Faults(), ValueError("always")
    faults.fail("ask", attempt=None, error=runner_faults)
    async with runner_with(faults) as runner:
        view = await (await runner.submit("ask")).wait()
        assert view.error is not None
        assert (view.status, view.attempt, view.error.detail) == ("failed", 3, "always")


@virtual_time
async def test_a_delay_counts_against_the_time_limit() -> None:
    """An attempt that begins late has less time, or none."""
    faults = Faults()
    faults.delay("ask", 59.5, attempt=1)
    faults.delay("ask", 10.0, attempt=2)
    async with runner_with(faults) as runner:
        view = await (await runner.submit("ask")).wait()
        assert (view.status, view.attempt, round(now(), 3)) == ("completed", 2, 71.0)


@virtual_time
async def test_an_attempt_that_hangs_is_timed_out() -> None:
    """It ends when it is asked to."""
    faults = Faults()
    faults.hang("ask", attempt=None)
    async with runner_with(faults) as runner:
        view = await (await runner.submit("ask")).wait()
        assert view.error is not None
        assert (view.error.reason, now()) == ("timeout", 180.0)


@virtual_time
@pytest.mark.parametrize(("times", "status"), [(1, "cancelled"), (float("inf"), "failed")])
async def test_a_swallowed_cancel_is_asked_again_and_then_given_up(
    times: float, status: str
) -> None:
    """A handler may ignore what it is asked, once or for ever."""
    faults = Faults()
    faults.swallow_cancel("ask", times=times)
    async with runner_with(faults) as runner:
        job = await runner.submit("ask")
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
        assert view.status == status
        assert runner.stats().stuck_total == (0 if times == 1 else 1)


@virtual_time
async def test_a_process_that_is_killed_fails_its_attempt() -> None:
    """As the engine of processes says it, without a process."""
    faults = Faults()
    faults.crash_process("ask", attempt=None)
    async with runner_with(faults) as runner:
        view = await (await runner.submit("ask")).wait()
        assert view.error is not None
        assert (view.error.type, view.attempt) == ("ProcessDied", 3)


@virtual_time
async def test_a_lost_webhook_comes_twice_with_one_id() -> None:
    """The receiver has had it, and is told again: that is what webhook-id is for."""
    faults, receiver = Faults(), WebhookReceiver()
    runner = DrivenRunner(seed=1, faults=faults, receiver=receiver)

    @runner.job
    async def quick() -> None: ...

    faults.lose_webhook()
    async with runner:
        job = await runner.submit(quick)
        await receiver.told("job.completed", job)
    assert [each.status for each in receiver.received] == [None, 204]
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1


@virtual_time
async def test_a_type_is_named_by_its_function_too() -> None:
    """As everywhere else, also where the type has another name."""
    faults = Faults()
    runner = DrivenRunner(faults=faults)

    @runner.job("think")
    async def quick() -> None: ...

    faults.fail(quick)
    assert faults.unused() == ["the fault for attempt 1 of 'quick' has hit nothing"]
    async with runner:
        assert (await (await runner.submit(quick)).wait()).status == "failed"
    assert faults.unused() == []


def test_faults_that_hit_nothing_are_told() -> None:
    """A test whose fault never struck has tested nothing."""
    faults = Faults()
    faults.fail("ask", attempt=2)
    faults.hang("nap", attempt=None)
    assert faults.unused() == [
        "the fault for attempt 2 of 'ask' has hit nothing",
        "the fault for attempt any of 'nap' has hit nothing",
    ]


def test_faults_that_can_not_be_are_refused() -> None:
    """They would never strike."""
    with pytest.raises(InvalidOption, match="counted from 1"):
        Faults().fail("ask", attempt=0)
    with pytest.raises(InvalidOption, match="no runner yet"):
        Faults().lose_webhook()
