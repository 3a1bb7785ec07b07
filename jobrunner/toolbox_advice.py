"""What a model is told to do next, and when."""

from collections.abc import Sequence

from pydantic_core import to_json

from .jobs import Job, JobStatus
from .toolbox_scope import Scope
from .toolbox_status import open_questions
from .toolbox_text import seconds

WAIT = 25.0
"""Seconds for which a call waits if it says nothing else."""
MAX_WAIT = 45.0
"""Seconds for which a call waits at most: clients cut calls off after 60."""


def advice(job: Job, scope: Scope, tool: str | None, *, waited: bool = False) -> str:
    """Return what to do next with a job.

    Args:
        tool: The tool that starts such a job; None when there is none here.
        waited: Whether it was waited for just now.
    """
    if job.status is JobStatus.COMPLETED:
        return "Next: use the result, or tell the user."
    if job.status is JobStatus.FAILED:
        return f"Next: {_after_failure(job, tool)}"
    if job.status is JobStatus.CANCELLED:
        return "Next: nothing of it runs any more. Start it again only if the user wants it."
    if (asked := open_questions(job)) and job.cancel_requested_at is None:
        what = "the question" if len(asked) == 1 else "each question"
        return _ANSWER.format(what=what, job_id=job.id, question_id=asked[0].question_id)
    if job.cancel_requested_at is not None:
        return f"Next: it is cancelled once it has stopped; {_waiting([job])} waits for that."
    return still_running([job], scope) if waited else just_running(job, scope)


_ANSWER = (
    "Next: put {what} to the user, and pass on what they decide: "
    'answer_job(job_id="{job_id}", question_id="{question_id}", value=...). Don\'t decide for them '
    "unless they have told you to."
)


def just_running(job: Job, scope: Scope) -> str:
    """Return what to do about a job that is under way."""
    return (
        f"Next: tell the user that it is under way, or do something else; it goes on by itself. "
        f"To get its result call {_waiting([job])}, which waits up to {WAIT:g} s"
        f"{_left([job], scope)}. Don't call check_job_status in a loop."
    )


def still_running(jobs: Sequence[Job], scope: Scope) -> str:
    """Return what to do about jobs that were waited for and go on."""
    return (
        f"Next: {_waiting(jobs)} waits on{_left(jobs, scope)}; or tell the user that it takes "
        "longer, and look when you are asked."
    )


def _waiting(jobs: Sequence[Job]) -> str:
    return f"wait_for_jobs(job_ids={to_json([job.id for job in jobs]).decode()})"


def _left(jobs: Sequence[Job], scope: Scope) -> str:
    """Return how much longer it takes, where the job's progress tells."""
    told = [job for job in jobs if job.status is JobStatus.RUNNING and job.progress]
    if len(told) < len(jobs):
        return ""
    most = max(scope.runner.poll_after(job.id) for job in told)
    return f"; it may take another {seconds(most)}{' or more' if most >= 60 else ''}"


def _after_failure(job: Job, tool: str | None) -> str:
    assert job.error is not None, "a failed job has its error"
    reason, retryable = job.error.reason, job.error.retryable
    said = _AFTER.get(reason, _PASSING if retryable else _FOR_GOOD)
    return said if tool is None or reason in _NEVER_AGAIN else f"{said} {tool} starts it."


_NEVER_AGAIN = {"stuck", "result_not_serialisable"}
_PASSING = (
    "it won't go on by itself. Read the error: if other arguments or something that you can "
    "change would mend it, or if it looks passing, start it again; otherwise, or if it fails in "
    "the same way, tell the user."
)
_FOR_GOOD = (
    "the same call would fail in the same way. Start it again only with other arguments, or once "
    "you have changed what the error names; otherwise tell the user."
)
_LONG = "it takes longer than it may. Start it again only with less to do, or tell the user."
_AFTER = {
    "timeout": _LONG,
    "deadline": _LONG,
    "stalled": "it gave no sign of life for too long. Start it again once, or tell the user.",
    "expired": "no worker was free in time. Start it again later, or tell the user.",
    "shutdown": "the server was shut down. Start it again once the server is back.",
    "lost": "it was lost half-way, and may have run in part. Ask the user before it is started "
    "again.",
    "stuck": "it didn't end when it was told to, and may still run. Don't start it again; tell "
    "the user.",
    "too_large": "its result is larger than may be kept. Start it again only with less to do, or "
    "tell the user.",
    "result_not_serialisable": "that is a fault of the job type, which no other arguments mend. "
    "Tell the user.",
}
