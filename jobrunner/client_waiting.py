"""Waiting for jobs by long polls: the server answers when a job has ended, or its time is over."""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Literal, Protocol

from .batch_views import BatchView, too_late
from .jobs import FINAL
from .views import JobView, Waited

LONGEST = 25
"""Seconds of a long poll; less than the 30 after which some things in between hang up."""
PLACES = 100
"""Jobs that are waited for at once by one call; more take turns of a second each."""


class Look(Protocol):
    """Returns a job at its end, or after `wait` seconds."""

    def __call__(self, job_id: str, *, wait: int = 0) -> Coroutine[Any, Any, JobView]: ...


class LookAtBatch(Protocol):
    """Returns a batch at its end, or after `wait` seconds."""

    def __call__(self, batch_id: str, *, wait: int = 0) -> Coroutine[Any, Any, BatchView]: ...


async def until_final(look: Look, job_id: str, timeout: float | None) -> JobView:
    """Return a job at its end.

    Raises:
        TimeoutError: It hasn't ended after `timeout` seconds; it goes on.
    """
    waiting = _Waiting(look, timeout, longest=LONGEST)
    await waiting.until_final(job_id)
    job = waiting.jobs[job_id]
    if job.status not in FINAL:
        raise TimeoutError(f"job {job_id} is still {job.status} after {timeout:g} s; it goes on")
    return job


async def until_batch_final(look: LookAtBatch, batch_id: str, timeout: float | None) -> BatchView:
    """Return a batch at its end.

    Raises:
        TimeoutError: Some of its jobs haven't ended after `timeout` seconds; they go on.
    """
    batch = await look(batch_id)
    try:
        async with asyncio.timeout(timeout):
            while batch.finished_at is None:
                batch = await look(batch_id, wait=LONGEST)
    except TimeoutError:
        raise too_late(batch, timeout) from None
    return batch


async def until_all(
    look: Look, job_ids: Iterable[str], *, mode: Literal["all", "any"], timeout: float | None
) -> Waited:
    """Return the jobs when all or any of them have ended, or the time is over."""
    wanted = list(dict.fromkeys(job_ids))
    waiting = _Waiting(look, timeout, longest=LONGEST if len(wanted) <= PLACES else 1)
    jobs = waiting.jobs
    await _each([waiting.look_at(job_id) for job_id in wanted])
    live = [job_id for job_id in wanted if jobs[job_id].status not in FINAL]
    if mode == "all" or len(live) == len(wanted):
        work = [waiting.until_final(job_id) for job_id in live]
        await _each(work, enough=mode, timeout=waiting.left)
    return Waited(
        [jobs[job_id] for job_id in wanted if jobs[job_id].status in FINAL],
        [jobs[job_id] for job_id in wanted if jobs[job_id].status not in FINAL],
    )


class _Waiting:
    """One call's wait: its jobs as they were seen last, and its time."""

    def __init__(self, look: Look, timeout: float | None, *, longest: int) -> None:
        self.jobs: dict[str, JobView] = {}
        self._look = look
        self._longest = longest
        self._places = asyncio.Semaphore(PLACES)
        seconds = math.inf if timeout is None else timeout
        self._until = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self._until - asyncio.get_running_loop().time())

    async def look_at(self, job_id: str) -> None:
        """See how a job stands."""
        async with self._places:
            self.jobs[job_id] = await self._look(job_id)

    async def until_final(self, job_id: str) -> None:
        """See how a job stands until it has ended or the time is over, and once in any case."""
        while (job := self.jobs.get(job_id)) is None or job.status not in FINAL:
            async with self._places:
                seconds = min(float(self._longest), self.left)
                if seconds >= 1 or job is None:  # what the server is asked for is whole seconds
                    self.jobs[job_id] = await self._look(job_id, wait=int(seconds))
                elif not await self._look_within(job_id, seconds):
                    return

    async def _look_within(self, job_id: str, seconds: float) -> bool:
        """Wait for a job's end for less than a second, and return whether it came."""
        try:
            async with asyncio.timeout(seconds):
                self.jobs[job_id] = await self._look(job_id, wait=1)
        except TimeoutError:
            return False
        return True


async def _each(
    work: Sequence[Coroutine[Any, Any, None]],
    *,
    enough: Literal["all", "any"] = "all",
    timeout: float = math.inf,
) -> None:
    """Do all of it at once until enough is done or the time is over; then nothing is left of it.

    Raises:
        Exception: What one of them raised; it ends the others.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(one, name="waiting for a job") for one in work]
    if not tasks:
        return
    until = asyncio.FIRST_COMPLETED if enough == "any" else asyncio.FIRST_EXCEPTION
    try:
        seconds = None if timeout == math.inf else timeout
        await asyncio.wait(tasks, timeout=seconds, return_when=until)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in errors:
        if error is not None:
            raise error
