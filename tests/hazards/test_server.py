"""The server: lifespans, streams, and whatever comes over the wire (S1, S2, S5 to S8)."""

import asyncio
import gc
import re
import socket
import struct
import sys
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import jobrunner
from jobrunner import JobRunner, RunnerNotStarted
from jobrunner.server import serving
from jobrunner.testing.clock import VirtualLoop, simulate, unix_now, virtual_time
from jobrunner.web import create_app
from tests.runners import new_runner
from tests.serving import GONE_ON, Bench, bench, in_process, make_runner, request_for, stream
from tests.sockets import handshake_for


def test_s2_a_runner_that_was_never_started_says_how_to_start_it() -> None:
    """The lifespan of a mounted app never runs, and nobody notices until the first submit."""
    with pytest.raises(RunnerNotStarted) as caught:
        simulate(lambda: new_runner().submit("slow"))
    assert str(caught.value) == (
        "the runner has not been started: use `async with runner:`, or give "
        "lifespan=runner.lifespan to the outermost app (a mounted app's lifespan never runs, nor "
        "does any under TestClient without `with`)"
    )


@virtual_time
async def test_s2_a_lifespan_runs_the_runner() -> None:
    """Starlette and FastAPI take it as it is."""
    runner = new_runner()
    async with runner.lifespan(object()):
        assert runner.stats().state == "running"
    assert runner.stats().state == "stopped"


def mounted(**options: Any) -> tuple[JobRunner, Starlette]:
    """Return a runner and an app that has the runner's app mounted."""
    runner, _ = make_runner()
    return runner, Starlette(routes=[Mount("/api", create_app(runner, auth=None))], **options)


def submitted(client: TestClient, path: str) -> tuple[int, str, bool]:
    """Submit, and return the status, the type and whether the way out is named."""
    answer = client.post(f"{path}/jobs", json={"type": "echo"})
    said = answer.json()
    return answer.status_code, said.get("type", ""), "lifespan=runner" in said.get("detail", "")


def test_s2_a_mounted_app_whose_lifespan_never_runs_says_so_at_submit() -> None:
    """Starlette runs the outermost lifespan only; the job would wait for ever otherwise."""
    _, outer = mounted()
    with TestClient(outer) as client:
        assert submitted(client, "/api") == (503, "/problems/runner-not-started", True)


def test_s2_a_mounted_app_works_with_the_lifespan_of_the_outermost() -> None:
    """That is the way out, and it is what the message says."""
    runner, _ = make_runner()
    inner = create_app(runner, auth=None)
    outer = Starlette(routes=[Mount("/api", inner)], lifespan=runner.lifespan)
    with TestClient(outer) as client:
        assert submitted(client, "/api")[0] == 202
    assert runner.stats().state == "stopped"


def test_s2_an_app_of_its_own_runs_the_runner() -> None:
    """Served alone it needs nothing."""
    runner, _ = make_runner()
    with TestClient(create_app(runner, auth=None)) as client:
        assert submitted(client, "")[0] == 202
    assert runner.stats().state == "stopped"


def test_s2_a_client_without_with_is_told_what_is_missing() -> None:
    """TestClient runs no lifespan without `with`, and a bare 503 would cost an hour."""
    runner, _ = make_runner()
    client = TestClient(create_app(runner, auth=None))
    assert submitted(client, "") == (503, "/problems/runner-not-started", True)
    detail = client.post("/jobs", json={"type": "echo"}).json()["detail"]
    assert "TestClient without `with`" in detail


