"""Chapter 1. A function becomes a job type, a submit becomes a job, a job becomes a result."""

import asyncio

import pytest

from jobrunner import InvalidParams, JobRunner, UnknownJobType


async def test_a_function_becomes_a_job() -> None:
    """Decorate a function, submit it, and wait for what it returns."""
    runner = JobRunner()

    @runner.job
    async def count_words(text: str) -> int:
        return len(text.split())

    async with runner:
        job = await runner.submit(count_words, {"text": "to be or not to be"})
        assert await job.result() == 6


async def test_submit_returns_before_the_job_starts() -> None:
    """The id is there at once, for the HTTP response that can't wait for minutes."""
    runner = JobRunner()

    @runner.job
    async def count_words(text: str) -> int:
        return len(text.split())

    async with runner:
        job = await runner.submit(count_words, {"text": "to be"})
        assert job.status == "pending"
        assert job.id.startswith("job_")


async def test_a_job_can_be_submitted_by_name() -> None:
    """An agent or an HTTP client knows the name only; it is the function's, or one you give."""
    runner = JobRunner()

    @runner.job("words.count")
    async def count_words(text: str) -> int:
        return len(text.split())

    async with runner:
        job = await runner.submit("words.count", {"text": "to be"})
        assert await job.result() == 2


async def test_a_blocking_function_runs_in_a_thread() -> None:
    """Write `def` instead of `async def`, and the event loop stays free."""
    runner = JobRunner()

    @runner.job
    def count_words(text: str) -> int:
        return len(text.split())

    async with runner:
        job = await runner.submit(count_words, {"text": "to be"})
        assert await job.result() == 2


async def test_params_are_checked_before_the_job_is_accepted() -> None:
    """The signature is the schema: what doesn't fit is refused, and the error says where."""
    runner = JobRunner()

    @runner.job
    async def count_words(text: str, minimum: int = 1) -> int:
        return len([word for word in text.split() if len(word) >= minimum])

    async with runner:
        with pytest.raises(InvalidParams) as caught:
            await runner.submit(count_words, {"minimum": "many"})
    assert [problem["pointer"] for problem in caught.value.errors] == ["#/text", "#/minimum"]


async def test_an_unknown_type_is_refused() -> None:
    """A typing error gets a hint."""
    runner = JobRunner()

    @runner.job
    async def count_words(text: str) -> int:
        return len(text.split())

    async with runner:
        with pytest.raises(UnknownJobType, match="did you mean 'count_words'"):
            await runner.submit("count_word", {"text": "to be"})


async def test_several_workers_run_jobs_side_by_side() -> None:
    """`workers` says how many jobs run at once; more of them wait their turn."""
    runner = JobRunner(workers=2)
    both_here = asyncio.Barrier(2)

    @runner.job
    async def meet() -> str:
        await both_here.wait()
        return "met"

    async with runner:
        jobs = [await runner.submit(meet) for _ in range(4)]
        assert [await job.result() for job in jobs] == ["met"] * 4
