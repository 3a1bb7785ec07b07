"""A job type that asks a person."""

import asyncio
from typing import Any

from jobrunner import JobContext, JobHandle, JobRunner
from tests.runners import runner_with


def asking(schema: Any = bool, runner: JobRunner | None = None, **options: Any) -> JobRunner:
    """Return a runner with one worker and a job type that asks once, and returns the answer."""
    runner = runner or runner_with(workers=1, seed=1)

    @runner.job
    async def ask(ctx: JobContext) -> Any:
        return await ctx.ask("Deploy?", schema=schema, **options)

    return runner


async def asked(runner: JobRunner, type: str = "ask", **options: Any) -> JobHandle[Any]:
    """Submit a job, and return when it has asked."""
    job = await runner.submit(type, **options)
    await asyncio.sleep(1.0)
    assert job.status == "input_required"
    return job
