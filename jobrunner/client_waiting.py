"""Waiting for jobs by long polls: the server answers when a job has ended, or its time is over."""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from .batch_views import BatchView, too_late
from .errors import ServerUnreachable
from .jobs import FINAL
from .views import JobView, Waited

LONGEST = 25
"""Seconds of a long poll; less than the 30 after which some things in between hang up."""
PLACES = 100
"""Jobs that are waited for at once by one call; more take turns of a second each."""
LATE = 2.0
"""Seconds beyond the time of a wait in which an answer may still come, however short the wait."""


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
    with suppress(TimeoutError):
        await waiting.until_final(job_id)
    job = waiting.jobs.get(job_id)
    if job is None:
        raise TimeoutError(f"nothing was heard of job {job_id} in {timeout:g} s; it may go on")
    if job.status not in FINAL:
        raise TimeoutError(f"job {job_id} is still {job.status} after {timeout:g} s; it goes on")
    return job


async def until_batch_final(look: LookAtBatch, batch_id: str, timeout: float | None) -> BatchView:
    """Return a batch at its end.

    Raises:
        TimeoutError: Some of its jobs haven't ended after `timeout` seconds; they go on.
    """
    try:
        async with asyncio.timeout(None if timeout is None else timeout + LATE):
            batch = await look(batch_id)
    except TimeoutError:
        raise TimeoutError(
            f"nothing was heard of batch {batch_id} in {timeout:g} s; it may go on"
        ) from None
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
    """Return the jobs when all or any of them have ended, or the time is over.

    Raises:
        ServerUnreachable: By then nothing was heard of one of them.
    """
    wanted = list(dict.fromkeys(job_ids))
    waiting = _Waiting(look, timeout, longest=LONGEST if len(wanted) <= PLACES else 1)
    jobs = waiting.jobs
    try:
        await _each([waiting.look_at(job_id) for job_id in wanted])
    except TimeoutError:
        raise ServerUnreachable(f"no answer in {timeout:g} s; is the server busy?") from None
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
        """See how a job stands.

        Raises:
            TimeoutError: There is no answer though the time is over.
        """
        async with self._places:
            await self._see(job_id)

    async def _see(self, job_id: str, *, wait: int = 0) -> None:
        async with asyncio.timeout(None if self.left == math.inf else self.left + LATE):
            self.jobs[job_id] = await self._look(job_id, wait=wait)

    async def until_final(self, job_id: str) -> None:
        """See how a job stands until it has ended or the time is over, and once in any case.

        Raises:
            TimeoutError: There is no answer though the time is over.
        """
        while (job := self.jobs.get(job_id)) is None or job.status not in FINAL:
            async with self._places:
                seconds = min(float(self._longest), self.left)
                if seconds >= 1 or job is None:  # what the server is asked for is whole seconds
                    await self._see(job_id, wait=int(seconds))
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
