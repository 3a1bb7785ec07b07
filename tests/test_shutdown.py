"""Real processes and real signals: each server ends in time, tells everybody, and leaves nothing.

`JOBRUNNER_SHUTDOWNS` is how often the campaign is run; once if it isn't set.
"""

import asyncio
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.processes import ends
from tests.served import SERVED, WAYS, Process, process
from tests.serving import GONE_ON, ends_well, request_for, stream

pytestmark = pytest.mark.slow  # each test starts an interpreter

SHUTDOWNS = int(os.environ.get("JOBRUNNER_SHUTDOWNS", "1"))


ALL = pytest.mark.parametrize("way", list(WAYS))


# The campaign


def allow_sockets(count: int) -> None:
    """Raise the soft limit of descriptors, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def members(sessions: Collection[int]) -> list[int]:
    """Return the processes that belong to one of the sessions (proc(5), stat: the sixth field)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) in sessions:
            found.append(int(stat.parent.name))
    return found


async def grown(server: Process, job_id: str) -> int:
    """Return the session of a tree, once it has said that it is there."""
    async with stream(server.client, f"/jobs/{job_id}/stream") as frames:
        async for frame in frames:
            if frame.event == "output":
                return int(frame.data["text"])
    raise AssertionError("the tree has ended")


RUNS = [("jobrunner", n) for n in range(SHUTDOWNS)] + [("uvicorn", 0)]


@pytest.mark.parametrize(("way", "run"), RUNS)
async def test_s1_a_thousand_streams_and_fifty_trees(tmp_path: Path, way: str, run: int) -> None:
    """Each watcher is told the end, half of the trees ignore SIGTERM, and nothing is left."""
    allow_sockets(4_000)
    async with process(tmp_path, way, shutdown=0.5) as server:
        before = ["", "trap '' TERM; "] * 25
        trees = [await server.submit("tree", before=text) for text in before]
        sessions = {await grown(server, job_id) for job_id in trees}
        watchers = [await server.watch(job_id) for job_id in trees * 20]
        assert len(members(sessions)) >= 2 * len(trees)
        began = time.monotonic()
        server.running.send_signal(signal.SIGTERM)
        async with asyncio.TaskGroup() as group:
            rests = [group.create_task(watcher.rest()) for watcher in watchers]
            code = await server.ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        print(f"{way}: exit after {time.monotonic() - began:.2f} s")
    assert Counter(ends_well(rest.result()) for rest in rests) == {True: 1_000}
    assert code == -signal.SIGTERM
    assert [pid for pid in members(sessions) if not ends(pid)] == []


# What else may be


@ALL
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)]
)
async def test_s1_streams_and_polls_get_their_end(
    tmp_path: Path, way: str, number: int, code: int
) -> None:
    """And the exit code says how it ended, as uvicorn's does: death by SIGTERM, a clean Ctrl-C."""
    async with process(tmp_path, way) as server, asyncio.TaskGroup() as group:
        job_id = await server.submit("wait")
        watcher = await server.watch(job_id)
        polled = group.create_task(server.client.get(f"/jobs/{job_id}?wait=30"))
        await asked(server, 3)
        server.running.send_signal(number)
        assert ends_well(await watcher.rest())
        assert await server.ended() == code
    assert (polled.result().status_code, polled.result().json()["status"]) == (200, "failed")


async def asked(server: Process, count: int) -> None:
    """Return when the server has had as many requests as are sent by now, and this one."""
    for _ in range(count):
        await server.client.get("/healthz")


@ALL
async def test_s1_a_job_that_ends_in_time_is_let_end(tmp_path: Path, way: str) -> None:
    """A deploy shouldn't throw away what needs one second more, nor whoever waits for it."""
    async with process(tmp_path, way, shutdown=GONE_ON) as server:
        watcher = await server.watch(await server.submit("soon", seconds=0.5))
        server.running.send_signal(signal.SIGTERM)
        rest = await watcher.rest()
        assert await server.ended() == -signal.SIGTERM
    assert ends_well(rest)
    assert b'"status":"completed"' in rest


@ALL
async def test_s1_a_second_ctrl_c_hurries(tmp_path: Path, way: str) -> None:
    """The first one lets jobs end, which may take a minute; the second one means now."""
    async with process(tmp_path, way, shutdown=300.0) as server:
        tree = await server.submit("tree", before="trap '' TERM; ")
        session = await grown(server, tree)
        watchers = [await server.watch(job_id) for job_id in (tree, await server.submit("wait"))]
        server.running.send_signal(signal.SIGINT)
        await draining(server)
        server.running.send_signal(signal.SIGINT)
        rests = [await watcher.rest() for watcher in watchers]
        assert await server.ended() == 0
    assert [ends_well(rest) for rest in rests] == [True] * 2
    assert [pid for pid in members({session}) if not ends(pid)] == []


async def draining(server: Process) -> None:
    """Return when the server has begun to end: not ready, or not to be reached any more."""
    with suppress(httpx2.TransportError):
        while (await server.client.get("/readyz")).status_code == 200:
            pass


async def test_s4_readers_that_are_dead_do_not_keep_the_server(tmp_path: Path) -> None:
    """Last bytes that can never be sent, and a body that never ends: dropped after 3 seconds."""
    async with process(tmp_path, "jobrunner") as server:
        job_id = await server.submit("flood")
        _, dead = await asyncio.open_connection("127.0.0.1", server.port, limit=1_000)
        dead.write(request_for(f"/jobs/{job_id}/stream", "secret"))
        _, half = await asyncio.open_connection("127.0.0.1", server.port)
        half.write(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
                   b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{")  # fmt: skip
        await flooded(server, job_id)
        server.running.send_signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        dead.close()
        half.close()
    assert b"2 connections were dropped" in server.said.result()


async def test_s4_a_reader_that_is_dead_does_not_keep_uvicorn(tmp_path: Path) -> None:
    """uvicorn has no limit unless it is given one: the stream breaks the connection after 5 s."""
    async with process(tmp_path, "uvicorn") as server:
        job_id = await server.submit("flood")
        _, dead = await asyncio.open_connection("127.0.0.1", server.port, limit=1_000)
        dead.write(request_for(f"/jobs/{job_id}/stream", "secret"))
        await flooded(server, job_id)
        server.running.send_signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        dead.close()


async def flooded(server: Process, job_id: str) -> None:
    """Return when more has been sent than a connection's buffers hold."""
    async with stream(server.client, f"/jobs/{job_id}/stream") as frames:
        read = 0
        async for _ in frames:
            read += 1
            if read == 2_000:
                break


async def test_s1_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    """A deploy that is taken back at once: the lifespan has begun, and nobody serves yet."""
    (tmp_path / "served.py").write_text(SERVED.format(shutdown=300.0))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "served:short_lived", "--port", "0", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(GONE_ON):
            said, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
    assert (running.returncode, b"Traceback" in said) == (-signal.SIGTERM, False)
