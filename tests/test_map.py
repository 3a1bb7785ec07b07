"""`ctx.map`: many sub-jobs, one list of results."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    InvalidParams,
    JobCancelled,
    JobContext,
    JobFailed,
    JobRunner,
    JobStatus,
    Limits,
    Retention,
)
from jobrunner.testing import virtual_time
from tests.batched import Load
from tests.families import children, events_of, family, naps, statuses
from tests.runners import runner_with


def mapping(**options: Any) -> JobRunner:
    """Return a runner with a type that maps what it is given."""
    runner = family(**options)

    @runner.job
    async def parent(ctx: JobContext, params: list[dict[str, Any]]) -> list[int]:
        return await ctx.map("nap", params)

    return runner


async def progress_of(job: Any) -> list[tuple[float, str]]:
    events = await events_of(job, "progress")
    return [(event.data["progress"], event.data["progress_message"]) for event in events]


@virtual_time
async def test_results_come_in_the_order_of_the_params() -> None:
    """Whichever ends first: the answers are told apart by their place."""
    async with mapping(workers=5) as runner:
        params = [{"n": n, "seconds": (n * 7) % 5} for n in range(20)]
        job = await runner.submit("parent", {"params": params})
        assert await job.result() == list(range(20))
        views = await children(runner, job)
    assert len({view.batch_id for view in views}) == 1 and views[0].batch_id is not None
    assert {view.parent_id for view in views} == {job.id}


@virtual_time
async def test_nothing_to_map_is_no_error() -> None:
    """A list that happens to be empty has an empty list of results."""
    async with mapping() as runner:
        job = await runner.submit("parent", {"params": []})
        assert (await job.result(), job.view().progress_message) == ([], None)


@virtual_time
async def test_only_so_many_are_in_flight() -> None:
    """A parent leaves workers to others if it says so."""
    runner, load = family(workers=10), Load()

    @runner.job
    async def work() -> None:
        await load.carry(1.0)

    @runner.job
    async def parent(ctx: JobContext) -> int:
        return len(await ctx.map(work, [{}] * 12, max_in_flight=3))

    async with runner:
        assert await (await runner.submit(parent)).result() == 12
    assert (load.most, load.runs) == (3, 12)


@virtual_time
async def test_the_first_failure_cancels_the_rest_and_is_raised_when_that_has_ended() -> None:
    """As in a TaskGroup: nothing of the map goes on when it has raised."""
    runner = family(workers=3, cancel_grace=2.0)
    seen: list[Any] = []

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("nap", {"seconds": 20.0})
        try:
            await ctx.map("nap", [{"seconds": 9.0, "n": 1}, {"seconds": 1.0, "fails": True, "n": 2},
                                  {"seconds": 9.0, "n": 3}, {"n": 4, "seconds": 9.0}])  # fmt: skip
        except JobFailed as error:
            seen.append((error.job_id, f"{error}"))
            views = (await runner.list(parent_id=ctx.job_id)).jobs[::-1]
            seen.append([view.status.value for view in views])

    async with runner:
        job = await runner.submit(parent)
        await job.result()
        failed = (await children(runner, job))[2]
        rest = (await children(runner, job))[1]
    assert seen[0] == (failed.job_id, f"job {failed.job_id} failed: nap 2 was disturbed")
    assert seen[1] == ["running", "cancelled", "failed", "cancelled", "cancelled"]
    assert rest.cancel_reason == "parent" and failed.job_id in (rest.cancel_note or "")


@virtual_time
async def test_a_cancelled_sub_job_counts_as_failed() -> None:
    """There is no result to put in its place."""
    async with mapping(workers=3) as runner:
        job = await runner.submit("parent", {"params": naps(2, seconds=60.0)})
        await asyncio.sleep(1.0)
        await runner.cancel((await children(runner, job))[1].job_id)
        view = await job.wait()
        assert await statuses(runner, job) == [("cancelled", "parent"), ("cancelled", "user")]
    assert view.error is not None and view.error.type == "JobCancelled"


@virtual_time
async def test_failures_can_be_results() -> None:
    """Forty-nine answers are worth having when one document can't be read."""
    runner = family(workers=3)

    @runner.job
    async def parent(ctx: JobContext) -> list[str]:
        params: list[dict[str, Any]] = [
            {"n": 1}, {"n": 2, "fails": True}, {"n": 3, "seconds": 60.0}, {"n": 4}
        ]  # fmt: skip
        results = await ctx.map("nap", params, return_exceptions=True)
        return [f"{type(result).__name__} {result}" for result in results]

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        views = await children(runner, job)
        await runner.cancel(views[2].job_id)
        results = await job.result()
        assert job.view().progress_message == "4 of 4, 1 failed"
    assert results == [
        "int 1", f"JobFailed job {views[1].job_id} failed: nap 2 was disturbed",
        f"JobCancelled job {views[2].job_id} was cancelled", "int 4",
    ]  # fmt: skip
    assert issubclass(JobCancelled, Exception)


