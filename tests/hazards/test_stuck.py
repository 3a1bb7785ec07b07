"""Handlers that don't end when they are asked to (T3)."""

import asyncio
import gc
import subprocess
import sys

import pytest

from jobrunner import JobContext
from jobrunner.testing import virtual_time
from tests.runners import ended_after, reason, runner_with, swallow


@pytest.mark.parametrize(("times", "seconds"), [(0, 0.0), (1, 5.0)])
@virtual_time
async def test_t3_who_ignores_a_cancel_is_asked_again(times: int, seconds: float) -> None:
    """It is cancelled at once, and again after the grace of five seconds."""
    runner = runner_with()

    @runner.job
    async def stubborn() -> None:
        await swallow(times)

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel("stop it")
        view = await ended_after(seconds, job)
    assert (view.status, view.cancel_note, view.error) == ("cancelled", "stop it", None)


@pytest.mark.parametrize("times", [2, 3, 1_000_000])
@virtual_time
async def test_t3_a_handler_that_ignores_every_cancel_is_given_up(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After two graces the job ends as stuck, its slot is free, its stack is in the log."""
    runner = runner_with(workers=1)
    release = asyncio.Event()

    @runner.job
    async def stubborn() -> None:
        for _ in range(times):
            try:
                await release.wait()
                return
            except asyncio.CancelledError:
                pass
        await release.wait()

    @runner.job
    async def good() -> str:
        return "my turn"

    async with runner:
        job, behind = await runner.submit(stubborn), await runner.submit(good)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await ended_after(10.0, job)
        assert await behind.result() == "my turn"
        assert (runner.stats().busy, runner.stats().stuck) == (0, 1)
        release.set()
        await asyncio.sleep(1.0)
        assert runner.stats().stuck == 0
    assert view.error is not None
    assert (view.status, view.error.reason, view.error.title) == (
        "failed",
        "stuck",
        "cancelled, and the handler did not end within 10 s",
    )
    assert "in stubborn" in (view.error.traceback or "")
    assert f"job {job.id} is stuck" in caplog.text
    assert f"job {job.id} was stuck and has ended now; its value is dropped" in caplog.text


@virtual_time
async def test_t3_a_late_value_of_a_stuck_handler_changes_nothing() -> None:
    """Its job has ended, and a final job never changes again."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job
    async def stubborn(ctx: JobContext) -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.sleep(0.5))
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            await asyncio.sleep(50.0)
        ctx.progress(99, "late")
        return "late"

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel()
        before = await job.wait()
        assert reason(before) == "stuck"
        await asyncio.sleep(200.0)
        gc.collect()  # what a task raised is told when nobody can ask for it any more
        assert (runner.stats().stuck, faults) == (0, [])
        assert job.view() == before


@virtual_time
async def test_t3_a_handler_that_waits_in_finally_is_given_up() -> None:
    """A cleanup that never ends holds the job no longer than the graces."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            for _ in range(3):
                try:
                    await asyncio.sleep(100.0)
                except asyncio.CancelledError:
                    pass

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert reason(await ended_after(2.0, job)) == "stuck"


@virtual_time
async def test_t3_a_handler_that_ignores_its_time_limit_has_timed_out() -> None:
    """The reason is the limit, and the detail says that the handler is stuck."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job(timeout=2.0)
    async def stubborn() -> None:
        await swallow(3)

    async with runner:
        view = await ended_after(4.0, await runner.submit(stubborn))
    assert view.error is not None
    assert (view.error.reason, view.error.detail) == (
        "timeout",
        "timed out after 2 s, and the handler did not end within 2 s",
    )


@virtual_time
async def test_t3_a_handler_that_ignores_a_shutdown_is_given_up() -> None:
    """Leaving the runner takes the shutdown's time and two graces, and not a second more."""
    runner = runner_with(shutdown_timeout=1.0, cancel_grace=2.0)

    @runner.job
    async def stubborn() -> None:
        await swallow(3)

    loop = asyncio.get_running_loop()
    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        began = loop.time()
    view = job.view()
    assert view.error is not None
    assert (loop.time() - began, view.error.reason, view.error.detail) == (
        5.0,
        "stuck",
        "the runner is shutting down, and the handler did not end within 4 s",
    )


@pytest.mark.slow  # starts an interpreter
def test_t3_a_handler_that_ignores_every_cancel_does_not_keep_the_process() -> None:
    """`asyncio.run` waits for its tasks for ever; one that was given up is none of them."""
    program = """
import asyncio
from jobrunner import JobRunner

async def main():
    runner = JobRunner(cancel_grace=0.01, shutdown_timeout=0.0)

    @runner.job
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(0)
    print(job.status, job.view().error.reason)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "failed stuck\n")
    assert "Task was destroyed" not in done.stderr
