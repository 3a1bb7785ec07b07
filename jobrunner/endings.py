"""How jobs end: one step for each outcome, and what every end lets go of."""

import logging
from collections.abc import Callable

from . import jobs
from .jobs import Job, JobError, JobStatus
from .queue import JobQueue
from .store import JobStore
from .timers import Timers
from .views import error_fields

logger = logging.getLogger("jobrunner.endings")


class Endings:
    """Ends jobs. Each end is saved with its event, and nothing waits for the job any more.

    Args:
        store: Where the end is saved.
        queue: What lets go of a job that waited.
        timers: Where the job's expiry and deadline are.
        now: The current time in unix seconds.
        failed: Called with each job that has failed for good.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        timers: Timers,
        now: Callable[[], float],
        failed: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._timers = timers
        self._now = now
        self._failed = failed

    def complete(self, job: Job, result: bytes) -> None:
        """The handler returned."""
        jobs.complete(job, self._now(), result)
        self._save(job)

    def fail(self, job: Job, error: JobError) -> None:
        """All is lost."""
        jobs.fail(job, self._now(), error)
        self._save(job)
        self._failed(job)

    def cancel(self, job: Job, error: JobError | None = None) -> None:
        """Somebody wanted it; what went wrong meanwhile is kept with it."""
        jobs.cancel(job, self._now(), error)
        self._save(job)

    def end_waiting(self, job: Job, error: JobError | None = None) -> None:
        """End a job that no worker holds: cancelled, or failed with an error."""
        if error is None:
            self.cancel(job)
        else:
            self.fail(job, error)
        self._queue.leave(job)  # a worker that has just died may have taken it
        self._queue.discard(job)

    def lost(self, job: Job, detail: str, *, waits: bool = False) -> None:
        """End a job that a fault of the runner's own has left in whatever state (T17).

        Args:
            detail: What happened.
            waits: Whether it is still in the queue.
        """
        logger.critical("job %s is lost: %s", job.id, detail)
        self._queue.leave(job)
        if not job.is_final:
            jobs.fail(job, self._now(), JobError.from_limit("lost", detail, attempt=job.attempt))
        self._save(job)
        if waits:
            self._queue.discard(job)
        if job.status is JobStatus.FAILED:  # a fault may have come after another end
            self._failed(job)

    def _save(self, job: Job) -> None:
        for alarm in job.alarms:
            self._timers.cancel(alarm)
        job.alarms = ()
        self._store.save(job, "done", {"status": job.status, "error": error_fields(job.error)})
