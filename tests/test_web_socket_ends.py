"""WebSockets under load and at their ends: slow and dead readers, resets, shutdowns, servers."""

import asyncio
import signal
import socket as plain
import struct
import sys
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from jobrunner import JobContext, JobRunner, Limits
from jobrunner.server import serving
from jobrunner.web import create_app
from jobrunner.web.sockets import MAX_FRAME
from tests.benchmarks.processes import resident
from tests.served import WAYS, process
from tests.serving import GONE_ON, connect, listening, make_runner
from tests.sockets import deaf, handshake_for, socket


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
async def test_it_speaks_under_both_of_uvicorn_s_implementations(ws: str) -> None:
    """Which one is there depends on what is installed; frames, ops and codes are the same."""
    if ws == "wsproto":
        pytest.importorskip("wsproto", reason="it comes with hypercorn, which is for development")
    runner, gates = make_runner()
    async with listening(create_app(runner, auth="secret"), ws=ws) as url:
        job = await runner.submit("hold", {"key": "k", "say": ["a"]}, session_id="s")
        await gates["k reached"].wait()
        async with socket(url, f"/jobs/{job.id}/ws", "secret") as one:
            frames = await one.hear_until("output")
            await one.connection.send("?")
            frames += await one.hear_until("error")
            async with socket(url, "/ws/s", "secret") as all_of:
                await all_of.hear_until("status")
                await one.say(op="cancel")
                rest, code = await one.rest()
                last = (await all_of.hear_until("job_complete"))[-1]
        async with socket(url, "/ws/s") as stranger:
            assert await stranger.rest() == ([], 4401)
        async with socket(url, "/ws/quiet", "secret") as large:
            await large.connection.send("x" * (MAX_FRAME + 1))
            assert await large.rest() == ([], 1009)
    assert [frame["type"] for frame in [*frames, *rest]] == [
        "snapshot", "status", "status", "output", "error", "status", "job_complete",
    ]  # fmt: skip
    assert (code, last["status"]) == (1000, "cancelled")


async def first_frame(url: str, path: str) -> Any:
    """Return the first frame of a socket, as soon as there is a place for it."""
    async with asyncio.timeout(GONE_ON):
        while True:
            async with socket(url, path) as opened:
                try:
                    return await opened.hear()
                except ConnectionClosed as end:
                    assert end.rcvd is not None and end.rcvd.code == 1013


async def test_s3_a_client_that_leaves_frees_its_place() -> None:
    """Browsers close tabs without a word; a place that stayed taken would be taken for ever."""
    before = asyncio.all_tasks()
    runner, gates = make_runner()
    async with listening(create_app(runner, auth=None, max_streams=1)) as url:
        job = await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        for path in (f"/jobs/{job.id}/ws", "/ws/s") * 3:
            assert (await first_frame(url, path))["type"] == "snapshot"
        gates["k"].set()
    assert asyncio.all_tasks() <= before


async def reset(url: str, path: str, draw: Random) -> None:
    """Come for a socket and leave with a reset: at any byte of the handshake, at any time."""
    loop, request = asyncio.get_running_loop(), handshake_for(path)
    with plain.socket() as client:
        client.setblocking(False)
        client.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_connect(client, ("127.0.0.1", int(url.rpartition(":")[2])))
        sent = draw.choice([request, request, request[: draw.randrange(len(request))]])
        await loop.sock_sendall(client, sent)
        for _ in range(draw.randrange(30)):
            await asyncio.sleep(0)
        if sent == request and draw.random() < 0.3:
            await loop.sock_recv(client, draw.choice([1, 100, 5_000]))


@pytest.mark.slow  # five hundred connections
async def test_s3_five_hundred_resets_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whenever a client goes: no place, no task and no error stays."""
    before = asyncio.all_tasks()
    runner, gates = make_runner(watchdog=None)  # how long a machine takes is nobody's error
    draw = Random(5)

    async def come_and_go(path: str) -> None:
        for _ in range(20):
            await reset(url, path, draw)

    async with listening(create_app(runner, auth=None, max_streams=50)) as url:
        params = {"key": "k", "say": ["a"] * 100}
        job = await runner.submit("hold", params, session_id="s")
        await gates["k reached"].wait()
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(come_and_go(f"/jobs/{job.id}/ws"))
                group.create_task(come_and_go("/ws/s"))
        async with asyncio.TaskGroup() as group:
            firsts = [group.create_task(first_frame(url, "/ws/s")) for _ in range(50)]
        gates["k"].set()
    assert {first.result()["type"] for first in firsts} == {"snapshot"}
    assert [record.getMessage() for record in caplog.records] == []
    assert asyncio.all_tasks() <= before


def flooding(kept: int) -> tuple[JobRunner, asyncio.Semaphore]:
    """Return a runner that keeps so many events of a job, and whose job waits after each ten."""
    limits = Limits(max_events=kept, max_text=20_000_000)
    runner = JobRunner(limits=limits, shutdown_timeout=0.0)
    go_on = asyncio.Semaphore(0)

    @runner.job
    async def flood(ctx: JobContext) -> None:
        for _ in range(100):
            for _ in range(10):
                ctx.emit("x" * 10_000)
            await go_on.acquire()

    return runner, go_on


@pytest.mark.slow  # 10 MB are told twice
async def test_s4_a_slow_reader_slows_nobody_and_is_told_of_the_gap() -> None:
    """The job goes on, another watcher hears everything, and the slow one a gap and a snapshot."""
    runner, go_on = flooding(50)
    async with listening(create_app(runner, auth=None)) as url:
        job = await runner.submit("flood")
        with deaf(url, f"/jobs/{job.id}/ws") as slow:
            async with socket(url, f"/jobs/{job.id}/ws") as quick:
                frames = [await quick.hear() for _ in range(3)]
                while frames[-1]["type"] != "job_complete":
                    frames.append(await quick.hear())
                    if frames[-1]["type"] == "output" and frames[-1]["seq"] % 10 == 2:
                        go_on.release()
            slow.setblocking(False)
            slow.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4_000_000)
            raw = await read_to_end(slow)
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, 1_004))
    assert raw.count(b'{"type":"gap"') == 1
    after_gap = raw.partition(b'{"type":"gap"')[2]
    assert b'{"type":"snapshot"' in after_gap.partition(b'{"type":"output"')[0]
    assert b'{"type":"job_complete"' in after_gap


async def read_to_end(reader: plain.socket) -> bytes:
    """Return what comes until the server's close frame with 1000 (RFC 6455, 5.5.1)."""
    loop, raw = asyncio.get_running_loop(), b""
    async with asyncio.timeout(GONE_ON):
        while b"\x03\xe8the job has ended" not in raw[-100:]:
            raw += await loop.sock_recv(reader, 1_000_000)
    return raw


