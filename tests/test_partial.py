"""The text so far: what somebody sees who looks at a job now and then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobrunner import (
    JobContext,
    JobHandle,
    JobRunner,
    JobView,
    PermanentError,
    RetryableError,
    RetryPolicy,
)
from jobrunner.partial import CUT, MAX_PARTIAL
from jobrunner.testing import unix_now, virtual_time

Said = list[tuple[Any, str]]


def talker(**options: Any) -> JobRunner:
    """Return a runner with a job type that says something, and then waits for its cancel."""
    runner = JobRunner(now=unix_now, **options)

    @runner.job
    async def talk(ctx: JobContext, said: Said, then: str = "wait") -> str | None:
        for value, channel in said:
            ctx.emit(value, channel=channel)
        if then == "wait":
            await asyncio.sleep(3_600.0)
        elif then == "fail":
            raise PermanentError("no more")
        return "an answer" if then == "return" else None

    return runner


async def after(said: Said, then: str) -> JobView:
    """Return the job as it stands after it said that."""
    async with talker() as runner:
        job: JobHandle[Any] = await runner.submit("talk", {"said": said, "then": then})
        await asyncio.sleep(1.0)
        return job.view()


@pytest.mark.parametrize(("said", "partial"), [
    ([], None),
    ([("to ", "text"), ("be", "text")], "to be"),
    ([("hm", "reasoning")], None),
    ([("hm", "reasoning"), ("yes", "text"), ("hm", "reasoning")], "yes"),
    ([("3 passed\n", "stdout"), ("a warning\n", "stderr")], "3 passed\na warning\n"),
    ([("a ", "text"), ({"tool": "x"}, "text"), ("b", "text")], 'a {"tool":"x"}\nb'),
    ([("x" * MAX_PARTIAL, "text")], "x" * MAX_PARTIAL),
    ([("a", "text"), ("x" * MAX_PARTIAL, "text")], CUT + "x" * MAX_PARTIAL),
    ([("a" * 9_000 + "b", "text")], CUT + "a" * (MAX_PARTIAL - 1) + "b"),
])  # fmt: skip
@virtual_time
async def test_the_end_of_what_was_said_stands_in_the_view(said: Said, partial: str | None) -> None:
    """An agent that asks how far it is reads what is new; the whole is in the stream."""
    assert (await after(said, "wait")).partial == partial


@pytest.mark.parametrize(("then", "partial"), [
    ("return", None), ("nothing", "so far"), ("fail", "so far"), ("wait", "so far"),
])  # fmt: skip
@virtual_time
async def test_it_stays_where_nothing_better_came(then: str, partial: str | None) -> None:
    """A result says it itself; of what failed it is all there is."""
    assert (await after([("so far", "text")], then)).partial == partial


@virtual_time
async def test_it_is_kept_with_a_job_that_was_cancelled() -> None:
    """Half of an answer may be enough, which is why somebody cancelled."""
    async with talker() as runner:
        job: JobHandle[Any] = await runner.submit("talk", {"said": [("half of", "text")]})
        await asyncio.sleep(1.0)
        await job.cancel()
        await job.wait()
        assert (await runner.get(job.id)).partial == "half of"


@virtual_time
async def test_each_attempt_begins_anew() -> None:
    """Two beginnings of one answer are no text."""
    runner = JobRunner(now=unix_now, retry=RetryPolicy(max_attempts=3))
    seen: list[str | None] = []

    @runner.job
    async def write(ctx: JobContext) -> None:
        seen.append((await runner.get(ctx.job_id)).partial)
        ctx.emit(f"attempt {ctx.attempt}")
        ctx.progress(50)
        raise RetryableError("again", retry_after=10.0)

    async with runner:
        job = await runner.submit(write)
        await asyncio.sleep(1.0)
        assert (job.view().status, job.view().partial) == ("retrying", "attempt 1")
        view = await job.wait()
    assert seen == [None, None, None]
    assert view.partial == "attempt 3"


@virtual_time
async def test_it_is_read_from_older_output_too() -> None:
    """However much of something else came since."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[str]:
        for number in range(5_000):
            yield f"{number} "
        yield "the end"

    @runner.job
    async def count(ctx: JobContext) -> None:
        ctx.emit("begun")
        for number in range(5_000):
            ctx.emit("x", channel="dots")
            ctx.progress(number % 100)

    async with runner:
        view = await (await runner.submit(think)).wait()
        assert view.partial is not None
        assert (view.partial[: len(CUT)], view.partial[-12:]) == (CUT, "4999 the end")
        assert len(view.partial) == len(CUT) + MAX_PARTIAL
        assert (await (await runner.submit(count)).wait()).partial == "begun"
