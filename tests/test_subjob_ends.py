"""How sub-jobs end with their parent: cancelled before it has ended, or left to go on."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    JobContext,
    JobHandle,
    JobRunner,
    JobStatus,
    JobView,
    RetryableError,
    RetryPolicy,
)
from jobrunner.testing import virtual_time
from tests.families import children, events_of, family, statuses
from tests.runners import reason

AGAIN = RetryPolicy(max_attempts=2, base=0.0)


def with_parent(**options: Any) -> JobRunner:
    """Return a runner with a type that has sub-jobs, some of which wait, and grandchildren."""
    runner = family(workers=3)

    @runner.job
    async def middle(ctx: JobContext) -> None:
        for _ in range(2):
            await ctx.submit("nap", {"seconds": 60.0})
        await (await ctx.submit("nap", {"seconds": 60.0}, delay=30.0)).result()

    @runner.job(**options)
    async def parent(ctx: JobContext, fails: bool = False) -> None:
        child = await ctx.submit(middle)
        await ctx.submit("nap", {"seconds": 60.0}, delay=30.0)
        if fails:
            await asyncio.sleep(1.0)
            raise RuntimeError("of its own")
        await child.result()

    return runner


async def end(runner: JobRunner, job: JobHandle[Any]) -> JobView:
    """Return the job as it ended, with all that is below it."""
    view = await job.wait(timeout=50.0)
    below = await children(runner, job)
    for child in list(below):
        below += await children(runner, runner.handle(child.job_id))
    assert [(child.status.value, child.cancel_reason) for child in below] == [
        ("cancelled", "parent")
    ] * 5
    assert view.finished_at is not None
    assert all(child.finished_at and child.finished_at <= view.finished_at for child in below)
    return view


@virtual_time
async def test_a_cancelled_parent_takes_its_sub_jobs_with_it() -> None:
    """Who stops an agent means all that it has started, to the last generation."""
    async with with_parent() as runner:
        job = await runner.submit("parent")
        await asyncio.sleep(5.0)
        await job.cancel("enough")
        view = await end(runner, job)
        assert view.status is JobStatus.CANCELLED
        assert job.id in ((await children(runner, job))[0].cancel_note or "")


@pytest.mark.parametrize(
    ("options", "params", "ended"),
    [
        ({"timeout": 5.0}, {}, "timeout"),
        ({"deadline": 5.0}, {}, "deadline"),
        ({}, {"fails": True}, "error"),
    ],
    ids=["timeout", "deadline", "error"],
)
@virtual_time
async def test_a_parent_that_fails_takes_its_sub_jobs_with_it(
    options: Any, params: Any, ended: str
) -> None:
    """Nobody would ever read what comes of them."""
    async with with_parent(**options) as runner:
        view = await end(runner, await runner.submit("parent", params))
    assert reason(view) == ended


@virtual_time
async def test_a_parent_that_is_interrupted_takes_its_sub_jobs_with_it() -> None:
    """A runner that stops leaves nothing, and no sub-job without its parent."""
    runner = with_parent()
    async with runner:
        job = await runner.submit("parent")
        await asyncio.sleep(5.0)
    below = await children(runner, job)
    assert reason(job.view()) == "shutdown"
    assert {(child.status.value, child.cancel_reason) for child in below} == {
        ("cancelled", "parent")
    }


@virtual_time
async def test_a_parent_is_cancelled_when_its_sub_jobs_are() -> None:
    """`cancelled` says that the work has stopped, whoever does it."""
    runner = family(workers=2, cancel_grace=2.0)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await (await ctx.submit("stubborn", {"times": 1})).result()

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        assert (await job.cancel()).status is JobStatus.RUNNING
        await asyncio.sleep(1.0)
        assert (job.status, (await children(runner, job))[0].status) == ("running", "running")
        await job.cancel()
        view = await job.wait()
        child = (await children(runner, job))[0]
    assert view.status is child.status is JobStatus.CANCELLED
    assert view.finished_at and child.finished_at and view.finished_at >= child.finished_at


@virtual_time
async def test_a_sub_job_that_never_ends_holds_its_parent_no_longer_than_two_graces() -> None:
    """It is given up as stuck, as any other job is; its parent was obedient, and isn't."""
    runner = family(workers=2, cancel_grace=2.0)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await (await ctx.submit("stubborn", {"times": 1_000})).result()

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait(timeout=4.5)
        child = (await children(runner, job))[0]
    assert (view.status, view.error) == (JobStatus.CANCELLED, None)
    assert reason(child) == "stuck"


