"""What has to hold in every scenario, at every step, whenever the world rests, and at its end."""

import asyncio
import itertools
from datetime import datetime
from typing import Any

from jobrunner import Event, JobGone, JobNotFound, JobStatus
from jobrunner.jobs import FINAL, TRANSITIONS, Job
from jobrunner.limits import Limits, Retention
from jobrunner.views import view

from .behaviours import RESISTING
from .loop import unix_now
from .world import Stream, World

EPSILON = 1e-3
"""Seconds within which two times are one: unix times are floats of 2e-7 s, ISO times of 1e-3 s."""
AFTER_CANCEL = (None, "stuck", "lost", "too_large", "result_not_serialisable")
"""How a job may have failed though it was cancelled; anything else would hide the cancel."""
WAITING = (JobStatus.PENDING, JobStatus.RETRYING)


class Invariants:
    """Watches one scenario.

    Args:
        world: The scenario.
        retention: What its runner keeps.
        limits: What its runner takes.
        grace: Seconds that its handlers have to stop, twice.
    """

    def __init__(self, world: World, retention: Retention, limits: Limits, grace: float) -> None:
        self.world = world
        self.retention = retention
        self.limits = limits
        self.grace = grace
        self._seen = 0
        self._live: list[Job] = []
        self._endings: list[tuple[float, Job, int]] = []

    def after_step(self) -> None:
        """Check what must hold between any two rounds of callbacks."""
        world, require = self.world, self.world.require
        stats = world.runner.stats()
        kept, gone = sum(stats.jobs.values()), stats.pruned
        require(kept + gone == len(world.jobs), "counts", kept, gone, len(world.jobs))
        require(stats.busy <= max(stats.workers, world.ceiling), "too many run", stats)
        world.ceiling = min(world.ceiling, stats.busy)
        require(world.active <= stats.busy + stats.stuck, "undeclared handlers", stats)
        if not world.faults:
            require(stats.jobs[JobStatus.RUNNING] == stats.busy, "running and busy", stats)
            finals = sum(stats.jobs[status] for status in FINAL)
            most = self.retention.max_jobs
            require(most is None or finals <= most, "more final jobs than kept", finals)
        self._note_ends()

    def _note_ends(self) -> None:
        self._live.extend(self.world.jobs[self._seen :])
        self._seen = len(self.world.jobs)
        for job in [job for job in self._live if job.log.closed]:
            self._live.remove(job)
            self._endings.append((self.world.loop.time(), job, job.log.last))

    def at_rest(self) -> None:
        """Check that nobody sleeps through anything: only the passing of time goes on."""
        stats = self.world.runner.stats()
        if stats.state == "running" and not stats.paused and stats.busy < stats.workers:
            due = [job.number for job in self.world.jobs if _is_due(job)]
            self.world.require(not due, "jobs are due and workers idle", due, stats)
        for stream in self.world.streams:
            if not stream.slow and stream.task is not None and not stream.task.done():
                behind = stream.last < stream.job.log.last or stream.job.is_final
                self.world.require(not behind, "a stream sleeps", stream.job.number, stream.last)
        for wait in self.world.waits:
            self.world.require(not wait.over, "a wait sleeps", [job.number for job in wait.jobs])
        self._check_gone()

    def _check_gone(self) -> None:
        """A job is there until it is pruned or forgotten, and its id is remembered afterwards."""
        answers = [self._answer(job) for job in self.world.jobs]
        gone = len(answers) - answers.count("kept")
        remembered = min(gone, self.retention.max_tombstones)
        self.world.require(answers.count("gone") == remembered, "tombstones", answers)
        keys = [
            job.idempotency_key
            for job, answer in zip(self.world.jobs, answers, strict=True)
            if answer == "kept" and job.idempotency_key is not None
        ]
        self.world.require(len(set(keys)) == len(keys), "a key has two jobs", keys)
        self._check_pruned()

    def _answer(self, job: Job) -> str:
        try:
            record = self.world.runner.record(job.id)
        except JobGone:
            answer = "gone"
        except JobNotFound:
            answer = "unknown"
        else:
            self.world.require(_same(record, job), "another job has the id", job.number)
            return "kept"
        self.world.require(job.is_final, "a live job is not kept", job.number)
        return answer

    def _check_pruned(self) -> None:
        """Only what is too old or too many is pruned, and that in time; nothing ends twice."""
        now = self.world.loop.time()
        most, age = self.retention.max_jobs, self.retention.max_age
        for ended, job, last in self._endings:
            self.world.require(last == job.log.last, "an event after the end", job.number)
            kept = self.world.kept(job)
            too_old = age is not None and ended + age <= now
            running = self.world.runner.stats().state == "running"
            self.world.require(not (kept and too_old and running), "an old job", job.number)
            if not kept and job.id not in self.world.forgotten and not too_old:
                newer = sum(other >= ended for other, *_ in self._endings) - 1
                self.world.require(most is not None and newer >= most, "pruned", job.number)

    def at_end(self) -> None:
        """Check the history of every job and of every stream."""
        for job in self.world.jobs:
            self.world.require(job.is_final, "a job never ended", job.number, job.status)
            fair = _resists(job) or self.world.torn or not _is_stuck(job)
            self.world.require(fair, "an obedient handler is given up", job.number)
            self._check_caps(job)
            self._check_history(job, job.log.read(0).events)
        for stream in self.world.streams:
            self._check_stream(stream)

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
        asked = self.world.never_again.get(job.id)
        wanted = asked is not None or job.status is not JobStatus.CANCELLED
        self.world.require(wanted, "cancelled by nobody", job.number)
        if asked is not None and job.finished_at is not None:
            late = job.finished_at - unix_now() + self.world.loop.time() - asked
            self.world.require(late <= 2 * self.grace + EPSILON, "stopped late", job.number, late)
            reason = (
                None if job.status is not JobStatus.FAILED or not job.error else job.error.reason
            )
            self.world.require(reason in AFTER_CANCEL, "not cancelled", job.number, reason)

    def _check_transition(self, job: Job, one: Event, two: Event) -> None:
        require = self.world.require
        was, status = JobStatus(one.data["status"]), JobStatus(two.data["status"])
        legal = status in TRANSITIONS[was] and was is not status
        require(legal, "illegal transition", job.number, was, status)
        before, attempt = one.data.get("attempt", 0), two.data.get("attempt", None)
        if status is JobStatus.RUNNING:
            require(attempt == before + 1 <= job.max_attempts, "attempt", job.number, attempt)
            require(two.at >= _due_at(job, one) - EPSILON, "started early", job.number)
        elif status is JobStatus.PENDING:
            require(attempt == before - 1, "the attempt is not given back", job.number)
        if was is JobStatus.RUNNING and job.timeout is not None:
            took = two.at - one.at
            require(took <= job.timeout + 2 * self.grace + EPSILON, "ran too long", job.number)
            late = status is JobStatus.COMPLETED and took > job.timeout + EPSILON
            excused = job.id in self.world.never_again or self.world.stops_between(one.at, two.at)
            require(not late or excused, "completed late", job.number)

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

    def nothing_left(self) -> None:
        """Check that of the runner's tasks only those of stuck jobs are left."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        ours = [task for task in others if not _is_clients(task)]
        stuck = {job.id for job in self.world.jobs if _is_stuck(job) and _resists(job)}
        stray = [task.get_name() for task in ours if task.get_name() not in stuck]
        self.world.require(not stray, "tasks are left", stray)
        declared = self.world.runner.stats().stuck
        self.world.require(len(ours) <= declared, "more tasks than stuck", len(ours), declared)


def _is_clients(task: "asyncio.Task[Any]") -> bool:
    """Whether a client owns it, or the loop does, which closes a generator that a client left."""
    closing = type(task.get_coro()).__name__ == "async_generator_athrow"
    return closing or task.get_name() == "client"


def _same(kept: Job, job: Job) -> bool:
    """Whether the store has the job: the record while it is live, one like it afterwards."""
    if not job.log.closed:
        return kept is job
    logs = [(it.log.first, it.log.closed, it.log.read()) for it in (kept, job)]
    return kept is not job and view(kept) == view(job) and logs[0] == logs[1]


def _is_stuck(job: Job) -> bool:
    return job.error is not None and job.error.type == "Stuck"


def _resists(job: Job) -> bool:
    return job.metadata is not None and job.metadata["plan"] in RESISTING


def _is_due(job: Job) -> bool:
    if job.status not in WAITING:
        return False
    due = job.run_at if job.status is JobStatus.PENDING else job.next_attempt_at
    return due is None or due <= unix_now() - EPSILON


def _due_at(job: Job, before: Event) -> float:
    told = before.data.get("next_attempt_at")
    if told is not None:
        return datetime.fromisoformat(told).timestamp()
    return job.run_at or 0.0
