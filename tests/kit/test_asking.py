"""Flows in which somebody is asked: the same log, however they are driven."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobContext, JobHandle
from jobrunner.testing import DrivenRunner, assert_events, assert_status, normalise, virtual_time


def asking(**options: Any) -> DrivenRunner:
    """Return a runner with a job type that asks before it goes on."""
    runner = DrivenRunner(**{"seed": 1, **options})

    @runner.job
    async def release(ctx: JobContext, seconds: float = 60.0) -> str:
        await asyncio.sleep(seconds)
        if not await ctx.ask("Release?", schema=bool):
            return "not released"
        await asyncio.sleep(seconds)
        return "released"

    return runner


async def answered(runner: DrivenRunner, job: JobHandle[Any]) -> None:
    assert job.status == "input_required"
    await runner.answer(job.id, None, True)


async def live(runner: DrivenRunner) -> JobHandle[Any]:
    job = await runner.submit("release")
    await assert_status(job, "input_required")
    await answered(runner, job)
    await job.wait()
    return job


async def drained(runner: DrivenRunner) -> JobHandle[Any]:
    job = await runner.submit("release")
    await runner.drain()
    await answered(runner, job)
    await runner.drain()
    return job


async def stepped(runner: DrivenRunner) -> JobHandle[Any]:
    job = await runner.submit("release")
    view = await runner.step()
    assert (view and view.status, await runner.step()) == ("input_required", None)
    await answered(runner, job)
    view = await runner.step()
    assert view and view.status == "completed"
    return job


async def inline(runner: DrivenRunner) -> JobHandle[Any]:
    job = await runner.submit("release")
    await answered(runner, job)
    assert job.status == "completed"
    return job


WAYS: Any = [(live, "live"), (drained, "live"), (drained, "paused"), (stepped, "paused"),
             (inline, "inline")]  # fmt: skip


@virtual_time
async def test_a_flow_that_asks_has_the_same_log_however_it_is_driven() -> None:
    """A person is part of the flow, and no exception from it."""
    logs = []
    for way, mode in WAYS:
        async with asking(mode=mode) as runner:
            job = await way(runner)
            assert await job.result() == "released"
            logs.append(normalise([event async for event in job.events()]))
    assert logs == [logs[0]] * len(WAYS)


@virtual_time
async def test_drain_leaves_who_asks_waiting() -> None:
    """A question that runs out of time by itself is no answer."""
    async with asking() as runner:
        job = await runner.submit("release")
        await runner.drain()
        await assert_events(job, ["pending", "running", "question", "input_required"])
        await runner.drain(until=86_400.0)
        await job.cancel()
        await assert_status(job, "cancelled")


@pytest.mark.parametrize("mode", ["live", "inline"])
async def test_in_real_time_too(mode: Any) -> None:
    """The modes are no matter of the clock."""
    async with asking(mode=mode) as runner:
        job = await runner.submit("release", {"seconds": 0.0})
        await assert_status(job, "input_required")
        await runner.answer(job.id, None, True)
        assert await job.result() == "released"
