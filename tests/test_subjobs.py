"""Sub-jobs: whose they are, how they are waited for, and what can't be submitted."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    AttemptEnded,
    InvalidOption,
    JobContext,
    JobStatus,
)
from jobrunner.testing import virtual_time
from tests.families import children, family
from tests.receiving import Receiver, runner_with_webhooks, settled

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@virtual_time
async def test_a_sub_job_is_its_parents() -> None:
    """Who looks at a job finds what works for it, and its owner sees all of that."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> int:
        own = await ctx.submit("nap", {"n": 7})
        other = await ctx.submit("nap", {"n": 8}, owner="bob", session_id="t", priority=1)
        return sum([await own.result(), await other.result()])

    async with runner:
        job = await runner.submit(
            parent, owner="ada", session_id="s", priority=5, traceparent=TRACE, metadata={"a": 1}
        )
        assert await job.result() == 15
        own, other = await children(runner, job)
        records = [runner.record(child.job_id) for child in (own, other)]
    assert (own.parent_id, own.session_id, own.priority, own.metadata) == (job.id, "s", 5, {})
    assert [record.owner for record in records] == ["ada", "bob"]
    assert [record.traceparent for record in records] == [TRACE, TRACE]
    assert (other.parent_id, other.session_id, other.priority) == (job.id, "t", 1)


@virtual_time
async def test_one_worker_is_enough_for_a_tree() -> None:
    """Jobs that wait for their children must not keep the workers from them."""
    async with family() as runner:
        job = await runner.submit("tree", {"depth": 5, "fan": 3})
        assert await job.result(timeout=60.0) == 364
        stats = runner.stats()
    assert (stats.jobs[JobStatus.COMPLETED], stats.busy) == (364, 0)


@virtual_time
async def test_every_way_to_wait_stands_aside() -> None:
    """Whichever of them kept the only worker would wait for ever."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> list[Any]:
        seen: list[Any] = []
        for child in [await ctx.submit("nap", {"n": n, "seconds": 1.0}) for n in range(4)]:
            if not seen:
                seen.append((await child.wait()).status)
            elif len(seen) == 1:
                seen.append([event.type async for event in child.events()])
            else:
                seen.append(await child.result(timeout=5.0))
        return seen

    async with runner:
        job = await runner.submit(parent)
        seen = await job.result(timeout=60.0)
    assert seen == ["completed", ["status", "status", "done"], 2, 3]


@virtual_time
async def test_several_are_waited_for_at_once() -> None:
    """Tasks of a handler wait each for a sub-job of its own."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext) -> int:
        async def one(n: int) -> int:
            child = await ctx.submit("nap", {"n": n, "seconds": 1.0})
            value: int = await child.result()
            return value

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n)) for n in range(5)]
        return sum(task.result() for task in tasks)

    async with runner:
        assert await (await runner.submit(parent)).result(timeout=60.0) == 10


@virtual_time
async def test_a_wait_that_is_over_touches_no_sub_job() -> None:
    """A handler that has waited long enough goes on with its worker, and so does the sub-job."""
    runner = family(workers=2)

    @runner.job
    async def parent(ctx: JobContext) -> list[str]:
        child = await ctx.submit("nap", {"seconds": 10.0})
        said = []
        for wait in (child.wait(timeout=0), child.wait(timeout=1.0), child.result(timeout=1.0)):
            try:
                await wait
            except TimeoutError:
                said.append(child.status.value)
        try:
            async with asyncio.timeout(1.0):
                await child.wait()
        except TimeoutError:
            said.append("mine")
        said.append((await child.wait()).status.value)
        return said

    async with runner:
        job = await runner.submit(parent)
        said = await job.result()
    assert said == ["running", "running", "running", "mine", "completed"]


@virtual_time
async def test_what_can_not_be_submitted_fails_the_parent_as_anything_else() -> None:
    """A mistake in a handler is an error of its job, and says what it was."""
    runner = family()

    @runner.job
    async def parent(ctx: JobContext, type: str, n: Any) -> None:
        await ctx.submit(type, {"n": n})

    async with runner:
        views = [
            await (await runner.submit(parent, {"type": type, "n": n})).wait()
            for type, n in (("knap", 1), ("nap", "x"))
        ]
    errors = [view.error for view in views if view.error is not None]
    assert [error.type for error in errors] == ["UnknownJobType", "InvalidParams"]
    assert "did you mean 'nap'" in errors[0].detail


@virtual_time
async def test_a_webhook_of_a_sub_job_is_checked_as_any_other() -> None:
    """A URL that nobody would ever post to is a mistake of who gave it."""
    runner, said = family(), list[str]()

    @runner.job
    async def parent(ctx: JobContext) -> None:
        for way in (ctx.submit("nap", webhook_url="https://example.com"),
                    ctx.map("nap", [{}], webhook_url="https://example.com")):  # fmt: skip
            try:
                await way
            except InvalidOption as error:
                said.append(str(error))

    async with runner:
        await (await runner.submit(parent)).result()
    assert len(said) == 2 and "webhook" in said[0]


@virtual_time
async def test_a_webhook_of_a_sub_job_is_sent() -> None:
    """Whoever waits for a part of the work hears of it by itself."""
    receiver = Receiver()
    runner = runner_with_webhooks(receiver)

    @runner.job
    async def parent(ctx: JobContext) -> None:
        url = "https://93.184.215.14/part"
        await (await ctx.submit("nap", webhook_url=url)).wait()
        await ctx.map("nap", [{}], webhook_url=url)

    @runner.job
    async def nap() -> None: ...

    async with runner:
        await (await runner.submit(parent)).result()
        await settled(runner)
    assert sorted(r.url.endswith("/part") for r in receiver.received) == [False, True, True]


@virtual_time
async def test_an_attempt_that_has_ended_submits_nothing() -> None:
    """Who would end it? Its parent has ended before."""
    runner = family()
    kept: list[JobContext] = []

    @runner.job
    async def parent(ctx: JobContext, early: bool) -> None:
        kept.append(ctx)
        if early:
            await ctx.submit("nap")

    async with runner:
        for early in (True, False):
            await (await runner.submit(parent, {"early": early})).wait()
            with pytest.raises(AttemptEnded, match=kept[-1].job_id):
                await kept[-1].submit("nap")
            with pytest.raises(AttemptEnded):
                await kept[-1].map("nap", [{}])


@virtual_time
async def test_an_attempt_that_is_to_stop_submits_nothing() -> None:
    """Its sub-jobs have just been cancelled; one more would be forgotten."""
    runner = family()
    said: list[str] = []

    @runner.job
    async def parent(ctx: JobContext) -> None:
        child = await ctx.submit("nap", {"seconds": 60.0})
        try:
            await child.wait()
        finally:
            said.append((await child.wait()).status.value)
            try:
                await ctx.submit("nap")
            except AttemptEnded:
                said.append("refused")

    async with runner:
        job = await runner.submit(parent)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert (await job.wait()).status is JobStatus.CANCELLED
        assert len(await children(runner, job)) == 1
    assert said == ["cancelled", "refused"]
