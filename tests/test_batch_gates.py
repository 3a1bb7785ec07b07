"""Batches of which only so many jobs run at once, whatever else limits them."""

import asyncio

import pytest

from jobrunner import (
    JobContext,
    RetryableError,
    RetryPolicy,
)
from jobrunner.testing import virtual_time
from tests.batched import Load, numbers, running, some
from tests.runners import runner_with

# In flight


@virtual_time
async def test_no_more_are_in_flight_than_may_be() -> None:
    """A batch must not take all workers; others run beside it, and it drains all the same."""
    runner, load, other = runner_with(workers=10), Load(), Load()

    @runner.job
    async def work(mine: bool = True) -> None:
        await (load if mine else other).carry(1.0)

    async with runner:
        batch = await runner.submit_batch(work, [{}] * 12, max_in_flight=3)
        beside = await runner.submit_batch(work, [{"mine": False}] * 7)
        await beside.wait()
        assert asyncio.get_running_loop().time() == 1.0
        await batch.wait()
        assert asyncio.get_running_loop().time() == 4.0
    assert (load.most, load.runs, other.most) == (3, 12, 7)
    assert batch.view().max_in_flight == 3


@virtual_time
async def test_what_is_in_flight_is_counted_over_retries_and_delays() -> None:
    """A job that waits for its next attempt holds no place, and takes one again."""
    runner, load = runner_with(workers=10), Load()

    @runner.job(retry=RetryPolicy(max_attempts=3))
    async def work(ctx: JobContext) -> None:
        await load.carry(1.0)
        if ctx.attempt < 3:
            raise RetryableError("once more", retry_after=5.0)

    async with runner:
        batch = await runner.submit_batch(work, [{}] * 8, max_in_flight=2, delay=10.0)
        view = await batch.wait()
    assert (load.most, load.runs, some(view.counts)) == (2, 24, {"completed": 8})


@pytest.mark.parametrize("limit", [1, 2, 5])
@virtual_time
async def test_the_limits_of_the_type_hold_too(limit: int) -> None:
    """Whichever is less: at once of the type, of a key, or of the batch."""
    runner, load = runner_with(workers=10), Load()

    @runner.job(max_concurrency=3, concurrency_key=lambda p: p["user"], max_per_key=2)
    async def work(user: str) -> None:
        await load.carry(1.0)

    async with runner:
        batches = [
            await runner.submit_batch(work, [{"user": u}] * 6, max_in_flight=limit) for u in "ab"
        ]
        for batch in batches:
            assert some((await batch.wait()).counts) == {"completed": 6}
    assert (load.most, load.runs) == (min(3, 2 * min(limit, 2)), 12)


@virtual_time
async def test_a_cancelled_batch_gives_its_places_back() -> None:
    """Those that waited for a place are cancelled, and the next batch runs."""
    async with running(workers=10) as runner:
        first = await runner.submit_batch("analyse", numbers(6, seconds=60.0), max_in_flight=2)
        await asyncio.sleep(1.0)
        assert some(first.counts) == {"running": 2, "pending": 4}
        await first.cancel()
        assert some((await first.wait()).counts) == {"cancelled": 6}
        second = await runner.submit_batch("analyse", numbers(6, seconds=1.0), max_in_flight=6)
        await second.wait()
        assert asyncio.get_running_loop().time() == 2.0