@pytest.mark.parametrize(
    ("limits", "params", "said"),
    [
        ({"max_batch": 2}, naps(3), "PayloadTooLarge"),
        ({"max_pending": 2}, naps(3), "PayloadTooLarge"),
        ({}, [{"n": 1}, {"n": "x"}], "InvalidParams"),
    ],
    ids=["batch", "queue", "params"],
)
@virtual_time
async def test_all_are_taken_in_or_none(limits: Any, params: Any, said: str) -> None:
    """Half of a map is nothing that anybody could go on with."""
    async with mapping(limits=Limits(**limits)) as runner:
        job = await runner.submit("parent", {"params": params})
        view = await job.wait()
        assert await children(runner, job) == []
    assert view.error is not None and view.error.type == said


@virtual_time
async def test_wrong_params_are_named_by_their_place() -> None:
    """Of fifty it should say which."""
    runner, seen = family(), list[str]()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        try:
            await ctx.map("nap", [{"n": 1}, {"n": "x"}])
        except InvalidParams as error:
            seen.extend(fault["pointer"] for fault in error.errors)

    async with runner:
        await (await runner.submit(parent)).result()
    assert seen == ["#/1/n"]


@virtual_time
async def test_a_map_has_no_idempotency_key() -> None:
    """A later attempt would find the batch that was cancelled with the one before."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.map("nap", [{}], idempotency_key="k")

    async with runner:
        view = await (await runner.submit(parent)).wait()
    assert view.error is not None and "ctx.submit" in view.error.detail


@virtual_time
async def test_the_parents_progress_is_that_of_its_sub_jobs() -> None:
    """Who looks at the parent sees that something goes on: 23 of 50."""
    async with mapping(workers=2) as runner:
        params = [{"n": n, "seconds": 1.0 + n} for n in range(3)] + [{"n": 3, "seconds": 9.0}]
        job = await runner.submit("parent", {"params": params})
        await job.wait()
        seen = await progress_of(job)
        step = job.view().step
    assert seen == [(0, "0 of 4"), (25, "1 of 4"), (50, "2 of 4"), (75, "3 of 4"), (100, "4 of 4")]
    assert step is not None and (step.current, step.total) == (4, 4)


@virtual_time
async def test_a_handler_that_says_its_own_progress_has_the_say() -> None:
    """It knows what else it has to do."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext, early: bool) -> None:
        async def speak() -> None:
            await asyncio.sleep(1.5)
            ctx.progress(7, "mine")

        if early:
            ctx.step(1, 3, "first")
        async with asyncio.TaskGroup() as group:
            if not early:
                group.create_task(speak())
            group.create_task(ctx.map("nap", naps(8, seconds=1.0), max_in_flight=1))

    async with runner:
        seen = []
        for early in (True, False):
            job = await runner.submit(parent, {"early": early})
            await job.result()
            seen.append([message for _, message in await progress_of(job)])
    assert seen == [["first"], ["0 of 8", "1 of 8", "mine"]]


