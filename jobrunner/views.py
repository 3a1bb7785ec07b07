"""What everybody outside sees of a job: one shape, as a frozen model and as JSON.

Neither is kept: a job that nobody looks at costs no validation and no encoding.
"""

import ast
import inspect
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema, from_json, to_json

from .errors import JobCancelled, JobFailed
from .events import Event
from .jobs import Job, JobError, JobStatus
from .partial import partial_text
from .questions import OpenQuestion
from .redaction import redact


class Frozen(BaseModel):
    """A model that can't be changed and whose field texts are in its JSON schema.

    It is built when it is first used, and its texts are read when somebody wants the schema:
    either costs the import of the package more than all of its modules do.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)["properties"]
        for name, text in _field_texts(cls).items():
            if name in described:
                described[name].setdefault("description", text)
        return schema


@lru_cache(maxsize=64)  # to look for a class in its file takes longer than the rest of a schema
def _field_texts(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the texts that stand under the fields of a class and of those it is made from.

    There are none where there is no source, or no longer the one that was imported.
    """
    texts: dict[str, str] = {}
    for cls in reversed(model.__mro__[: model.__mro__.index(Frozen)]):
        try:
            source = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, SyntaxError, TypeError, SystemError):  # the last is a fault of 3.11's
            continue
        for field, text in itertools.pairwise(getattr(source, "body", [])):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(field.target, ast.Name), "a field has a name"
                texts[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return texts


class ErrorView(Frozen):
    """Why a job failed, or why its last attempt did."""

    reason: str
    """error, timeout, deadline, stalled, expired, stuck, shutdown, lost, too_large or
    result_not_serialisable."""
    type: str
    """Class of the exception, or name of the limit."""
    title: str
    """One line."""
    detail: str
    """The whole message, at most 8 kB."""
    attempt: int
    """The attempt that failed, from 1; 0 when none was started."""
    retryable: bool
    """Whether the same job could succeed when it is tried again."""
    traceback: Annotated[str | None, Field(exclude=True)] = None
    """Only in process; a dump leaves it out, since a client has no business with it."""


class StepView(Frozen):
    """Progress in steps."""

    current: int
    """The step it is at, from 1."""
    total: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class QuestionView:
    """An open question of a job."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)

    question_id: str
    """q1, q2, ...: its number among the job's questions."""
    prompt: str
    """What is asked."""
    schema: dict[str, Any]
    """JSON schema of the answers that fit."""
    asked_at: datetime
    """When it was asked."""
    expires_at: datetime | None
    """When nobody waits for an answer any more; null for never."""


class JobView(Frozen):
    """A job as it stood when somebody asked."""

    job_id: str
    """`job_` and 32 hexadecimal digits."""
    type: str
    """The job type it was submitted to."""
    status: JobStatus
    """pending, running, retrying, input_required, completed, failed or cancelled."""
    progress: float
    """Percent, 0 to 100."""
    progress_message: str | None
    """What the handler said with it."""
    step: StepView | None
    """Progress in steps, when the handler counts them."""
    params: dict[str, Any]
    """The validated params; secrets are masked."""
    result: Any
    """What the handler returned, once completed."""
    partial: str | None
    """The last 2,000 characters that the attempt has put out so far: text it has emitted without a
    channel, output of its commands. Null before there is any, and once there is a result."""
    error: ErrorView | None
    """The last failure: of the job when it failed, of the last attempt while retrying."""
    question: QuestionView | None
    """What it asks a person; of several open questions the oldest."""
    questions: tuple[QuestionView, ...]
    """All its open questions, the oldest first."""
    attempt: int
    """Attempts started so far."""
    max_attempts: int
    """Attempts allowed."""
    created_at: datetime
    """When it was accepted."""
    started_at: datetime | None
    """When its first attempt started."""
    updated_at: datetime
    """When anything of it changed last."""
    finished_at: datetime | None
    """When it ended; null before."""
    next_attempt_at: datetime | None
    """While retrying: not before this time."""
    run_at: datetime | None
    """While pending: not before this time."""
    expires_at: datetime | None
    """It fails at this time unless it has started."""
    deadline_at: datetime | None
    """It has to have ended by this time."""
    cancel_requested_at: datetime | None
    """When it was asked to stop."""
    cancel_reason: str | None
    """Who asked: user, timeout, shutdown, parent or superseded."""
    cancel_note: str | None
    """What was said about it."""
    timeout: float | None
    """Limit of each attempt in seconds; null for none."""
    priority: int
    """Higher runs earlier."""
    session_id: str | None
    """Session it belongs to."""
    batch_id: str | None
    """Batch it belongs to."""
    parent_id: str | None
    """Job that started it."""
    retry_of: str | None
    """Final job that it runs again."""
    metadata: dict[str, Any]
    """Whatever the submitter wanted to keep with it."""
    last_seq: int
    """Number of its newest event; a stream goes on after it."""


class JobPage(NamedTuple):
    """Part of the list of jobs, newest first."""

    jobs: list[JobView]
    """The jobs of this part."""
    next_cursor: str | None
    """Where the next part begins; None at the end."""


class Waited(NamedTuple):
    """What `wait` for several jobs came back with."""

    done: list[JobView]
    """The jobs that have ended, in the order asked for."""
    pending: list[JobView]
    """The others."""


def check_completed(job: JobView) -> None:
    """Raise how a final job has ended, unless it has a result.

    Raises:
        JobFailed: It failed.
        JobCancelled: It was cancelled.
    """
    if job.status is JobStatus.CANCELLED:
        raise_cancelled(job.job_id, job.cancel_reason or "user", job.cancel_note)
    if job.error is not None:
        raise_failed(job.job_id, job.error)


def raise_cancelled(job_id: str, reason: str, note: str | None = None) -> NoReturn:
    """Raise JobCancelled."""
    said = f": {note}" if note else ""
    message = f"job {job_id} was cancelled{said}"
    raise JobCancelled(message, job_id=job_id, reason=reason, retryable=False)


def raise_failed(job_id: str, error: ErrorView | JobError) -> NoReturn:
    """Raise JobFailed."""
    message = f"job {job_id} failed: {error.detail}"
    raise JobFailed(message, job_id=job_id, reason=error.reason, retryable=error.retryable)


def view(job: Job) -> JobView:
    """Return the job as it stands now."""
    fields = _fields(job, _moment) | {
        "params": from_json(job.params),
        "result": None if job.result is None else from_json(job.result),
        "error": error_fields(job.error, debug=True),
    }
    return JobView.model_validate(fields)


def view_json(
    job: Job,
    *,
    links: Mapping[str, str],
    debug: bool = False,
    leave_out: Sequence[Literal["result", "params", "metadata"]] = (),
) -> bytes:
    """Return the job as it stands now as JSON.

    Params and result have been JSON since they came, and are put in as they are: a large result
    costs a copy, not a parse. What is left out is empty, and named in `omitted`.
    """
    fields = _fields(job)
    fields["error"], fields["links"] = error_fields(job.error, debug=debug), links
    if leave_out:
        fields["omitted"] = leave_out
    if "metadata" in leave_out:
        fields["metadata"] = {}
    head = to_json(fields)
    params = b"{}" if "params" in leave_out else job.params
    result = b"null" if "result" in leave_out else job.result or b"null"
    return b'%b,"params":%b,"result":%b}' % (head[:-1], params, result)


def event_json(event: Event, *, job: Job | None = None) -> bytes:
    """Return the event as one line of JSON; the result is put into the last one, given its job."""
    head = to_json(
        {"seq": event.seq, "job_id": event.job_id, "at": iso(event.at)} | dict(event.data)
    )
    if event.type != "done" or job is None:
        return head
    return b'%b,"result":%b}' % (head[:-1], job.result or b"null")


def iso(at: float | None) -> str | None:
    """Return unix seconds as RFC 3339 in UTC with milliseconds and `Z`."""
    if at is None:
        return None
    second = math.floor(at)
    micros = round((at - second) * 1e6)
    if micros == 1_000_000:  # as `datetime.fromtimestamp` rounds
        second, micros = second + 1, 0
    return f"{_second(second)}.{micros // 1_000:03d}Z"


@lru_cache(maxsize=1_024)
def _second(at: int) -> str:
    """Return a second as text, for all moments in it: a job, and those beside it, have many."""
    return datetime.fromtimestamp(at, UTC).isoformat()[:-6]


def error_fields(error: JobError | None, *, debug: bool = False) -> dict[str, Any] | None:
    """Return the error as JSON values, with its traceback only for debugging."""
    if error is None:
        return None
    fields: dict[str, Any] = {
        "reason": error.reason,
        "type": error.type,
        "title": error.title,
        "detail": error.detail,
        "attempt": error.attempt,
        "retryable": error.retryable,
    }
    return fields | {"traceback": error.traceback} if debug else fields


def question_fields(
    question: OpenQuestion, when: Callable[[float | None], object] = iso
) -> dict[str, Any]:
    """Return an open question as everybody may see it."""
    return {
        "question_id": question.question_id,
        "prompt": question.prompt,
        "schema": question.kind.json_schema,
        "asked_at": when(question.asked_at),
        "expires_at": when(question.expires_at),
    }


def stop_fields(job: Job) -> dict[str, Any]:
    """Return what the event says that tells of a running job that it was asked to stop."""
    return {
        "status": job.status,
        "attempt": job.attempt,
        "cancel_requested_at": iso(job.cancel_requested_at),
        "cancel_reason": job.cancel_reason,
        "cancel_note": job.cancel_note,
    }


def _moment(at: float | None) -> datetime | None:
    """Return unix seconds as what `iso` writes."""
    if at is None:
        return None
    exact = datetime.fromtimestamp(at, UTC)
    return exact.replace(microsecond=exact.microsecond // 1000 * 1000)


def _fields(job: Job, when: Callable[[float | None], object] = iso) -> dict[str, Any]:
    questions: Sequence[dict[str, Any]] = ()
    if job.questions is not None:
        questions = [question_fields(each, when) for each in job.questions.open.values()]
    return {
        "job_id": job.id,
        "type": job.type,
        "status": job.status,
        "progress": job.progress,
        "progress_message": job.progress_message,
        "step": job.step and {"current": job.step.current, "total": job.step.total},
        "partial": partial_text(job),
        "question": questions[0] if questions else None,
        "questions": questions,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": when(job.created_at),
        "started_at": when(job.started_at),
        "updated_at": when(job.updated_at),
        "finished_at": when(job.finished_at),
        "next_attempt_at": when(job.next_attempt_at),
        "run_at": when(job.run_at),
        "expires_at": when(job.expires_at),
        "deadline_at": when(job.deadline_at),
        "cancel_requested_at": when(job.cancel_requested_at),
        "cancel_reason": job.cancel_reason,
        "cancel_note": job.cancel_note,
        "timeout": job.timeout,
        "priority": job.priority,
        "session_id": job.session_id,
        "batch_id": job.batch_id,
        "parent_id": job.parent_id,
        "retry_of": job.retry_of,
        "metadata": redact(job.metadata) if job.metadata else {},
        "last_seq": job.log.last,
    }
