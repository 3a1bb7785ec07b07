"""The server: how it starts, what it refuses, and that it ends in time with nothing left."""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobrunner import InvalidOption, JobRunner
from jobrunner.server import Server, serving
from tests.processes import ends
from tests.serving import GONE_ON, client_of, connect, make_runner, read_all, stream

RUNNER = """
import asyncio
from jobrunner import JobContext, JobRunner

runner = JobRunner(workers=60, shutdown_timeout={shutdown}, cancel_grace=0.5)


@runner.job
async def wait() -> None:
    await asyncio.Event().wait()


@runner.job
async def soon(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@runner.job
async def tree(ctx: JobContext) -> None:
    await ctx.run_command(["sh", "-c", "trap '' TERM; sleep 600 & echo $! $$; wait; sleep 600"])


@runner.job
async def flood(ctx: JobContext) -> None:
    while True:
        ctx.emit("x" * 10_000)
        await asyncio.sleep(0)
"""


@asynccontextmanager
async def process(
    folder: Path, *, shutdown: float = 0.2
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx2.AsyncClient]]:
    """Run `jobrunner serve` as a process of its own, and talk to it."""
    (folder / "served.py").write_text(RUNNER.format(shutdown=shutdown))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jobrunner", "serve", "served:runner", "--port", "0",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"JOBRUNNER_TOKEN": "secret"},
    )  # fmt: skip
    try:
        assert running.stdout is not None
        async with asyncio.timeout(GONE_ON):
            line = (await running.stdout.readline()).decode()
        url = line.split()[-1].partition("/?")[0]
        async with connect(url, headers={"authorization": "Bearer secret"}) as client:
            yield running, client
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def submit(client: httpx2.AsyncClient, type: str, **params: Any) -> str:
    response = await client.post("/jobs", json={"type": type, "params": params})
    job_id: str = response.json()["job_id"]
    return job_id


async def ended(running: asyncio.subprocess.Process, *, within: float) -> int:
    """Return the exit code, which has to come in time."""
    async with asyncio.timeout(within):
        return await running.wait()


# Starting


async def test_a_server_is_there_while_its_block_runs() -> None:
    """The way to use it in a test or a script: on a free port, started when the block begins."""
    runner, _ = make_runner()
    async with serving(runner) as server, client_of(server) as client:
        ready = await client.get("/readyz")
        assert runner.stats().state == "running"
    assert (ready.status_code, runner.stats().state) == (200, "stopped")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


async def test_each_server_has_a_token_of_its_own() -> None:
    """256 bits, new at each start: what was printed yesterday opens nothing."""
    tokens = []
    for _ in range(2):
        async with serving(JobRunner()) as server:
            tokens.append(server.token)
            assert server.login_url == f"{server.url}/?token={server.token}"
    assert len(set(tokens)) == 2
    assert all(len(token) == 43 for token in tokens)


async def test_a_token_may_be_given_and_comes_whole_through_the_login_url() -> None:
    """One that was made elsewhere may have characters that a URL takes apart."""
    async with serving(JobRunner(), token="a+b&c#d%e") as server, connect(server.url) as client:
        response = await client.get(server.login_url)
    assert (response.status_code, server.token) == (303, "a+b&c#d%e")


async def test_an_empty_token_is_none_at_all_on_this_machine() -> None:
    """Local development without a login, when somebody says so."""
    async with serving(JobRunner(), token="") as server, connect(server.url) as client:
        assert (await client.get("/jobs")).status_code == 200
        assert server.login_url == f"{server.url}/"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "jobs.example"])
def test_other_machines_are_not_let_in_without_a_token(host: str) -> None:
    """Whoever reaches the port could run jobs: this doesn't even bind."""
    with pytest.raises(InvalidOption, match="give a token, or bind"):
        Server(JobRunner(), host=host, token="", port=0)


