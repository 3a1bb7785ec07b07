"""A real server with job types that do what a test tells them, and a reader of event streams."""

import asyncio
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, NamedTuple

import httpx2
import uvicorn

from jobrunner import JobContext, JobRunner, PermanentError
from jobrunner.server import Server, serving
from jobrunner.web.app import create_app

JSON = {"content-type": "application/json"}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Takes no time to load certificates that no test needs."""
GONE_ON = 60.0
"""Seconds after which a test that waits for something has failed; never how long it takes."""


class Gates:
    """Lets handlers wait until a test says go on."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = {}

    def __getitem__(self, key: str) -> asyncio.Event:
        return self._gates.setdefault(key, asyncio.Event())


class Bench(NamedTuple):
    """A runner that is served, and who talks to it."""

    runner: JobRunner
    gates: Gates
    client: httpx2.AsyncClient
    """Has the token."""
    url: str
    token: str

    async def submit(self, type: str, **params: Any) -> str:
        """Submit over HTTP and return the id."""
        response = await self.client.post("/jobs", json={"type": type, "params": params})
        assert response.status_code == 202, response.text
        job_id: str = response.json()["job_id"]
        return job_id

    async def finished(self, type: str, **params: Any) -> str:
        """Submit over HTTP, wait for the end, and return the id."""
        job_id = await self.submit(type, **params)
        await self.runner.handle(job_id).wait()
        return job_id

    async def held(self, key: str, *, say: list[str] | None = None) -> str:
        """Start a job that runs until its gate is opened; it has said its texts by then."""
        job_id = await self.submit("hold", key=key, say=say or [])
        await self.gates[f"{key} reached"].wait()
        return job_id


def make_runner(**options: Any) -> tuple[JobRunner, Gates]:
    """Return a runner with the job types, and the gates they wait at."""
    runner, gates = JobRunner(**{"shutdown_timeout": 0.0, "watchdog": None, **options}), Gates()

    @runner.job
    async def echo(value: Any = None) -> Any:
        """Return the value."""
        return value

    @runner.job
    async def fail(message: str) -> None:
        """Fail with the message."""
        raise PermanentError(message)

    @runner.job
    async def say(ctx: JobContext, texts: list[str]) -> int:
        """Emit each text."""
        for text in texts:
            ctx.emit(text)
        return len(texts)

    @runner.job
    async def hold(ctx: JobContext, key: str, say: list[str] | None = None) -> str:
        """Emit the texts, wait at the gate, and return its key."""
        for text in say or []:
            ctx.emit(text)
        gates[f"{key} reached"].set()
        await gates[key].wait()
        return key

    @runner.job
    async def steps(ctx: JobContext, key: str) -> None:
        """Be at step 1 of 4 until the gate opens."""
        ctx.step(1, 4, "first")
        await gates[key].wait()

    return runner, gates


@asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[Bench]:
    """Serve a runner on a real socket."""
    runner, gates = make_runner(**options)
    async with serving(runner) as server, client_of(server) as client:
        yield Bench(runner, gates, client, server.url, server.token)


@asynccontextmanager
async def in_process(**options: Any) -> AsyncIterator[Bench]:
    """Serve a runner without sockets: for what needs a runner of its own and no stream (S7)."""
    runner, gates = make_runner(**options)
    transport = httpx2.ASGITransport(app=create_app(runner, auth=None))
    url = "http://localhost"
    async with runner, httpx2.AsyncClient(transport=transport, base_url=url) as client:
        yield Bench(runner, gates, client, url, "")


def client_of(server: Server) -> httpx2.AsyncClient:
    """Return a client that has the server's token."""
    return connect(server.url, headers={"authorization": f"Bearer {server.token}"})


def connect(url: str, **options: Any) -> httpx2.AsyncClient:
    """Return a client that looks at no environment and doesn't wait for ever."""
    return httpx2.AsyncClient(
        base_url=url, trust_env=False, timeout=GONE_ON, verify=NO_TLS, **options
    )


