"""Sub-jobs under limits: a full queue, a type's concurrency, keys, generations, order."""

import asyncio
import sys
from typing import Any

import pytest

from jobrunner import (
    JobContext,
    JobRunner,
    JobStatus,
    Limits,
    QueueFull,
)
from jobrunner.testing import virtual_time
from tests.families import children, family
from tests.runners import reason

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@virtual_time
async def test_a_chain_of_jobs_that_have_ended_is_not_deep() -> None:
    """A job that submits its successor and returns may do so for years."""
    runner = family(limits=Limits(max_depth=1))

    @runner.job
    async def link(ctx: JobContext, left: int) -> None:
        if left:
            await ctx.submit("link", {"left": left - 1}, delay=1.0)

    async with runner:
        await runner.submit(link, {"left": 10})
        await runner.drain()
        assert runner.stats().jobs[JobStatus.COMPLETED] == 11


@virtual_time
async def test_a_full_queue_refuses_sub_jobs() -> None:
    """The parent hears it as any other submitter does, and may decide what to do."""
    runner = family(limits=Limits(max_pending=1))

    @runner.job
    async def parent(ctx: JobContext) -> str:
        await ctx.submit("nap")
        try:
            await ctx.submit("nap")
        except QueueFull as error:
            return str(error)
        return ""

    async with runner:
        assert "there is no room" in await (await runner.submit(parent)).result()


@virtual_time
async def test_a_parent_that_waits_for_room_lets_others_make_it() -> None:
    """With one worker nobody else could: the parent would wait for itself."""
    runner = family(limits=Limits(max_pending=2))

    @runner.job
    async def parent(ctx: JobContext) -> int:
        submitted = [
            await ctx.submit("nap", {"n": n, "seconds": 1.0}, max_wait=None) for n in range(6)
        ]
        mapped = await ctx.map("nap", [{"n": 7}, {"n": 8}], max_wait=60.0)
        return sum([*mapped, *[await child.result() for child in submitted]])

    async with runner:
        job = await runner.submit(parent)
        assert await job.result(timeout=60.0) == 30


@virtual_time
async def test_a_parent_waits_for_room_no_longer_than_it_said() -> None:
    """And then it has its worker again, and the error."""
    runner = family(limits=Limits(max_pending=1), workers=2)

    @runner.job
    async def parent(ctx: JobContext) -> str:
        await ctx.submit("nap", delay=60.0)
        try:
            await ctx.submit("nap", max_wait=2.0)
        except QueueFull:
            return "full"
        return ""

    async with runner:
        job = await runner.submit(parent)
        assert await job.result(timeout=3.0) == "full"