@pytest.mark.parametrize(
    ("host", "begins"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://localhost:"),
        ("::1", "http://[::1]:"),
    ],
)
async def test_the_loopback_addresses_need_no_token(host: str, begins: str) -> None:
    """All names of this machine, and the URL can be opened as it is."""
    server = Server(JobRunner(), host=host, port=0, token="")
    running = asyncio.create_task(server.run_until_stopped())
    await server.ready()
    async with connect(server.url) as client:
        response = await client.get("/healthz")
    server.stop()
    await running
    assert (response.status_code, server.url.startswith(begins)) == (200, True)


async def test_a_port_in_use_is_an_error_at_once() -> None:
    """Not after the runner has started, and not in a log only."""
    async with serving(JobRunner()) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with serving(JobRunner(), port=port):
                pass


async def test_a_runner_that_cannot_start_is_an_error_of_serving() -> None:
    """Otherwise the block would talk to a server that isn't there."""
    runner, gates = make_runner(shutdown_timeout=GONE_ON)
    async with runner:
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        assert runner.stats().state == "draining"
        with pytest.raises(RuntimeError, match="did not start"):
            async with serving(runner):
                pass
        gates["k"].set()
        await stopping
    assert job.status == "completed"


async def test_names_that_are_allowed_reach_it() -> None:
    """Behind a proxy; every other name is refused."""
    server = Server(JobRunner(), port=0, token="", allowed_hosts=["jobs.example"])
    running = asyncio.create_task(server.run_until_stopped())
    await server.ready()
    statuses = []
    async with connect(server.url) as client:
        for host in ("jobs.example", "evil.example"):
            statuses.append((await client.get("/healthz", headers={"host": host})).status_code)
    server.stop()
    await running
    assert statuses == [200, 400]


@pytest.mark.slow
async def test_answers_on_a_kept_connection_come_at_once() -> None:
    """Nagle's algorithm and delayed acknowledgements cost 40 ms on every request; forty show it."""
    times = []
    async with serving(JobRunner()) as server, client_of(server) as client:
        for _ in range(40):
            began = time.perf_counter()
            await client.post("/jobs", json={"type": "none"})
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.03


# Ending


async def test_leaving_the_block_ends_jobs_and_streams() -> None:
    """S1: a stream ends with its job's end, and not with a broken connection."""
    runner, gates = make_runner()
    async with serving(runner) as server:
        client = client_of(server)
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        reading = asyncio.create_task(read_all(client, f"/jobs/{job.id}/stream"))
        polling = asyncio.create_task(client.get(f"/jobs/{job.id}?wait=30"))
        async with stream(client, f"/jobs/{job.id}/stream") as frames:
            await anext(frames)
    last = (await reading)[-1]
    await client.aclose()
    assert (last.event, last.data["error"]["reason"]) == ("done", "shutdown")
    assert (await polling).json()["status"] == "failed"


async def test_who_waits_for_the_end_is_told() -> None:
    """A script that serves until somebody stops it has one thing to await."""
    async with serving(JobRunner()) as server:
        waiting = asyncio.create_task(server.stopped())
        server.stop()
        async with asyncio.timeout(GONE_ON):
            await waiting


async def test_an_error_inside_the_block_comes_out_of_it() -> None:
    """And the server has ended all the same."""
    runner = JobRunner()
    with pytest.raises(ZeroDivisionError):
        async with serving(runner):
            raise ZeroDivisionError
    assert runner.stats().state == "stopped"


async def test_a_second_ctrl_c_lets_running_jobs_no_time() -> None:
    """In a thread, where uvicorn doesn't pass the signals on to the process when it has ended."""

    async def scenario() -> str:
        runner, gates = make_runner(shutdown_timeout=GONE_ON)
        async with serving(runner) as server:
            job = await runner.submit("hold", {"key": "k"})
            await gates["k reached"].wait()
            server.handle_exit(signal.SIGINT, None)
            server.handle_exit(signal.SIGINT, None)
        view = job.view()
        assert view.error is not None
        return view.error.reason

    async with asyncio.timeout(GONE_ON / 2):
        assert await asyncio.to_thread(asyncio.run, scenario()) == "shutdown"


