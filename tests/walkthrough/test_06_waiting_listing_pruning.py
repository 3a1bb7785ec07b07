"""Chapter 6. Many jobs: wait for them, find them again, and let the old ones go."""

import asyncio

import pytest

from jobrunner import JobGone, JobRunner, Retention
from jobrunner.testing import unix_now, virtual_time


def documents(retention: Retention | None = None) -> JobRunner:
    """Return a runner that reads documents, one minute for each page."""
    runner = JobRunner(now=unix_now, workers=10, retention=retention)

    @runner.job
    async def read(pages: int) -> int:
        await asyncio.sleep(60.0 * pages)
        return pages

    return runner


@virtual_time
async def test_wait_for_all_of_them() -> None:
    """The views come back in the order in which you asked."""
    async with documents() as runner:
        jobs = [await runner.submit("read", {"pages": n}) for n in (3, 1, 2)]
        done, pending = await runner.wait([job.id for job in jobs])
    assert ([view.result for view in done], pending) == ([3, 1, 2], [])


@virtual_time
async def test_wait_for_the_first_one() -> None:
    """The others go on."""
    async with documents() as runner:
        jobs = [await runner.submit("read", {"pages": n}) for n in (3, 1, 2)]
        done, pending = await runner.wait([job.id for job in jobs], mode="any")
    assert ([view.result for view in done], len(pending)) == ([1], 2)


@virtual_time
async def test_see_how_far_they_are() -> None:
    """With a timeout, `wait` never raises: it says what has ended by then."""
    async with documents() as runner:
        jobs = [await runner.submit("read", {"pages": n}) for n in (3, 1, 2)]
        done, pending = await runner.wait([job.id for job in jobs], timeout=150.0)
    assert (len(done), [view.status for view in pending]) == (2, ["running"])


@virtual_time
async def test_find_the_jobs_of_a_conversation() -> None:
    """Give a session at submit, and list by it, newest first."""
    async with documents() as runner:
        first = await runner.submit("read", {"pages": 1}, session_id="ann")
        await runner.submit("read", {"pages": 1}, session_id="bob")
        last = await runner.submit("read", {"pages": 2}, session_id="ann")
        page = await runner.list(session_id="ann")
    assert [view.job_id for view in page.jobs] == [last.id, first.id]


@virtual_time
async def test_read_a_long_list_page_by_page() -> None:
    """The cursor of a page leads to the next one; the last has none."""
    async with documents() as runner:
        jobs = [await runner.submit("read", {"pages": 1}) for _ in range(5)]
        seen, cursor = [], None
        while True:
            page = await runner.list(limit=2, cursor=cursor)
            seen += [view.job_id for view in page.jobs]
            if (cursor := page.next_cursor) is None:
                break
    assert seen == [job.id for job in reversed(jobs)]


@virtual_time
async def test_submit_twice_and_run_once() -> None:
    """A client that isn't sure whether its request arrived sends it again with the same key."""
    async with documents() as runner:
        first = await runner.submit("read", {"pages": 1}, idempotency_key="upload 17")
        second = await runner.submit("read", {"pages": 1}, idempotency_key="upload 17")
        assert (second.id, second.outcome) == (first.id, "replayed")


@virtual_time
async def test_old_jobs_are_pruned() -> None:
    """Final jobs are kept for a time and up to a number; then their id answers "gone"."""
    async with documents(Retention(max_age=3_600.0)) as runner:
        job = await runner.submit("read", {"pages": 1})
        await job.wait()
        await asyncio.sleep(3_000.0)
        assert (await runner.get(job.id)).result == 1
        await asyncio.sleep(3_000.0)
        with pytest.raises(JobGone):
            await runner.get(job.id)
