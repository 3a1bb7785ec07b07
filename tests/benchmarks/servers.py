"""Serve one of the apps in a process of its own: uvicorn with uvloop and httptools.

    python -m tests.benchmarks.servers tests.benchmarks.apps:bare

The first line that it says is its port. It ends when its standard input does, so that it never
outlives who has started it.
"""

import asyncio
import importlib
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import uvicorn

NEEDS = ("uvloop", "httptools")
LAST = 15.0
"""Seconds that a server has to end."""
T = TypeVar("T")


class Served(NamedTuple):
    """A server that runs."""

    port: int
    pid: int


@contextmanager
def served(app: str) -> Iterator[Served]:
    """Serve `module:function` while the block runs."""
    command = [sys.executable, "-m", __name__, app]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Served(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(LAST)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a client on uvloop, so that it never is what is waited for."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        print(sockets[0].getsockname()[1], flush=True)


def _serve(app: str) -> None:
    module, _, name = app.partition(":")
    config = uvicorn.Config(
        getattr(importlib.import_module(module), name)(),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    threading.Thread(target=_wait_for_the_end, args=(server,), daemon=True).start()
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.run(sockets=[listening])


def _wait_for_the_end(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    _serve(sys.argv[1])
