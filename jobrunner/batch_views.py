"""What everybody outside sees of a batch, as a frozen model and as JSON."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from .batches import Batch
from .events import Event
from .jobs import Job, JobStatus
from .views import Frozen, StepView, error_fields, iso

MAX_IDS = 200
"""Ids of jobs that are in an answer; a list of the batch's jobs has all of them, in pages."""


class BatchView(Frozen):
    """A batch as it stood when somebody asked."""

    batch_id: str
    """`batch_` and 32 hexadecimal digits."""
    type: str
    """The job type of all its jobs."""
    total: int
    """How many jobs it has."""
    counts: dict[JobStatus, int]
    """How many of them have each status, those too that are no longer kept."""
    progress: int
    """How many percent of them have ended."""
    progress_message: str
    """The same for a person: `23 of 50, 2 failed`."""
    step: StepView | None
    """The same as numbers; null when there are no jobs."""
    created_at: datetime
    """When it was accepted."""
    updated_at: datetime
    """When a job of it ended last."""
    finished_at: datetime | None
    """When the last of them ended; null before."""
    cancel_requested_at: datetime | None
    """When it was asked to stop."""
    cancel_note: str | None
    """What was said about it."""
    max_in_flight: int | None
    """How many of its jobs run at once; null for as many as there are workers."""
    session_id: str | None
    """Session it belongs to."""
    job_ids: list[str]
    """Its first 200 jobs, in the order of their params."""
    last_seq: int
    """Number of its newest event; a stream goes on after it."""


def batch_view(batch: Batch) -> BatchView:
    """Return the batch as it stands now."""
    return BatchView.model_validate(_fields(batch))


def too_late(batch: BatchView, timeout: float | None) -> TimeoutError:
    """Return what a wait raises whose time is over before all of the jobs have ended."""
    ended = batch.step.current if batch.step else 0
    return TimeoutError(
        f"{ended} of the {batch.total} jobs of batch {batch.batch_id} have ended after "
        f"{timeout:g} s; the others go on"
    )


def batch_json(batch: Batch, *, links: Mapping[str, str]) -> bytes:
    """Return the batch as it stands now as JSON."""
    return to_json(_fields(batch) | {"links": links})


def batch_event_json(batch: Batch, event: Event, job: Job | None) -> bytes:
    """Return an event of the batch as one line of JSON.

    Args:
        job: The job whose end it is, for its result and its error; None when it isn't kept.
    """
    fields = {"seq": event.seq, "batch_id": batch.id, "at": iso(event.at)} | dict(event.data)
    if event.type != "item":
        return to_json(fields)
    fields["job_id"] = event.job_id
    if job is None:
        return to_json(fields)
    head = to_json(fields | {"error": error_fields(job.error), "cancel_note": job.cancel_note})
    return b'%b,"result":%b}' % (head[:-1], job.result or b"null")


def _fields(batch: Batch) -> dict[str, Any]:
    return {
        "batch_id": batch.id,
        "type": batch.type,
        "total": batch.total,
        "counts": {status: batch.counts[status] for status in JobStatus},
        **batch.progress_fields(),
        "created_at": iso(batch.created_at),
        "updated_at": iso(batch.updated_at),
        "finished_at": iso(batch.finished_at),
        "cancel_requested_at": iso(batch.cancel_requested_at),
        "cancel_note": batch.cancel_note,
        "max_in_flight": batch.max_in_flight,
        "session_id": batch.session_id,
        "job_ids": batch.job_ids[:MAX_IDS],
        "last_seq": batch.log.last,
    }