class Reader:
    """A client of a stream, at the other end of ASGI: what it costs is the stream's own."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.got = bytearray()
        self.statuses: list[int] = []

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.got += message.get("body", b"")
        self.statuses += [message["status"]] if "status" in message else []


def stream_scope(job_id: str) -> dict[str, Any]:
    return {
        "type": "http", "method": "GET", "path": f"/jobs/{job_id}/stream", "root_path": "",
        "query_string": b"", "headers": [(b"host", b"localhost")],
    }  # fmt: skip


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def streams(count: int, **options: Any) -> AsyncIterator[tuple[Bench, list[Reader], float]]:
    """Open so many streams of one job, and measure what each holds."""
    async with in_process(watchdog=None) as served:
        job_id, app = await served.held("k"), create_app(served.runner, auth=None, **options)
        scope = stream_scope(job_id)
        async with asyncio.TaskGroup() as group:
            readers = [Reader() for _ in range(count)]
            group.create_task(app({**scope}, readers[0].receive, readers[0].send))
            await turns()  # what the first one loads, it loads for all
            gc.collect()
            tracemalloc.start()
            for reader in readers[1:]:
                group.create_task(app({**scope}, reader.receive, reader.send))
            await turns()
            gc.collect()
            each = tracemalloc.get_traced_memory()[0] / max(count - 1, 1)
            tracemalloc.stop()
            yield served, readers, each


@pytest.mark.slow  # counts each allocation of hundreds of streams
async def test_s5_a_stream_holds_fourteen_kilobytes_at_most() -> None:
    """A response of our own; what frameworks bring along takes 25 kB."""
    if sys.gettrace() is not None:
        pytest.skip("who traces lines holds memory for each of them")
    async with streams(300) as (served, readers, each):
        assert 1_000 < each < 14_000
        served.gates["k"].set()
    assert {b"event: done" in reader.got for reader in readers} == {True}


async def test_s5_one_event_reaches_all_streams_and_nothing_is_left_of_them() -> None:
    """Afterwards they count as none: no task, no waiter, and as many may come again."""
    before = asyncio.all_tasks()
    async with in_process(watchdog=None) as served:
        app = create_app(served.runner, auth=None, max_streams=100)
        for key in ("first", "second"):
            job_id = await served.held(key)
            readers = [Reader() for _ in range(101)]
            async with asyncio.TaskGroup() as group:
                for reader in readers:
                    group.create_task(app(stream_scope(job_id), reader.receive, reader.send))
                await turns()
                served.gates[key].set()
            assert [reader.statuses for reader in readers] == [[200]] * 100 + [[503]]
            assert [b"event: done" in reader.got for reader in readers] == [True] * 100 + [False]
    await turns()
    assert asyncio.all_tasks() <= before


KEPT_OF_A_WATCHER = {"EventStream", "_Protocol", "_WebSockets", "ServerProtocol"}


def kept_of_watchers() -> list[Any]:
    """Return what there is of them, ours and the servers'."""
    return [it for it in gc.get_objects() if type(it).__name__ in KEPT_OF_A_WATCHER]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "path, request_of, first",
    [
        ("/jobs/{}/stream", request_for, b"event: snapshot\n"),
        ("/jobs/{}/ws", handshake_for, b'"snapshot"'),
        ("/ws/s", handshake_for, b'"snapshot"'),
    ],
)
async def test_s5_a_watcher_that_has_left_is_not_left_to_the_garbage_collector(
    path: str, request_of: Callable[[str, str], bytes], first: bytes, reset: bool
) -> None:
    """It comes seldom. asyncio's transport, small as it is, lies in the midst of all else."""
    runner, gates = make_runner()
    async with serving(runner) as server:
        job = await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        gc.collect()
        gc.disable()  # from here on, what is let go of is gone at once or never
        try:
            port = int(server.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of(path.format(job.id), server.token))
            async with asyncio.timeout(GONE_ON):
                await reader.readuntil(first)
                found = kept_of_watchers()
                found += [each.transport for each in server.server_state.connections]
                assert len(found) == 3
                gone: asyncio.Queue[object] = asyncio.Queue()
                kept = [weakref.ref(one, gone.put_nowait) for one in found]
                found.clear()
                if reset:
                    close = writer.get_extra_info("socket").setsockopt
                    close(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
                for _ in kept:
                    await gone.get()
        finally:
            gc.enable()


@virtual_time
async def test_s5_an_idle_stream_costs_nothing_but_its_heartbeat() -> None:
    """Nobody polls: ten thousand streams that look ten times a second are 100,000 wake-ups."""
    async with in_process(now=unix_now, watchdog=None) as served:
        reader, job_id = Reader(), await served.held("k")
        app = create_app(served.runner, auth=None)
        async with asyncio.TaskGroup() as group:
            group.create_task(app(stream_scope(job_id), reader.receive, reader.send))
            await turns()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            steps = loop.steps
            await asyncio.sleep(150.0)
            assert loop.steps - steps < 60  # ten heartbeats of a few turns
            served.gates["k"].set()
    assert reader.got.count(b": still here\n\n") == 10


class Dead(Reader):
    """One that takes nothing; `receive` is a method of what has the transport, as uvicorn's is."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = Transport()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if "body" in message:
            await self.transport.broken.wait()
            raise OSError("broken")


class Transport(asyncio.Transport):
    """Notes when it is broken."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = asyncio.Event()

    def abort(self) -> None:
        self.broken.set()


@virtual_time
async def test_s1_a_stream_whose_end_nobody_takes_is_broken() -> None:
    """uvicorn waits for it without an end; while the job runs, it may be slow."""
    async with in_process(now=unix_now, watchdog=None) as served:
        reader, job_id = Dead(), await served.held("k")
        app = create_app(served.runner, auth=None)
        watching = asyncio.create_task(app(stream_scope(job_id), reader.receive, reader.send))
        await asyncio.sleep(60.0)
        assert not reader.transport.broken.is_set()
        served.gates["k"].set()
        await asyncio.wait([watching], timeout=60.0)
        assert reader.transport.broken.is_set()
    with pytest.raises(OSError, match="broken"):
        await watching


HALF = (
    b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
    b"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
)


@pytest.mark.slow  # who has more to say has three seconds
async def test_s1_a_request_that_never_ends_is_dropped() -> None:
    """Its connection would keep the server; it is told nothing, least of all an error of ours."""
    async with serving(JobRunner()) as server:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF % server.token.encode())
        async with asyncio.timeout(GONE_ON):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            server.stop()
            assert await reader.read() == b""
            await server.stopped()
    writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


