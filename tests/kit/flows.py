"""Runners for tests of the kit, and flows that go through everything."""

import asyncio
from typing import Any

from jobrunner import JobContext, JobRunner, RetryPolicy
from jobrunner.testing import DrivenRunner


def add_flow(runner: JobRunner, *, base: float = 60.0) -> None:
    """Register an agent's job types: one that is tried three times, and what it leads to."""

    @runner.job(retry=RetryPolicy(max_attempts=3, base=base))
    async def research(ctx: JobContext, topic: str) -> dict[str, Any]:
        ctx.progress(10, "Reading")
        if ctx.attempt < 3:
            raise OSError(f"attempt {ctx.attempt} has failed")
        ctx.log("found", pages=3)
        ctx.emit(f"All about {topic}")
        return {"topic": topic, "pages": 3}

    @runner.job
    async def nap(seconds: float = 10.0) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @runner.job
    async def broken(text: str = "no") -> None:
        raise ValueError(text)


def flow_runner(**options: Any) -> DrivenRunner:
    """Return a driven runner with these job types."""
    runner = DrivenRunner(**{"seed": 1, **options})
    add_flow(runner)
    return runner
