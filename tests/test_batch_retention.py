"""What is kept of batches, and for how long."""

import asyncio

import pytest

from jobrunner import (
    BatchGone,
    BatchNotFound,
    JobGone,
    JobStatus,
    Retention,
)
from jobrunner.testing import virtual_time
from tests.batched import numbers, running, some

# What is kept


@virtual_time
async def test_the_counts_outlive_the_jobs() -> None:
    """The jobs are pruned while the batch still runs; nothing of the sum is lost, nor any end."""
    async with running(workers=1, retention=Retention(max_jobs=3)) as runner:
        params = [{"n": n, "fails": n == 2} for n in range(10)]
        batch = await runner.submit_batch("analyse", params)
        view = await batch.wait()
        results = await batch.results()
        items = [item async for item in batch.as_completed()]
        assert len((await runner.list(batch_id=batch.id)).jobs) == 3
        assert runner.batch(batch.id).view() == view
    assert some(view.counts) == {"completed": 9, "failed": 1}
    assert [item.status for item in results] == [None] * 7 + ["completed"] * 3
    assert [item.status for item in items][:4] == ["completed", "completed", "failed", "completed"]
    assert results[9].result() == 81
    with pytest.raises(JobGone, match="has ended and is no longer kept"):
        items[2].result()


@virtual_time
async def test_batches_are_forgotten_as_jobs_are() -> None:
    """No more jobs are in batches that are kept than are kept; the newest stays whatever its
    size, and one that runs too."""
    async with running(retention=Retention(max_jobs=10)) as runner:
        live = await runner.submit_batch("analyse", numbers(2, seconds=99.0))
        old = [await runner.submit_batch("analyse", numbers(4)) for _ in range(3)]
        await old[2].wait()
        with pytest.raises(BatchGone, match="has ended and is no longer kept"):
            runner.batch(old[0].id)
        assert [runner.batch(b.id).id for b in old[1:]] == [b.id for b in old[1:]]
        large = await runner.submit_batch("analyse", numbers(20))
        await large.wait()
        assert [runner.batch(b.id).total for b in (live, large)] == [2, 20]
        with pytest.raises(BatchGone):
            runner.batch(old[2].id)
        assert (await old[0].wait()).counts[JobStatus.COMPLETED] == 4  # who holds it reads on
        assert (await old[0].cancel()).progress == 100
        assert len([item async for item in old[0].as_completed()]) == 4


@virtual_time
async def test_batches_are_forgotten_with_age() -> None:
    """Also one of no jobs, on which no job's age would strike."""
    async with running(retention=Retention(max_age=100.0)) as runner:
        empty = await runner.submit_batch("analyse", [])
        await asyncio.sleep(50.0)
        batch = await runner.submit_batch("analyse", numbers(3))
        await batch.wait()
        await asyncio.sleep(49.0)
        assert [runner.batch(b.id).total for b in (empty, batch)] == [0, 3]
        await asyncio.sleep(2.0)
        with pytest.raises(BatchGone):
            runner.batch(empty.id)
        await asyncio.sleep(48.0)
        assert runner.batch(batch.id).total == 3
        await asyncio.sleep(2.0)
        with pytest.raises(BatchGone):
            runner.batch(batch.id)


@virtual_time
async def test_batches_of_no_jobs_are_bounded_too() -> None:
    """Whoever makes them for ever fills no memory."""
    async with running(retention=Retention(max_jobs=3)) as runner:
        batches = [await runner.submit_batch("analyse", []) for _ in range(30)]
        assert [runner.batch(batch.id).total for batch in batches[-3:]] == [0] * 3
        with pytest.raises(BatchGone):
            runner.batch(batches[-4].id)


@virtual_time
async def test_a_batch_of_no_jobs_grows_old_by_itself() -> None:
    """Nothing else happens that would look after it."""
    async with running(retention=Retention(max_age=100.0)) as runner:
        batch = await runner.submit_batch("analyse", [])
        await asyncio.sleep(101.0)
        with pytest.raises(BatchGone):
            runner.batch(batch.id)


@virtual_time
async def test_jobs_that_are_older_than_all_batches_go_first() -> None:
    """One timer serves both, and the older one sets it."""
    async with running(retention=Retention(max_age=100.0)) as runner:
        job = await runner.submit("analyse", {"n": 1})
        await asyncio.sleep(50.0)
        await (await runner.submit_batch("analyse", numbers(1))).wait()
        await asyncio.sleep(51.0)
        with pytest.raises(JobGone):
            await runner.get(job.id)


@virtual_time
async def test_batches_are_bounded_in_bytes_too() -> None:
    """Where the number of jobs isn't, memory is."""
    kept = Retention(max_jobs=None, max_age=None, max_bytes=10_000)
    async with running(retention=kept) as runner:
        batches = [await runner.submit_batch("analyse", numbers(5)) for _ in range(10)]
        await runner.drain()
        gone = 0
        for batch in batches:
            try:
                runner.batch(batch.id)
            except BatchGone:
                gone += 1
    assert gone == 7


@virtual_time
async def test_a_batch_that_never_was_is_unknown() -> None:
    """And one that was forgotten long ago, too."""
    async with running(retention=Retention(max_jobs=1, max_tombstones=1)) as runner:
        with pytest.raises(BatchNotFound, match="there is no batch 'batch_0'"):
            runner.batch("batch_0")
        batches = [await runner.submit_batch("analyse", numbers(1)) for _ in range(3)]
        await batches[2].wait()
        with pytest.raises(BatchNotFound):
            runner.batch(batches[0].id)
