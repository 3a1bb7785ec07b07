"""Cancels, results and stops in whatever order, and waiters that leave (T2, T5, T6)."""

import asyncio

import pytest

from jobrunner import (
    RetryPolicy,
)
from tests.runners import (
    ended_after,
    new_runner,
    reason,
    runner_with,
)
from tests.simulation.loop import simulate, virtual_time


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_t2_a_cancel_around_the_result_ends_the_job_once(ticks: int) -> None:
    """On 3.11 a cancel in the tick of the result was swallowed, and stop() hung."""
    runner = runner_with(workers=1)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        job = await runner.submit(short)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await job.cancel()
        view = await job.wait(timeout=1.0)
        ends = [event async for event in job.events() if event.type == "done"]
    assert (view.status, view.result, len(ends)) in [
        ("cancelled", None, 1),
        ("completed", "value", 1),
    ]


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_t2_a_stop_around_the_result_never_hangs(ticks: int) -> None:
    """Whatever a worker is about to do when the runner stops, it ends."""
    runner = runner_with(workers=2, shutdown_timeout=0.0)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        jobs = [await runner.submit(short) for _ in range(5)]
        for _ in range(ticks):
            await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await runner.stop()
        assert asyncio.get_running_loop().time() == began
    outcomes = {(job.status, reason(job.view())) for job in jobs}
    assert outcomes <= {("completed", None), ("failed", "shutdown")}


@pytest.mark.parametrize("seed", range(40))
def test_t2_a_stop_that_is_cancelled_around_a_start_leaves_no_job_open(seed: int) -> None:
    """Also a job that a worker has just taken, whatever the order of what is ready."""

    async def main() -> tuple[str, int]:
        runner = new_runner(shutdown_timeout=60.0)
        async with runner:
            job = await runner.submit("slow")
            stopping = asyncio.ensure_future(runner.stop())
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
        return job.status.value, runner.stats().busy

    ended = simulate(main, seed=seed)
    assert ended in [("failed", 0), ("completed", 0)]  # completed: cancelled before it began


@pytest.mark.parametrize("first", ["cancel", "stop"])
@virtual_time
async def test_t5_a_cancel_beats_a_shutdown(first: str) -> None:
    """In the same tick, in either order: a cancelled job is not given back to the queue."""
    runner = runner_with(shutdown_timeout=0.0)

    @runner.job
    async def long() -> None:
        try:
            await asyncio.sleep(3_600.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(long)
        await asyncio.sleep(1.0)
        acts = [job.cancel(), runner.stop()]
        if first == "stop":
            acts.reverse()
        await asyncio.gather(*acts)
    view = job.view()
    assert (view.status, view.attempt, view.error) == ("cancelled", 1, None)


@virtual_time
async def test_t5_a_cancel_beats_a_time_limit() -> None:
    """A job that runs out of time while it is asked to stop was cancelled."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5))

    @runner.job(timeout=10.0)
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(11.0)  # it is out of time, and cleans up
        await job.cancel()
        assert (await ended_after(2.0, job)).status == "cancelled"


@virtual_time
async def test_t5_a_result_beats_a_time_limit_that_comes_second() -> None:
    """The value was there in the same tick, and first."""
    runner = runner_with()

    @runner.job(timeout=10.0)
    async def just_in_time() -> str:
        await asyncio.sleep(9.999_999_999)
        return "value"

    async with runner:
        job = await runner.submit(just_in_time)
        assert await job.result() == "value"
        await asyncio.sleep(10.0)
        assert job.status == "completed"


@virtual_time
async def test_t5_a_result_beats_a_cancel() -> None:
    """A handler that goes on to its value though it was asked to stop has completed."""
    runner = runner_with()

    @runner.job
    async def eager() -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            return "value"
        return "not reached"

    async with runner:
        job = await runner.submit(eager)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, view.result, view.cancel_requested_at is not None) == (
        "completed",
        "value",
        True,
    )
