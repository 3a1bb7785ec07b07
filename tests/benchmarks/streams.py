"""Many open streams of one source: frames delivered per second, and memory for each.

An event is only made when all readers have the one before, so that nobody gains by sending several
in one piece.
"""

import asyncio
import time
from functools import partial
from typing import cast

from . import client
from .apps import TOKEN
from .latency import percentile
from .processes import resident
from .servers import NEEDS, Served, run, served
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way

WAITING, QUEUEING = "Starlette StreamingResponse", "StreamingResponse, a queue each"
SSE = "sse-starlette"
AT_ONCE = 100
"""Connections that are opened together."""


class Readers:
    """All open streams of one measurement, and how many frames they have had."""

    def __init__(self) -> None:
        self.frames = 0
        self._wanted = 0
        self._there = asyncio.Event()

    def expect(self, frames: int) -> None:
        """Have `wait` wait for as many frames in all."""
        self._wanted = frames
        self._there.clear()

    async def wait(self) -> None:
        await self._there.wait()

    def had(self, frames: int) -> None:
        """Some have come."""
        self.frames += frames
        if self.frames >= self._wanted:
            self._there.set()


class Reader(asyncio.Protocol):
    """A connection with an open stream."""

    def __init__(self, readers: Readers, sent: bytes, opened: "asyncio.Future[None]") -> None:
        self._readers = readers
        self._sent = sent
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        if not self._opened.done():
            self._open(data)
        if frames := data.count(b"@"):  # one in each event, and nowhere else
            self._readers.had(frames)

    def _open(self, data: bytes) -> None:
        try:
            client.check_status(data)
        except ValueError as error:
            self._opened.set_exception(error)
        else:
            self._opened.set_result(None)


async def deliver(server: Served, streams: int, events: int) -> Figures:
    """Open the streams, and have one event after the other delivered to all of them."""
    caller = await client.caller(server.port)
    path = (await caller.call(client.request("GET", "/where", token=TOKEN))).decode()
    emit = client.request("POST", "/emit", token=TOKEN)
    before, readers = resident(server.pid), Readers()
    opened = await _open(readers, server.port, path, streams)
    times = []
    for number in range(1, events + 2):
        readers.expect(number * streams)
        began = time.perf_counter()
        await caller.call(emit)
        await readers.wait()
        times.append(time.perf_counter() - began)
    grown = resident(server.pid) - before
    for reader in opened:
        reader.transport.abort()
    rate = streams * events / sum(times[1:])
    return {"rate": rate, "kilobytes": grown / streams / 1e3, **_latencies(times[1:])}


async def _open(readers: Readers, port: int, path: str, streams: int) -> list[Reader]:
    loop, sent = asyncio.get_running_loop(), client.request("GET", path, token=TOKEN)
    opened: list[Reader] = []
    for first in range(0, streams, AT_ONCE):
        answers = [loop.create_future() for _ in range(first, min(first + AT_ONCE, streams))]
        for answer in answers:
            make = partial(Reader, readers, sent, answer)
            _, reader = await loop.create_connection(make, client.HOST, port)
            opened.append(reader)
        for answer in answers:
            await answer
    return opened


def _latencies(times: list[float]) -> Figures:
    return {"p50": 1e3 * percentile(times, 50), "p99": 1e3 * percentile(times, 99)}


def _measure(app: str, sizes: Sizes) -> Figures:
    with served(f"tests.benchmarks.stream_apps:{app}") as server:
        return run(deliver(server, sizes["streams"], sizes["events"]))


PART = Part(
    name="streams",
    title="Streams",
    figures=[
        Figure("rate", "frames delivered per second"),
        Figure("kilobytes", "kB per open stream", less=True),
        Figure("p50", "one event to all of them, p50, ms", less=True),
        Figure("p99", "one event to all of them, p99, ms", less=True),
    ],
    ways=[
        Way(WAITING, partial(_measure, "waiting"), NEEDS),
        Way(OURS, partial(_measure, "ours"), NEEDS),
        Way(QUEUEING, partial(_measure, "queueing"), NEEDS),
        Way(SSE, partial(_measure, "sse"), [*NEEDS, "sse_starlette"]),
    ],
    sizes={"streams": 1_000, "events": 50},
    full={"streams": 10_000},
    base=WAITING,
    goals=[
        Goal("rate", least=1.3, of=WAITING),
        Goal("rate", least=3.0, of=SSE),
        Goal("kilobytes", most=14.0),
    ],
    rounds=3,
)
