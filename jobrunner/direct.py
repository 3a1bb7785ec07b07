"""A direct connection for one request, of whose answer only the head is read, and not too much.

A pool would be of no use: a connection on which a body is left unread can't be used again. And no
pool bounds what it reads before the head has ended: answers of `100 Continue` without an end come
in faster than they are parsed, and would hold the event loop for half a second at a time.

This module loads httpx2; it is loaded by the first delivery.
"""

import ssl
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import httpcore2
import httpx2

MAX_HEAD = 65_536
"""Bytes of an answer's head, `100 Continue` and the like before it included."""
PIECE = 4_096
"""Bytes that are parsed before others have a turn."""


class Direct(httpx2.AsyncBaseTransport):
    """Connects to the address in the URL; it knows no proxy, no cookie and no environment.

    Args:
        tls: Which certificates to trust; those that everybody does if not given.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or httpx2.create_ssl_context(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return status and headers of the answer; the connection is closed by then."""
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        sent = httpcore2.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        async with aclosing(_Network()) as network:
            connection = httpcore2.AsyncHTTPConnection(
                url.origin, ssl_context=self._tls, network_backend=network
            )
            try:
                answer = await connection.handle_async_request(sent)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                raise httpx2.ConnectError(str(error)) from error
            return httpx2.Response(answer.status, headers=answer.headers)


class _Network(httpcore2.AsyncNetworkBackend):
    """Makes the connection, and closes it however the request ends, in a handshake too."""

    def __init__(self) -> None:
        self._stream: httpcore2.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self._stream = await httpcore2.AnyIOBackend().connect_tcp(host, port, timeout=timeout)
        return _Bounded(self._stream)

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()


class _Bounded(httpcore2.AsyncNetworkStream):
    """Reads so much and no more."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_HEAD

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise httpcore2.RemoteProtocolError(f"the answer's head is over {MAX_HEAD} bytes")
        piece = await self._stream.read(min(max_bytes, PIECE), timeout)
        self._left -= len(piece)
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Bounded(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
