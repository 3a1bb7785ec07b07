"""Jobs with sub-jobs, driven: a parent goes on when what it waits for has ended."""

import asyncio

import pytest

from jobrunner import JobContext, JobStatus
from jobrunner.testing import DrivenRunner, Mode, perform_job, virtual_time


def family(mode: Mode) -> DrivenRunner:
    """Return a runner with parents, children, and one that asks a person."""
    runner = DrivenRunner(mode=mode, workers=1)

    @runner.job
    async def child(n: int) -> int:
        await asyncio.sleep(60.0)
        return n * n

    @runner.job
    async def asks(ctx: JobContext) -> str:
        said: str = await ctx.ask("Go on?")
        return said

    @runner.job
    async def parent(ctx: JobContext, of: list[int]) -> int:
        return sum(await ctx.map(child, [{"n": n} for n in of]))

    @runner.job
    async def grandparent(ctx: JobContext) -> int:
        total: int = await (await ctx.submit(parent, {"of": [1, 2]})).result()
        return total + 1

    @runner.job
    async def leaves_one_asking(ctx: JobContext) -> int:
        asking = await ctx.submit(asks)
        squared: int = await (await ctx.submit(child, {"n": 3})).result()
        await asking.cancel()
        return squared

    return runner


@pytest.mark.parametrize("mode", ["live", "paused", "inline"])
@virtual_time
async def test_a_family_is_drained_to_the_last(mode: Mode) -> None:
    """The only worker goes to the children, and comes back."""
    async with family(mode) as runner:
        job = await runner.submit("grandparent")
        await runner.drain()
        assert await job.result() == 6
        assert runner.stats().jobs[JobStatus.COMPLETED] == 4


@virtual_time
async def test_inline_a_family_is_carried_out_within_the_submit() -> None:
    """Also while its first job only waits for the others; none is waited for that a person has."""
    async with family("inline") as runner:
        assert (await runner.submit("grandparent")).status == "completed"
        assert (await runner.submit("leaves_one_asking")).status == "completed"
        assert (await runner.submit("asks")).status == "input_required"
        await runner.drain()


@virtual_time
async def test_each_attempt_of_a_family_is_a_step() -> None:
    """A parent that waits has had its step; it has another one when it goes on."""
    async with family("paused") as runner:
        job = await runner.submit("parent", {"of": [1, 2]})
        steps = []
        while (stepped := await runner.step()) is not None:
            steps.append((stepped.type, stepped.status.value))
        assert steps == [
            ("parent", "running"), ("child", "completed"), ("child", "completed"),
            ("parent", "completed"),
        ]  # fmt: skip
        assert await job.result() == 5


@pytest.mark.parametrize("mode", ["live", "paused", "inline"])
@virtual_time
async def test_a_parent_goes_on_while_a_person_thinks_about_another_child(mode: Mode) -> None:
    """It waits for one of its children only, and that one has ended."""
    async with family(mode) as runner:
        job = await runner.submit("leaves_one_asking")
        await runner.drain()
        assert job.status == "completed"
        assert await job.result() == 9


@virtual_time
async def test_a_family_that_waits_for_a_person_is_at_rest() -> None:
    """There is nothing that a drain could wait for; the answer sets all of it going."""
    runner = family("paused")

    @runner.job
    async def needs_an_answer(ctx: JobContext) -> str:
        said: str = await (await ctx.submit("asks")).result()
        return said

    async with runner:
        job = await runner.submit("needs_an_answer")
        await runner.drain()
        (asking,) = (await runner.list(parent_id=job.id)).jobs
        assert (asking.status, job.status) == ("input_required", "running")
        await runner.answer(asking.job_id, None, "yes")
        await runner.drain()
        assert await job.result() == "yes"


@pytest.mark.parametrize("mode", ["live", "paused", "inline"])
@pytest.mark.parametrize("kind", ["job", "job of a task", "job of a thread", "batch"])
@virtual_time
async def test_a_handler_that_hands_something_over_goes_on(mode: Mode, kind: str) -> None:
    """It holds the only worker: if it waited for the other job, neither would ever end."""
    runner = family(mode)
    given = {"n": 2}

    @runner.job(timeout=600.0)
    async def hands_over() -> str:
        if kind == "job":
            await runner.submit("child", given)
        elif kind == "job of a task":
            async with asyncio.TaskGroup() as group:
                group.create_task(runner.submit("child", given))
        else:
            await runner.submit_batch("child", [given, given])
        return "handed over"

    @runner.job(timeout=600.0)
    def hands_over_in_a_thread() -> str:
        runner.submit_threadsafe("child", given).result()
        return "handed over"

    async with runner:
        type = "hands_over_in_a_thread" if kind == "job of a thread" else "hands_over"
        job = await runner.submit(type)
        await runner.drain()
        assert await job.result() == "handed over"
        assert runner.stats().jobs[JobStatus.COMPLETED] == (3 if kind == "batch" else 2)


@virtual_time
async def test_inline_a_handler_of_another_runner_waits_like_anybody() -> None:
    """It holds no worker of this one."""
    runner = family("inline")

    async def hands_over() -> str:
        return (await runner.submit("child", {"n": 2})).status

    async with runner:
        assert (await perform_job(hands_over)).value == "completed"
