"""Whose jobs a model may see, and what it may ask of the runner."""

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Unpack

from .errors import DuplicateJob, JobGone, JobNotFound
from .handlers import Handler
from .handles import JobHandle
from .jobs import Job, JobStatus
from .store import Page
from .submit_options import SubmitOptions
from .views import JobView

LOOKED_AT = 50
"""Newest jobs among which a mistyped id is looked for."""


class Runner(Protocol):
    """The runner, as far as tools need it."""

    @property
    def job_types(self) -> list[Handler]:
        """The job types."""
        ...

    async def submit(
        self, type: str, params: Mapping[str, Any], /, **options: Unpack[SubmitOptions]
    ) -> JobHandle[Any]:
        """Take a job in."""
        ...

    async def cancel(self, job_id: str, note: str | None = None) -> JobView:
        """Ask a job to stop."""
        ...

    async def answer(
        self, job_id: str, question_id: str | None, value: Any, *, owner: str | None = None
    ) -> JobView:
        """Answer a question of a job."""
        ...

    def record(self, job_id: str, owner: str | None = None) -> Job:
        """Return a job's record."""
        ...

    def page(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        owner: str | None = None,
        session_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of records."""
        ...

    def poll_after(self, job_id: str) -> float:
        """Return when it is worth asking again."""
        ...

    def check_loop(self) -> None:
        """Raise WrongLoop when the jobs run in another loop."""


class Scope:
    """The runner as one caller may see it: another one's job is as unknown as one that never was.

    Args:
        runner: The runner.
        now: The current time in unix seconds.
        owner: Whose jobs there are, and whose new ones will be; None for everybody's.
        session_id: The session whose jobs there are; None for those of all sessions.
    """

    def __init__(
        self,
        runner: Runner,
        now: Callable[[], float],
        *,
        owner: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.runner = runner
        self.now = now
        self.owner = owner
        self.session_id = session_id

    def job(self, job_id: str) -> Job:
        """Return the job's record.

        Raises:
            JobNotFound: There is none here.
            JobGone: It was there, and is no longer kept.
        """
        job = self.runner.record(job_id, self.owner)
        if self.session_id not in (None, job.session_id):
            raise JobNotFound(f"there is no job {job_id[:100]!r}")
        return job

    def sees(self, job_id: str) -> bool:
        """Return whether there is such a job here."""
        try:
            self.job(job_id)
        except (JobNotFound, JobGone):
            return False
        return True

    def page(self, *, limit: int, **query: str | None) -> Page:
        """Return a page of the jobs that are here, the newest first."""
        return self.runner.page(owner=self.owner, session_id=self.session_id, limit=limit, **query)

    def near(self, job_id: str) -> str | None:
        """Return the id of one of the newest jobs that looks like a mistyped one."""
        ids = [job.id for job in self.page(limit=LOOKED_AT).jobs]
        return next(iter(difflib.get_close_matches(job_id[:100], ids, n=1, cutoff=0.8)), None)

    async def submit(self, type: str, params: Mapping[str, Any]) -> JobHandle[Any]:
        """Take in a job that belongs here.

        Raises:
            DuplicateJob: It was joined to one that doesn't, and couldn't be followed.
        """
        options = SubmitOptions()
        if self.owner is not None:
            options["owner"] = self.owner
        if self.session_id is not None:
            options["session_id"] = self.session_id
        handle = await self.runner.submit(type, params, **options)
        if handle.outcome == "joined" and not self.sees(handle.id):
            raise DuplicateJob("a job of another session does the same", job_id=handle.id)
        return handle

    async def settled(self, jobs: Sequence[Job], *, enough: int, seconds: float) -> None:
        """Wait until `enough` of the jobs have ended or need an answer, or the time is over."""
        self.runner.check_loop()
        try:
            async with asyncio.timeout(seconds):
                await _settled(jobs, enough)
        except TimeoutError:
            pass


def is_asking(job: Job) -> bool:
    """Whether nothing will come of waiting for the job alone: it needs an answer."""
    return job.status is JobStatus.INPUT_REQUIRED


async def _settled(jobs: Sequence[Job], enough: int) -> None:
    while sum(job.is_final for job in jobs) < enough and not any(map(is_asking, jobs)):
        waiter = asyncio.get_running_loop().create_future()
        live = [job for job in jobs if not job.is_final]
        for job in live:
            job.log.add_waiter(waiter, job.log.last)
        try:
            await waiter
        finally:
            for job in live:
                job.log.remove_waiter(waiter)
