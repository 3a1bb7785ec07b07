"""Connections that are cut at random places: each event comes once and in order all the same.

The client leaves, the server breaks the connection, or what is in between cuts it, at any byte: in
the headers, within a frame, after the last one. Each time the client comes again with the number of
the last event that it has in full.
"""

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import NamedTuple, Protocol

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from jobrunner import JobContext, JobRunner, Limits
from jobrunner.server import Server, serving
from tests.accepting import accepting
from tests.serving import GONE_ON

AT_ONCE = 5
"""Events that the job says each time a client comes."""


class Story:
    """A job that says a few things more each time somebody comes."""

    def __init__(self, visits: int) -> None:
        self.runner = JobRunner(shutdown_timeout=0.0, limits=Limits(max_events=100_000))
        self.runner.job(self.tell)
        self.said = 2
        """Number of the last event that will be said before somebody comes again."""
        self._visits = visits
        self._go_on = asyncio.Semaphore(0)

    async def tell(self, ctx: JobContext, visits: int) -> None:
        """Say some more at each visit."""
        for visit in range(visits):
            await self._go_on.acquire()
            for n in range(AT_ONCE):
                ctx.emit(f"{visit}.{n} " + "x" * (visit * n % 300))
                await asyncio.sleep(0)  # so that much of it is said while somebody listens

    def visit(self) -> None:
        """Go on a bit."""
        self._visits -= 1
        self.said += AT_ONCE + (self._visits == 0)
        self._go_on.release()


class Ear(Protocol):
    """How a client listens on one connection."""

    over: bool
    """Whether the server has said that nothing will follow."""

    def __init__(self, server: Server, job_id: str, after: int) -> None: ...

    def hello(self) -> bytes:
        """Return what the client sends."""
        ...

    def hear(self, data: bytes) -> list[int]:
        """Return the numbers of the events that have come in full."""
        ...


class Events:
    """An EventSource: HTTP/1.1 with chunks, and events that end in an empty line."""

    def __init__(self, server: Server, job_id: str, after: int) -> None:
        self.over = False
        self._request = (
            f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {after}\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n"
        )
        self._raw = self._body = b""
        self._headers = True

    def hello(self) -> bytes:
        """Return the request."""
        return self._request.encode()

    def hear(self, data: bytes) -> list[int]:
        """Return the ids of the events that have come in full."""
        self._raw += data
        if self._headers:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if not found:
                return []
            self._headers, self._raw = False, rest
            self.over = head.startswith(b"HTTP/1.1 204 ")
        while (chunk := re.match(rb"([0-9a-f]+)\r\n", self._raw)) is not None:
            size, start = int(chunk[1], 16), chunk.end()
            if len(self._raw) < start + size + 2:
                break
            self.over = self.over or size == 0
            self._body += self._raw[start : start + size]
            self._raw = self._raw[start + size + 2 :]
        *events, self._body = self._body.split(b"\n\n")
        ids = [re.match(rb"id: (\d+)\n", event) for event in events]
        return [int(found[1]) for found in ids if found]


class Frames:
    """A WebSocket, by the protocol alone: the connection is the test's."""

    def __init__(self, server: Server, job_id: str, after: int) -> None:
        self.over = False
        address = f"ws{server.url.removeprefix('http')}/jobs/{job_id}/ws?after={after}"
        self._protocol = ClientProtocol(parse_uri(address), max_size=None)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {server.token}"
        self._protocol.send_request(request)

    def hello(self) -> bytes:
        """Return the handshake."""
        return b"".join(self._protocol.data_to_send())

    def hear(self, data: bytes) -> list[int]:
        """Return the numbers of the frames that have come in full."""
        self._protocol.receive_data(data)
        frames = [e for e in self._protocol.events_received() if isinstance(e, Frame)]
        self.over = any(frame.opcode is Opcode.CLOSE for frame in frames)
        return [json.loads(bytes(f.data))["seq"] for f in frames if f.opcode is Opcode.TEXT]


class Cut(NamedTuple):
    """How a connection is cut."""

    by: str
    """client, server, or between them."""
    place: float
    """After how many bytes."""


class Line:
    """The way between client and server: it may be cut anywhere."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = 0
        """Of a proxy that passes on so many bytes of an answer, and no more."""
        self.place = math.inf
        self.cuts = Counter[str]()
        self._passing: list[asyncio.WriteTransport] = []

    async def listen(self, ear: Ear, cut: Cut, until: int) -> list[int]:
        """Return the numbers of the events that come until the cut, or until that number."""
        self.place = cut.place
        port = int(self.server.url.rpartition(":")[2]) if cut.by != "between" else self.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ear.hello())
        numbers, left = list[int](), cut.place
        with suppress(ConnectionError):
            while not ear.over and numbers[-1:] != [until]:
                data = await reader.read(int(min(left, 65_536)) if cut.by == "client" else 65_536)
                left -= len(data)
                numbers += ear.hear(data)
                if not data or (left <= 0 and cut.by == "client"):
                    break
                if left <= 0 and cut.by == "server":
                    for connection in self.server.server_state.connections:
                        connection.transport.abort()
        self.cuts[cut.by] += left <= 0
        writer.transport.abort()
        for passing in self._passing:
            passing.abort()
        self._passing.clear()
        return numbers

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the proxy for one connection."""
        port = int(self.server.url.rpartition(":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        self._passing += [back.transport, writer.transport]
        left = self.place
        with suppress(ConnectionError):
            back.write(await reader.readuntil(b"\r\n\r\n"))
            while left > 0 and (data := await there.read(int(min(left, 65_536)))):
                writer.write(data)
                await writer.drain()
                left -= len(data)
        writer.close()
        back.close()


@asynccontextmanager
async def line_to(runner: JobRunner) -> AsyncIterator[Line]:
    """Serve a runner, with a proxy before it."""
    async with serving(runner) as server:
        line = Line(server)
        async with accepting(line.pass_on) as line.port:
            yield line


@pytest.mark.parametrize("way", [Events, Frames])
@pytest.mark.parametrize(
    "cuts",
    [20, pytest.param(1_000, marks=pytest.mark.slow)],  # a thousand connections, some seconds
)
async def test_each_event_comes_once_wherever_the_connection_is_cut(
    way: type[Ear], cuts: int
) -> None:
    """The promise of numbers that never repeat: who remembers one has lost nothing."""
    story, draw, seen = Story(cuts), Random(cuts), list[int]()

    def ear() -> Ear:
        return way(line.server, job.id, seen[-1] if seen else 0)

    async with asyncio.timeout(GONE_ON), line_to(story.runner) as line:
        job = await story.runner.submit("tell", {"visits": cuts})
        for _ in range(cuts):
            story.visit()
            cut = Cut(draw.choice(["client", "server", "between"]), int(2 ** draw.uniform(0, 12)))
            seen += await line.listen(ear(), cut, story.said)
        seen += await line.listen(ear(), Cut("nobody", math.inf), -1)
        again = ear()
        assert await line.listen(again, Cut("nobody", math.inf), -1) == []
    assert seen == list(range(1, story.said + 1))
    assert again.over
    assert min(line.cuts[by] for by in ("client", "server", "between")) >= cuts // 10, line.cuts
