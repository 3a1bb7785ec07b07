"""How a job stands, in one sentence and as JSON values."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from .jobs import Job, JobStatus
from .questions import OpenQuestion
from .toolbox_output import exit_code
from .toolbox_scope import Scope
from .toolbox_text import in_line, seconds
from .views import error_fields, question_fields


def facts(job: Job, scope: Scope, *, room: int = 0) -> dict[str, Any]:
    """Return what structured output says of a job; names and values as everywhere.

    Args:
        room: Bytes of JSON that a result may have to be in it.
    """
    found: dict[str, Any] = {
        "job_id": job.id,
        "type": job.type,
        "status": str(job.status),
        "progress": job.progress,
        "progress_message": job.progress_message,
        "step": job.step and {"current": job.step.current, "total": job.step.total},
        "error": error_fields(job.error),
    }
    if questions := open_questions(job):
        found["questions"] = [question_fields(question) for question in questions]
    if not job.is_final:
        found["retry_after"] = scope.runner.poll_after(job.id)
    found = {name: value for name, value in found.items() if value is not None}
    if job.result is not None and len(job.result) <= room:
        found["result"] = from_json(job.result)
    return found


def open_questions(job: Job) -> list[OpenQuestion]:
    """Return what the job asks and nobody has answered, the oldest first."""
    asked = () if job.questions is None else job.questions.open.values()
    return [question for question in asked if not question.answer.done()]


def headline(job: Job, now: float) -> str:
    """Return one sentence on how the job stands."""
    return f"Job {job.id} ({job.type}) {_HEADLINES[job.status](job, now)}"


def list_line(job: Job, now: float) -> str:
    """Return the job's line in a list."""
    if job.finished_at is not None:
        when = f"{seconds(now - job.finished_at)} ago"
    else:
        when = f"for {seconds(now - (job.started_at or job.created_at))}"
        when += f", {job.progress:g} %" if job.progress else ""
    why = f": {in_line(job.error.title)}" if job.error and job.is_final else ""
    return f"- {job.id} {job.type}: {job.status} {when}{why}"


def _pending(job: Job, now: float) -> str:
    if job.run_at is not None and job.run_at > now:
        return f"is pending: it starts in {seconds(job.run_at - now)}."
    return f"is pending: it has waited {seconds(now - job.created_at)} for a free worker."


def _running(job: Job, now: float) -> str:
    if job.cancel_requested_at is not None:
        since = seconds(now - job.cancel_requested_at)
        return f"was asked to stop {since} ago, and still runs{_progress(job)}."
    return f"has been running for {seconds(now - (job.started_at or now))}{_progress(job)}."


def _progress(job: Job) -> str:
    said, message = f", {job.progress:g} % done" if job.progress else "", job.progress_message
    if job.step is not None:
        said += f", at step {job.step.current} of {job.step.total}"
        if message == f"{job.step.current} of {job.step.total}":
            message = None  # that of sub-jobs: it says the same
    return said + (f": {in_line(message)}" if message else "")


def _retrying(job: Job, now: float) -> str:
    why = f": {in_line(job.error.detail)}" if job.error else ""
    due = seconds((job.next_attempt_at or now) - now)
    tries = f"attempt {job.attempt} of {job.max_attempts}"
    return f"is retrying: {tries} failed{why}. The next one starts by itself in {due}."


def _asking(job: Job, now: float) -> str:
    count = len(open_questions(job))
    what = "an answer" if count == 1 else f"{count} answers"
    return f"needs {what} before it can go on (input_required)."


def _completed(job: Job, now: float) -> str:
    code = exit_code(job)
    ended = "" if code is None else f", with exit code {code}"
    return f"has completed, {_took(job)}{ended}."


def _failed(job: Job, now: float) -> str:
    reason = job.error.reason if job.error else "error"
    attempts = f" in attempt {job.attempt} of {job.max_attempts}" if job.max_attempts > 1 else ""
    return f"has failed{attempts}, {_took(job)}; reason: {reason}."


def _cancelled(job: Job, now: float) -> str:
    note = f": {in_line(job.cancel_note)}" if job.cancel_note else ""
    return f"was cancelled {_took(job)}, by {_CANCELLERS[job.cancel_reason or 'user']}{note}."


def _took(job: Job) -> str:
    if job.started_at is None or job.finished_at is None:
        return "before it was started"
    return f"after {seconds(job.finished_at - job.started_at)}"


_CANCELLERS = {
    "user": "request",
    "timeout": "its time limit",
    "shutdown": "the shutdown of the server",
    "parent": "the job that had started it",
    "superseded": "a newer job that replaced it",
}
_HEADLINES: Mapping[JobStatus, Callable[[Job, float], str]] = {
    JobStatus.PENDING: _pending,
    JobStatus.RUNNING: _running,
    JobStatus.RETRYING: _retrying,
    JobStatus.INPUT_REQUIRED: _asking,
    JobStatus.COMPLETED: _completed,
    JobStatus.FAILED: _failed,
    JobStatus.CANCELLED: _cancelled,
}
