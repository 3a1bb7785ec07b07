"""What takes time over HTTP, long polls, heartbeats, stuck handlers: in virtual time.

There are no sockets in virtual time, so that the app is called as a server would call it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from jobrunner import JobRunner
from jobrunner.testing import unix_now, virtual_time
from jobrunner.web import create_app
from tests.serving import in_process, problem


@virtual_time
async def test_a_wait_ends_in_its_time_and_the_job_goes_on() -> None:
    """Proxies hang up after a minute: asking for ten minutes is answered after thirty seconds."""
    loop = asyncio.get_running_loop()
    async with in_process(now=unix_now) as served:
        job_id = await served.held("long")
        took = []
        for wait in (5, 600):
            began = loop.time()
            response = await served.client.get(f"/jobs/{job_id}?wait={wait}")
            took.append((response.json()["status"], round(loop.time() - began, 3)))
    assert took == [("running", 5.0), ("running", 30.0)]


@virtual_time
async def test_a_submit_that_waits_in_vain_is_accepted() -> None:
    """The wish was honoured, and the job wasn't quick enough: 202, as if nobody had wished."""
    async with in_process(now=unix_now) as served:
        response = await served.client.post(
            "/jobs", json={"type": "hold", "params": {"key": "k"}}, headers={"prefer": "wait=3"}
        )
    assert (response.status_code, response.json()["status"]) == (202, "running")


@virtual_time
async def test_stuck_handlers_turn_ready_red() -> None:
    """T3: a server whose every worker was lost to a handler that refuses to end has to go."""
    runner = JobRunner(workers=1, cancel_grace=1.0, shutdown_timeout=0.0, now=unix_now)
    stubborn = asyncio.Event()

    @runner.job
    async def refuse() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                pass

    transport = httpx2.ASGITransport(app=create_app(runner, auth=None))
    async with runner, httpx2.AsyncClient(transport=transport, base_url="http://localhost") as c:
        job = await runner.submit(refuse, timeout=1.0)
        await job.wait()
        response = await c.get("/readyz")
        stubborn.set()
    assert problem(response) == (503, "unready")


@asynccontextmanager
async def asgi_stream(
    runner: JobRunner, path: str, *, auth: Any = None
) -> AsyncIterator[list[tuple[float, bytes]]]:
    """Open a stream and collect what is sent, each piece with its time."""
    loop = asyncio.get_running_loop()
    began, sent, left = loop.time(), list[tuple[float, bytes]](), asyncio.Event()

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            sent.append((round(loop.time() - began, 3), message["body"]))

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"after=0",
        "root_path": "", "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    app = create_app(runner, auth=auth)
    async with asyncio.TaskGroup() as group:
        group.create_task(app(scope, receive, send))
        try:
            yield sent
        finally:
            left.set()


@virtual_time
async def test_s8_a_silent_stream_sends_a_comment_every_fifteen_seconds() -> None:
    """Proxies cut connections on which nothing comes for a minute."""
    async with in_process(now=unix_now) as served:
        job_id = await served.held("quiet")
        async with asgi_stream(served.runner, f"/jobs/{job_id}/stream") as sent:
            await asyncio.sleep(50)
    comments = [(at, body) for at, body in sent if body.startswith(b":")]
    assert comments == [(at, b": still here\n\n") for at in (15.0, 30.0, 45.0)]


@virtual_time
async def test_what_others_do_is_silence_too() -> None:
    """Events that are not for this watcher keep no connection open."""
    async with in_process(now=unix_now) as served:
        async with asgi_stream(served.runner, "/events", auth=lambda asked: "ada") as sent:
            for _ in range(10):
                await asyncio.sleep(4.0)
                await served.runner.submit("echo", owner="bob")
    comments = [at for at, body in sent if body.startswith(b":")]
    assert (comments, len(sent)) == ([15.0, 30.0], 3)


@virtual_time
async def test_an_event_puts_the_next_comment_off() -> None:
    """A comment is for silence: a busy stream has none."""
    async with in_process(now=unix_now) as served:
        job_id = await served.held("busy", say=["x"])
        async with asgi_stream(served.runner, f"/jobs/{job_id}/stream") as sent:
            await asyncio.sleep(10)
            served.gates["busy"].set()
            await asyncio.sleep(50)
    assert [at for at, _ in sent] == [0.0, 0.0, 10.0]
    assert sent[-1][1].startswith(b"id: 4\nevent: done\n")
