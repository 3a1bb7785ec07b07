"""Who sees each change of a job's status in the step in which it is saved.

Readers of a log come later. By then a job may have ended, been packed and been pruned, its times on
the loop's clock are gone, and its handler has long begun. What has to be exact (counts), on that
clock (durations) or there before the handler (a span that is its parent) is noted where it happens.
"""

import logging
from typing import Protocol

from .jobs import Job, JobStatus, log_fields

logger = logging.getLogger("jobrunner.witnesses")


class Witness(Protocol):
    """Sees what the store saves. It never waits, and saves nothing itself."""

    def added(self, job: Job) -> None:
        """A new job is taken in; its first event isn't there yet."""
        ...

    def moved(self, job: Job, was: JobStatus, at: float, clock: float) -> None:
        """A job's status has changed; its event isn't there yet.

        Args:
            job: The live record.
            was: Its status before.
            at: When, in unix seconds.
            clock: The same on the loop's clock.
        """
        ...


class Guarded:
    """A witness that raises nothing: others' code may be in it, and jobs go on without it."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def added(self, job: Job) -> None:
        """See `Witness`."""
        try:
            self._witness.added(job)
        except Exception as error:  # samplers and processors of spans are anybody's
            _complain(job, error)

    def moved(self, job: Job, was: JobStatus, at: float, clock: float) -> None:
        """See `Witness`."""
        try:
            self._witness.moved(job, was, at, clock)
        except Exception as error:  # likewise
            _complain(job, error)


def _complain(job: Job, error: Exception) -> None:
    logger.error("job %s (%s) can't be watched", job.id, job.type,
                 exc_info=error, extra=log_fields(job))  # fmt: skip