@virtual_time
async def test_a_failed_parent_that_waits_for_its_sub_jobs_can_be_cancelled() -> None:
    """A wanted cancel wins as long as nothing is final; and nothing strikes the parent twice."""
    runner = family(workers=2, cancel_grace=2.0)

    @runner.job(retry=AGAIN, timeout=2.0)
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("stubborn", {"times": 1})
        await asyncio.sleep(0.5)
        raise RuntimeError("of its own")

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        assert (await job.cancel()).status is JobStatus.RUNNING
        view = await job.wait(timeout=4.5)
    assert (view.status, view.attempt) == (JobStatus.CANCELLED, 1)
    assert view.error is not None and view.error.detail == "of its own"


@virtual_time
async def test_a_retry_begins_without_the_sub_jobs_of_the_attempt_before() -> None:
    """Two of each at work on the same thing would undo what the other does."""
    runner = family(workers=3, cancel_grace=2.0)
    live: list[int] = []

    @runner.job(retry=AGAIN)
    async def parent(ctx: JobContext) -> int:
        page = await runner.list(parent_id=ctx.job_id)
        live.append(sum(child.finished_at is None for child in page.jobs))
        await ctx.submit("stubborn", {"times": 1})
        await ctx.submit("nap", {"seconds": 60.0}, delay=1.0)
        await asyncio.sleep(0.5)
        if ctx.attempt == 1:
            raise RetryableError("once more")
        return ctx.attempt

    async with runner:
        job = await runner.submit(parent)
        assert await job.result() == 2
        assert live == [0, 0]
        first = (await statuses(runner, job))[:2]
    assert first == [("cancelled", "parent")] * 2


@virtual_time
async def test_a_parent_that_completes_leaves_the_rest_running_and_says_so() -> None:
    """It has started them and has returned: that was its wish, and its log has their ids."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await (await ctx.submit("nap")).result()
        for n in range(2):
            await ctx.submit("nap", {"seconds": 5.0, "n": n})
        await (await ctx.submit("nap", {"seconds": 5.0})).cancel("not that one")

    async with runner:
        job = await runner.submit(parent)
        await job.result()
        (said,) = await events_of(job, "log")
        left = [child.job_id for child in (await children(runner, job))[1:3]]
        await runner.drain()
        ended = await statuses(runner, job)
    assert (said.data["text"], said.data["fields"]) == (
        "sub-jobs that go on without their parent: 2", {"job_ids": left},
    )  # fmt: skip
    assert ended == [("completed", None)] * 3 + [("cancelled", "parent")]


@virtual_time
async def test_a_parent_that_has_waited_for_all_says_nothing() -> None:
    """A line in each log would be noise."""
    async with family() as runner:
        job = await runner.submit("tree", {"depth": 1})
        await job.wait()
        assert await events_of(job, "log") == []


@virtual_time
async def test_a_result_that_can_t_be_kept_fails_the_parent_and_ends_its_sub_jobs() -> None:
    """It has returned, and has failed all the same."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext) -> Any:
        await ctx.submit("nap", {"seconds": 60.0})
        return object()

    async with runner:
        job = await runner.submit(parent)
        assert reason(await job.wait()) == "result_not_serialisable"
        await asyncio.sleep(0.0)
        assert await statuses(runner, job) == [("cancelled", "parent")]


@virtual_time
async def test_a_parent_that_is_given_up_has_its_sub_jobs_cancelled() -> None:
    """A handler that refuses to end must not keep others at work."""
    runner = family(workers=2, cancel_grace=1.0)

    @runner.job(timeout=1.0)
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("nap", {"seconds": 600.0})
        for _ in range(3):
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                continue

    async with runner:
        job = await runner.submit(parent)
        assert reason(await job.wait()) == "timeout"
        assert await statuses(runner, job) == [("cancelled", "parent")]


@virtual_time
async def test_thousands_of_sub_jobs_are_cancelled_in_turns() -> None:
    """Others go on meanwhile: a stream, a timer, a request."""
    runner = family(workers=2)
    turns = 0

    @runner.job
    async def parent(ctx: JobContext) -> None:
        for _ in range(1_800):
            child = await ctx.submit("nap", {"seconds": 60.0})
        await child.result()

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        await job.cancel()
        while job.status is JobStatus.RUNNING and turns < 1_000:
            turns += 1
            await asyncio.sleep(0.0)
        counts = runner.stats().jobs
    assert counts[JobStatus.CANCELLED] == 1_801
    assert turns >= 3
