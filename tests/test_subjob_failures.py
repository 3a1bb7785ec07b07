"""Sub-jobs that fail, retries of their parents, and deadlines above them."""

import asyncio

import pytest

from jobrunner import (
    AttemptEnded,
    JobCancelled,
    JobContext,
    JobStatus,
    PermanentError,
    RetryableError,
    RetryPolicy,
)
from jobrunner.testing import virtual_time
from tests.families import children, family, statuses
from tests.runners import reason

AGAIN = RetryPolicy(max_attempts=2, base=0.0)


@virtual_time
async def test_the_failure_of_a_sub_job_is_the_parents_if_it_lets_it_be() -> None:
    """The error names the sub-job, so that one can look at it."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await (await ctx.submit("nap", {"fails": True, "n": 4})).result()

    async with runner:
        job = await runner.submit(parent)
        view, (child,) = await job.wait(), await children(runner, job)
    assert view.error is not None and view.error.type == "JobFailed"
    assert view.error.detail == f"job {child.job_id} failed: nap 4 was disturbed"


@pytest.mark.parametrize(("kind", "attempts"), [("again", 2), ("never", 1), ("cancelled", 1)])
@virtual_time
async def test_a_parent_is_tried_again_where_its_sub_job_could_succeed(
    kind: str, attempts: int
) -> None:
    """What was refused for good, or stopped by a person, isn't worth all the work once more."""
    runner = family(workers=2)

    @runner.job
    async def child(ctx: JobContext) -> None:
        if kind == "cancelled":
            await asyncio.sleep(60.0)
        raise (PermanentError if kind == "never" else RuntimeError)("no")

    @runner.job(retry=AGAIN)
    async def parent(ctx: JobContext) -> None:
        await (await ctx.submit(child)).result()

    async with runner:
        job = await runner.submit(parent)
        if kind == "cancelled":
            await asyncio.sleep(1.0)
            await runner.cancel((await children(runner, job))[0].job_id)
        view = await job.wait()
    assert (view.status, view.attempt) == (JobStatus.FAILED, attempts)
    assert view.error is not None and view.error.retryable == (kind == "again")


@virtual_time
async def test_a_retry_finds_by_its_key_what_was_completed_and_not_what_was_cancelled() -> None:
    """Work that is done isn't done again, and what the parent took with it is."""
    runner = family(workers=3)

    @runner.job(retry=AGAIN)
    async def parent(ctx: JobContext) -> list[str]:
        whole = await ctx.submit("nap", {"n": 1}, idempotency_key="whole")
        half = await ctx.submit("nap", {"n": 2, "seconds": 5.0}, idempotency_key="half")
        await whole.result()
        if ctx.attempt == 1:
            raise RetryableError("halfway")
        await half.result()
        return [whole.outcome, half.outcome]

    async with runner:
        job = await runner.submit(parent)
        assert await job.result() == ["replayed", "created"]
        assert await statuses(runner, job) == [
            ("completed", None), ("cancelled", "parent"), ("completed", None)
        ]  # fmt: skip


@virtual_time
async def test_a_cancelled_sub_job_can_be_handled() -> None:
    """The parent goes on when a person has cancelled a part of it."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext) -> str:
        child = await ctx.submit("nap", {"seconds": 60.0})
        try:
            await child.result()
        except JobCancelled as error:
            return error.reason
        return ""

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        await runner.cancel((await children(runner, job))[0].job_id)
        assert await job.result() == "user"


@virtual_time
async def test_no_sub_job_outlives_the_deadline_above_it() -> None:
    """Of parent, child and grandchild the earliest holds, and who is left alone still has it."""
    runner = family(workers=3)

    @runner.job
    async def middle(ctx: JobContext) -> None:
        await ctx.submit("nap", {"seconds": 60.0}, deadline=100.0)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("nap", {"seconds": 60.0}, deadline=2.0)
        await ctx.submit("nap", {"seconds": 60.0})
        await (await ctx.submit(middle)).result()

    async with runner:
        job = await runner.submit(parent, deadline=10.0)
        await runner.drain()
        short, same, between = await children(runner, job)
        (below,) = await children(runner, runner.handle(between.job_id))
        due = job.view().deadline_at
    assert [reason(view) for view in (short, same, below)] == ["deadline"] * 3
    details = [view.error.detail for view in (short, same, below) if view.error]
    assert details == [
        "missed its deadline of 2 s, or its parent's",
        "missed the deadline of its parent",
        "missed its deadline of 100 s, or its parent's",
    ]
    assert due is not None and short.deadline_at is not None and short.deadline_at < due
    assert same.deadline_at == below.deadline_at == same.finished_at == due


@virtual_time
async def test_a_sub_job_that_would_start_after_the_deadline_above_it_doesn_t() -> None:
    """Nobody waits for it by then."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("nap", delay=60.0)

    async with runner:
        job = await runner.submit(parent, deadline=10.0)
        await runner.drain()
        (child,) = await children(runner, job)
    assert (reason(child), child.attempt) == ("deadline", 0)


@virtual_time
async def test_failed_sub_jobs_are_run_again_by_their_parents_only() -> None:
    """Or each would run twice: by itself, and as the new one of its parent's."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext, waits: bool) -> None:
        child = await ctx.submit("nap", {"fails": True, "n": waits})
        if waits:
            await child.result()

    async with runner:
        for waits in (True, False):
            await runner.submit(parent, {"waits": waits})
        await runner.drain()
        again = [handle.view() for handle in await runner.retry_failed()]
        assert sorted((view.type, view.params.get("n")) for view in again) == [
            ("nap", 0), ("parent", None),
        ]  # fmt: skip
        await runner.drain()
        failed = (await runner.list(status="failed", type="parent")).jobs
        await runner.forget(failed[-1].job_id)
        assert {handle.view().type for handle in await runner.retry_failed()} == {"nap", "parent"}


@virtual_time
async def test_a_failed_attempt_submits_nothing_while_its_sub_jobs_end() -> None:
    """A task that the handler has left would go on for ever, and with it the job."""
    runner, said = family(workers=3, cancel_grace=2.0), list[str]()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        async def late() -> None:
            await asyncio.sleep(1.0)
            try:
                await ctx.submit("nap", {"seconds": 60.0})
            except AttemptEnded:
                said.append("refused")

        left.append(asyncio.create_task(late()))
        await ctx.submit("stubborn", {"times": 1})
        await asyncio.sleep(0.5)
        raise RuntimeError("of its own")

    left: list[asyncio.Task[None]] = []
    async with runner:
        job = await runner.submit(parent)
        assert reason(await job.wait(timeout=5.0)) == "error"
        assert len(await children(runner, job)) == 1
    assert said == ["refused"]
