"""Sub-jobs of plain functions in threads, and of handlers in processes."""

import asyncio
import threading
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobFailed, JobRunner, JobStatus, WrongLoop
from jobrunner.context import Desk
from tests.families import children
from tests.records import make_job


def real(**options: Any) -> JobRunner:
    """Return the same runner in real time, for real threads."""
    runner = JobRunner(**{"workers": 1, "shutdown_timeout": 0.0, **options})

    @runner.job
    async def double(n: int, fails: bool = False) -> int:
        if fails:
            raise RuntimeError(f"{n} can't be doubled")
        return 2 * n

    @runner.job
    async def never() -> None:
        await asyncio.Event().wait()

    return runner


async def test_a_thread_submits_waits_and_maps() -> None:
    """A plain function has sub-jobs as a coroutine does, with the only worker there is."""
    runner = real()

    @runner.job
    def parent(ctx: JobContext) -> list[int]:
        child = ctx.run_async(ctx.submit, "double", {"n": 4})
        mapped = ctx.run_async(ctx.map, "double", [{"n": 1}, {"n": 2}], max_in_flight=1)
        value: int = ctx.run_async(child.result)
        return [value, *mapped]

    async with runner:
        job = await runner.submit(parent)
        assert await job.result(timeout=10.0) == [8, 2, 4]
        assert len(await children(runner, job)) == 3


async def test_a_thread_hears_what_is_raised() -> None:
    """An error of a sub-job is raised where its result was wanted."""
    runner = real()

    @runner.job
    def parent(ctx: JobContext) -> str:
        child = ctx.run_async(ctx.submit, "double", {"n": 4, "fails": True})
        with pytest.raises(JobFailed) as caught:
            ctx.run_async(child.result)
        return str(caught.value)

    async with runner:
        assert "4 can't be doubled" in await (await runner.submit(parent)).result(timeout=10.0)


async def test_a_thread_that_waits_is_told_to_stop() -> None:
    """It can't be cancelled, but what it waits for can; or it would wait for ever."""
    runner, waits, stopped = real(), threading.Event(), threading.Event()

    @runner.job
    def parent(ctx: JobContext) -> None:
        child = ctx.run_async(ctx.submit, "never")

        async def wait() -> None:
            waits.set()
            await child.wait()

        try:
            ctx.run_async(wait)
        except asyncio.CancelledError:
            stopped.set()
            ctx.run_async(wait)  # raises at once

    async with runner:
        job = await runner.submit(parent)
        await asyncio.to_thread(waits.wait, 10.0)
        await job.cancel()
        assert (await job.wait(timeout=4.0)).status is JobStatus.CANCELLED
        (child,) = await children(runner, job)
    assert stopped.is_set() and child.cancel_reason == "parent"


async def test_a_thread_that_forgets_how_is_told() -> None:
    """A coroutine that nobody awaits would be a sub-job that never comes."""
    runner = real()

    @runner.job
    def parent(ctx: JobContext, way: str) -> str:
        calls: dict[str, Any] = {"submit": lambda: ctx.submit("double", {"n": 1}),
                                 "map": lambda: ctx.map("double", [])}  # fmt: skip
        with pytest.raises(WrongLoop) as caught:
            calls[way]()
        return str(caught.value)

    async with runner:
        for way in ("submit", "map"):
            job = await runner.submit(parent, {"way": way})
            assert "ctx.run_async(ctx.submit" in await job.result(timeout=10.0)


async def test_a_coroutine_awaits_by_itself() -> None:
    """In the event loop it would wait for what it keeps from running."""
    runner = real()

    @runner.job
    async def parent(ctx: JobContext) -> str:
        with pytest.raises(WrongLoop) as caught:
            ctx.run_async(ctx.submit, "double", {"n": 1})
        return str(caught.value)

    async with runner:
        assert "await" in await (await runner.submit(parent)).result(timeout=10.0)


async def test_a_handler_in_a_process_has_no_sub_jobs() -> None:
    """There is no runner in its process; the error says how else to go about it."""
    loop = asyncio.get_running_loop()
    desk = Desk(loop, record=lambda *_: None, extend=lambda *_: None)
    context = JobContext(make_job(1), desk)
    with pytest.raises(InvalidOption, match="a process of its own"):
        await context.submit("double", {"n": 1})
    with pytest.raises(InvalidOption, match="a process of its own"):
        await context.map("double", [])
