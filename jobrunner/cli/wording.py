"""A job in few words: how far it is, how long ago, how it ended."""

from datetime import UTC, datetime

from ..jobs import JobStatus
from ..views import ErrorView, JobView
from .stripping import one_line

STYLES = {
    JobStatus.PENDING: "dim",
    JobStatus.RUNNING: "cyan",
    JobStatus.RETRYING: "yellow",
    JobStatus.INPUT_REQUIRED: "bold yellow",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "bold red",
    JobStatus.CANCELLED: "magenta",
}


def progress(job: JobView) -> str:
    """Return how far a job is: "3/7", "40%", or nothing."""
    if job.step is not None:
        return f"{job.step.current}/{job.step.total}"
    return f"{job.progress:.0f}%" if job.progress else ""


def said(job: JobView) -> str:
    """Return the most telling line about a job, for a list."""
    if job.status is JobStatus.FAILED or job.status is JobStatus.RETRYING:
        return "" if job.error is None else one_line(job.error.title, 200)
    if job.question is not None:
        return one_line(f"{job.question.question_id}: {job.question.prompt}", 200)
    if job.cancel_note:
        return one_line(job.cancel_note, 200)
    return one_line(job.progress_message or "", 200)


def failure(error: ErrorView) -> str:
    """Return why a job failed: its message, and the kind where it isn't the handler's own."""
    kind = "" if error.reason == "error" else f"{error.reason}: "
    return one_line(f"{kind}{error.detail or error.title}")


def ago(at: datetime) -> str:
    """Return how long ago a time is, in one unit."""
    return seconds((datetime.now(UTC) - at).total_seconds())


def lasted(job: JobView) -> str:
    """Return how long a job has run, from its first start; nothing if it hasn't started."""
    if job.started_at is None:
        return ""
    return seconds(((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds())


def seconds(count: float) -> str:
    """Return a duration as a person would say it: "0.4s", "12s", "5m", "3h", "2d"."""
    if count < 10:
        return f"{max(0.0, count):.1f}s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if count >= 2 * size:
            return f"{count / size:.0f}{unit}"
    return f"{count:.0f}s"
