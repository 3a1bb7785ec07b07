"""Servers of a test's own, of which nothing is left after it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def accepting(serve: Serve, **options: Any) -> AsyncIterator[int]:
    """Listen on a free port while the block runs, and yield the port.

    A server of asyncio's ends before its connections do: one that is still open when the loop is
    closed would be complained of in whatever test runs then.
    """
    connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer  # type: ignore[index]  # it runs in one
        with suppress(OSError, asyncio.IncompleteReadError):  # the other side has gone
            await serve(reader, writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(3):  # what was just accepted gets its task
            await asyncio.sleep(0)
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        if connections:
            await asyncio.wait(connections)
        for writer in connections.values():
            with suppress(OSError):
                await writer.wait_closed()
