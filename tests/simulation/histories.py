"""What has to hold of every job and of every stream when a scenario is over."""

import itertools
import math
from datetime import datetime

from jobrunner import Event, JobStatus
from jobrunner.jobs import TRANSITIONS, Job
from jobrunner.limits import Limits

from .behaviours import GROUPS, RESISTING
from .bounds import EPSILON
from .loop import unix_now
from .world import Stream, World

AFTER_CANCEL = (None, "stuck", "lost", "too_large", "result_not_serialisable")
"""How a job may have failed though it was cancelled; anything else would hide the cancel."""
QUIET = ("user.on_failure", "user.on_failure_hangs", "user.on_failure_is_deaf")


class Histories:
    """Looks back on one scenario.

    Args:
        world: The scenario.
        limits: What its runner takes.
        grace: Seconds that its handlers have to stop, twice.
    """

    def __init__(self, world: World, limits: Limits, grace: float) -> None:
        self.world = world
        self.limits = limits
        self.grace = grace

    def check(self) -> None:
        """Check the history of every job and of every stream."""
        world, require = self.world, self.world.require
        for job in world.jobs:
            require(job.is_final, "a job never ended", job.number, job.status)
            fair = resists(world, job, self.grace) or world.torn or not is_stuck(job)
            require(fair, "an obedient handler is given up", job.number)
            self._check_caps(job)
            self._check_history(job, job.log.read(0).events)
            self._check_told(job)
            self._check_questions(job, job.log.read(0).events)
        for stream in world.streams:
            self._check_stream(stream)

    def _check_questions(self, job: Job, events: list[Event]) -> None:
        """Each question is closed once, by who came first, and before the job's end."""
        require = self.world.require
        open_: list[str] = []
        if events[0].seq > 1:
            return  # the first ones are no longer kept
        for event in events:
            name = str(event.data.get("question_id"))
            if event.type == "question":
                open_.append(name)
            elif event.type == "answer":
                require(name in open_, "closed twice", job.number, name)
                open_.remove(name)
                by_user = event.data["by"] == "user"
                known = self.world.answered.get((job.id, name), event)
                right = known == event.data["value"] if by_user else known is event
                require(right, "another answer", job.number, event, known)
        require(not open_, "open for ever", job.number, open_)

    def _check_told(self, job: Job) -> None:
        """Who wants to know of failures knows of each, once, and of nothing else."""
        world, told = self.world, self.world.told[job.id]
        failed = job.status is JobStatus.FAILED
        world.require(told <= failed, "on_failure is told twice, or lies", job.number, told)
        heard = world.faults.active.keys().isdisjoint(QUIET) and not world.torn
        ended = (job.finished_at or 0.0) if not world.broken else math.inf  # by a clock that works
        in_time = self.grace > 0 or not any(stop <= ended for stop in world.stops)
        world.require(not (failed and heard and in_time) or told == 1, "nobody is told", job.number)

    def _check_caps(self, job: Job) -> None:
        events = job.log.read(0).events
        text = sum(event.weight for event in events)
        fits = len(events) == 1 or text <= self.limits.max_text
        self.world.require(len(events) <= self.limits.max_events and fits, "caps", job.number)

    def _check_history(self, job: Job, events: list[Event]) -> None:
        ends = [event.seq for event in events if event.type == "done"]
        self.world.require(ends == [job.log.last], "not one final event", job.number, ends)
        self.world.require(job.log.closed, "the log of a final job is open", job.number)
        statuses = [
            event
            for event in events
            if event.type in ("status", "done") and "cancel_requested_at" not in event.data
        ]
        if events[0].seq == 1:
            first = statuses[0].data["status"]
            self.world.require(first == "pending", "not pending at first", job.number)
        for one, two in itertools.pairwise(statuses):
            self._check_transition(job, one, two)
        self._check_cancelled(job)

    def _check_cancelled(self, job: Job) -> None:
        asked = self.world.never_again.get(job.id)
        wanted = asked is not None or job.status is not JobStatus.CANCELLED
        self.world.require(wanted, "cancelled by nobody", job.number)
        if asked is None or job.finished_at is None:
            return
        late = job.finished_at - unix_now() + self.world.loop.time() - asked
        self.world.require(late <= 2 * self.grace + EPSILON, "stopped late", job.number, late)
        failed = job.status is JobStatus.FAILED and job.error is not None
        reason = job.error.reason if failed and job.error else None
        lost = self.world.broken > 0 and reason == "shutdown"
        self.world.require(lost or reason in AFTER_CANCEL, "not cancelled", job.number, reason)

    def _check_transition(self, job: Job, one: Event, two: Event) -> None:
        require = self.world.require
        was, status = JobStatus(one.data["status"]), JobStatus(two.data["status"])
        legal = status in TRANSITIONS[was] and was is not status
        require(legal, "illegal transition", job.number, was, status)
        before, attempt = one.data.get("attempt", 0), two.data.get("attempt", None)
        if JobStatus.INPUT_REQUIRED in (was, status):
            require(attempt in (before, None), "another attempt asks", job.number, attempt)
        elif status is JobStatus.RUNNING:
            require(attempt == before + 1 <= job.max_attempts, "attempt", job.number, attempt)
            require(two.at >= _due_at(job, one) - EPSILON, "started early", job.number)
        elif status is JobStatus.PENDING:
            require(attempt == before - 1, "the attempt is not given back", job.number)

    def _check_stream(self, stream: Stream) -> None:
        """Numbers rise by one; what is missing is named by a gap; the last one is the end."""
        expected = stream.after + 1
        for event in stream.seen:
            first = event.data["from"] if event.type == "gap" else event.seq
            self.world.require(first == expected, "a hole in a stream", stream.job.number, first)
            expected = event.seq + 1
        if stream.given_up or stream.task is None:
            return
        self.world.require(stream.task.done(), "a stream never ended", stream.job.number)
        whole = stream.last >= stream.job.log.last
        self.world.require(whole, "a stream ended early", stream.job.number, stream.last)


def is_stuck(job: Job) -> bool:
    """Whether its handler was given up."""
    return job.error is not None and job.error.type == "Stuck"


def resists(world: World, job: Job, grace: float) -> bool:
    """Whether its handler may go on when it is asked to stop."""
    plan = job.metadata["plan"] if job.metadata is not None else None
    hurried = grace == 0 and plan in GROUPS
    return plan in RESISTING or hurried or job.id in world.resisting


def _due_at(job: Job, before: Event) -> float:
    told = before.data.get("next_attempt_at")
    if told is not None:
        return datetime.fromisoformat(told).timestamp()
    return job.run_at or 0.0
