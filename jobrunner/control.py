"""What ends a job from outside: somebody's wish, its expiry, its deadline."""

from collections.abc import Callable

from . import jobs
from .endings import Endings
from .jobs import CancelReason, FailureReason, Job, JobError
from .store import JobStore
from .timers import Timers
from .views import stop_fields
from .wording import clip
from .worker import Workers

MAX_NOTE = 1_000
"""Characters of what a canceller says."""


class Control:
    """Asks jobs to end, wherever they are.

    Args:
        store: Where the wish is saved.
        workers: Who may run them.
        endings: How those end that nobody runs.
        timers: Where expiries and deadlines wait.
        now: The current time in unix seconds.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        workers: Workers,
        endings: Endings,
        timers: Timers,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._workers = workers
        self._endings = endings
        self._timers = timers
        self._now = now

    def cancel(self, job: Job, reason: CancelReason, note: str | None = None) -> None:
        """End the job, or ask the attempt that runs to end; one that has ended stays as it is."""
        if job.is_final:
            return
        note = clip_note(note)
        now = self._now()
        first = jobs.request_cancel(job, now, reason, note)
        attempt = self._workers.attempts.get(job.id)
        if attempt is None:
            self._endings.end_waiting(job)
        elif first:
            self._store.save(job, "status", stop_fields(job), at=now)
            self._workers.stop(attempt, "cancel")

    def set_alarms(self, job: Job, *, expires: float | None, delay: float) -> None:
        """Have the job ended when it expires, and when its deadline is over.

        Args:
            expires: Seconds for which it may wait for its start; None for ever.
            delay: Seconds before it may start; both limits begin then.
        """
        if expires is None and job.deadline is None:
            return
        now, alarms = self._timers.now() + delay, []
        if expires is not None:
            alarms.append(self._timers.at(now + expires, lambda: self._expire(job)))
        if job.deadline is not None:
            job.due_by = now + job.deadline
            alarms.append(self._timers.at(job.due_by, lambda: self._miss_deadline(job)))
        job.alarms = tuple(alarms)

    def _expire(self, job: Job) -> None:
        if job.begun is None:
            self._end(job, "expired", "it expired before a worker was free")

    def _miss_deadline(self, job: Job) -> None:
        attempt = self._workers.attempts.get(job.id)
        if attempt is not None:
            self._workers.stop(attempt, "deadline")
        else:
            self._end(job, "deadline", f"missed its deadline of {job.deadline:g} s")

    def _end(self, job: Job, reason: FailureReason, detail: str) -> None:
        self._endings.end_waiting(job, JobError.from_limit(reason, detail, attempt=job.attempt))


def clip_note(note: str | None) -> str | None:
    """Return what a canceller says, as much of it as is kept."""
    return None if note is None else clip(str(note), MAX_NOTE)
