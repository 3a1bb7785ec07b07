"""A runner with job types to make batches of, and what tests ask of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from jobrunner import BatchHandle, BatchItem, JobRunner, JobStatus, PermanentError
from tests.runners import runner_with

WHO: ContextVar[str] = ContextVar("who", default="nobody")
Told = list[tuple[int, str, Any]]


def make_runner(**options: Any) -> JobRunner:
    """Return a runner with a type that takes so many seconds or fails, and one of no params."""
    runner = runner_with(**{"shutdown_timeout": 0.0, "workers": 5, **options})

    @runner.job
    async def analyse(n: int, seconds: float = 0.0, fails: bool = False, text: str = "") -> int:
        await asyncio.sleep(seconds)
        if fails:
            raise PermanentError(f"number {n} can't be analysed")
        return n * n

    @runner.job
    async def who(n: int = 0) -> str:
        return WHO.get()

    @runner.job
    async def nothing() -> None: ...

    return runner


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[JobRunner]:
    async with make_runner(**options) as runner:
        yield runner


def numbers(count: int, **params: Any) -> list[dict[str, Any]]:
    """Return so many params."""
    return [{"n": n, **params} for n in range(count)]


def ends(items: list[BatchItem[Any]]) -> list[tuple[int, str | None]]:
    return [(item.index, item.status) for item in items]


def some(counts: dict[JobStatus, int]) -> dict[str, int]:
    """Return the statuses that any job has."""
    return {status.value: count for status, count in counts.items() if count}


async def log_of(batch: BatchHandle[Any], after: int = 0) -> Told:
    """Return number, type and index of the batch's events."""
    return [(e.seq, e.type, e.data.get("index")) async for e in batch.events(after)]


def taken(runner: JobRunner) -> int:
    """Return how many jobs there are or were."""
    stats = runner.stats()
    return sum(stats.jobs.values()) + stats.pruned


class Load:
    """Counts how many run at once."""

    def __init__(self) -> None:
        self.now = self.most = self.runs = 0

    async def carry(self, seconds: float) -> None:
        self.now += 1
        self.runs += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now -= 1