@pytest.mark.slow
async def test_a_reader_that_is_dead_does_not_keep_the_server(tmp_path: Path) -> None:
    """S4 and S1: its last bytes can never be sent, and the server doesn't wait for ever."""
    async with process(tmp_path) as (running, client):
        job_id = await submit(client, "flood")
        url = str(client.base_url)
        port = int(url.rstrip("/").rpartition(":")[2])
        _, dead = await asyncio.open_connection("127.0.0.1", port, limit=1_000)
        dead.write(f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n"
                   "Authorization: Bearer secret\r\n\r\n".encode())  # fmt: skip
        _, half = await asyncio.open_connection("127.0.0.1", port)
        half.write(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
                   b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{")  # fmt: skip
        await half.drain()
        async with stream(client, f"/jobs/{job_id}/stream") as frames:
            read = 0
            async for _ in frames:
                read += 1
                if read == 2_000:
                    break
        running.send_signal(signal.SIGTERM)
        code = await ended(running, within=15.0)
        dead.close()
        half.close()
    assert code == -signal.SIGTERM


@pytest.mark.slow
async def test_sigterm_ends_streams_and_process_trees(tmp_path: Path) -> None:
    """S1, the whole of it: fifty streams and five trees that ignore TERM, and nothing is left."""
    async with process(tmp_path) as (running, client):
        trees = [await submit(client, "tree") for _ in range(5)]
        waits = [await submit(client, "wait") for _ in range(45)]
        pids = list[int]()
        for job_id in trees:
            async with stream(client, f"/jobs/{job_id}/stream") as frames:
                async for frame in frames:
                    if frame.event == "output":
                        pids += map(int, frame.data["text"].split())
                        break
        async with (
            asyncio.TaskGroup() as group,
            connect(str(client.base_url), headers=client.headers, limits=httpx2.Limits()) as many,
        ):
            open_now = asyncio.Semaphore(0)
            tasks = [group.create_task(last_frame(many, j, open_now)) for j in trees + waits]
            for _ in tasks:
                await open_now.acquire()
            began = time.monotonic()
            running.send_signal(signal.SIGTERM)
            code = await ended(running, within=20.0)
            took = time.monotonic() - began
            ends_seen = [await task for task in tasks]
    assert ends_seen == [("done", "shutdown")] * 50
    assert code == -signal.SIGTERM
    assert took < 10.0
    assert len(pids) == 10
    assert [pid for pid in pids if not ends(pid)] == []


async def last_frame(
    client: httpx2.AsyncClient, job_id: str, open_now: asyncio.Semaphore
) -> tuple[str, str]:
    async with stream(client, f"/jobs/{job_id}/stream") as frames:
        await anext(frames)
        open_now.release()
        last = [frame async for frame in frames][-1]
    return last.event, last.data["error"]["reason"]


@pytest.mark.slow
async def test_a_job_that_ends_in_time_is_let_end(tmp_path: Path) -> None:
    """A deploy shouldn't throw away what needs one second more."""
    async with process(tmp_path, shutdown=30.0) as (running, client):
        job_id = await submit(client, "soon", seconds=0.5)
        async with stream(client, f"/jobs/{job_id}/stream") as frames:
            await anext(frames)
            running.send_signal(signal.SIGTERM)
            last = [frame async for frame in frames][-1]
        await ended(running, within=15.0)
    assert (last.data["status"], last.data["result"]) == ("completed", "done")


@pytest.mark.slow
async def test_a_second_ctrl_c_hurries(tmp_path: Path) -> None:
    """The first one lets jobs end, which may take a minute; the second one means now."""
    async with process(tmp_path, shutdown=300.0) as (running, client):
        job_id = await submit(client, "wait")
        async with stream(client, f"/jobs/{job_id}/stream") as frames:
            await anext(frames)
            running.send_signal(signal.SIGINT)
            while (await client.get("/readyz")).status_code == 200:
                pass
            running.send_signal(signal.SIGINT)
            last = [frame async for frame in frames][-1]
        code = await ended(running, within=15.0)
        assert running.stderr is not None
        assert b"Traceback" not in await running.stderr.read()
    assert (last.event, last.data["error"]["reason"], code) == ("done", "shutdown", 0)
