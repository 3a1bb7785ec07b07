"""The runner's app on uvicorn, with a shutdown that ends jobs and streams before connections.

uvicorn alone waits for open connections first, and an open stream ends only with its job, so that
it would wait for ever (S1). Here the runner is stopped first: each job gets its end, each stream
passes it on and closes, and then there is nothing to wait for.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any
from urllib.parse import quote

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .crowd import Crowd
from .errors import InvalidOption
from .processes import finished
from .runner import JobRunner
from .web import create_app
from .web.app import MAX_STREAMS
from .web.problems import problem_response
from .web.security import LOCAL_HOSTS
from .web.sockets import MAX_FRAME
from .whereabouts import LeftBehind, Whereabouts, leave_behind

logger = logging.getLogger("jobrunner.server")

LAST_BYTES = 3
"""Seconds that connections have, after the last job's end, to take what is still to be sent."""


class _Pipeline(list[Any]):
    """What a connection has asked for before its turn: nearly always nothing.

    A deque takes 0.7 kB for that, of each open stream.
    """

    __slots__ = ()

    def appendleft(self, request: Any) -> None:
        self.insert(0, request)


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # one of two, by what is installed
    """uvicorn's own, but for the answer to what isn't HTTP: a problem document as everywhere.

    What it has of a connection isn't left to the garbage collector, which comes seldom: until then
    ten thousand that are closed would keep the memory of all of it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pipeline = _Pipeline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _let_go(self.transport)

    def handle_websocket_upgrade(self, *event: Any) -> None:
        super().handle_websocket_upgrade(*event)
        self.parser = None  # it and this, each of which leads to the other, have done their part

    def send_400_response(self, msg: str) -> None:
        detail = "the request is not HTTP/1.1 as RFC 9112 has it; it may have two Host headers"
        answer = problem_response(400, "invalid-request", detail)
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n%b\r\n%b"
            % (head, bytes(answer.body))
        )
        self.transport.close()


class _WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's own, likewise."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.conn.parser.close()  # what it has is all that leads back to `conn`
        _let_go(self.transport)


def _let_go(transport: Any) -> None:
    """Have a lost connection's transport lead to itself no more, by methods that it keeps."""
    transport.close()  # takes them from it since 3.12; a loss by itself doesn't
    if hasattr(transport, "_read_ready_cb"):  # pragma: no branch  # uvloop's have none
        transport._read_ready_cb = None


