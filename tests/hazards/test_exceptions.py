"""Whatever a handler raises ends its job, and nothing else (T1, T4)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobrunner import JobContext, JobRunner, RetryPolicy
from jobrunner.testing import virtual_time
from tests.hazards.programs import uvicorn_serves
from tests.runners import KINDS, raising, reason, runner_with


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        SystemExit("bad"),
        KeyboardInterrupt("bad"),
        GeneratorExit("bad"),
        asyncio.CancelledError("bad"),
        ExceptionGroup("bad", [ValueError("worse")]),
        BaseExceptionGroup("bad", [SystemExit("worse")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_t1_nothing_that_a_handler_raises_harms_the_pool(
    error: BaseException, kind: str
) -> None:
    """SystemExit in a job ended the whole server; here the job fails and the next one runs."""
    runner = JobRunner(workers=1)
    bad = raising(kind, error)
    runner.job("bad")(bad)

    @runner.job
    async def good() -> str:
        return "still here"

    async with runner:
        failed = await (await runner.submit("bad")).wait(timeout=5.0)
        assert await (await runner.submit(good)).result(timeout=5.0) == "still here"
    assert (failed.status, reason(failed)) == ("failed", "error")
    assert failed.error is not None
    assert failed.error.type == type(error).__name__


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_t1_a_stop_iteration_is_a_failure_like_any_other(kind: str) -> None:
    """Python makes a RuntimeError of it, and neither of them reaches the loop."""
    runner = JobRunner(workers=1)
    runner.job("bad")(raising(kind, StopIteration("bad")))
    async with runner:
        view = await (await runner.submit("bad")).wait(timeout=5.0)
    assert view.error is not None
    assert (view.status, view.error.type) == ("failed", "RuntimeError")


async def test_t1_an_exception_that_raises_when_asked_for_its_class_is_a_failure() -> None:
    """`isinstance` reads `__class__`, and what that raises would leave the job's task."""

    def refuse(self: object) -> None:
        raise SystemExit("none of your business")

    async with JobRunner() as runner:

        @runner.job
        async def lie() -> None:
            raise type("Liar", (Exception,), {"__class__": property(refuse)})

        view = await (await runner.submit(lie)).wait(timeout=10.0)
        assert (view.status, reason(view), runner.stats().faults) == ("failed", "error", 0)


async def leak_by_raising() -> None:
    raise asyncio.CancelledError


async def leak_from_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def leak_from_a_task() -> None:
    task = asyncio.create_task(asyncio.sleep(60.0))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


@pytest.mark.parametrize("leak", [leak_by_raising, leak_from_a_future, leak_from_a_task])
@virtual_time
async def test_t4_a_leaked_cancellation_is_a_failure(leak: Callable[[], Awaitable[None]]) -> None:
    """It ended the worker silently; nobody cancelled the job, so it has failed."""
    runner, runs = runner_with(workers=1), list[int]()

    @runner.job
    async def leaky() -> None:
        runs.append(1)
        if len(runs) == 1:  # were it given back to the queue, it would go round for ever
            await leak()

    @runner.job
    async def good() -> str:
        return "still here"

    async with runner:
        view = await (await runner.submit(leaky)).wait()
        assert await (await runner.submit(good)).result() == "still here"
    assert view.error is not None
    assert (view.status, view.error.type, view.error.title) == (
        "failed",
        "CancelledError",
        "the handler raised CancelledError, but nobody had cancelled the job",
    )


@virtual_time
async def test_t4_a_leaked_cancellation_may_be_tried_again() -> None:
    """A cancelled connection pool is gone in the next attempt."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2))

    @runner.job
    async def leaky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise asyncio.CancelledError
        return ctx.attempt

    async with runner:
        assert await (await runner.submit(leaky)).result() == 2


RAISES = """
    import asyncio
    from collections.abc import AsyncIterator
    from jobrunner import JobRunner
    from jobrunner.web import create_app

    ERRORS = {
        "ValueError": ValueError,
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
        "CancelledError": asyncio.CancelledError,
        "ExceptionGroup": lambda: ExceptionGroup("bad", [ValueError("worse")]),
        "BaseExceptionGroup": lambda: BaseExceptionGroup("bad", [SystemExit("worse")]),
    }
    runner = JobRunner()


    @runner.job
    async def coroutine(error: str) -> None:
        raise ERRORS[error]()


    @runner.job
    def thread(error: str) -> None:
        raise ERRORS[error]()


    @runner.job
    async def generator(error: str) -> AsyncIterator[str]:
        yield "piece"
        raise ERRORS[error]()


    @runner.job
    async def good() -> str:
        return "still here"


    app = create_app(runner, auth=None)
"""
ERRORS = (
    "ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError",
    "ExceptionGroup", "BaseExceptionGroup",
)  # fmt: skip


@pytest.mark.slow  # starts a server
async def test_t1_nothing_that_a_handler_raises_ends_the_server(tmp_path: Path) -> None:
    """Under uvicorn, whose own handling of KeyboardInterrupt and SystemExit is not a test's."""
    asked = [(kind, error) for kind in KINDS for error in ERRORS]
    async with uvicorn_serves(tmp_path, RAISES) as (process, client):
        told = []
        for kind, error in asked:
            body = {"type": kind, "params": {"error": error}}
            response = await client.post("/jobs", json=body, headers={"prefer": "wait=30"})
            job = response.json()
            told.append((job["status"], job["error"]["reason"], job["error"]["type"]))
        good = await client.post("/jobs", json={"type": "good"}, headers={"prefer": "wait=30"})
        alive = process.returncode is None
    assert told == [("failed", "error", error) for _, error in asked]
    assert (good.json()["result"], alive) == ("still here", True)
