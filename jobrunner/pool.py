"""The pool: owns the worker coroutines, replaces one that dies, grows, shrinks and stops."""

import asyncio
import logging
import math
from collections.abc import Callable

from .jobs import Job
from .worker import Seat, Workers

logger = logging.getLogger("jobrunner.pool")


ALARM = 60.0
"""Seconds for which the runner counts as unready after a worker has died."""


class WorkerPool:
    """As many worker coroutines as it has slots, each in a task that the pool owns.

    Args:
        workers: What the coroutines do.
        size: How many there are.
        lost: Called with the job that a worker held when it died, and what happened.
    """

    def __init__(self, workers: Workers, *, size: int, lost: Callable[[Job, str], None]) -> None:
        self.size = size
        self.restarts = 0
        self._died_at = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers = workers
        self._lost = lost
        self._tasks: dict[asyncio.Task[None], Seat] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._running = False

    def start(self) -> None:
        """Start the workers."""
        self._tasks, self._leaving = {}, set()  # what a loop had that was closed under them
        self._running = True
        self._loop = asyncio.get_running_loop()
        self._fill()

    def resize(self, size: int) -> None:
        """Have `size` workers from now on; one that is too many leaves after its job."""
        self.size = size
        if self._running:
            self._fill()
            idle = [task for task, seat in self._tasks.items() if seat.job is None]
            for task in idle:
                if task not in self._leaving and self._too_many():
                    self._dismiss(task)

    def died_lately(self) -> bool:
        """Return whether a worker died in the last minute of a fault in the runner."""
        return self._loop is not None and self._loop.time() - self._died_at < ALARM

    def _too_many(self) -> bool:
        """Whether a worker that has no job should leave: the busy ones are enough, or more."""
        return len(self._tasks) - len(self._leaving) > self.size

    def _fill(self) -> None:
        while len(self._tasks) - len(self._leaving) < self.size:
            seat = Seat(self._too_many)
            task = asyncio.get_running_loop().create_task(
                self._workers.work(seat), name="jobrunner worker"
            )
            self._tasks[task] = seat
            task.add_done_callback(self._ended)

    def _dismiss(self, task: "asyncio.Task[None]") -> None:
        self._leaving.add(task)
        task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Supervise: a worker that ended without being asked is replaced, its job failed (T17)."""
        seat = self._tasks.pop(task)
        asked = task in self._leaving
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.restarts += 1
            self._died_at = asyncio.get_running_loop().time()
            logger.critical("a worker died and is replaced", exc_info=error)
        if self._running and not asked:
            self._fill()
        job = seat.job
        if job is not None and not job.log.closed and job.id not in self._workers.attempts:
            self._lost(job, "the worker that held it died; its traceback is in the log")

    async def stop(self, *, timeout: float, grace: float) -> None:
        """Let running jobs end within `timeout` seconds, interrupt the rest, and end the workers.

        Takes `timeout + grace` at most, whatever the handlers do.
        """
        self._running = False
        tasks = list(self._tasks)
        for task in tasks:
            self._dismiss(task)
        await asyncio.wait(tasks, timeout=timeout)
        self.interrupt()
        await asyncio.wait(tasks, timeout=grace)

    def interrupt(self) -> None:
        """Ask all attempts to end for a shutdown."""
        for attempt in list(self._workers.attempts.values()):
            self._workers.stop(attempt, "shutdown")
