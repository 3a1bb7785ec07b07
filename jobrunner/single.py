"""One process: what a runner in memory refuses, since its jobs would be out of sight (T16).

With four workers behind one port, each has a runner with jobs of its own, and three of four
requests for a job reach a worker that has never heard of it. Which server runs the app, and with
how many workers, stands in the frames below the event loop. Where a program shares out a socket to
processes of its own nobody knows their number: one of them gets the claim then, on Linux.
"""

import hashlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

from .errors import ForkedRunner, SeveralWorkers


class Claim:
    """The right of this process to run runners; several of them may have it, each for itself."""

    def __init__(self, lock: "_Lock | None" = None) -> None:
        self._lock = lock

    def release(self) -> None:
        """Give it back; twice is no error. The end of the process does it as well."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def claim() -> Claim:
    """Claim to be the one process that runs the jobs of this server; call it where it is served.

    Raises:
        SeveralWorkers: The server has other worker processes, or may have them.
    """
    server = _find_server()
    if server is None:
        return Claim()
    if isinstance(server.workers, int):
        if server.workers > 1:
            raise SeveralWorkers(f"{server.name} runs {server.workers} worker processes{_ADVICE}")
        return Claim()
    return Claim(_Lock.take(server.workers))


def check_process(pid: int) -> None:
    """Raise ForkedRunner when this is not the process that has started the runner, `pid`."""
    if os.getpid() != pid:
        raise ForkedRunner(
            f"the runner was started in process {pid}; in process {os.getpid()}, which was forked "
            "from it, is a copy whose event loop doesn't run: start a runner after the fork, or "
            "ask the first process"
        )


class _Server(NamedTuple):
    """What serves the app."""

    name: str
    workers: int | str
    """How many worker processes it has; where nobody knows, the address that they share."""


def _find_server() -> _Server | None:
    """Return the outermost server below the running callback; None for one that isn't known."""
    found, frame = None, sys._getframe().f_back
    while frame is not None:
        server = _SERVERS.get(frame.f_globals.get("__name__", ""))
        if server is not None:
            try:
                found = _Server(server[0], server[1](frame.f_locals))
            except (AttributeError, KeyError, TypeError):
                pass  # another of the module's functions, or another version of the server
        frame = frame.f_back
    return found


def _of_uvicorn(names: Mapping[str, Any]) -> int:
    config = names["config"]
    return 1 if config.should_reload else int(config.workers)  # it reloads a single worker


def _of_program(names: Mapping[str, Any]) -> int | str:
    """A program that runs uvicorn itself; a socket that it hands over may be shared."""
    if not names["sockets"] or multiprocessing.parent_process() is None:
        return 1
    return " ".join(str(socket.getsockname()) for socket in names["sockets"])


_SERVERS: dict[str, tuple[str, Callable[[Mapping[str, Any]], int | str]]] = {
    "uvicorn.server": ("a program", _of_program),
    "uvicorn._subprocess": ("uvicorn", _of_uvicorn),
    "gunicorn.arbiter": ("gunicorn", lambda names: int(names["self"].num_workers)),
    "hypercorn.asyncio.run": ("hypercorn", lambda names: int(names["config"].workers)),
    "granian.server.common": ("granian", lambda names: int(names["self"].workers)),
}
"""The module of each server in whose frames the number of workers stands, and how to get it."""

_ADVICE = (
    ", each with a job runner and jobs of its own: most requests for a job would reach another "
    "worker, which knows nothing of it. Use one worker process (--workers 1, and no "
    "WEB_CONCURRENCY above 1): jobs run side by side in it. Jobs in several processes need a "
    "distributed engine"
)


class _Lock:
    """Held by one process of those that one program has started at one address.

    It is the name of an abstract socket (unix(7)): that leaves nothing behind, needs no folder
    that can be written, and belongs to whoever has it open.
    """

    taken: ClassVar[dict[str, "_Lock"]] = {}

    def __init__(self, address: str) -> None:
        self._address = address
        self._holders = 0
        name = _name(address)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(name)
        except OSError:
            self._socket.close()
            raise SeveralWorkers(f"several processes serve {address}{_ADVICE}") from None

    @classmethod
    def take(cls, address: str) -> "_Lock | None":
        """Take it; another process can't until it has been dropped as often."""
        if sys.platform != "linux":
            return None
        lock = cls.taken.get(address) or cls.taken.setdefault(address, cls(address))
        lock._holders += 1
        return lock

    def drop(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._socket.close()
            self.taken.pop(self._address, None)

    @classmethod
    def forked(cls) -> None:
        """Let go of all in a fork, whose copies would hold them beyond the end of the holder."""
        for lock in cls.taken.values():
            lock._socket.close()
        cls.taken.clear()


def _name(address: str) -> str:
    """Return a name that only those share that have one parent: its id, and when it began."""
    parent = os.getppid()
    with open(f"/proc/{parent}/stat", encoding="utf-8", errors="replace") as file:
        began = file.read().rpartition(")")[2].split()[19]  # proc_pid_stat(5): starttime
    space = os.stat("/proc/self/ns/pid").st_ino  # containers may share a network, not ids
    digest = hashlib.sha256(f"{space} {parent} {began} {address}".encode())
    return f"\0jobrunner/{digest.hexdigest()}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Lock.forked)
