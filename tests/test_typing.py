"""The types that a user's editor shows; mypy checks this file, and pytest that it runs."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from jobrunner import JobContext, JobHandle, JobRunner
from jobrunner.testing import unix_now, virtual_time

runner = JobRunner(now=unix_now)


@runner.job
async def count(ctx: JobContext, words: list[str]) -> dict[str, int]:
    return {word: len(word) for word in words}


@runner.job(timeout=5.0)
async def shout(text: str) -> str:
    return text.upper()


@runner.job("think")
async def stream(prompt: str) -> AsyncIterator[str]:
    yield prompt


@virtual_time
async def test_a_result_has_the_type_that_its_handler_returns() -> None:
    """Submitting the function itself carries its return type to the awaited result."""
    async with runner:
        counted = await runner.submit(count, {"words": ["job"]})
        shouted = await runner.submit(shout, {"text": "job"})
        streamed = await runner.submit(stream, {"prompt": "job"})
        named = await runner.submit("count", {"words": ["job"]})
        assert_type(counted, JobHandle[dict[str, int]])
        assert_type(await counted.result(), dict[str, int])
        assert_type(await shouted.result(), str)
        assert_type(streamed, JobHandle[None])
        assert_type(named, JobHandle[Any])
        assert await counted.result() == await named.result() == {"job": 3}


@runner.job
def plain(number: int) -> float:
    return number / 2


def test_a_decorated_function_stays_what_it_was() -> None:
    """A handler is called in a unit test like any function, with its own types."""
    assert_type(plain(3), float)
    assert plain(3) == 1.5
