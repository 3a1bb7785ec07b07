"""Ten times each bound (Q10)."""

import asyncio

import pytest

from jobrunner import Limits, QueueFull
from tests.runners import new_runner
from tests.simulation.loop import virtual_time


@virtual_time
async def test_q10_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    """The caller hears of it, instead of the memory filling up."""
    runner = new_runner(workers=1, limits=Limits(max_pending=2))
    async with runner:
        jobs = [await runner.submit("slow")]
        await asyncio.sleep(1.0)
        jobs += [await runner.submit("slow"), await runner.submit("slow", delay=60.0)]
        with pytest.raises(
            QueueFull, match=r"^2 jobs wait already, 2 of them of type 'slow'; there is no room"
        ):
            await runner.submit("slow")
        await runner.drain()
    assert [job.status for job in jobs] == ["completed"] * 3


@virtual_time
async def test_q10_a_note_is_cut() -> None:
    """Whoever cancels can't fill the memory either."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        view = await runner.cancel(job.id, "x" * 5_000, reason="superseded")
    assert view.cancel_note is not None
    assert (len(view.cancel_note) < 1_100, view.cancel_reason) == (True, "superseded")
