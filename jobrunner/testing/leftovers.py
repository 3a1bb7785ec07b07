"""What a test leaves behind: tasks, threads and processes that weren't there before it."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .clock import busy

MOMENT = 1.0
"""Real seconds that threads and processes that are about to end have for it."""
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


class LeftBehind(AssertionError):
    """The test has ended, and something of it goes on; the message names it."""


class Before:
    """What there was before a test; made within its event loop."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._threads = set(threading.enumerate())
        self._processes = set(_children())

    async def left(self) -> list[str]:
        """Say what there is now beside it."""
        await asyncio.sleep(0)  # what was cancelled last has its turn
        return [*self._left_tasks(), *self._left_threads(), *self._left_processes()]

    def _left_tasks(self) -> Iterator[str]:
        for task in sorted(asyncio.all_tasks() - self._tasks, key=lambda task: task.get_name()):
            if not task.done() and task is not asyncio.current_task():
                yield f"task {task.get_name()!r} goes on: {task.get_coro()!r:.200}"

    def _left_threads(self) -> Iterator[str]:
        ends = time.monotonic() + MOMENT
        for thread in busy(set(threading.enumerate()) - self._threads):
            thread.join(max(0.0, ends - time.monotonic()))
            if thread.is_alive():
                yield f"thread {thread.name!r} goes on"

    def _left_processes(self) -> Iterator[str]:
        for pid in sorted(set(_children()) - self._processes):
            command = _command(pid)
            if command and not any(helper in command for helper in _HELPERS):
                yield f"process {pid} goes on: {command:.200}"


def _children() -> list[int]:
    """Return our child processes; none where the system doesn't tell (Linux does)."""
    found: list[int] = []
    for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return found


def _command(pid: int) -> str:
    """Return its command line, or its name while it has none; empty for one that has ended."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
    return "" if rest[0] in "ZX" else line or name.partition(" (")[2]
