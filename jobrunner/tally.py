"""What is counted of jobs by their type: how many came, how they ended, how long it took.

Plain numbers, which are exact whatever is pruned and however seldom somebody reads them.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

from .jobs import FINAL, Job, JobStatus

BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0,
          3_600.0, 7_200.0)  # fmt: skip
"""Seconds up to which each bucket of a histogram reaches; one more has the rest."""
OUTCOMES = ("delivered", "dead", "failed")
"""What becomes of webhooks: delivered, given up, or a try that failed."""


class Durations:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many there were in each bucket."""
        self.total = 0.0
        """All of them together, in seconds."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[int]:
        """Return how many there were up to each bound, and how many in all."""
        return list(accumulate(self.counts))


class Tally:
    """Counts jobs, as a witness. Type and reason are from closed sets, so it doesn't grow.

    It may be read in any thread; take a `copy()` of what has keys.
    """

    def __init__(self) -> None:
        self.submitted: Counter[str] = Counter()
        """Jobs taken in, by type."""
        self.finished: Counter[tuple[str, str, str]] = Counter()
        """Jobs that have ended, by type, status and reason, which is "" for a result."""
        self.retries = 0
        """Attempts that failed and were followed by another, or are to be."""
        self.durations: dict[str, Durations] = {}
        """From the start of a job's first attempt to its end, by type."""
        self.waits: dict[str, Durations] = {}
        """From when a job was due to the start of its attempt, by type; once for each attempt."""

    def added(self, job: Job) -> None:
        """See `Witness`."""
        self.submitted[job.type] += 1

    def moved(self, job: Job, was: JobStatus, at: float, clock: float) -> None:
        """See `Witness`."""
        if job.status in FINAL:
            self._end(job, clock)
        elif job.status is JobStatus.RETRYING:
            self.retries += 1
        elif job.status is JobStatus.RUNNING and was is not JobStatus.INPUT_REQUIRED:
            _of(self.waits, job.type).add(waited(job, at, clock))

    def _end(self, job: Job, clock: float) -> None:
        self.finished[job.type, job.status, end_reason(job)] += 1
        if job.begun is not None:
            _of(self.durations, job.type).add(clock - job.begun)


def end_reason(job: Job) -> str:
    """Return why a job has ended as it has, from a closed set; "" for one that is completed."""
    if job.status is JobStatus.CANCELLED:
        return job.cancel_reason or ""
    return job.error.reason if job.error is not None and job.status is JobStatus.FAILED else ""


def waited(job: Job, at: float, clock: float) -> float:
    """Return for how many seconds a job has waited for the start of an attempt."""
    if job.parent_id is None or job.attempt > 1:
        return max(0.0, clock - job.due)
    return max(0.0, at - max(job.created_at, job.run_at or 0.0))  # its place is its parent's


def _of(found: dict[str, Durations], type: str) -> Durations:
    return found.get(type) or found.setdefault(type, Durations())
