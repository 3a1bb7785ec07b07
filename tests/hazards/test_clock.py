"""Somebody sets the clock: nothing is early or late for it (Q6)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jobrunner import (
    JobContext,
    JobGone,
    JobHandle,
    JobRunner,
    Limits,
    Retention,
    RetryableError,
    RetryPolicy,
)
from jobrunner.testing import simulate, unix_now
from tests.runners import reason

YEAR = 31_536_000.0
Moments = list[tuple[float, str]]


class Wall:
    """A clock on a wall, which anybody can set."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return unix_now() + self.offset


def runner_by(wall: Wall) -> JobRunner:
    """Return a runner with whatever has a time."""
    runner = JobRunner(
        now=wall.now, seed=1, workers=2, retention=Retention(max_age=50.0),
        limits=Limits(max_pending=20),
    )  # fmt: skip

    @runner.job
    async def sleep(seconds: float = 3_600.0) -> None:
        await asyncio.sleep(seconds)

    @runner.job(retry=RetryPolicy(max_attempts=3, base=20.0, budget=1.0, max_time=100.0))
    async def flaky(ctx: JobContext) -> None:
        if ctx.attempt < 3:
            raise RetryableError("not yet", retry_after=7.0)

    @runner.job(rate_limit="1/10s")
    async def rated() -> None: ...

    @runner.job(max_pending=1)
    async def narrow() -> None: ...

    return runner


Use = Callable[[JobRunner], Coroutine[Any, Any, list[JobHandle[Any]]]]


async def an_expiry(runner: JobRunner) -> list[JobHandle[Any]]:
    """Both workers are busy until it is over."""
    busy = [await runner.submit("sleep", {"seconds": 60.0}) for _ in range(2)]
    return [*busy, await runner.submit("sleep", expires=20.0)]


async def a_rate(runner: JobRunner) -> list[JobHandle[Any]]:
    return [await runner.submit("rated") for _ in range(3)]


async def one(runner: JobRunner, type: str, **options: Any) -> list[JobHandle[Any]]:
    return [await runner.submit(type, **options)]


USES: dict[str, Use] = {
    "timeout": lambda runner: one(runner, "sleep", timeout=10.0),
    "deadline": lambda runner: one(runner, "sleep", deadline=10.0),
    "deadline of a delayed job": lambda runner: one(runner, "sleep", delay=9.0, deadline=10.0),
    "stall": lambda runner: one(runner, "sleep", stall_timeout=10.0),
    "delay": lambda runner: one(runner, "sleep", delay=20.0, timeout=1.0),
    "retries": lambda runner: one(runner, "flaky"),
    "expiry": an_expiry,
    "rate": a_rate,
}


def moments(use: Use, jump: float) -> Moments:
    """Return when each job ends and when it is pruned, where the clock jumps after 5 seconds."""

    async def main() -> Moments:
        wall, loop = Wall(), asyncio.get_running_loop()
        found: Moments = []

        async def follow(job: JobHandle[Any]) -> None:
            view = await job.wait(timeout=1_000.0)
            found.append((round(loop.time(), 6), f"{view.status} {reason(view)}"))
            await asyncio.sleep(49.9)
            await runner.get(job.id)
            await asyncio.sleep(0.2)
            with pytest.raises(JobGone):
                await runner.get(job.id)

        async with runner_by(wall) as runner:
            async with asyncio.TaskGroup() as group:
                for job in await use(runner):
                    group.create_task(follow(job), name="follow")
                await asyncio.sleep(5.0)
                wall.offset = jump
        return found

    return simulate(main)


@pytest.mark.parametrize("jump", [-50 * YEAR, -3_600.0, 3_600.0, 50 * YEAR])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_q6_a_jump_of_the_clock_moves_nothing(use: Use, jump: float) -> None:
    """Limits, delays, retries, rates and retention count seconds that have really passed."""
    assert moments(use, jump) == moments(use, 0.0)


def test_q6_what_is_timed_has_its_time() -> None:
    """Were nothing timed at all, no jump could move it."""
    ends = {name: moments(use, 0.0)[-1] for name, use in USES.items() if name != "retries"}
    assert ends == {
        "timeout": (10.0, "failed timeout"),
        "deadline": (10.0, "failed deadline"),
        "deadline of a delayed job": (19.0, "failed deadline"),
        "stall": (10.0, "failed stalled"),
        "delay": (21.0, "failed timeout"),
        "expiry": (60.0, "completed None"),
        "rate": (20.0, "completed None"),
    }


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_q6_who_waits_for_room_waits_as_long_as_they_said(jump: float) -> None:
    """`max_wait` is a duration too."""

    async def main() -> tuple[float, str]:
        wall = Wall()
        async with runner_by(wall) as runner:
            runner.pause()
            await runner.submit("narrow")
            asyncio.get_running_loop().call_later(5.0, setattr, wall, "offset", jump)
            try:
                await runner.submit("narrow", max_wait=30.0)
            except Exception as error:
                return asyncio.get_running_loop().time(), type(error).__name__
        return 0.0, "no error"

    assert simulate(main) == (30.0, "QueueFull")
