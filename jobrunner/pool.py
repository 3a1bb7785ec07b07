"""The pool: gives jobs to free workers as long as there are both; grows, shrinks and stops.

A worker is a place and no coroutine: whoever waits in a loop for work can die there, and be missed
(T17). A job that has to be begun is begun by the loop's next turn, in a task of its own.
"""

import asyncio

from .gates import Resumption
from .queue import JobQueue
from .worker import Workers

ALARM = 60.0
"""Seconds for which the runner counts as unready after a fault of its own."""
TURN = 100
"""Jobs that are begun before others in the loop have a turn."""


class WorkerPool:
    """How many jobs run at once.

    Args:
        queue: Where jobs come from.
        workers: What begins them.
        size: How many may run.
    """

    def __init__(self, queue: JobQueue, workers: Workers, *, size: int) -> None:
        self.size = size
        self._queue = queue
        self._workers = workers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._stirred = False

    def start(self) -> None:
        """Begin jobs from now on."""
        self._loop = asyncio.get_running_loop()
        self._running, self._stirred = True, False
        self.stir()

    def stir(self) -> None:
        """There may be a job and a place for it: see to it in the loop's next turn."""
        if self._running and not self._stirred:
            assert self._loop is not None, "what runs has its loop"
            self._stirred = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        """Begin as many jobs as there are places; one may end at once, and leave its place."""
        self._stirred = False
        workers, take, begin = self._workers, self._queue.take, self._workers.begin
        attempts, aside = workers.attempts, workers.aside
        for _ in range(TURN):
            if not self._running or len(attempts) - aside.count >= self.size:
                return
            if (job := take()) is None:
                return
            if type(job) is Resumption:
                workers.resume(job)
            else:
                begin(job)
        self.stir()

    def resize(self, size: int) -> None:
        """Run `size` jobs at once from now on; what runs goes on to its end."""
        self.size = size
        self.stir()

    def failed_lately(self) -> bool:
        """Return whether a fault of the runner's own has struck in the last minute."""
        at = self._workers.faulted_at
        return self._loop is not None and self._loop.time() - at < ALARM

    async def stop(self, *, timeout: float, grace: float) -> None:
        """Let running jobs end within `timeout` seconds, and interrupt the rest.

        Takes `timeout + grace` at most, whatever the handlers do. Who stands aside isn't waited
        for: there is no worker any more to go on with.
        """
        self._running = False
        await self._workers.emptied(timeout)
        self.interrupt()
        await self._workers.emptied(grace, aside=True)

    def interrupt(self) -> None:
        """Ask all attempts to end for a shutdown."""
        for attempt in list(self._workers.attempts.values()):
            self._workers.stop(attempt, "shutdown")
