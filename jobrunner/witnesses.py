"""Who sees each change of a job's status in the step in which it is saved.

Readers of a log come later. By then a job may have ended, been packed and been pruned, its times on
the loop's clock are gone, and its handler has long begun. What has to be exact (counts), on that
clock (durations) or there before the handler (a span that is its parent) is noted where it happens.
"""

from typing import Protocol

from .jobs import Job, JobStatus


class Witness(Protocol):
    """Sees what the store saves. It never raises, never waits, and saves nothing itself."""

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
