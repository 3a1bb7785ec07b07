"""The tools that are there for every job: to look, wait, read, list, answer and stop."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import from_json, to_json

from .errors import InvalidAnswer, JobRunnerError
from .jobs import Job, JobStatus
from .toolbox_advice import MAX_WAIT, WAIT
from .toolbox_answers import Answer, read_on, tell, tell_all
from .toolbox_errors import refused
from .toolbox_scope import Scope, is_asking
from .toolbox_status import facts, list_line
from .toolbox_text import seconds

MAX_IDS = 50
"""Jobs that are waited for in one call."""
MAX_LISTED = 50
"""Jobs in one list."""
STOPS_WITHIN = 2.0
"""Seconds for which a cancellation is waited for: most jobs stop at once."""

Status = Literal[
    "pending", "running", "retrying", "input_required", "completed", "failed", "cancelled"
]
JobId = Annotated[str, Field(min_length=1)]


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Desk:
    """Where actions are carried out.

    Args:
        scope: Whose jobs there are.
        starts: The tool that starts jobs of a type, by type.
        room: How many characters of what jobs have written an answer has at most, about.
    """

    def __init__(self, scope: Scope, starts: dict[str, str], room: int) -> None:
        self.scope = scope
        self.starts = starts
        self.room = room

    def tell(self, job: Job, *, output: bool = True, waited: bool = False) -> Answer:
        """Say how one job stands."""
        tool = self.starts.get(job.type)
        return tell(job, self.scope, tool, room=self.room, output=output, waited=waited)


class Action(BaseModel):
    """A tool that every toolbox has; its fields are the arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    tool: ClassVar[str]
    hints: ClassVar[dict[str, bool]] = {"readOnlyHint": True, "openWorldHint": False}

    async def run(self, desk: Desk) -> Answer:
        """Do it, and say what came of it."""
        raise NotImplementedError


class CheckJobStatus(Action):
    """Look at a job once, without waiting: how it stands, how far it is, its result when it has
    one. Use it when the user asks how a job is doing."""

    tool = "check_job_status"
    job_id: JobId
    """Id of the job, as the tool that started it gave it."""

    async def run(self, desk: Desk) -> Answer:
        return desk.tell(desk.scope.job(self.job_id))


class WaitForJobs(Action):
    """Wait until jobs have ended, and get their results. Returns earlier when a job asks a
    question. When the time is over it says so and the jobs go on: call it again, or do something
    else first."""

    tool = "wait_for_jobs"
    job_ids: Annotated[
        list[JobId], BeforeValidator(_several), Field(min_length=1, max_length=MAX_IDS)
    ]
    """Ids of the jobs to wait for."""
    mode: Literal["all", "any"] = "all"
    """"all" waits until each of them has ended, "any" for the first."""
    wait_seconds: Annotated[
        float,
        Field(allow_inf_nan=False),
        WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_WAIT}),
    ] = WAIT
    """How long to wait at most."""

    async def run(self, desk: Desk) -> Answer:
        jobs, missing = self._find(desk)
        enough = len(jobs) if self.mode == "all" else min(1, len(jobs))
        waited = min(max(self.wait_seconds, 0.0), MAX_WAIT)
        await desk.scope.settled(jobs, enough=enough, seconds=waited)
        texts = _summary(jobs, enough, waited) + [answer.text for answer in missing]
        data = [answer.data for answer in missing]
        if len(jobs) == 1:
            told = desk.tell(jobs[0], output=False, waited=True)
            texts, data = [*texts, told.text], [told.data, *data]
        elif jobs:
            told = tell_all(jobs, desk.scope, room=desk.room)
            texts, data = [*texts, told.text], [*told.data["jobs"], *data]
        return Answer("\n\n".join(texts), {"jobs": data}, is_error=not jobs)

    def _find(self, desk: Desk) -> tuple[list[Job], list[Answer]]:
        jobs, missing = [], []
        for job_id in dict.fromkeys(self.job_ids):
            try:
                jobs.append(desk.scope.job(job_id))
            except JobRunnerError as error:
                missing.append(refused(error, desk.scope, job_id=job_id))
        return jobs, missing


def _summary(jobs: list[Job], enough: int, waited: float) -> list[str]:
    """Return what came of the wait, where the jobs' own lines don't say it."""
    done, asked = sum(job.is_final for job in jobs), any(map(is_asking, jobs))
    if len(jobs) <= 1:
        told = not jobs or done or asked
        return [] if told else [f"Waited {seconds(waited)}. That is no failure: the job goes on."]
    if done == len(jobs):
        return ["Both jobs have ended." if done == 2 else f"All {done} jobs have ended."]
    rest = "the other goes on" if len(jobs) - done == 1 else "the others go on"
    said = f"{done} of {len(jobs)} jobs {'has' if done == 1 else 'have'} ended"
    if asked:
        return [f"{said}, and one needs an answer."]
    if done >= enough:
        return [f"{said}; {rest}."]
    return [f"{said}, after {seconds(waited)}. That is no failure: {rest}."]


