"""What becomes of an attempt: its value or its error made a transition of its job.

value -> in time? -> JSON? -> complete
error -> who wanted it to stop? -> cancel | interrupt | again, and when? -> retry | fail
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from . import jobs
from .attempt import Attempt
from .endings import Endings
from .errors import InvalidResult, PayloadTooLarge
from .jobs import FailureReason, Job, JobError, log_fields
from .queue import JobQueue
from .retry import RetryBudget, RetryPolicy
from .store import JobStore
from .timers import Timers
from .views import error_fields, iso

logger = logging.getLogger("jobrunner.outcomes")


MAX_LEFT = 20
"""Sub-jobs that are named which go on without their parent."""


class Outcomes:
    """Settles attempts, each once.

    Args:
        queue: Where a job goes that is tried again.
        store: Where that is saved.
        endings: How the others end.
        timers: The clock that limits are on.
        now: The current time in unix seconds.
        random: Source of jitter.
        retry: Policy of types that have none.
        max_result: Bytes of JSON that a result may have.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        store: JobStore,
        endings: Endings,
        timers: Timers,
        now: Callable[[], float],
        random: Random,
        retry: RetryPolicy,
        max_result: int,
    ) -> None:
        self._queue = queue
        self._store = store
        self._endings = endings
        self._timers = timers
        self._now = now
        self._random = random
        self._retry = retry
        self._max_result = max_result
        self._budgets: dict[str, RetryBudget] = {}

    def settle_value(self, attempt: Attempt, value: Any) -> None:
        """The handler returned: its job is completed, unless the time was over before."""
        if _late(attempt):
            return
        if attempt.stop is None:
            self._note_missed_limit(attempt)
        if attempt.failure is not None:
            self.settle_error(attempt, asyncio.CancelledError())
            return
        job = attempt.job
        try:
            result = attempt.handler.dump_result(value, limit=self._max_result)
        except (InvalidResult, PayloadTooLarge) as error:
            too_large = isinstance(error, PayloadTooLarge)
            reason: FailureReason = "too_large" if too_large else "result_not_serialisable"
            attempt.release()
            described = JobError.from_exception(error, attempt=job.attempt, reason=reason)
            self._endings.fail(job, described)
        else:
            if attempt.context._subjobs is not None:
                self._note_left(job)
            attempt.release()
            self._endings.complete(job, result)

    def _note_left(self, job: Job) -> None:
        """Say in the log of a job that completes which sub-jobs it leaves running."""
        children = self._store.children(job.id).values()
        left = [child.id for child in children if child.cancel_requested_at is None]
        if left:
            data = {"text": f"sub-jobs that go on without their parent: {len(left)}",
                    "fields": {"job_ids": left[:MAX_LEFT]}}  # fmt: skip
            self._store.save(job, "log", data, at=self._endings.time(job))

    def _note_missed_limit(self, attempt: Attempt) -> None:
        """It may have blocked the loop, and so its own timers."""
        now = self._timers.now()
        if now > attempt.job.due_by:
            attempt.stop = "deadline"
        elif now > attempt.ends_by:
            attempt.stop = "timeout"

    def settle_error(self, attempt: Attempt, error: BaseException) -> None:
        """The handler raised, or was stopped, or both.

        Its class is asked for by `type`: `isinstance` reads a `__class__` that may raise (T1).
        """
        if _late(attempt, error):
            return
        job = attempt.job
        attempt.release()
        if attempt.stop == "cancel":
            self._cancel(job, error)
        elif (reason := attempt.failure) is not None:
            limit = TimeoutError(attempt.why())
            if not issubclass(type(error), asyncio.CancelledError):
                limit.__context__ = error  # what went wrong while it stopped is told with it
            self._retry_or_fail(attempt, limit, reason)
        elif not issubclass(type(error), asyncio.CancelledError):
            self._retry_or_fail(attempt, error, "error")
        elif attempt.stop == "shutdown":
            self._interrupt(job)
        else:
            leaked = _Leaked("the handler raised CancelledError, but nobody had cancelled the job")
            self._retry_or_fail(attempt, leaked, "error")

    def _retry_or_fail(self, attempt: Attempt, error: BaseException, reason: FailureReason) -> None:
        job = attempt.job
        policy = attempt.handler.options.retry or self._retry
        described = JobError.from_exception(
            error, attempt=job.attempt, reason=reason, retryable=policy.retryable(error)
        )
        delay = None if reason == "deadline" else self._delay(job, policy, error)
        if delay is None:
            logger.warning("job %s (%s) failed in attempt %d: %s",
                           job.id, job.type, job.attempt, described.type,
                           extra=log_fields(job))  # fmt: skip
            self._endings.fail(job, described)
            return
        now = self._now()
        jobs.retry(job, described, now + delay)
        data = {
            **jobs.standing(job),
            "next_attempt_at": iso(job.next_attempt_at),
            "error": error_fields(described),
        }
        self._store.save(job, "status", data, at=now)
        self._queue.put(job, delay=delay)

    def _delay(self, job: Job, policy: RetryPolicy, error: BaseException) -> float | None:
        """Return the seconds until the next attempt, or None when there is to be none."""
        clock = self._timers.now()
        elapsed = 0.0 if job.begun is None else clock - job.begun
        delay = policy.delay(job.attempt, error, self._random, elapsed=elapsed, now=self._now())
        if delay is None or clock + delay >= job.due_by:
            return None
        if policy.budget is None:
            return delay
        budget = self._budgets.setdefault(job.type, RetryBudget(policy.budget))
        delay = budget.reserve(clock, delay)
        return None if clock + delay >= job.due_by else delay

    def _cancel(self, job: Job, error: BaseException) -> None:
        """End a job that was asked to stop; what went wrong meanwhile is kept with it."""
        told = issubclass(type(error), asyncio.CancelledError)
        described = None if told else JobError.from_exception(error, attempt=job.attempt)
        self._endings.cancel(job, described)

    def _interrupt(self, job: Job) -> None:
        now = self._now()
        jobs.interrupt(job)
        self._store.save(job, "status", jobs.standing(job), at=now)
        self._queue.put(job)


def _late(attempt: Attempt, error: BaseException | None = None) -> bool:
    """Return whether its job has ended without it.

    A stuck handler that never ended in its loop is closed when it is collected, with a
    `GeneratorExit`: at any time, in whatever runs then, and there is nothing to tell of it.
    """
    if attempt.settled and type(error) is not GeneratorExit:
        logger.warning("job %s was stuck and has ended now; its value is dropped", attempt.job.id,
                       extra=log_fields(attempt.job))  # fmt: skip
    return attempt.settled


class _Leaked(Exception):
    """A CancelledError that the handler made itself."""


_Leaked.__name__ = "CancelledError"