@asynccontextmanager
async def listening(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve any ASGI app on a free port, and yield its URL; the options are uvicorn's."""
    config = uvicorn.Config(app, log_config=None, log_level="warning", port=0,
                            timeout_graceful_shutdown=1, **options)  # fmt: skip
    server = uvicorn.Server(config)
    ready = asyncio.Event()
    startup = server.startup

    async def started(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        ready.set()

    server.startup = started  # type: ignore[method-assign]  # uvicorn has no other way to know
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        async with asyncio.timeout(GONE_ON):
            await ready.wait()
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True


class Heard:
    """A signal handler that notes what it was called with, in a server's place."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.numbers.append(number)


@contextmanager
def signals_heard() -> Iterator[Heard]:
    """Handle SIGINT and SIGTERM, as uvicorn does before the lifespan starts."""
    heard = Heard()
    before = {n: signal.signal(n, heard) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watcher(NamedTuple):
    """A raw connection with an open event stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """Return what comes until the server closes the connection; a reset is an error."""
        try:
            async with asyncio.timeout(GONE_ON):
                return await self.reader.read()
        finally:
            self.writer.close()


async def watch(url: str, path: str, token: str = "") -> Watcher:
    """Open an event stream, and read up to its first event."""
    port = int(url.rpartition(":")[2])
    watcher = Watcher(*await asyncio.open_connection("127.0.0.1", port))
    watcher.writer.write(request_for(path, token))
    async with asyncio.timeout(GONE_ON):
        await watcher.reader.readuntil(b"event: snapshot\n")
    return watcher


def request_for(path: str, token: str = "") -> bytes:
    """Return a GET as it goes over the wire."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def ends_well(rest: bytes) -> bool:
    """Return whether a stream's rest has the last event and the last chunk (RFC 9112, 7.1)."""
    return b"event: done\n" in rest and rest.endswith(b"\r\n0\r\n\r\n")


class Frame(NamedTuple):
    """An event as a browser would see it."""

    event: str
    data: Any
    id: str | None
    """The id that came with this event; None when there was none."""

    @property
    def number(self) -> int:
        """The id, which has to be there."""
        assert self.id is not None
        return int(self.id)


async def read_frames(body: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Yield events as WHATWG HTML 9.2.6 says: lines end in CR LF, LF or a bare CR."""
    rest = b""
    fields: dict[str, str] = {}
    async for chunk in body:
        *lines, rest = re.split(rb"\r\n|\n|\r", rest + chunk)
        for line in lines:
            if line:
                name, _, value = line.decode().partition(":")
                fields[name] = value.removeprefix(" ")
            else:
                if "data" in fields:
                    yield Frame(
                        fields.get("event", "message"), json.loads(fields["data"]), fields.get("id")
                    )
                fields = {}


@asynccontextmanager
async def stream(
    client: httpx2.AsyncClient, path: str, **headers: str
) -> AsyncIterator[AsyncIterator[Frame]]:
    """Open an event stream and yield its frames."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", path, headers=sent) as response:
        assert response.status_code == 200, response.status_code
        yield read_frames(response.aiter_raw())


async def read_all(client: httpx2.AsyncClient, path: str, **headers: str) -> list[Frame]:
    """Return all frames of a stream that ends."""
    async with stream(client, path, **headers) as frames:
        return [frame async for frame in frames]


def problem(response: httpx2.Response) -> tuple[int, str]:
    """Return status and code of a problem document."""
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == response.status_code
    return response.status_code, document["type"].removeprefix("/problems/")


class Answer(NamedTuple):
    """A response as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> tuple[int, str, str]:
        """Status, content type and code of a problem document."""
        document = json.loads(self.body)
        assert document["status"] == self.status
        return self.status, self.headers["content-type"], document["type"].rpartition("/")[2]


async def raw_request(url: str, *pieces: bytes) -> Answer:
    """Send bytes as they are on a connection of their own, and read the answer to its end."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        async with asyncio.timeout(GONE_ON):
            for piece in pieces:
                writer.write(piece)
            return parse_answer(await reader.read())
    finally:
        writer.close()


def parse_answer(raw: bytes) -> Answer:
    """Return the parts of an HTTP/1.1 response whose connection has ended."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
    return Answer(int(first.split()[1]), headers, body)
