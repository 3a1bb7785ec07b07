"""Event streams: what a watcher sees, wherever it begins, however it leaves, however slow it is."""

import asyncio
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from jobrunner import JobContext, JobRunner, Limits
from jobrunner.web import create_app
from tests.served import Process, process
from tests.serving import (
    GONE_ON,
    Bench,
    Frame,
    Gates,
    bench,
    connect,
    listening,
    make_runner,
    problem,
    raw_request,
    read_all,
    read_frames,
    request_for,
    stream,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test watches jobs of its own."""
    async with bench() as served:
        yield served


def told(frames: list[Frame]) -> list[tuple[str | None, str]]:
    return [(frame.id, frame.event) for frame in frames]


def texts(frames: list[Frame]) -> list[str]:
    return [frame.data["text"] for frame in frames if frame.event == "output"]


async def test_a_finished_job_is_told_from_the_start(served: Bench) -> None:
    """A late watcher sees what an early one saw: a snapshot, then everything from 1 to `done`."""
    job_id = await served.finished("say", texts=["a", "b"])
    frames = await read_all(served.client, f"/jobs/{job_id}/stream")
    assert told(frames) == [
        (None, "snapshot"), ("1", "status"), ("2", "status"), ("3", "output"), ("4", "output"),
        ("5", "done"),
    ]  # fmt: skip


async def test_the_headers_keep_everything_in_between_from_collecting(served: Bench) -> None:
    """A proxy that buffers or a cache that keeps makes a live stream a dead one."""
    job_id = await served.finished("echo")
    response = await served.client.get(f"/jobs/{job_id}/stream")
    names = ("content-type", "cache-control", "x-accel-buffering", "x-content-type-options")
    assert [response.headers[name] for name in names] == [
        "text/event-stream; charset=utf-8",
        "no-store",
        "no",
        "nosniff",
    ]
    assert response.text.startswith("retry: 1000\n\n")


async def test_the_snapshot_is_the_job_as_it_stands(served: Bench) -> None:
    """A page shows the job at once, before the events of an hour have been read."""
    job_id = await served.held("snapshot", say=["a"])
    job = (await served.client.get(f"/jobs/{job_id}")).json()
    async with stream(served.client, f"/jobs/{job_id}/stream") as frames:
        first = await anext(frames)
    assert first == Frame("snapshot", job | {"seq": 3}, None)
    served.gates["snapshot"].set()


async def test_each_event_has_its_number_and_its_job(served: Bench) -> None:
    """The data says all of it again: an event can be handed on without its frame."""
    job_id = await served.finished("say", texts=["a"])
    frames = (await read_all(served.client, f"/jobs/{job_id}/stream"))[1:]
    assert [(str(f.data["seq"]), f.data["job_id"]) for f in frames] == [
        (f.id, job_id) for f in frames
    ]


@pytest.mark.parametrize(
    ("type", "params", "end"),
    [
        ("echo", {"value": {"a": 1}}, {"status": "completed", "result": {"a": 1}}),
        ("fail", {"message": "x"}, {"status": "failed", "result": None}),
    ],
)
async def test_the_last_event_has_the_end_in_it(
    served: Bench, type: str, params: dict[str, Any], end: dict[str, Any]
) -> None:
    """Nobody has to ask again for what the job was started for."""
    job_id = await served.finished(type, **params)
    last = (await read_all(served.client, f"/jobs/{job_id}/stream"))[-1]
    assert (last.event, {name: last.data[name] for name in end}) == ("done", end)


async def test_events_come_while_the_job_runs(served: Bench) -> None:
    """Live is the point: the stream is read before the job has an end."""
    job_id = await served.held("live", say=["a"])
    async with stream(served.client, f"/jobs/{job_id}/stream") as frames:
        before = [(await anext(frames)).event for _ in range(4)]
        assert served.runner.handle(job_id).status == "running"
        served.gates["live"].set()
        after = [frame.event async for frame in frames]
    assert (before, after) == (["snapshot", "status", "status", "output"], ["done"])


@pytest.mark.parametrize("after", [0, 1, 3, 4])
@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_stream_goes_on_after_the_last_number(served: Bench, after: int, way: str) -> None:
    """Nothing twice and nothing lost, wherever the connection was cut."""
    job_id = await served.finished("say", texts=["a", "b"])
    path = f"/jobs/{job_id}/stream"
    if way == "header":
        frames = await read_all(served.client, path, last_event_id=str(after))
    else:
        frames = await read_all(served.client, f"{path}?after={after}")
    assert [frame.number for frame in frames] == list(range(after + 1, 6))


async def test_the_header_wins_over_the_query(served: Bench) -> None:
    """A browser reconnects to the URL it was given first, and knows better where it is."""
    job_id = await served.finished("say", texts=["a", "b"])
    path = f"/jobs/{job_id}/stream?after=1"
    frames = await read_all(served.client, path, last_event_id="4")
    assert told(frames) == [("5", "done")]


@pytest.mark.parametrize("header", ["", "x", "-1", "1.5", "x\ty", "9" * 16, "0x1"])
async def test_a_last_event_id_that_is_none_of_ours_is_ignored(served: Bench, header: str) -> None:
    """A browser may send what another server gave it; it is told everything."""
    job_id = await served.finished("echo")
    frames = await read_all(served.client, f"/jobs/{job_id}/stream", last_event_id=header)
    assert [frame.event for frame in frames] == ["snapshot", "status", "status", "done"]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30])
async def test_an_after_that_is_no_number_is_a_400(served: Bench, after: str) -> None:
    """In the URL it is the client's own words."""
    job_id = await served.finished("echo")
    response = await served.client.get(f"/jobs/{job_id}/stream", params={"after": after})
    assert problem(response) == (400, "invalid-query")


@pytest.mark.parametrize("after", [3, 4, 999])
async def test_who_has_read_the_end_is_told_not_to_ask_again(served: Bench, after: int) -> None:
    """204 is the one answer after which an EventSource stays closed."""
    job_id = await served.finished("echo")
    path = f"/jobs/{job_id}/stream"
    by_header = await served.client.get(path, headers={"last-event-id": str(after)})
    by_query = await served.client.get(path, params={"after": after})
    assert [(r.status_code, r.content) for r in (by_header, by_query)] == [(204, b"")] * 2


async def test_a_number_from_the_future_still_gets_the_end(served: Bench) -> None:
    """A cursor of another server's job: whatever it was, the stream ends with `done`."""
    job_id = await served.held("future")
    async with stream(served.client, f"/jobs/{job_id}/stream?after=999") as frames:
        served.gates["future"].set()
        assert [frame.event async for frame in frames][-1:] == ["done"]


async def test_head_has_the_headers_and_no_stream(served: Bench) -> None:
    """Somebody checks whether the job can be watched; the answer mustn't wait for its end."""
    job_id = await served.held("head")
    response = await served.client.head(f"/jobs/{job_id}/stream")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    served.gates["head"].set()


FORGERIES = [
    "x\n\nid: 99\nevent: done\ndata: {}\n\n",
    "x\r\rid: 99\revent: done\rdata: {}\r\r",
    "x\r\n\r\nid: 99\r\nevent: done\r\ndata: {}\r\n\r\n",
    "x\u2028\u2028event: done\u2028data: {}\u2029\u0085\x0b\x0c",
    "\x00\x1b[2J\ufeffdata: {}",
    '"}\n\nevent: done\ndata: {"',
    ": comment\nretry: 1\n",
    "\U0001f600 \u00e4",
]


async def test_no_output_can_forge_an_event(served: Bench) -> None:
    """What a program prints is anybody's; each text comes whole, in one event, and ends nothing."""
    job_id = await served.finished("say", texts=FORGERIES)
    frames = await read_all(served.client, f"/jobs/{job_id}/stream")
    assert [frame.event for frame in frames] == (
        ["snapshot", "status", "status"] + ["output"] * len(FORGERIES) + ["done"]
    )
    assert texts(frames) == FORGERIES


async def test_no_params_result_or_name_can_forge_an_event(served: Bench) -> None:
    """They are in the snapshot and in the last event, put there as they were kept."""
    for forgery in FORGERIES:
        job_id = await served.finished("echo", value={forgery: forgery})
        frames = await read_all(served.client, f"/jobs/{job_id}/stream")
        assert [f.event for f in frames] == ["snapshot", "status", "status", "done"]
        assert frames[0].data["params"] == {"value": frames[-1].data["result"]}


async def test_no_error_or_note_can_forge_an_event(served: Bench) -> None:
    """An exception's message is often a program's output."""
    job_id = await served.finished("fail", message=FORGERIES[1])
    frames = await read_all(served.client, f"/jobs/{job_id}/stream")
    assert (len(frames), frames[-1].data["error"]["detail"]) == (4, FORGERIES[1])


# Gaps


@pytest.fixture
def short() -> JobRunner:
    """A runner that keeps five events of a job."""
    return make_runner(limits=Limits(max_events=5))[0]


async def test_a_late_watcher_is_told_what_is_no_longer_kept(short: JobRunner) -> None:
    """Better a hole with a sign at it than a story without a beginning."""
    async with listening(create_app(short, auth=None)) as url, connect(url) as client:
        job = await short.submit("say", {"texts": ["t"] * 10})
        await job.wait()
        frames = await read_all(client, f"/jobs/{job.id}/stream")
    assert told(frames)[:3] == [(None, "snapshot"), ("8", "gap"), ("9", "output")]
    assert (frames[1].data["from"], frames[1].data["to"]) == (1, 8)
    assert told(frames)[-1] == ("13", "done")


async def test_a_cursor_older_than_what_is_kept_gets_a_gap_and_a_snapshot(
    short: JobRunner,
) -> None:
    """What was missed can't be told any more, but how things stand can."""
    async with listening(create_app(short, auth=None)) as url, connect(url) as client:
        job = await short.submit("say", {"texts": ["t"] * 10})
        await job.wait()
        frames = await read_all(client, f"/jobs/{job.id}/stream?after=2")
    assert told(frames)[:3] == [("8", "gap"), (None, "snapshot"), ("9", "output")]
    assert (frames[0].data["from"], frames[0].data["to"]) == (3, 8)


def deaf(url: str, path: str, token: str = "") -> socket.socket:
    """Open a stream with a small buffer, and never read from it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    reader.sendall(request_for(path, token))
    return reader


@pytest.mark.slow
async def test_s4_a_slow_reader_slows_nobody_and_is_told_of_the_gap() -> None:
    """The job goes on, another watcher sees everything, and the slow one a gap and a snapshot."""
    runner = JobRunner(limits=Limits(max_events=50), shutdown_timeout=0.0)
    read_so_far = asyncio.Semaphore(0)

    @runner.job
    async def flood(ctx: JobContext) -> None:
        for _ in range(100):
            for _ in range(10):
                ctx.emit("x" * 10_000)
            await read_so_far.acquire()

    async with listening(create_app(runner, auth=None)) as url, connect(url) as client:
        job = await runner.submit(flood)
        with deaf(url, f"/jobs/{job.id}/stream") as slow:
            quick = list[Frame]()
            async with stream(client, f"/jobs/{job.id}/stream") as frames:
                async for frame in frames:
                    quick.append(frame)
                    if frame.event == "output" and frame.number % 10 == 2:
                        read_so_far.release()
            slow.setblocking(False)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
            seen = [frame async for frame in read_frames(received(slow))]
    assert [f.number for f in quick[1:]] == list(range(1, 1_004))
    events = [frame.event for frame in seen]
    assert (events.count("gap"), events[-1]) == (1, "done")
    assert events[events.index("gap") + 1] == "snapshot"


async def received(reader: socket.socket) -> AsyncIterator[bytes]:
    """Yield the body of a chunked response, without its chunk lines."""
    loop, raw = asyncio.get_running_loop(), b""
    async with asyncio.timeout(GONE_ON):
        while not raw.endswith(b"0\r\n\r\n"):
            raw += await loop.sock_recv(reader, 1_000_000)
    rest = raw.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        yield rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


# Places


def places(limit: int = 1) -> tuple[JobRunner, Gates, Starlette]:
    """Return a runner, its gates, and its app that has few places for streams."""
    runner, gates = make_runner(watchdog=None)  # how long a machine takes is nobody's error
    return runner, gates, create_app(runner, auth=None, max_streams=limit)


async def test_more_streams_than_there_are_places_are_a_503() -> None:
    """Each costs memory; who is refused is told to poll, and when to come back."""
    runner, gates, app = places()
    async with listening(app) as url, connect(url) as client:
        job = await runner.submit("hold", {"key": "k"})
        async with stream(client, f"/jobs/{job.id}/stream") as frames:
            await anext(frames)
            refused = await client.get(f"/jobs/{job.id}/stream")
            polled = await client.get(f"/jobs/{job.id}")
            gates["k"].set()
            ended = [frame.event async for frame in frames][-1]
        again = await client.get(f"/jobs/{job.id}/stream")
    assert problem(refused) == (503, "too-many-streams")
    assert (refused.headers["retry-after"], polled.status_code) == ("5", 200)
    assert (ended, again.status_code) == ("done", 200)


async def free(client: httpx2.AsyncClient, path: str) -> int:
    """Return the status of a stream that is asked for until there is a place, or time is over."""
    async with asyncio.timeout(GONE_ON):
        while True:
            async with client.stream("GET", path) as response:
                if response.status_code != 503:
                    return response.status_code


@pytest.mark.slow
async def test_s3_a_client_that_leaves_frees_its_place() -> None:
    """Browsers close tabs without a word; a place that stayed taken would be taken for ever."""
    runner, gates, app = places()
    async with listening(app) as url, connect(url) as client:
        job = await runner.submit("hold", {"key": "k"})
        for _ in range(20):
            async with client.stream("GET", f"/jobs/{job.id}/stream") as response:
                await anext(response.aiter_raw())
            assert await free(client, f"/jobs/{job.id}/stream") == 200
        gates["k"].set()


async def test_s3_a_client_that_leaves_with_more_to_ask_frees_its_place() -> None:
    """Of the requests on a connection uvicorn with httptools tells the last alone that it is lost.

    What the stream has to say shows that nobody is there.
    """
    runner, gates, app = places()

    @runner.job
    async def talk(ctx: JobContext) -> None:
        while not gates["k"].is_set():
            ctx.emit("on and on")
            await asyncio.sleep(0)

    async with listening(app) as url, connect(url) as client:
        job = await runner.submit(talk)
        path = f"/jobs/{job.id}/stream"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(request_for(path) + request_for("/healthz"))
        async with asyncio.timeout(GONE_ON):
            await reader.readuntil(b"event: snapshot\n")
        writer.transport.abort()
        assert await free(client, path) == 200
        gates["k"].set()


async def reset(url: str, path: str, draw: Random) -> None:
    """Come for a stream and leave with a reset: at any byte of the request, at any time."""
    loop, request = asyncio.get_running_loop(), request_for(path)
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_connect(client, ("127.0.0.1", int(url.rpartition(":")[2])))
        sent = draw.choice([request, request, request[: draw.randrange(len(request))]])
        await loop.sock_sendall(client, sent)
        for _ in range(draw.randrange(30)):
            await asyncio.sleep(0)
        if sent == request and draw.random() < 0.3:
            await loop.sock_recv(client, draw.choice([1, 100, 5_000]))


@pytest.mark.slow  # a thousand connections
async def test_s3_a_thousand_resets_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A body that was never started never runs its `finally`: no place, no task, no error stays."""
    before = asyncio.all_tasks()
    runner, gates, app = places(50)
    draw = Random(3)

    async def come_and_go(path: str) -> None:
        for _ in range(40):
            await reset(url, path, draw)

    async with listening(app) as url, connect(url) as client:
        job = await runner.submit("hold", {"key": "k", "say": ["a"] * 100})
        path = f"/jobs/{job.id}/stream"
        await gates["k reached"].wait()
        async with asyncio.TaskGroup() as group:
            for _ in range(25):
                group.create_task(come_and_go(path))
        all_places = [await opened(client, path) for _ in range(50)]
        assert (await client.get(path)).status_code == 503
        gates["k"].set()
        for response in all_places:
            assert (await response.aread()).endswith(b"\n\n")
    assert [record.getMessage() for record in caplog.records] == []
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("sends", [0, 1, 2])
async def test_s3_a_connection_that_breaks_while_it_is_written_frees_its_place(sends: int) -> None:
    """Servers may raise OSError then, as ASGI says, or never say that the client has left."""
    before = asyncio.all_tasks()
    runner, gates, app = places(1)
    async with runner:
        job = await runner.submit("hold", {"key": "k", "say": ["a"]})
        await gates["k reached"].wait()
        working = asyncio.all_tasks()
        scope = {
            "type": "http", "method": "GET", "path": f"/jobs/{job.id}/stream", "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }  # fmt: skip
        statuses = []
        for _ in range(2):
            left = iter(range(sends))

            async def send(message: Any, left: Iterator[int] = left) -> None:
                statuses.append(message.get("status"))
                if next(left, None) is None:
                    raise OSError("broken pipe")

            with pytest.raises(OSError, match="broken pipe"):
                await app(scope, never, send)
            for _ in range(3):  # what was cancelled takes its turn to end
                await asyncio.sleep(0)
            assert asyncio.all_tasks() <= working  # fewer: another test's stream has ended, too
        gates["k"].set()
    assert 503 not in statuses
    assert asyncio.all_tasks() <= before


async def never() -> Any:
    await asyncio.Event().wait()


async def opened(client: httpx2.AsyncClient, path: str) -> httpx2.Response:
    """Return a response that streams, as soon as there is a place for it."""
    async with asyncio.timeout(GONE_ON):
        while True:
            response = await client.send(client.build_request("GET", path), stream=True)
            if response.status_code == 200:
                return response
            await response.aread()


@pytest.mark.slow  # 100 MB are emitted
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_s4_fifty_dead_readers_cost_little_and_slow_nothing(tmp_path: Path) -> None:
    """They never read; what is kept for each is a piece of the log, and the job waits for none."""
    async with process(tmp_path, "jobrunner") as server:
        alone = [await burst(server, readers=0) for _ in range(2)]
        before = resident(server.running.pid)
        crowded = await burst(server, readers=50)
        grown = resident(server.running.pid) - before
        server.running.send_signal(signal.SIGTERM)
        await server.ended()
    print(f"{grown:.1f} MB more; {crowded:.2f} s, alone {min(alone):.2f} s")
    assert grown < 20


async def burst(server: Process, *, readers: int) -> float:
    """Emit 50 MB while so many never read, and return the seconds that it took."""
    loop = asyncio.get_running_loop()
    job_id = await server.submit("burst", events=5_000)
    with ExitStack() as dead:
        for _ in range(readers):
            path = f"/jobs/{job_id}/stream"
            reader = dead.enter_context(deaf(server.url, path, "secret"))
            reader.setblocking(False)
            await loop.sock_recv(reader, 1)  # it is open
        await server.submit("open_gate")
        ended = (await server.client.get(f"/jobs/{job_id}?wait=30")).json()
    seconds: float = ended["result"]
    return seconds


def resident(pid: int) -> float:
    """Return the process's memory in MB (proc(5), status)."""
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) / 1_024


async def test_a_head_takes_no_place_for_longer_than_its_answer() -> None:
    """Otherwise the check whether one can watch would keep others from it."""
    runner, gates, app = places()
    async with listening(app) as url, connect(url) as client:
        job = await runner.submit("hold", {"key": "k"})
        statuses = [(await client.head(f"/jobs/{job.id}/stream")).status_code for _ in range(5)]
        gates["k"].set()
    assert statuses == [200] * 5


async def test_forty_watchers_see_the_same(served: Bench) -> None:
    """One reader for all: the log is read by number, and nothing is copied to each."""
    job_id = await served.held("crowd", say=["a"])
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(read_all(served.client, f"/jobs/{job_id}/stream?after=0"))
            for _ in range(40)
        ]
        served.gates["crowd"].set()
    told_first = told(tasks[0].result())
    assert told_first == [("1", "status"), ("2", "status"), ("3", "output"), ("4", "done")]
    assert [told(task.result()) for task in tasks] == [told_first] * 40


async def test_a_forgotten_job_is_watched_to_its_end_by_who_reads_already(served: Bench) -> None:
    """Q8: readers hold the record; forgetting is for who comes later."""
    job_id = await served.held("forgotten", say=["a"])
    async with stream(served.client, f"/jobs/{job_id}/stream") as frames:
        await anext(frames)
        served.gates["forgotten"].set()
        await served.runner.handle(job_id).wait()
        await served.runner.forget(job_id)
        events = [frame.event async for frame in frames]
    assert events == ["status", "status", "output", "done"]


@pytest.mark.xfail(
    find_spec("httptools") is not None, reason="with httptools uvicorn sends chunks to everybody"
)
async def test_a_stream_to_an_http_1_0_client_ends_with_its_connection(served: Bench) -> None:
    """Old proxies know no chunks, and still have to see the end."""
    job_id = await served.finished("echo")
    head = (
        f"GET /jobs/{job_id}/stream?after=0 HTTP/1.0\r\nHost: localhost\r\n"
        f"Authorization: Bearer {served.token}\r\n\r\n"
    )
    answer = await raw_request(served.url, head.encode())
    assert answer.status == 200
    assert answer.body.endswith(b"\n\n") and b"event: done" in answer.body
