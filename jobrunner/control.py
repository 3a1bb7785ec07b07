"""What ends a job from outside: somebody's wish, its expiry, its deadline."""

import math
from collections.abc import Callable

from . import jobs
from .attempt import deadline_missed
from .endings import Endings
from .jobs import CancelReason, FailureReason, Job, JobError
from .store import JobStore
from .timers import Timers
from .views import stop_fields
from .wording import clip
from .worker import Workers

MAX_NOTE = 1_000
"""Characters of what a canceller says."""
TURN = 500
"""Sub-jobs that are cancelled before others have a turn."""


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
        self._cancel(job, reason, clip_note(note), self._now())

    def _cancel(self, job: Job, reason: CancelReason, note: str | None, now: float) -> None:
        first = jobs.request_cancel(job, now, reason, note)
        attempt = self._workers.attempts.get(job.id)
        if attempt is None:
            self._endings.end_waiting(job)
        elif first:
            self._store.save(job, "status", stop_fields(job), at=now)
            self._workers.stop(attempt, "cancel")

    def cancel_children(self, parent: Job) -> None:
        """Cancel the live sub-jobs of a job that goes on no longer: those that run, in this step.

        Of those that wait, some thousands take longer than others should wait; none of them is
        begun meanwhile for longer than a moment.
        """
        if not (children := self._store.children(parent.id)):
            return
        attempts, note = self._workers.attempts, f"its parent {parent.id} goes on no longer"
        waiting = [job for job in children.values() if job.id not in attempts]
        for job in [job for job in children.values() if job.id in attempts] + waiting[:TURN]:
            self._cancel(job, "parent", note, self._endings.time(job))
        if len(waiting) > TURN:
            self._timers.after(0.0, lambda: self.cancel_children(parent))

    def set_alarms(
        self, job: Job, *, expires: float | None, delay: float, due_by: float = math.inf
    ) -> None:
        """Have the job ended when it expires, and when its deadline is over.

        Args:
            expires: Seconds for which it may wait for its start; None for ever.
            delay: Seconds before it may start; both limits begin then.
            due_by: When its parent has to have ended, on the loop's clock.
        """
        if expires is None and job.deadline is None and due_by == math.inf:
            return
        now, alarms = self._timers.now() + delay, []
        if expires is not None:
            alarms.append(self._timers.at(now + expires, lambda: self._expire(job)))
        if job.deadline is not None:
            due_by = min(due_by, now + job.deadline)
        if due_by < math.inf:
            job.due_by = due_by
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
            self._end(job, "deadline", deadline_missed(job))

    def _end(self, job: Job, reason: FailureReason, detail: str) -> None:
        self._endings.end_waiting(job, JobError.from_limit(reason, detail, attempt=job.attempt))


def clip_note(note: str | None) -> str | None:
    """Return what a canceller says, as much of it as is kept."""
    return None if note is None else clip(str(note), MAX_NOTE)
