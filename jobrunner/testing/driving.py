"""How a test has a runner go on: by itself, until nothing is due, or by one attempt."""

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import InvalidOption
from ..gates import Queued
from ..jobs import Job, JobStatus
from ..runner import JobRunner
from ..views import JobView, view

TURNS = 10
"""Of the loop, after which who waited for what has just ended goes on; there are two or three."""


class Driving(JobRunner):
    """A runner that can be drained and stepped."""

    def __init__(self, **options: Any) -> None:
        self._watching: set[asyncio.Future[None]] = set()
        super().__init__(**options)

    async def _begin(self) -> None:
        if self._state == "new":
            await self.__aenter__()

    async def drain(self, *, until: float | None = None, timeout: float | None = None) -> None:
        """Carry out whatever is due, now and later, until nothing goes on by itself.

        Delays, retries and deadlines are waited for: in virtual time they pass at once. Jobs that
        wait for a person's answer are left waiting. A paused runner is paused again afterwards.

        Args:
            until: Let exactly so many seconds pass instead, and what comes due in them.
            timeout: Seconds after which it gives up.

        Raises:
            TimeoutError: Some jobs haven't ended after `timeout` seconds; they go on.
        """
        await self._begin()
        self.check_loop()
        if paused := self._queue.paused:
            self.resume()
        try:
            await (self._pass(until) if until is not None else self._rested(timeout))
        finally:
            if paused:
                self.pause()

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _rested(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._at_rest()
        except TimeoutError:
            raise TimeoutError(f"jobs still run or wait after {timeout:g} s; they go on") from None

    async def _at_rest(self) -> None:
        while await self._any(self._moves):
            await self._change()

    async def _any(self, is_so: Callable[[Job], bool]) -> bool:
        """Return whether it is so of any job, now or once those go on who have waited for others.

        Whether a parent waits for a child that has ended or for another one is told by nothing but
        that it goes on.
        """
        for _ in range(TURNS):
            if any(map(is_so, self._store.live())):
                return True
            await asyncio.sleep(0)
        return False

    def _moves(self, job: Job) -> bool:
        """Return whether the job goes on by itself: it waits for no answer, and for no child."""
        if job.is_final or job.status is JobStatus.INPUT_REQUIRED:
            return False
        attempt = self._workers.attempts.get(job.id)
        standing = None if attempt is None else attempt.standing
        if standing is None or standing.waits == 0:
            return True
        return all(child.is_final for child in self._store.children(job.id).values())

    def _family_moves(self, job: Job) -> bool:
        """Return whether the job goes on by itself, or a child of its own does."""
        children = self._store.children(job.id).values()
        return self._moves(job) or any(map(self._family_moves, children))

    async def _change(self) -> None:
        """Wait until anything has happened: to a job, or to the queue."""
        feed = self.feed()
        changed = asyncio.get_running_loop().create_future()
        self._watching.add(changed)
        feed.add_waiter(changed, feed.last)
        try:
            await changed
        finally:
            feed.remove_waiter(changed)
            self._watching.discard(changed)

    def _stir(self) -> None:
        super()._stir()
        for changed in self._watching:
            if not changed.done():
                changed.set_result(None)

    async def step(self) -> JobView | None:
        """Carry out the next attempt, from its start to its end, its retry or its question.

        An attempt that waited for somebody goes on as the next one does. If none is due, the time
        passes until one is. Only a paused runner can be stepped.

        Returns:
            The job as it stands after the attempt; None when no job waits for its turn.

        Raises:
            InvalidOption: The runner isn't paused.
        """
        await self._begin()
        if not self._queue.paused:
            raise InvalidOption('only a paused runner can be stepped: DrivenRunner(mode="paused")')
        job = await self._next()
        while job is not None and self._has_worker(job):
            await self._change()
        return None if job is None else view(job)

    async def _next(self) -> Job | None:
        """Let the queue give out one job, and return it; None when none waits for its turn."""
        given: list[Queued] = []
        self._queue.let_one(given.append)
        try:
            while not given and await self._any(lambda job: bool(given) or self._waits(job)):
                if not given:
                    await self._change()
        finally:
            self._queue.let_one(None)
        return self._store.get(given[0].id) if given else None

    def _waits(self, job: Job) -> bool:
        """Return whether the job waits for its turn."""
        if job.id in self._workers.attempts:
            return not self._has_worker(job) and self._moves(job)
        return not job.is_final

    def _has_worker(self, job: Job) -> bool:
        attempt = self._workers.attempts.get(job.id)
        return attempt is not None and (attempt.standing is None or attempt.standing.has_worker)
