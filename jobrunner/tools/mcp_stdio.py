"""MCP over stdin and stdout, for an agent that starts its server itself and owns it.

Stdout belongs to the protocol. Both descriptors are taken away from the rest of the process before
anything of the user's is imported, so that no `print` of a handler can break a message and none
can read one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

from mcp.server.stdio import stdio_server

from ..runner import JobRunner
from ..threads import Threads
from .mcp import mcp_server

logger = logging.getLogger("jobrunner.tools.mcp")

CHUNK = 65_536
"""Bytes read at once."""
MAX_LINE = 4_194_304
"""Bytes of a message; a longer one is refused as the HTTP transport does."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Wire(NamedTuple):
    """Descriptors of the protocol, which nobody else in the process knows."""

    stdin: int
    stdout: int


def take_wire() -> Wire:
    """Take stdin and stdout: who reads there then finds the end, who writes writes to stderr.

    Raises:
        OSError: One of them isn't open.
    """
    wire = Wire(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return wire


async def serve_stdio(runner: JobRunner, wire: Wire) -> int:
    """Serve the runner's tools until stdin ends or a signal comes; return the exit code.

    Jobs end with the agent that started them: whoever could ask for them is gone, and clients kill
    a server that takes its time. So running jobs are interrupted at once.
    """
    serving = asyncio.get_running_loop().create_task(_serve(runner, wire), name="mcp stdio")
    got: list[int] = []

    def end(number: int) -> None:
        got.append(number)
        serving.cancel()

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await asyncio.wait([serving])
    finally:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
    if got:
        return 128 + got[0]
    serving.result()
    return 0


async def _serve(runner: JobRunner, wire: Wire) -> None:
    server = mcp_server(runner)
    threads = Threads(2)
    async with runner:
        try:
            stdin: Any = _lines(threads, wire.stdin)
            stdout: Any = _Out(threads, wire.stdout)
            async with stdio_server(stdin, stdout) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            await runner.stop(timeout=0.0)


async def _lines(threads: Threads, descriptor: int) -> AsyncIterator[str]:
    """Yield what comes line by line.

    Nothing ends a blocked read but its data, so each is in a thread that may be left behind.
    """
    kept = b""
    read = partial(os.read, descriptor, CHUNK)
    while chunk := await threads.call(read, "stdin", abandon=True):
        *lines, kept = (kept + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
        if len(kept) > MAX_LINE:
            logger.warning("a message of over %d bytes was dropped", MAX_LINE)
            kept = b"too long: "  # what is left of the line is no message then, and is refused


class _Out:
    """As much of a text file as the transport uses; a reader that stops reading blocks no end."""

    def __init__(self, threads: Threads, descriptor: int) -> None:
        self._threads = threads
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write all of it."""
        await self._threads.call(
            partial(_write_all, self._descriptor, text.encode()), "stdout", abandon=True
        )

    async def flush(self) -> None:
        """Nothing is kept back."""


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
