"""Servers in processes of their own, for what only a real process shows: signals and memory."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from tests.serving import GONE_ON, Watcher, connect, watch

SERVED = """
import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette

from jobrunner import JobContext, JobRunner
from jobrunner.web import create_app

runner = JobRunner(workers=60, shutdown_timeout={shutdown}, cancel_grace=0.5)


@runner.job
async def wait() -> None:
    await asyncio.Event().wait()


@runner.job
async def soon(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@runner.job
async def tree(ctx: JobContext, before: str) -> None:
    await ctx.run_command(["sh", "-c", before + "sleep 100 & echo $$; sleep 100"])


@runner.job
async def flood(ctx: JobContext) -> None:
    while True:
        ctx.emit("x" * 10_000)
        await asyncio.sleep(0)


go = asyncio.Event()


@runner.job
async def open_gate() -> None:
    go.set()


@runner.job
async def burst(ctx: JobContext, events: int) -> float:
    await go.wait()
    go.clear()
    began = time.perf_counter()
    for number in range(events):
        ctx.emit("x" * 10_000)
        if number % 200 == 0:
            await asyncio.sleep(0)
    return time.perf_counter() - began


@asynccontextmanager
async def told_to_end(app: Starlette) -> AsyncIterator[None]:
    async with runner.lifespan(app):
        signal.raise_signal(signal.SIGTERM)
        yield


app = create_app(runner, auth="secret")
outer = FastAPI(lifespan=runner.lifespan)
outer.mount("", app)
short_lived = Starlette(lifespan=told_to_end)
"""
WAYS = {
    "jobrunner": ["-m", "jobrunner", "serve", "served:runner", "--port", "0"],
    "uvicorn": ["-m", "uvicorn", "served:app", "--port", "0"],
    "fastapi": ["-m", "uvicorn", "served:outer", "--port", "0"],
}


class Process(NamedTuple):
    """A server in a process of its own, and a client that may come in."""

    running: asyncio.subprocess.Process
    client: httpx2.AsyncClient
    url: str
    said: "asyncio.Task[bytes]"
    """What it wrote after its URL, when it has ended."""

    @property
    def port(self) -> int:
        """The port of the URL."""
        return int(self.url.rpartition(":")[2])

    async def submit(self, type: str, **params: Any) -> str:
        """Submit and return the id."""
        response = await self.client.post("/jobs", json={"type": type, "params": params})
        job_id: str = response.json()["job_id"]
        return job_id

    async def watch(self, job_id: str) -> Watcher:
        """Open the job's stream."""
        return await watch(self.url, f"/jobs/{job_id}/stream", "secret")

    async def ended(self) -> int:
        """Return the exit code, once everything is over; what it wrote has no errors.

        That a handler is stuck is none: where a machine is busy, a tree's end takes its time.
        """
        async with asyncio.timeout(GONE_ON):
            code = await self.running.wait()
            said = (await self.said).decode()
        assert not re.search("Traceback|ERROR(?!.* is stuck: )|CRITICAL|never", said), said
        return code


@asynccontextmanager
async def process(folder: Path, way: str, *, shutdown: float = 0.2) -> AsyncIterator[Process]:
    """Start a server and wait for the line with its URL."""
    (folder / "served.py").write_text(SERVED.format(shutdown=shutdown))
    running = await asyncio.create_subprocess_exec(
        sys.executable, *WAYS[way], cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"JOBRUNNER_TOKEN": "secret"},
    )  # fmt: skip
    try:
        assert running.stdout is not None
        url, said_first = None, ""
        async with asyncio.timeout(GONE_ON):
            while url is None:
                line = (await running.stdout.readline()).decode()
                assert line, f"the server has not started: {await running.wait()}, {said_first!r}"
                url, said_first = re.search(r"http://127\.0\.0\.1:\d+", line), said_first + line
        said = asyncio.create_task(running.stdout.read())
        async with connect(url[0], headers={"authorization": "Bearer secret"}) as client:
            yield Process(running, client, url[0], said)
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
