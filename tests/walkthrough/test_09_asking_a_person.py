"""Chapter 9. A job asks a person, and waits for the answer without a worker."""

import asyncio
from typing import Literal

import pytest
from pydantic import BaseModel

from jobrunner import InvalidAnswer, JobContext, JobRunner, NotWaitingForInput, Question
from jobrunner.testing import unix_now, virtual_time


class Approval(BaseModel):
    approved: bool
    comment: str = ""


@virtual_time
async def test_a_job_asks_and_goes_on_with_the_answer() -> None:
    """The answer has the type that was asked for."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def deploy(ctx: JobContext, version: str) -> str:
        said = await ctx.ask(f"Deploy {version}?", schema=Approval)
        return f"{version} is live" if said.approved else said.comment

    async with runner:
        job = await runner.submit(deploy, {"version": "1.2"})
        await asyncio.sleep(3_600.0)  # nobody hurries
        view = job.view()
        assert view.status == "input_required"
        assert view.question is not None and view.question.prompt == "Deploy 1.2?"
        await job.answer("q1", {"approved": True})
        assert await job.result() == "1.2 is live"


@virtual_time
async def test_an_answer_that_does_not_fit_is_refused_and_the_first_that_fits_counts() -> None:
    """Whoever was wrong is told where, and may try again; whoever comes second is told so."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def choose(ctx: JobContext) -> str:
        where: str = await ctx.ask("Where to?", schema=Literal["staging", "production"])
        return where

    async with runner:
        job = await runner.submit(choose)
        await asyncio.sleep(1.0)
        with pytest.raises(InvalidAnswer, match="should be 'staging' or 'production'"):
            await job.answer("q1", "the moon")
        await job.answer("q1", "staging")
        with pytest.raises(NotWaitingForInput):
            await job.answer("q1", "production")
        assert await job.result() == "staging"


@virtual_time
async def test_who_waits_for_an_answer_leaves_the_worker_to_others() -> None:
    """One worker is enough for any number of jobs that wait for people."""
    runner = JobRunner(workers=1, now=unix_now)

    @runner.job
    async def approve(ctx: JobContext) -> bool:
        return await ctx.ask("Go on?", schema=bool)

    @runner.job
    async def work() -> str:
        return "done"

    async with runner:
        waiting = [await runner.submit(approve) for _ in range(100)]
        assert await (await runner.submit(work)).result() == "done"
        assert (runner.stats().busy, runner.stats().aside) == (0, 100)
        for job in waiting:
            await job.answer(None, True)
        assert all([await job.result() for job in waiting])


@virtual_time
async def test_silence_is_an_error_or_an_answer_as_was_said() -> None:
    """With a default it is that; without one the handler gets a TimeoutError."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def patient(ctx: JobContext) -> str:
        if not await ctx.ask("Shall I wait?", schema=bool, timeout=60.0, default=True):
            return "in a hurry"
        try:
            return await ctx.ask("For whom?", timeout=60.0)
        except TimeoutError:
            return "nobody came"

    async with runner:
        assert await (await runner.submit(patient)).result() == "nobody came"


@virtual_time
async def test_a_token_answers_one_question_once() -> None:
    """Put it into a link: whoever has it needs nothing else, and it is shown nowhere."""
    runner, sent = JobRunner(now=unix_now), asyncio.Queue[Question]()

    @runner.job
    async def deploy(ctx: JobContext) -> bool:
        return await ctx.ask("Deploy?", schema=bool, notify=sent.put_nowait)

    async with runner:
        job = await runner.submit(deploy)
        question = await sent.get()
        assert question.token not in job.view().model_dump_json()
        await runner.answer_by_token(question.token, True)
        assert await job.result() is True


@virtual_time
async def test_a_job_that_waits_is_cancelled_as_any_other() -> None:
    """Its question is withdrawn, so that nobody answers in vain."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def deploy(ctx: JobContext) -> bool:
        return await ctx.ask("Deploy?", schema=bool)

    async with runner:
        job = await runner.submit(deploy)
        await asyncio.sleep(60.0)
        await job.cancel("not today")
        view = await job.wait()
        assert (view.status, view.question) == ("cancelled", None)
        with pytest.raises(NotWaitingForInput):
            await job.answer("q1", True)
