"""A runner whose jobs have sub-jobs, and what tests ask of them."""

import asyncio
from typing import Any

from jobrunner import Event, JobContext, JobHandle, JobRunner, JobView, PermanentError
from tests.runners import runner_with, swallow


def family(**options: Any) -> JobRunner:
    """Return a runner with sub-jobs that take time, fail, refuse to end, or have their own."""
    runner = runner_with(**{"shutdown_timeout": 0.0, "workers": 1, **options})

    @runner.job
    async def nap(seconds: float = 0.0, fails: bool = False, n: int = 0) -> int:
        await asyncio.sleep(seconds)
        if fails:
            raise PermanentError(f"nap {n} was disturbed")
        return n

    @runner.job
    async def stubborn(times: int = 1) -> None:
        await swallow(times)

    @runner.job
    async def tree(ctx: JobContext, depth: int, fan: int = 3) -> int:
        """Return how many jobs there are in a tree."""
        if depth == 0:
            return 1
        counts: list[int] = await ctx.map("tree", [{"depth": depth - 1, "fan": fan}] * fan)
        return 1 + sum(counts)

    return runner


def naps(count: int, **params: Any) -> list[dict[str, Any]]:
    """Return params of so many naps."""
    return [{"n": n, **params} for n in range(count)]


async def children(runner: JobRunner, job: JobHandle[Any]) -> list[JobView]:
    """Return the sub-jobs of a job, in the order in which they came."""
    return (await runner.list(parent_id=job.id, limit=200)).jobs[::-1]


async def statuses(runner: JobRunner, job: JobHandle[Any]) -> list[tuple[str, str | None]]:
    """Return how the sub-jobs stand, and by whose wish."""
    return [(child.status.value, child.cancel_reason) for child in await children(runner, job)]


async def events_of(job: JobHandle[Any], kind: str) -> list[Event]:
    return [event async for event in job.events() if event.type == kind]
