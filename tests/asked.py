"""A served runner whose jobs ask, and what they were told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from jobrunner import JobContext, JobRunner, Question
from tests.serving import Bench, bench


class Desk(NamedTuple):
    """A served runner with a job type `ask`, and the questions that were sent to people."""

    bench: Bench
    sent: "asyncio.Queue[Question]"

    async def ask(self, schema: Any = str, prompt: str = "Go?", **options: Any) -> Question:
        """Have a job ask, and return the question as a person was sent it."""
        SCHEMAS.append(schema)
        params = {"prompt": prompt, "schema": len(SCHEMAS) - 1}
        await self.bench.runner.submit("ask", params, **options)
        return await self.sent.get()

    async def told(self, question: Question) -> Any:
        """Return what the job was told, and has returned."""
        return await self.bench.runner.handle(question.job_id).result()


SCHEMAS: list[Any] = []
"""What the jobs ask for: a schema is no JSON, so that params have its place here."""


def add_ask(runner: JobRunner) -> "asyncio.Queue[Question]":
    """Add the job type, and return where its questions go."""
    sent: asyncio.Queue[Question] = asyncio.Queue()

    @runner.job
    async def ask(ctx: JobContext, prompt: str, schema: int) -> Any:
        return await ctx.ask(prompt, schema=SCHEMAS[schema], notify=sent.put_nowait)

    return sent


@asynccontextmanager
async def asking_desk(**options: Any) -> AsyncIterator[Desk]:
    """Serve a runner whose jobs ask."""
    async with bench(**options) as served:
        yield Desk(served, add_ask(served.runner))
