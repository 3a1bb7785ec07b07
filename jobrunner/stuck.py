"""Handlers that refused to end: their jobs have, and they are counted until they do."""

import asyncio
from collections.abc import Iterable


class Stuck:
    """The tasks of stuck handlers.

    Args:
        limit: How many may run before workers stop taking new jobs: each holds memory, and
            perhaps a thread.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        """How many there have been."""
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: "asyncio.Task[None]") -> None:
        """Count a handler that was given up, until it ends."""
        self.total += 1
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._changed.set()

    async def room(self) -> None:
        """Wait until fewer run than may."""
        while len(self._tasks) >= self._limit:
            self._changed.clear()
            await self._changed.wait()

    async def press(self) -> None:
        """Ask them once more to end, and let those end that do so at once."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0)

    def disown(self) -> None:
        """See to it that nobody waits for them when the loop ends."""
        disown(self._tasks)


def disown(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Take tasks out of asyncio's list: `asyncio.run` would wait for them for ever (T3)."""
    for task in tasks:
        asyncio.tasks._unregister_task(task)  # public: "Extending", in asyncio's documentation
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was said before
