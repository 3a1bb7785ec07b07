"""Handlers that refused to end: their jobs have, and they are counted until they do."""

import asyncio
from collections.abc import Callable, Iterable


class Stuck:
    """The tasks of stuck handlers.

    Args:
        limit: How many may run before no job is begun any more: each holds memory, and perhaps a
            thread.
        full: Called with whether so many run, when that changes.
    """

    def __init__(self, limit: int, full: Callable[[bool], None]) -> None:
        self.total = 0
        """How many there have been."""
        self._limit = limit
        self._full = full
        self._tasks: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats

    def __len__(self) -> int:
        return len(self._tasks)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work in `loop` from now on; what was left in another one never runs again."""
        self._tasks = {task: None for task in self._tasks if task.get_loop() is loop}
        self._full(len(self._tasks) >= self._limit)

    def add(self, task: "asyncio.Task[None]") -> None:
        """Count a handler that was given up, until it ends."""
        self.total += 1
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        if len(self._tasks) == self._limit:
            self._full(True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task, None)
        if len(self._tasks) == self._limit - 1:
            self._full(False)

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
