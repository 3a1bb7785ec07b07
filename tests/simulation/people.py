"""Those who submit the first jobs of a forest, answer what is asked, and cancel at bad moments."""

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING

from jobrunner import (
    InvalidAnswer,
    JobGone,
    JobNotFound,
    JobStatus,
    NotWaitingForInput,
    QuestionNotFound,
)
from jobrunner.jobs import Job

if TYPE_CHECKING:  # they know each other
    from .trees import Forest

TYPES = ("node", "again", "single", "keyed")
PAUSES = (0, 0, 0.5, 1)
GONE = (JobGone, JobNotFound)
CLOSED = (NotWaitingForInput, QuestionNotFound, *GONE)
"""What may come of an answer that comes too late."""


class People:
    """Everybody who is asked in one forest.

    Args:
        forest: What they look at.
    """

    def __init__(self, forest: "Forest") -> None:
        self.forest = forest
        self.links: dict[str, tuple[str, str]] = {}
        """Job and question of each token that was handed out."""
        self.answers: dict[tuple[str, str], int] = {}
        """What was answered, by job and question."""
        self._draw = Random(f"people {forest.seed}")

    def gave(self, job_id: str, value: int) -> bool:
        """Return whether somebody gave that answer to the job."""
        return any(key[0] == job_id and it == value for key, it in self.answers.items())

    async def submit_roots(self, draw: Random) -> None:
        """Submit a few jobs from outside, and cancel some of what comes of them."""
        runner, trace = self.forest.runner, self.forest.trace
        for _ in range(draw.randint(1, 5)):
            try:
                deadline = draw.choice((None, None, 3, 20))
                await runner.submit(draw.choice(TYPES), metadata={"depth": 0}, deadline=deadline)
            except Exception as error:
                trace.append(repr(error))  # full, or a duplicate
            await asyncio.sleep(draw.choice(PAUSES))
            live = [job for job in self.forest.jobs.values() if not job.is_final]
            if live and draw.random() < 0.4:
                await runner.cancel(draw.choice(live).id)

    async def live(self) -> None:
        """Act as long as the runner runs."""
        for _ in range(200):
            await asyncio.sleep(self._draw.choice((0, 0.25, 0.5, 1)))
            if self.forest.runner.stats().state != "running":
                return
            await self._act()

    async def _act(self) -> None:
        live = [job for job in self.forest.jobs.values() if not job.is_final]
        asking = [job for job in live if job.status is JobStatus.INPUT_REQUIRED]
        parents = {job.parent_id for job in live}
        aside = [job for job in live if job.started_at and job.id not in self.forest.at_work]
        await self._cancel("cancel.asking", asking)
        await self._cancel("cancel.parent", [job for job in live if job.id in parents])
        await self._cancel("cancel.child", [job for job in live if job.parent_id is not None])
        await self._cancel("cancel.aside", [job for job in aside if job not in asking])
        if asking and self._draw.random() < 0.7:
            await self._answer(self._draw.choice(asking))

    async def _cancel(self, place: str, jobs: list[Job]) -> None:
        if jobs and place in self.forest.faults.active and self._draw.random() < 0.3:
            if self.forest.faults.strikes(place):
                await self._stop(self._draw.choice(jobs))

    async def _stop(self, job: Job) -> None:
        with contextlib.suppress(*GONE):  # it ended with the one that was cancelled before
            await self.forest.runner.cancel(job.id)

    async def _answer(self, job: Job) -> None:
        """Answer a question of the job; once more, or as it is cancelled, if that is a fault."""
        assert job.questions is not None
        if not job.questions.open:
            return
        name = self._draw.choice(list(job.questions.open))
        faults = self.forest.faults
        if faults.strikes("cancel.then"):
            await self._stop(job)
            await self._give(job, name, closed=True)
            return
        closed = await self._give(job, name)
        if faults.strikes("answer.twice"):
            await self._give(job, name, closed=closed)
        if faults.strikes("answer.then"):
            await self._stop(job)

    async def _give(self, job: Job, name: str, *, closed: bool = False) -> bool:
        """Answer by id or by token, and return whether the question is closed.

        It all happens in one step of the loop, so whoever comes first is known.

        Args:
            closed: Whether it is already, and so takes no answer.
        """
        runner, require = self.forest.runner, self.forest.require
        value = self._draw.randint(1, 9)
        given: object = value if self._draw.random() < 0.9 else "no number"
        links = [token for token, question in self.links.items() if question == (job.id, name)]
        try:
            if links and self._draw.random() < 0.5:
                await runner.answer_by_token(links[0], given)
            else:
                await runner.answer(job.id, name, given)
        except CLOSED as error:
            waits = "asker.waits" not in self.forest.faults.active  # or it has just had enough
            require(closed or not waits, "an open one is closed", job.number, name, repr(error))
            return True
        except InvalidAnswer:
            require(given != value and not closed, "refused", job.number, name, given)
        except Exception as error:  # the clock may be broken
            require(self.forest.broken > 0, "an answer raises", repr(error))
        else:
            once = (job.id, name) not in self.answers and not closed and given == value
            require(once, "answered when it was closed", job.number, name, given)
            self.answers[job.id, name] = value
            return True
        return closed

    def check(self, job: Job) -> None:
        """Each of a job's questions was closed once, by who the log says it was."""
        require = self.forest.require
        questions = job.questions
        require(questions is None or not questions.open, "a question is left", job.number)
        events = job.log.read(0).events
        if events[0].seq > 1:
            return  # the first ones are no longer kept
        asked = [event.data["question_id"] for event in events if event.type == "question"]
        closed = [event.data["question_id"] for event in events if event.type == "answer"]
        require(sorted(asked) == sorted(closed), "not closed once", job.number, asked, closed)
        for event in events:
            if event.type == "answer":
                by_user = event.data["by"] == "user"
                known = self.answers.get((job.id, event.data["question_id"]))
                fits = known == event.data["value"] if by_user else known is None
                require(fits, "another answer", job.number, event.data, known)
