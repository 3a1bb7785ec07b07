"""A client that costs a server's process nothing and its own little: raw HTTP/1.1, kept alive.

It understands what the servers here say, and no more: answers with a Content-Length, and streams.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

HOST = "127.0.0.1"


def request(method: str, path: str, *, token: str, body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire, with the headers that clients send."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nUser-Agent: bench\r\n"
        f"Authorization: Bearer {token}\r\n"
    )
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@dataclass
class Load:
    """Requests that several connections send one after the other, for a while."""

    requests: Iterator[bytes]
    until: float
    """When no more are sent, by `time.perf_counter`."""
    times: list[float] = field(default_factory=list)
    """Seconds of each request."""
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    """When the last answer came."""

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.times) / (self.ended - self.began)


class Connection(asyncio.Protocol):
    """One connection of a load: the next request goes out when the answer to the last is there."""

    def __init__(self, load: Load, done: "asyncio.Future[None]") -> None:
        self._load = load
        self._done = done
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            if answer_of(self._buffer) is None:
                return
        except ValueError as error:
            self.connection_lost(error)
            return
        self._buffer = b""
        now = time.perf_counter()
        self._load.times.append(now - self._sent)
        self._load.ended = now
        if now < self._load.until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done.done():
            return
        if exc is None and not self._buffer and self._load.times:
            self._done.set_result(None)
        else:
            self._done.set_exception(exc or ConnectionError("the server has hung up"))


def answer_of(received: bytes) -> bytes | None:
    """Return the body of an answer, or None while it isn't there whole.

    Raises:
        ValueError: Its status is an error.
    """
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    check_status(received)
    _, _, length = head.lower().partition(b"content-length: ")
    return body if len(body) >= int(length.partition(b"\r\n")[0] or 0) else None


def check_status(received: bytes) -> None:
    """Raise ValueError when the answer that begins like this is an error."""
    if not received.startswith(b"HTTP/1.1 2"):
        raise ValueError(f"the server answered {received[:300]!r}")


async def send_all(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Load:
    """Send the requests in turn, over and over, on several connections, for some seconds."""
    loop = asyncio.get_running_loop()
    load = Load(itertools.cycle(requests), time.perf_counter() + seconds)
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(_connection(load, end), HOST, port)
    for end in ends:
        await end
    return load


def _connection(load: Load, end: "asyncio.Future[None]") -> Callable[[], Connection]:
    return lambda: Connection(load, end)


class Caller:
    """One connection for single requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def call(self, sent: bytes) -> bytes:
        """Send a request and return the body of the answer."""
        self.writer.write(sent)
        received = b""
        while (body := answer_of(received)) is None:
            received += await self._reader.read(65_536)
        return body


async def caller(port: int) -> Caller:
    """Connect."""
    return Caller(*await asyncio.open_connection(HOST, port))
