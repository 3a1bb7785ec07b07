"""What an attempt has to say so that it isn't taken for stalled."""

import asyncio
from collections.abc import Callable

import pytest

from jobrunner import JobContext, JobRunner
from jobrunner.testing import virtual_time
from tests.timed import AGAIN, new_runner, pause, seconds_of, told

SIGNS: dict[str, Callable[[JobContext], None]] = {
    "progress": lambda ctx: ctx.progress(10, "the same"),
    "step": lambda ctx: ctx.step(1, 4),
    "log": lambda ctx: ctx.log("the same"),
    "emit": lambda ctx: ctx.emit("x"),
}


@pytest.mark.parametrize("sign", SIGNS)
@virtual_time
async def test_whatever_a_handler_says_is_a_sign_of_life(sign: str) -> None:
    """Also the same progress again: it is no news for watchers, but somebody has said it."""
    runner = new_runner()

    @runner.job
    async def lively(ctx: JobContext) -> None:
        for _ in range(10):
            SIGNS[sign](ctx)
            await asyncio.sleep(4.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(lively, stall_timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (
        ("stalled", "stalled: no sign of life for 5 s"), 36.0 + 5.0,
    )  # fmt: skip


@virtual_time
async def test_silence_is_measured_in_each_attempt_anew() -> None:
    """And a stalled attempt may be tried again."""
    async with new_runner(retry=AGAIN) as runner:
        view = await (await runner.submit("slow", stall_timeout=5.0)).wait()
    assert (view.attempt, seconds_of(view)) == (3, 15.0)


@virtual_time
async def test_signs_of_life_do_not_hold_up_a_time_limit() -> None:
    """Both limits hold, and the one that is over first counts."""
    runner = new_runner()

    @runner.job
    async def talking(ctx: JobContext) -> None:
        while True:
            ctx.log("still here")
            await asyncio.sleep(1.0)

    async with runner:
        view = await (await runner.submit(talking, timeout=20.5, stall_timeout=5.0)).wait()
    assert told(view) == ("timeout", "timed out after 20.5 s")


@pytest.mark.slow
async def test_the_output_of_a_command_is_a_sign_of_life() -> None:
    """A build that prints is not stuck; one that is silent may be. Real processes take a while."""
    runner = JobRunner()

    @runner.job
    async def build(ctx: JobContext, script: str) -> None:
        await ctx.run_command(["/bin/sh", "-c", script])

    async with runner:
        talks = await runner.submit(
            build, {"script": "while :; do echo x; sleep 0.1; done"}, timeout=1.6, stall_timeout=1.2
        )
        silent = await runner.submit(build, {"script": "sleep 30"}, stall_timeout=0.3)
        views = [await job.wait() for job in (talks, silent)]
    assert [told(view) for view in views] == [
        ("timeout", "timed out after 1.6 s"),
        ("stalled", "stalled: no sign of life for 0.3 s"),
    ]


async def test_a_thread_shows_signs_of_life_too() -> None:
    """What a thread says counts when it says it, whenever the loop hears of it."""
    runner = JobRunner()

    @runner.job(stall_timeout=0.15)
    def lively(ctx: JobContext) -> str:
        for _ in range(10):
            ctx.progress(5)
            pause(0.02)
        return "value"

    async with runner:
        assert await (await runner.submit(lively)).result() == "value"
