"""`on_failure`: who is told when a job has failed for good, apart from the job itself.

A few tasks go through those that are still to be told. Whatever a function does, no job, no worker
and no other function's turn waits for it longer than its time.
"""

import asyncio
import inspect
import logging
from collections import deque
from contextvars import Context
from functools import partial

from .jobs import Job, log_fields
from .options import OnFailure
from .signatures import called_function
from .stuck import disown
from .threads import Threads
from .views import view

logger = logging.getLogger("jobrunner.failures")

TELLERS = 10
"""Functions that are called at once."""
MAX_WAITING = 10_000
"""Failed jobs that may wait to be told of; of more, the oldest is only logged."""


class Failures:
    """Calls the functions that want to know of failed jobs.

    Args:
        threads: Where plain functions are called.
        timeout: Seconds that a function may take, and then again until it has ended.
    """

    def __init__(self, threads: Threads, *, timeout: float = 30.0) -> None:
        self._threads = threads
        self._timeout = timeout
        self._waiting: deque[tuple[OnFailure, Job]] = deque()
        self._tellers: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats
        self._calls: dict[asyncio.Task[None], None] = {}

    def tell(self, function: OnFailure, job: Job) -> None:
        """Have `function` called with the failed job; never waits."""
        if len(self._waiting) >= MAX_WAITING:
            _, missed = self._waiting.popleft()
            logger.error("nobody is told that job %s failed: too many wait", missed.id,
                         extra=log_fields(missed))  # fmt: skip
        self._waiting.append((function, job))
        if sum(not teller.done() for teller in self._tellers) < TELLERS:
            task = asyncio.get_running_loop().create_task(
                self._tell(),
                name="on_failure",
                context=Context(),  # not that of any job (T14)
            )
            self._tellers[task] = None
            task.add_done_callback(self._tellers.pop)

    async def _tell(self) -> None:
        while self._waiting:
            function, job = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(
                self._call(function, job), name=f"on_failure of {job.id}"
            )
            self._calls[task] = None
            task.add_done_callback(self._calls.pop)
            try:
                await self._bounded(task, job)
            finally:
                task.cancel()

    async def _bounded(self, task: "asyncio.Task[None]", job: Job) -> None:
        for _ in range(2):
            await asyncio.wait([task], timeout=self._timeout)
            if task.done():
                return
            task.cancel()
        logger.error("on_failure of job %s (%s) does not end; it is left", job.id, job.type,
                     extra=log_fields(job))  # fmt: skip

    async def _call(self, function: OnFailure, job: Job) -> None:
        try:
            if inspect.iscoroutinefunction(called_function(function)):
                await function(view(job))
            else:
                call = partial(function, view(job))
                value = await self._threads.call(call, f"on_failure of {job.id}")
                if inspect.isawaitable(value):  # of a lambda around a coroutine function
                    await value
        except asyncio.CancelledError:
            logger.error("on_failure of job %s (%s) was cancelled", job.id, job.type,
                         extra=log_fields(job))  # fmt: skip
        except BaseException as error:  # anything may come out of it, and ends here (T1)
            logger.error("on_failure of job %s (%s) failed", job.id, job.type,
                         exc_info=error, extra=log_fields(job))  # fmt: skip

    async def stop(self, timeout: float) -> None:
        """Let those end within `timeout` seconds that are still to be told."""
        if self._tellers:
            await asyncio.wait(self._tellers, timeout=timeout)
        self.drop()
        if self._calls or self._tellers:
            await asyncio.wait(self._calls | self._tellers, timeout=0)

    def drop(self) -> None:
        """Tell nobody any more; what doesn't end is left, and nobody waits for it."""
        if self._waiting:
            logger.error("nobody is told of %d failed jobs: the runner stops", len(self._waiting))
            self._waiting.clear()
        for task in self._tellers | self._calls:
            task.cancel()
        disown(self._calls)