class Server(uvicorn.Server):
    """A uvicorn server of one runner, bound to its address as soon as it is made.

    Args:
        runner: The runner; the server starts and stops it.
        host: Address to bind.
        port: Port to bind; 0 for any that is free.
        token: What clients have to show; None makes one, an empty text means none at all.
        allowed_hosts: Host names it is reached by, beside those of this machine and `host`. One
            name may be given as it is.
        debug: Whether errors carry tracebacks.
        max_streams: How many event streams may be open at once.
        mcp: Whether agents may call the runner's tools at `/mcp`; needs the extra `mcp`.
        known_as: What it serves, in the file by which this user's commands on this machine find the
            server while it takes requests; None for no file.

    Raises:
        InvalidOption: There is no token, and the address is reachable from other machines.
        OSError: The address can't be bound.
    """

    def __init__(
        self,
        runner: JobRunner,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        allowed_hosts: Iterable[str] = (),
        debug: bool = False,
        max_streams: int = MAX_STREAMS,
        mcp: bool = False,
        known_as: str | None = None,
    ) -> None:
        if token == "" and not _is_loopback(host):
            raise InvalidOption(
                f"{host} can be reached from other machines: give a token, or bind 127.0.0.1"
            )
        self.token = secrets.token_urlsafe(32) if token is None else token
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._asked = asyncio.Event()
        self._runner = runner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known_as = known_as
        self._left_behind: LeftBehind | None = None
        self._host = f"[{host}]" if ":" in host else host
        named = (allowed_hosts,) if isinstance(allowed_hosts, str) else allowed_hosts
        app = create_app(
            runner,
            auth=self.token or None,
            allowed_hosts=(*LOCAL_HOSTS, self._host, *named),
            debug=debug,
            max_streams=max_streams,
            mcp=mcp,
        )
        self._socket = _bind(host, port)
        self._port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws=_WebSockets,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here asks who the client is, or by which scheme it came
            ws_max_size=MAX_FRAME,
            ws_per_message_deflate=False,  # 40 kB for each socket
        )
        super().__init__(config)

    @property
    def url(self) -> str:
        """Where the server is, without a slash at the end."""
        return f"http://{self._host}:{self._port}"

    @property
    def login_url(self) -> str:
        """The URL to open in a browser: it exchanges the token for a cookie."""
        return f"{self.url}/?token={quote(self.token)}" if self.token else f"{self.url}/"

    async def run_until_stopped(self) -> None:
        """Serve until a signal or `stop` comes, or a cancellation, and end everything."""
        try:
            await self.serve(sockets=[self._socket])
        except asyncio.CancelledError:
            if self.started:  # or else a loop that ends has cancelled the start and the lifespan
                await self.shutdown()  # once more is no harm, if it was that which was cancelled
            raise
        finally:
            self._socket.close()
            self._stopped.set()

    async def stopped(self) -> None:
        """Wait for the end of the server."""
        await self._stopped.wait()

    def stop(self) -> None:
        """Ask the server to end, as a first SIGTERM would; from any thread."""
        self.should_exit = True
        self._look()

    def _look(self) -> None:
        """Have the server look at once whether it is to end."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._asked.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal; a second Ctrl-C lets running jobs no time to end by themselves."""
        super().handle_exit(sig, frame)
        self._look()
        if self.force_exit and self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._runner.stop(timeout=0.0), self._loop)

    async def ready(self) -> None:
        """Wait until the server takes requests."""
        await self._started.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so; a cancellation is raised when that is done.

        Raises:
            RuntimeError: The runner didn't start.
        """
        self._loop = asyncio.get_running_loop()
        await _whole(self._start(sockets), name="server start")

    async def _start(self, sockets: list[socket.socket] | None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn would end the whole program that embeds it
            raise RuntimeError("the server did not start; the log says why") from None
        if self._known_as is not None:
            here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(self._host, self._host)
            url = f"http://{here}:{self._port}"
            where = Whereabouts(url, self.token or None, os.getpid(), self._known_as)
            self._left_behind = leave_behind(where)
        self._started.set()

    async def main_loop(self) -> None:
        """Serve until somebody asks for the end; uvicorn's own looks ten times a second."""
        seconds, crowd = 0, Crowd()
        while not await self.on_tick(10 * seconds):
            crowd.count(len(self.server_state.connections) + len(self.server_state.tasks))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._asked.wait()
            seconds += 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, end the jobs and with them the streams, then the rest.

        A cancellation is raised when that is done: what would be left nobody could end.
        """
        await _whole(self._end(), name="server end")

    async def _end(self) -> None:
        if self._left_behind is not None:
            self._left_behind.remove()
        for server in self.servers:
            server.close()
        await self._runner.stop()  # `handle_exit` has made it hurry, if there is a hurry
        self.force_exit = False  # the jobs have hurried; uvicorn would break what is being sent
        last = asyncio.get_running_loop().call_later(LAST_BYTES, self._drop_connections)
        try:
            await self._end_sockets()
            await self._end_connections()
        finally:
            last.cancel()
            self._drop_connections()
        await self.lifespan.shutdown()

    async def _end_connections(self) -> None:
        """Let requests be answered; uvicorn would look for the end ten times a second."""
        state, pause, told = self.server_state, 0.005, set[Any]()
        try:
            async with asyncio.timeout(2 * LAST_BYTES):
                while True:
                    for connection in state.connections - told:
                        connection.shutdown()
                    told |= state.connections
                    await asyncio.sleep(pause)  # who was just accepted becomes a connection
                    if self.force_exit or not (state.connections or state.tasks):
                        return
                    pause = min(2 * pause, 0.1)
        except TimeoutError:  # pragma: no cover  # all that our app does ends with the runner
            logger.error("%d requests had no answer, and are cancelled", len(state.tasks))
            for task in state.tasks:
                task.cancel()

    async def _end_sockets(self) -> None:
        """Let WebSockets say their last frames: uvicorn would cut them off before."""
        kind = self.config.ws_protocol_class
        connections = list(self.server_state.connections)
        if kind is not None and any(isinstance(each, kind) for each in connections):
            for connection in connections:
                if not isinstance(connection, kind):
                    connection.shutdown()
            if self.server_state.tasks:  # pragma: no branch  # an open socket has what serves it
                await asyncio.wait(self.server_state.tasks, timeout=LAST_BYTES)

    def _drop_connections(self) -> None:
        """Give up clients that take nothing, or have more to say: each would keep the server."""
        connections = list(self.server_state.connections)
        for connection in connections:
            connection.transport.abort()
        if connections:
            logger.warning("%d connections were dropped, %d s after the last job's end",
                           len(connections), LAST_BYTES)  # fmt: skip


@asynccontextmanager
async def serving(
    runner: JobRunner,
    *,
    port: int = 0,
    token: str | None = None,
    debug: bool = False,
    max_streams: int = MAX_STREAMS,
    mcp: bool = False,
    known_as: str | None = None,
) -> AsyncIterator[Server]:
    """Serve `runner` on 127.0.0.1 while the block runs, on a free port if none is given."""
    server = Server(
        runner, port=port, token=token, debug=debug, max_streams=max_streams, mcp=mcp,
        known_as=known_as,
    )  # fmt: skip
    async with serving_by(server):
        yield server


@asynccontextmanager
async def serving_by(server: Server) -> AsyncIterator[None]:
    """Let a server serve while the block runs."""
    running = asyncio.get_running_loop().create_task(server.run_until_stopped(), name="server")
    started = asyncio.get_running_loop().create_task(server.ready(), name="server ready")
    try:
        await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield
    finally:
        started.cancel()
        server.stop()
        await running


async def _whole(work: Coroutine[Any, Any, None], *, name: str) -> None:
    """Do the work to its end; a cancellation that comes meanwhile is raised then."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    try:
        await finished(task)
    finally:
        task.result()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=2048)
    # Connections inherit it. asyncio sets it for sockets whose protocol is named, which these
    # have not; without it each answer on a kept connection is 40 ms late (Nagle, delayed ACK).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
