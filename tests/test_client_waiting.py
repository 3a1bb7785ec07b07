"""Waits over HTTP keep to their time, whatever becomes of the connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from jobrunner import ServerUnreachable
from jobrunner.client import JobClient, Progress
from jobrunner.testing import virtual_time
from jobrunner.web import create_app
from tests.serving import make_runner

LATE = 2.0
JOB = "job_" + 32 * "a"
NOTHING = r"nothing was heard of (job|batch) \w+ in 60 s; it may go on"


class Network(httpx2.AsyncBaseTransport):
    """Passes some requests on to an app, and answers no other.

    Args:
        app: The app, if there is one.
        answers: How many are passed on.
    """

    def __init__(self, app: Any = None, *, answers: int = 0) -> None:
        self._app = httpx2.ASGITransport(app=app)
        self._answers = answers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._answers -= 1
        if self._answers < 0:
            await asyncio.Event().wait()
        return await self._app.handle_async_request(request)


def client_of(network: Network) -> JobClient:
    return JobClient("http://localhost", transport=network, timeout=600.0)


@pytest.mark.parametrize("wait", [
    lambda client: client.handle(JOB).wait(timeout=60),
    lambda client: client.handle(JOB).result(timeout=60),
    lambda client: client.batch("batch_1").wait(timeout=60),
], ids=["wait", "result", "batch"])  # fmt: skip
@virtual_time
async def test_a_wait_without_any_answer_ends_when_its_time_is_over(
    wait: Callable[[JobClient], Awaitable[Any]],
) -> None:
    """The client's own patience is longer than what was asked for."""
    async with client_of(Network()) as client:
        with pytest.raises(TimeoutError, match=NOTHING):
            await wait(client)
    assert asyncio.get_running_loop().time() == 60.0 + LATE


@virtual_time
async def test_a_wait_for_several_says_that_there_was_no_answer() -> None:
    """It never raises for time, but of a job that it has never seen it has nothing to return."""
    async with client_of(Network()) as client:
        with pytest.raises(ServerUnreachable, match="no answer in 60 s"):
            await client.wait([JOB], timeout=60)
    assert asyncio.get_running_loop().time() == 60.0 + LATE


@virtual_time
async def test_what_was_seen_last_is_told_when_no_other_answer_comes() -> None:
    """A job that was running a while ago is more than nothing."""
    runner, gates = make_runner()
    async with runner, client_of(Network(create_app(runner, auth=None), answers=3)) as client:
        job = await client.submit("hold", {"key": "k"})
        with pytest.raises(TimeoutError, match=f"job {job.id} is still running after 60 s"):
            await job.wait(timeout=60)
        assert asyncio.get_running_loop().time() == 60.0 + LATE
        gates["k"].set()


@virtual_time
async def test_a_wait_of_no_time_looks_once() -> None:
    """Also where somebody wants to see the progress of what has ended."""
    runner, gates = make_runner()
    told: list[Progress] = []
    async with runner, client_of(Network(create_app(runner, auth=None), answers=9)) as client:
        job = await client.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        with pytest.raises(TimeoutError, match=f"job {job.id} is still running after 0 s"):
            await job.wait(timeout=0, on_progress=told.append)
        gates["k"].set()
        await job.wait()
        assert (await job.wait(timeout=0, on_progress=told.append)).status == "completed"
    assert told == [Progress(100.0, None, None, None)]
