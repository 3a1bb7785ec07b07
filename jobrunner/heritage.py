"""What a sub-job has from its parent: whose it is, how urgent, and when it has to have ended."""

import math
from typing import NamedTuple

from .errors import InvalidOption, TooDeeplyNested
from .jobs import CancelReason, Job, JobStatus
from .store import JobStore
from .subjobs import SubJobs
from .submit_options import Fields, SubmitOptions

INHERITED = ("owner", "session_id", "traceparent")
"""Fields that a sub-job has as its parent does, unless they are given."""


class Heritage(NamedTuple):
    """What a new sub-job has from above; of another job all of it is empty."""

    above: frozenset[str] = frozenset()
    """Its parent and those above it that are live: none of them is its rival or its replay."""
    due_by: float = math.inf
    """End of their deadline, on the loop's clock."""
    due: float | None = None
    """When the parent became due, as its sub-jobs go where it went; None if they don't."""

    def check(self, known: Job) -> None:
        """Raise InvalidOption for a job that would wait for itself."""
        if known.id in self.above:
            raise InvalidOption(
                f"the idempotency key leads to job {known.id}, which is above the sub-job, and "
                "would wait for itself; make a new key",
                option="idempotency_key",
            )


NO_HERITAGE = Heritage()


def with_parents(options: SubmitOptions, parent: Job) -> SubmitOptions:
    """Return the options of a sub-job, with what its parent has where nothing is given."""
    own: SubmitOptions = {"priority": parent.priority}
    for name in INHERITED:
        if (value := getattr(parent, name)) is not None:
            own[name] = value  # type: ignore[literal-required]  # one of three
    return {**own, **options}


def inherit(fields: Fields, parent: SubJobs, store: JobStore, *, most: int) -> Heritage:
    """Make fields those of a sub-job, and return what else it has from its parent.

    Args:
        most: How many generations of sub-jobs may be live.

    Raises:
        AttemptEnded: The parent submits nothing any more.
        TooDeeplyNested: There would be more of them.
    """
    parent.check()
    job, above = parent.job, list[Job]()
    each: Job | None = job
    while each is not None:
        above.append(each)
        each = None if each.parent_id is None else store.live_job(each.parent_id)
    if len(above) > most:
        raise TooDeeplyNested(
            f"job {job.id} is a sub-job in generation {len(above) - 1}, and {most} is the limit "
            "(Limits.max_depth): does a job type submit itself without end?"
        )
    fields["parent_id"] = job.id
    if job.deadline_at is not None:
        own = fields.get("deadline_at")
        fields["deadline_at"] = job.deadline_at if own is None else min(own, job.deadline_at)
    alone = job.parent_id is not None and len(above) == 1
    due = None if alone else job.due  # or a chain of jobs that return would overtake all for ever
    return Heritage(frozenset(each.id for each in above), job.due_by, due)


def ended_with_parent(job: Job) -> bool:
    """Whether nobody wanted the job itself cancelled: another attempt needs a new one."""
    reason: CancelReason = "parent"
    return job.status is JobStatus.CANCELLED and job.cancel_reason == reason
