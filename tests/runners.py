"""Runners in virtual time for tests of the kernel, and handlers that don't behave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from jobrunner import JobHandle, JobRunner, JobView
from jobrunner.testing import unix_now

KINDS = ("coroutine", "thread", "generator")


def runner_with(**options: Any) -> JobRunner:
    """Return one whose log has nothing of how busy the machine is."""
    return JobRunner(**{"now": unix_now, "watchdog": None, **options})


def raising(kind: str, error: BaseException) -> Callable[[], Any]:
    """Return a handler of that kind that raises `error`."""

    async def in_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    async def generator() -> AsyncIterator[str]:
        yield "piece"
        raise error

    return {"coroutine": in_loop, "thread": in_thread, "generator": generator}[kind]


def reason(view: JobView) -> str | None:
    return None if view.error is None else view.error.reason


async def swallow(times: float) -> None:
    """Ignore so many cancellations, and then end."""
    while times >= 0:
        try:
            await asyncio.sleep(3_600.0)
            return
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def ended_after(seconds: float, job: JobHandle[Any]) -> JobView:
    """Return the job as it ended, after exactly so many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    view = await job.wait()
    assert round(loop.time() - began, 6) == seconds
    return view


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with a job type that takes ten seconds, and one that notes its order."""
    runner = runner_with(**options)

    @runner.job
    async def slow(n: int = 1) -> int:
        await asyncio.sleep(10.0)
        return n

    return runner


def noting(runner: JobRunner) -> list[str]:
    """Register a job type that notes its name when it runs."""
    order: list[str] = []

    @runner.job
    async def note(name: str) -> None:
        order.append(name)

    return order


async def ended(handler: Callable[..., Any]) -> JobView:
    """Run one job and return it as it ended."""
    runner = JobRunner()
    runner.job(handler)
    async with runner:
        view: JobView = await (await runner.submit(handler)).wait(timeout=5.0)
    return view
