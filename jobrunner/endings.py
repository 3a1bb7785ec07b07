"""How jobs end: one step for each outcome, and what every end lets go of."""

import logging
from collections.abc import Callable

from . import jobs
from .jobs import Job, JobError, log_fields
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
        orphaned: Called with each job that has ended without a result; its sub-jobs end with it.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        timers: Timers,
        now: Callable[[], float],
        failed: Callable[[Job], None],
        orphaned: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._timers = timers
        self._now = now
        self._failed = failed
        self._orphaned = orphaned

    def complete(self, job: Job, result: bytes) -> None:
        """The handler returned."""
        now = self._now()
        jobs.complete(job, now, result)
        self._save(job, now)

    def fail(self, job: Job, error: JobError) -> None:
        """All is lost."""
        self._fail(job, error, self._now())

    def cancel(self, job: Job, error: JobError | None = None) -> None:
        """Somebody wanted it; what went wrong meanwhile is kept with it."""
        self._cancel(job, error, self._now())

    def end_waiting(self, job: Job, error: JobError | None = None) -> None:
        """End a job that no worker holds: cancelled, or failed with an error."""
        if error is None:
            self._cancel(job, None, self.time(job))
        else:
            self._fail(job, error, self.time(job))
        self._queue.leave(job)  # a worker that has just died may have taken it
        self._queue.discard(job)

    def lost(self, job: Job, detail: str) -> None:
        """End a job that a fault of the runner's own has left in whatever state (T17)."""
        logger.critical("job %s is lost: %s", job.id, detail, extra=log_fields(job))
        self._queue.leave(job)
        error = JobError.from_limit("lost", detail, attempt=job.attempt)
        self._fail(job, error, self.time(job))

    def _fail(self, job: Job, error: JobError, now: float) -> None:
        jobs.fail(job, now, error)
        self._save(job, now)
        self._orphaned(job)
        self._failed(job)

    def _cancel(self, job: Job, error: JobError | None, now: float) -> None:
        jobs.cancel(job, now, error)
        self._save(job, now)
        self._orphaned(job)

    def _save(self, job: Job, now: float) -> None:
        for alarm in job.alarms:
            self._timers.cancel(alarm)
        job.alarms = ()
        data = {"status": job.status._value_, "error": error_fields(job.error)}
        self._store.save(job, "done", data, at=now)

    def time(self, job: Job) -> float:
        """Return unix seconds, where nobody else would end the job if the clock failed (T17)."""
        try:
            return self._now()
        except Exception as fault:  # the clock may be anybody's
            logger.critical("the clock failed as job %s ended", job.id,
                            exc_info=fault, extra=log_fields(job))  # fmt: skip
            return job.updated_at
