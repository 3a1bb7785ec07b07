"""Keys, cancels, streams and order (Q1 to Q4)."""

import asyncio

import pytest

from tests.runners import new_runner, noting, runner_with
from tests.simulation.loop import virtual_time


@virtual_time
async def test_q1_a_thousand_submits_with_one_key_run_once() -> None:
    """Two submits with one key ran twice or thrice in a quarter of the orders."""
    runner = new_runner()
    order = noting(runner)
    async with runner:
        jobs = await asyncio.gather(
            *[runner.submit("note", {"name": "x"}, idempotency_key="k") for _ in range(1_000)]
        )
        await runner.drain()
    assert (order, len({job.id for job in jobs})) == (["x"], 1)
    assert sum(job.outcome == "created" for job in jobs) == 1


@pytest.mark.parametrize("ticks", range(6))
@virtual_time
async def test_q2_an_acknowledged_cancel_keeps_the_handler_from_running(ticks: int) -> None:
    """Also when a worker has the job in hand already; 16 of 100 ran all the same."""
    runner, ran = runner_with(workers=1), []

    @runner.job
    async def note() -> None:
        ran.append("ran")

    async with runner:
        job = await runner.submit(note)
        for _ in range(ticks):
            await asyncio.sleep(0)
        before = list(ran)
        await job.cancel()
        view = await job.wait()
    assert ran == before
    assert view.status == ("completed" if ran else "cancelled")
