"""What a model is told when a call can't be done: what is wrong, and what to do about it."""

import logging
import math
from typing import Any

from .errors import (
    DuplicateJob,
    InvalidAnswer,
    InvalidCursor,
    InvalidOption,
    JobGone,
    JobNotFound,
    JobRunnerError,
    NotWaitingForInput,
    PayloadTooLarge,
    QuestionNotFound,
    QueueFull,
    RunnerStopped,
    UsageError,
)
from .toolbox_answers import Answer
from .toolbox_scope import Scope
from .toolbox_text import in_line
from .wording import describe

logger = logging.getLogger("jobrunner.toolbox")


def refused(error: JobRunnerError, scope: Scope, *, job_id: str | None = None) -> Answer:
    """Return the answer to a call that was refused.

    Args:
        error: Why.
        scope: Whose jobs there are.
        job_id: The job that was asked for.
    """
    match error:
        case JobNotFound():
            text = _unknown_job(job_id or "", scope)
        case JobGone():
            text = (
                f"Job {job_id} has ended, and its result is no longer kept. Asking again won't "
                "bring it back. Next: start it again only if it is still needed."
            )
        case QueueFull():
            due = math.ceil(error.retry_after)
            text = (
                "The job was not started: the server is busy, and its queue is full. Next: tell "
                f"the user so, or try the same call again, once, after at least {due} s."
            )
        case DuplicateJob() if not scope.sees(error.job_id):
            text = (
                "The job was not started: one that does the same has not ended, but it is of "
                "another session, and can't be followed from here. Next: tell the user so, or try "
                "the same call again, once, when that may have ended."
            )
        case DuplicateJob():
            job_id = error.job_id
            text = (
                f"The job was not started: job {job_id} does the same and has not ended. Next: "
                f'follow that one, with wait_for_jobs(job_ids=["{job_id}"]).'
            )
        case PayloadTooLarge():
            text = (
                f"The job was not started: {error}. Next: call it with shorter arguments."
                if job_id is None
                else f"The answer was not taken: {error}. Next: give job {job_id} a shorter one."
            )
        case InvalidAnswer():
            text = (
                f"The answer was not taken, and job {job_id} still waits: {error}. Next: call "
                "answer_job again with one that fits; "
                f'check_job_status(job_id="{job_id}") shows the question and its schema.'
            )
        case QuestionNotFound() | NotWaitingForInput():
            text = (
                f'Nothing was done: {error}. Next: check_job_status(job_id="{job_id}") says how '
                "the job stands."
            )
        case InvalidOption(option="question_id"):
            text = f"Nothing was done: {error}. Next: call answer_job again, with question_id."
        case InvalidCursor():
            text = "The cursor is none of ours. Next: call list_jobs without one."
        case RunnerStopped():
            text = (
                f"Nothing was done: {error}. Next: tell the user that the server is shutting "
                "down; try again once it runs again."
            )
        case _:
            return _fault(error, job_id)
    return failed(error.code, text, job_id=job_id)


def failed(code: str, text: str, *, job_id: str | None = None, **more: Any) -> Answer:
    """Return an answer that says that nothing was done, and why."""
    named = {} if job_id is None else {"job_id": job_id}
    return Answer(text, {**named, "error": {"code": code, "detail": text, **more}}, True)


def broken(error: Exception) -> Answer:
    """Return the answer to a call that failed for no fault of the model's."""
    logger.error("a tool's call failed: %s", describe(error), exc_info=error)
    text = (
        f"The call failed inside of the server, with {type(error).__name__}. That is not for you "
        "to mend: tell the user, and don't repeat the call."
    )
    return failed("internal-error", text)


def _unknown_job(job_id: str, scope: Scope) -> str:
    near = scope.near(job_id)
    hint = f"Did you mean {near}?" if near else "list_jobs() shows the ids of all jobs."
    return f"There is no job {in_line(job_id[:100])}. {hint}"


def _fault(error: JobRunnerError, job_id: str | None) -> Answer:
    if isinstance(error, UsageError):
        logger.error("a tool's call failed: %s", error)
    text = f"The call could not be done: {describe(error)[:500]}. Tell the user."
    return failed(error.code, text, job_id=job_id)
