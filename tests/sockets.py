"""WebSockets as a client has them."""

import asyncio
import json
import socket as plain
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.serving import GONE_ON, Bench


class Socket(NamedTuple):
    """An open WebSocket."""

    connection: ClientConnection

    async def hear(self) -> Any:
        """Return the next frame."""
        async with asyncio.timeout(GONE_ON):
            return json.loads(await self.connection.recv())

    async def hear_until(self, type: str) -> list[Any]:
        """Return the frames up to the first of that type."""
        frames = [await self.hear()]
        while frames[-1]["type"] != type:
            frames.append(await self.hear())
        return frames

    async def say(self, **op: Any) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(op))

    async def rest(self) -> tuple[list[Any], int | None]:
        """Return the frames until the socket is closed, and the code with which it is."""
        frames = []
        try:
            while True:
                frames.append(await self.hear())
        except ConnectionClosed:
            return frames, self.connection.close_code


@asynccontextmanager
async def socket(url: str, path: str, token: str = "", **headers: str) -> AsyncIterator[Socket]:
    """Open a WebSocket of the server at `url`."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    address = f"ws{url.removeprefix('http')}{path}"
    async with connect(address, additional_headers=sent, proxy=None, max_size=None) as connection:
        yield Socket(connection)


async def heard(served: Bench, path: str, **headers: str) -> tuple[list[Any], int | None]:
    """Return all frames of a socket that ends, and its close code."""
    async with socket(served.url, path, served.token, **headers) as opened:
        return await opened.rest()


def told(frames: list[Any]) -> list[tuple[str, int]]:
    """Return what kind the frames are of, and their numbers."""
    return [(frame["type"], frame["seq"]) for frame in frames]


def handshake_for(path: str, token: str = "") -> bytes:
    """Return the request that opens a WebSocket, as it goes over the wire (RFC 6455, 4.1)."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def deaf(url: str, path: str, token: str = "") -> plain.socket:
    """Open a WebSocket with a small buffer, and never read from it."""
    reader = plain.socket()
    reader.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4_096)
    reader.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    reader.sendall(handshake_for(path, token))
    return reader