OTHERS = re.compile(r"^\s*(?:import|from) (?:httpx|requests|aiohttp)\b", re.MULTILINE)


def test_s7_httpx2_is_the_only_client_everywhere() -> None:
    """starlette's TestClient warns without it, and two clients behave in two ways."""
    folders = (Path(jobrunner.__file__).parent, Path(__file__).parents[1])
    files = [path for folder in folders for path in folder.rglob("*.py")]
    users = [path.name for path in files if OTHERS.search(path.read_text())]
    assert (users, len(files) > 100) == ([], True)


async def test_s7_a_stream_comes_while_its_job_runs() -> None:
    """On a real socket: ASGITransport keeps all of a body until its end, and would show nothing."""
    async with bench() as served:
        job_id = await served.held("k", say=["early"])
        async with (
            asyncio.timeout(GONE_ON),
            stream(served.client, f"/jobs/{job_id}/stream") as frames,
        ):
            seen = [(await anext(frames)).event for _ in range(4)]
            status = served.runner.handle(job_id).status
            served.gates["k"].set()
            seen += [frame.event async for frame in frames]
    assert status == "running"
    assert (seen[0], "output" in seen[:4], seen[-1]) == ("snapshot", True, "done")


@virtual_time
async def test_s8_a_stream_goes_on_after_each_silence() -> None:
    """A timeout around `anext` cancels it, which ends a generator for good: the read is timed."""
    async with in_process(now=unix_now) as served:
        reader, job_id = Reader(), await served.held("k")
        app = create_app(served.runner, auth=None)
        async with asyncio.TaskGroup() as group:
            group.create_task(app(stream_scope(job_id), reader.receive, reader.send))
            await asyncio.sleep(50.0)
            served.gates["k"].set()
    assert reader.got.count(b": still here\n\n") == 3
    assert b"event: done" in reader.got
