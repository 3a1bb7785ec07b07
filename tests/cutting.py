"""A TCP proxy that breaks connections where a test says, and clients that go through it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat

from tests.serving import GONE_ON

HELD = -1
"""Limit of a connection that never gives an answer."""


class Proxy:
    """Passes connections on to a server, and lets through so much of each one's answers.

    Args:
        target: URL of the server.
        limits: For each connection in turn the bytes of answers after which it is broken; all of
            it for None, and for those after the last; HELD for none, and no break.
    """

    def __init__(self, target: str, limits: Iterable[int | None]) -> None:
        self.target = target
        self.cuts = 0
        self.opened = 0
        self.requests = 0
        self._limits: Iterator[int | None] = chain(limits, repeat(None))
        self._open: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self.url = ""

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def cut_all(self) -> None:
        """Break what is open."""
        for writer in self._open:
            writer.transport.abort()

    async def until_open(self, number: int) -> None:
        """Wait until so many connections are open."""
        await self._until(lambda: self.open == number)

    async def until_asked(self, number: int) -> None:
        """Wait until there have been so many requests."""
        await self._until(lambda: self.requests == number)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(GONE_ON):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, and end it."""
        self.opened += 1
        self._set_open(writer, True)
        limit = next(self._limits)
        port = int(self.target.rpartition(":")[2])
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            ways = [
                asyncio.create_task(self._ask(reader, to_server), name="proxy"),
                asyncio.create_task(_answer(from_server, writer, limit), name="proxy"),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if ways[1].done() and ways[1].result():
                    self.cuts += 1
            finally:
                for way in ways:
                    way.cancel()
                to_server.transport.abort()
        if self.cuts % 2:  # one half of the cuts is a reset, the other a clean end
            writer.transport.abort()
        writer.close()
        self._set_open(writer, False)

    async def _ask(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> bool:
        """Pass requests on, and count them: a client sends each in a piece that begins with it."""
        with suppress(OSError):
            while data := await reader.read(65_536):
                if re.match(rb"[A-Z]+ /\S* HTTP/1.1\r\n", data):
                    self.requests += 1
                    self._changed.set()
                to_server.write(data)
                await to_server.drain()
        return False

    def _set_open(self, writer: asyncio.StreamWriter, is_open: bool) -> None:
        (self._open.add if is_open else self._open.discard)(writer)
        self._changed.set()


async def _answer(
    from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
) -> bool:
    """Pass answers on until the server ends, and return whether the limit was reached before."""
    with suppress(OSError):
        while data := await from_server.read(65_536):
            if limit == HELD:
                continue
            passed = data if limit is None else data[:limit]
            writer.write(passed)
            await writer.drain()
            if limit is not None and (limit := limit - len(passed)) == 0:
                return True
    return False


@asynccontextmanager
async def cutting(target: str, limits: Iterable[int | None] = ()) -> AsyncIterator[Proxy]:
    """Put a proxy before a server while the block runs."""
    proxy = Proxy(target, limits)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        await proxy.until_open(0)
