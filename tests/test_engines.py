"""Handlers in this process: coroutines and generators in the loop, functions in threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from jobrunner import JobContext, JobRunner, Limits
from jobrunner.testing import unix_now, virtual_time
from tests.runners import ended


async def test_a_coroutine_runs_in_the_event_loop() -> None:
    """It shares connections with the app that embeds the runner."""

    async def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert (await ended(where)).result is True


async def test_a_function_runs_in_a_thread_of_its_own() -> None:
    """Blocking code doesn't stop the loop, and the thread says whose it is."""

    def where(ctx: JobContext) -> bool:
        return threading.current_thread().name == ctx.job_id

    assert (await ended(where)).result is True


@virtual_time
async def test_what_a_generator_yields_is_emitted() -> None:
    """An agent that streams its thoughts needs no context for it."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(1.0)
        yield "two"

    async with runner:
        job = await runner.submit(think)
        assert (await job.wait()).result is None
        pieces = [e.data["text"] async for e in job.events() if e.type == "output"]
    assert pieces == ["one ", "two"]


@virtual_time
async def test_a_generator_may_yield_values_too() -> None:
    """Steps of an agent between its words, each whole."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[str | dict[str, str]]:
        yield "let me see"
        yield {"tool": "search"}

    async with runner:
        job = await runner.submit(think)
        assert [e.value async for e in job.events() if e.type == "output"] == [
            "let me see", {"tool": "search"}
        ]  # fmt: skip


@virtual_time
async def test_a_generator_that_is_cancelled_cleans_up() -> None:
    """Its `finally` has run when the job says that it was cancelled."""
    runner, steps = JobRunner(now=unix_now), []

    @runner.job
    async def think() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(1.0)
            steps.append("closed")

    async with runner:
        job = await runner.submit(think)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert (await job.wait()).status == "cancelled"
        assert steps == ["closed"]


@virtual_time
async def test_a_generator_is_closed_when_a_piece_of_it_can_not_be_emitted() -> None:
    """What it yields may be hostile; its `finally` runs all the same, and the job fails."""
    runner, steps = JobRunner(now=unix_now), []

    class Hostile(str):
        def __len__(self) -> int:
            raise LookupError("no length")

    @runner.job
    async def think() -> AsyncIterator[Hostile]:
        try:
            yield Hostile("x")
        finally:
            await asyncio.sleep(1.0)
            steps.append("closed")

    async with runner:
        view = await (await runner.submit(think)).wait()
        assert steps == ["closed"]
    assert view.error is not None
    assert (view.status, "no length" in view.error.detail) == ("failed", True)


async def test_an_engine_gets_the_handler_its_context_and_its_arguments() -> None:
    """The seam is one method: where a handler runs is all that an engine decides."""
    runner, seen = JobRunner(), []

    @runner.job
    async def add(ctx: JobContext, a: int, b: int = 2) -> int:
        arguments: Mapping[str, Any] = {"a": a, "b": b}
        seen.append((ctx.type, arguments))
        return a + b

    async with runner:
        assert await (await runner.submit(add, {"a": "1"})).result() == 3
    assert seen == [("add", {"a": 1, "b": 2})]


@virtual_time
async def test_what_a_generator_yields_is_text_or_becomes_json() -> None:
    """A model's pieces are often objects; a watcher gets JSON, not Python's way to show them."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[Any]:
        yield "text"
        yield {"token": "a", "n": 1}

    async with runner:
        job = await runner.submit(think)
        said = [event.data["text"] async for event in job.events() if event.type == "output"]
    assert said == ["text", '{"token":"a","n":1}']


async def test_threads_that_have_ended_make_room() -> None:
    """The limit counts what runs, however it came to its end."""
    runner = JobRunner(limits=Limits(max_threads=1), workers=1)

    @runner.job
    def quick(n: int) -> int:
        return n

    async with runner:
        assert [await (await runner.submit(quick, {"n": n})).result() for n in range(3)] == [
            0,
            1,
            2,
        ]