@virtual_time
async def test_maps_at_once_are_one_progress() -> None:
    """A bar that jumps between two counts tells nobody anything."""
    runner = family(workers=4)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.map("nap", [{"seconds": 1.0}, {"seconds": 3.0}]))
            group.create_task(ctx.map("nap", [{"seconds": 2.0}, {"seconds": 4.0}]))
        await ctx.map("nap", naps(2, seconds=1.0), max_in_flight=1)

    async with runner:
        job = await runner.submit(parent)
        await job.result()
        messages = [message for _, message in await progress_of(job)]
    assert messages == ["0 of 2", "0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4",
                        "0 of 2", "1 of 2", "2 of 2"]  # fmt: skip


@virtual_time
async def test_a_map_that_is_given_up_ends_its_sub_jobs() -> None:
    """A timeout of the handler's own ends the map as a failure does, and the handler goes on."""
    runner = family(workers=3)

    @runner.job
    async def parent(ctx: JobContext) -> list[str]:
        try:
            async with asyncio.timeout(2.0):
                await ctx.map("nap", naps(6, seconds=60.0))
        except TimeoutError:
            page = await runner.list(parent_id=ctx.job_id)
            return [view.status.value for view in page.jobs]
        return []

    async with runner:
        job = await runner.submit(parent)
        assert await job.result(timeout=3.0) == ["cancelled"] * 6


@virtual_time
async def test_results_don_t_depend_on_how_long_jobs_are_kept() -> None:
    """A parent whose children are pruned under its hands would fail for no fault of its own."""
    async with mapping(workers=2, retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("parent", {"params": naps(30)})
        assert await job.result() == list(range(30))
        assert runner.stats().pruned == 31


@virtual_time
async def test_the_last_failure_is_raised_though_nothing_is_kept() -> None:
    """There is no batch any more that could be cancelled, and no reason to."""
    async with mapping(retention=Retention(max_jobs=0)) as runner:
        other = await runner.submit_batch("nap", [{}, {}])
        job = await runner.submit("parent", {"params": [{"fails": True, "n": 3}]})
        await other.wait()
        view = await job.wait()
    assert view.error is not None and "nap 3 was disturbed" in view.error.detail


@pytest.mark.parametrize("kept", [100, 0])
@virtual_time
async def test_one_may_replace_another(kept: int) -> None:
    """Of two for one user the second counts; the first has ended before anybody waits for it."""
    runner = runner_with(retention=Retention(max_jobs=kept))

    @runner.job(concurrency_key=lambda params: params["user"])
    async def draft(user: str, n: int) -> int:
        return n

    @runner.job
    async def parent(ctx: JobContext) -> list[int | str]:
        params = [{"user": "a", "n": 1}, {"user": "a", "n": 2}, {"user": "b", "n": 3}]
        drafts = await ctx.map(draft, params, return_exceptions=True, on_duplicate="replace")
        return [each if isinstance(each, int) else each.reason for each in drafts]

    async with runner:
        assert await (await runner.submit(parent)).result() == ["superseded", 2, 3]


@virtual_time
async def test_a_map_in_a_retry_begins_anew() -> None:
    """What the first attempt mapped was cancelled with it."""
    from jobrunner import RetryableError, RetryPolicy

    runner = family(workers=2)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def parent(ctx: JobContext) -> list[int]:
        if ctx.attempt == 1:
            await ctx.submit("nap", {"seconds": 60.0})
            raise RetryableError("once more")
        return await ctx.map("nap", naps(3))

    async with runner:
        job = await runner.submit(parent)
        assert await job.result() == [0, 1, 2]
        assert job.view().progress_message == "3 of 3"


@pytest.mark.slow  # ten thousand jobs
@virtual_time
async def test_ten_thousand_sub_jobs_are_fine() -> None:
    """As many as a batch may have, with few workers."""
    async with mapping(workers=4, retention=Retention(max_jobs=100)) as runner:
        job = await runner.submit("parent", {"params": naps(10_000)})
        assert await job.result() == list(range(10_000))
        assert job.view().last_seq < 200
        assert runner.stats().jobs[JobStatus.RUNNING] == 0