@pytest.mark.parametrize("max_wait", [-1.0, "x"])
@virtual_time
async def test_a_wait_for_room_has_to_be_a_duration(max_wait: Any) -> None:
    """Not only when there is none: a mistake should show the first time."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("nap", max_wait=max_wait)

    async with runner:
        view = await (await runner.submit(parent)).wait()
    assert view.error is not None and view.error.type == "InvalidOption"


def single(**options: Any) -> JobRunner:
    """Return a runner with a type that submits itself, under limits of its own."""
    runner = family(workers=3)

    @runner.job(**options)
    async def single(ctx: JobContext, left: int, key: str = "k", seconds: float = 1.0) -> int:
        await asyncio.sleep(seconds)
        if left == 0:
            return 0
        child = await ctx.submit("single", {"left": left - 1})
        value: int = await child.result()
        return 1 + value

    return runner


@pytest.mark.parametrize(
    "options",
    [{"max_concurrency": 1}]
    + [{"concurrency_key": lambda p: p["key"], "on_duplicate": each}
       for each in ("enqueue", "join", "replace", "reject")],
    ids=["type", "enqueue", "join", "replace", "reject"],
)  # fmt: skip
@virtual_time
async def test_parent_and_child_of_one_limit_don_t_wait_for_each_other(options: Any) -> None:
    """The parent gives its place back while it waits, and is no duplicate of its own child."""
    async with single(**options) as runner:
        job = await runner.submit("single", {"left": 3})
        assert await job.result(timeout=60.0) == 3
        assert runner.stats().jobs[JobStatus.COMPLETED] == 4


@virtual_time
async def test_a_mapped_child_is_no_duplicate_of_its_parent() -> None:
    """The same for many at once, which are replaced or rejected all together."""
    for on_duplicate in ("replace", "reject"):
        runner = family()

        @runner.job(concurrency_key=lambda p: p["key"], on_duplicate=on_duplicate)
        async def one(ctx: JobContext, key: str, deep: bool = False) -> int:
            return sum(await ctx.map("one", [{"key": key}])) if deep else 1

        async with runner:
            job = await runner.submit(one, {"key": "k", "deep": True})
            assert await job.result(timeout=60.0) == 1


@virtual_time
async def test_a_duplicate_of_others_is_joined_and_is_no_child() -> None:
    """It has its own parent or none, and goes on when the one that joined it is cancelled."""
    runner = family(workers=3)

    @runner.job(concurrency_key=lambda p: "k", on_duplicate="join")
    async def shared() -> str:
        await asyncio.sleep(10.0)
        return "shared"

    @runner.job
    async def parent(ctx: JobContext) -> None:
        child = await ctx.submit(shared)
        assert child.outcome == "joined"
        await child.result()

    async with runner:
        other = await runner.submit(shared)
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert (await job.wait()).status is JobStatus.CANCELLED
        assert await children(runner, job) == []
        assert await other.result() == "shared"


@virtual_time
async def test_an_idempotency_key_of_a_job_above_is_refused() -> None:
    """The sub-job would be its own parent, and wait for itself."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await ctx.submit("parent", idempotency_key="k")

    async with runner:
        view = await (await runner.submit(parent, idempotency_key="k")).wait()
    assert reason(view) == "error" and view.error is not None
    assert view.error.type == "InvalidOption" and "wait for itself" in view.error.detail


@virtual_time
async def test_what_was_begun_is_brought_to_its_end_first() -> None:
    """Or all parents in the queue would be begun, and held in memory, before any child is."""
    runner, begun, most = family(), 0, 0

    @runner.job
    async def parent(ctx: JobContext) -> None:
        nonlocal begun, most
        begun += 1
        most = max(most, begun)
        for _ in range(2):
            await (await ctx.submit("nap", {"seconds": 1.0})).result()
        await ctx.map("tree", [{"depth": 1}, {"depth": 2}])
        begun -= 1

    async with runner:
        for _ in range(50):
            await runner.submit(parent)
        await runner.drain()
    # One, and another that took its worker as a child ended; a task that starts at once is a third.
    assert most == (2 if sys.version_info < (3, 12) else 3)


@virtual_time
async def test_a_chain_of_jobs_overtakes_nobody_for_ever() -> None:
    """Each link would go where the first one went, before all who came since, and starve them."""
    runner, order = family(), list[str]()

    @runner.job
    async def link(ctx: JobContext, left: int) -> None:
        order.append(f"link {left}")
        await asyncio.sleep(1.0)
        if left:
            await ctx.submit("link", {"left": left - 1})

    @runner.job
    async def other(n: int) -> None:
        order.append(f"other {n}")

    async with runner:
        await runner.submit(link, {"left": 4})
        for n in range(2):
            await asyncio.sleep(0.5)
            await runner.submit(other, {"n": n})
        await runner.drain()
    assert order.index("other 1") < order.index("link 2")


@virtual_time
async def test_a_sub_job_is_as_urgent_as_its_parent() -> None:
    """An urgent job that waits for what goes behind all others isn't urgent."""
    runner, order = family(), list[str]()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        await runner.submit(note, {"name": "other"}, priority=1)
        await (await ctx.submit(note, {"name": "child"}, delay=1.0)).result()

    @runner.job
    async def note(name: str) -> None:
        order.append(name)

    async with runner:
        job = await runner.submit(parent, priority=5)
        await job.wait()
        (view,) = await children(runner, job)
    assert view.priority == 5