@pytest.mark.slow  # a reader has five seconds to take what is its last
async def test_s4_a_dead_reader_is_dropped_when_nothing_will_follow() -> None:
    """It takes nothing and doesn't leave either: neither its place nor its buffer is kept."""
    runner, go_on = flooding(2_000)  # more than fits between the two
    async with runner:
        app = create_app(runner, auth=None, max_streams=1)
        async with listening(app, lifespan="off") as url, connect(url) as client:
            for _ in range(1_000):
                go_on.release()
            job = await runner.submit("flood", session_id="s")
            await job.wait()
            with deaf(url, f"/jobs/{job.id}/ws"):
                assert await status_when_free(client, f"/jobs/{job.id}/stream") == 200


@pytest.mark.slow  # 50 MB are emitted
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_s4_fifty_dead_readers_cost_little(tmp_path: Path) -> None:
    """They never read; what is kept for each is a piece of the log, and the job waits for none."""
    loop = asyncio.get_running_loop()
    async with process(tmp_path, "jobrunner") as server:
        for readers in (0, 50):  # what a burst costs by itself is no part of it
            before = resident(server.running.pid)
            job_id = await server.submit("burst", events=5_000)
            with ExitStack() as dead:
                for _ in range(readers):
                    path = f"/jobs/{job_id}/ws"
                    reader = dead.enter_context(deaf(server.url, path, "secret"))
                    reader.setblocking(False)
                    await loop.sock_recv(reader, 1)  # it is open
                await server.submit("open_gate")
                ended = (await server.client.get(f"/jobs/{job_id}?wait=30")).json()
                assert ended["status"] == "completed"
                grown = (resident(server.running.pid) - before) / 2**20
        server.running.send_signal(signal.SIGTERM)
        await server.ended()
    assert grown < 20


async def status_when_free(client: httpx2.AsyncClient, path: str) -> int:
    """Return the status of a stream that is asked for until there is a place, or time is over."""
    async with asyncio.timeout(GONE_ON):
        while True:
            async with client.stream("GET", path) as response:
                if response.status_code != 503:
                    return response.status_code


# Shutdown


async def test_s1_a_stop_tells_every_socket_the_end() -> None:
    """The last frames are said before the connections are closed, and the server doesn't wait."""
    runner, gates = make_runner()
    async with serving(runner) as server:
        job = await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        async with (
            connect(server.url) as kept_alive,
            socket(server.url, f"/jobs/{job.id}/ws", server.token) as one,
            socket(server.url, "/ws/s", server.token) as all_of,
            socket(server.url, "/ws/quiet", server.token) as quiet,
        ):
            assert (await kept_alive.get("/healthz")).status_code == 200
            for opened in (one, all_of):
                await opened.hear_until("status")
            server.stop()
            ends = [await opened.rest() for opened in (one, all_of, quiet)]
            await server.stopped()
    assert [code for _, code in ends] == [1000, 1001, 1001]
    last = [frames[-1] for frames, _ in ends[:2]]
    assert [(frame["type"], frame["error"]["reason"]) for frame in last] == [
        ("job_complete", "shutdown")
    ] * 2


@pytest.mark.slow  # each way starts an interpreter
@pytest.mark.parametrize("way", list(WAYS))
async def test_s1_sockets_end_with_the_server(tmp_path: Path, way: str) -> None:
    """`jobrunner serve` tells each job's end; uvicorn by itself cuts sockets off, with a code."""
    async with process(tmp_path, way) as server:
        job_id = await server.submit("wait")
        async with (
            socket(server.url, f"/jobs/{job_id}/ws", "secret") as one,
            socket(server.url, "/ws/quiet", "secret") as quiet,
        ):
            await one.hear_until("status")
            server.running.send_signal(signal.SIGTERM)
            ends = [await opened.rest() for opened in (one, quiet)]
        assert await server.ended() == -signal.SIGTERM
    if way == "jobrunner":
        assert [code for _, code in ends] == [1000, 1001]
        assert ends[0][0][-1]["error"]["reason"] == "shutdown"
    else:
        assert {code for _, code in ends} <= {1000, 1001, 1012}