class GetJobResult(Action):
    """Read the result of a job that has completed, or what one that failed or still runs has
    written. A long text comes as its beginning and its end; `offset` reads the rest in parts."""

    tool = "get_job_result"
    job_id: JobId
    """Id of the job."""
    offset: int = 0
    """Character to read on from, as the answer before has named it; a negative one counts from
    the end; 0 shows the beginning and the end."""

    async def run(self, desk: Desk) -> Answer:
        job = desk.scope.job(self.job_id)
        if self.offset != 0:
            return read_on(job, desk.scope, self.offset, desk.room)
        failed = job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
        return desk.tell(job)._replace(is_error=failed)


class ListJobs(Action):
    """List the jobs, newest first, with their ids and how they stand. Use it when an id is no
    longer known."""

    tool = "list_jobs"
    status: Status | None = None
    """Only jobs that stand so."""
    type: str | None = None
    """Only jobs of this type."""
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 10
    """How many at most."""
    cursor: str | None = None
    """Where to go on, from the list before."""

    async def run(self, desk: Desk) -> Answer:
        scope = desk.scope
        page = scope.page(limit=self.limit, status=self.status, type=self.type, cursor=self.cursor)
        lines = [list_line(job, scope.now()) for job in page.jobs]
        data: dict[str, Any] = {"jobs": [facts(job, scope) for job in page.jobs]}
        if page.next_cursor is not None:
            lines.append(f"Older ones: list_jobs({self._again(page.next_cursor)}).")
            data["next_cursor"] = page.next_cursor
        if not page.jobs:
            return Answer(self._none(), data)
        count = "One job" if len(page.jobs) == 1 else f"{len(page.jobs)} jobs, newest first"
        head = f"{count}; check_job_status tells more of each:"
        return Answer("\n".join([head, *lines]), data)

    def _again(self, cursor: str) -> str:
        given = self.model_dump(exclude_defaults=True) | {"cursor": cursor}
        return ", ".join(f"{name}={to_json(value).decode()}" for name, value in given.items())

    def _none(self) -> str:
        if self.status or self.type or self.cursor:
            return "There is no such job. list_jobs() without a filter shows all."
        return "There are no jobs: none was started, or they ended long ago and are forgotten."


class AnswerJob(Action):
    """Answer a question of a job that needs an answer before it can go on. Put the question to the
    user first."""

    tool = "answer_job"
    hints = {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False}
    job_id: JobId
    """Id of the job."""
    value: Any
    """The answer, as the question's schema says."""
    question_id: str | None = None
    """Which question; may be left out when there is only one."""

    async def run(self, desk: Desk) -> Answer:
        job = desk.scope.job(self.job_id)
        try:
            await self._send(desk, self.value)
        except InvalidAnswer:
            if (value := _from_text(self.value)) is self.value:
                raise
            await self._send(desk, value)
        told = desk.tell(job, output=False)
        return told._replace(text=f"The answer was taken.\n{told.text}")

    async def _send(self, desk: Desk, value: Any) -> None:
        scope = desk.scope
        await scope.runner.answer(self.job_id, self.question_id, value, owner=scope.owner)


def _from_text(value: Any) -> Any:
    """Return what a text is as JSON, which some models send for an object; else the same."""
    try:
        return from_json(value) if isinstance(value, str) else value
    except ValueError:
        return value


class CancelJob(Action):
    """Stop a job that waits or runs. Only when the user wants it, or its result is of no use any
    more."""

    tool = "cancel_job"
    hints = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True,
             "openWorldHint": False}  # fmt: skip
    job_id: JobId
    """Id of the job."""
    reason: str | None = None
    """Why, for the people who look at the job."""

    async def run(self, desk: Desk) -> Answer:
        job = desk.scope.job(self.job_id)
        ended = job.is_final
        if not ended:
            await desk.scope.runner.cancel(job.id, self.reason)
            await desk.scope.settled([job], enough=1, seconds=STOPS_WITHIN)
        told = desk.tell(job, output=False, waited=True)
        before = "There was nothing to stop any more.\n" if ended else ""
        return told._replace(text=f"{before}{told.text}")


ACTIONS: dict[str, type[Action]] = {
    action.tool: action
    for action in (CheckJobStatus, WaitForJobs, GetJobResult, ListJobs, AnswerJob, CancelJob)
}
"""The actions, by the name of their tool."""
