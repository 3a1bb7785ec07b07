"""What has to hold in every scenario, at every step and whenever the world rests."""

import asyncio
from typing import Any

from jobrunner import JobGone, JobNotFound, JobStatus
from jobrunner.jobs import FINAL, Job
from jobrunner.limits import Limits, Retention
from jobrunner.views import view

from .bounds import Bounds
from .histories import is_stuck, resists
from .world import World


class Invariants:
    """Watches one scenario.

    Args:
        world: The scenario.
        retention: What its runner keeps.
        limits: What its runner takes.
        bounds: What watches over its live jobs.
    """

    def __init__(self, world: World, retention: Retention, limits: Limits, bounds: Bounds) -> None:
        self.world = world
        self.retention = retention
        self.limits = limits
        self.bounds = bounds
        self._compared: set[str] = set()

    def after_step(self) -> None:
        """Check what must hold between any two rounds of callbacks."""
        world, require = self.world, self.world.require
        stats = world.runner.stats()
        kept, gone = sum(stats.jobs.values()), stats.pruned
        if world.hidden_submits and kept + gone > len(world.jobs):
            world.discover()
        require(kept + gone == len(world.jobs), "counts", kept, gone, len(world.jobs))
        require(stats.busy <= max(stats.workers, world.ceiling), "too many run", stats)
        world.ceiling = min(world.ceiling, stats.busy)
        aside = len(world.asking)
        require(world.active <= stats.busy + stats.stuck + aside, "undeclared handlers", stats)
        require(0 <= stats.aside <= aside or world.broken > 0, "aside for nothing", stats)
        require(stats.stuck <= stats.stuck_total, "more stuck than ever", stats)
        self.bounds.look(stats.stuck, stats.paused)
        if not world.broken:
            running = stats.jobs[JobStatus.RUNNING]
            asks = sum(job.status is JobStatus.INPUT_REQUIRED for job in world.jobs)
            require(asks == stats.jobs[JobStatus.INPUT_REQUIRED], "asking", stats)
            fits = running - len(world.without_worker()) <= stats.busy <= running + asks
            require(fits, "running and busy", stats)
            finals = sum(stats.jobs[status] for status in FINAL)
            most = self.retention.max_jobs
            require(most is None or finals <= most, "more final jobs than kept", finals)

    def at_rest(self) -> None:
        """Check that nobody sleeps through anything: only the passing of time goes on."""
        world = self.world
        stats = world.runner.stats()
        free = stats.busy < stats.workers and stats.stuck < self.limits.max_stuck
        if stats.state == "running" and not stats.paused and free:
            due = self.bounds.startable()
            world.require(not due, "jobs could start and workers are idle", due, stats)
        if stats.state == "running":
            for name, line in world.lines.items():
                sleeps = bool(line) and not world.full(name)
                world.require(not sleeps or world.broken > 0, "there is room, and a line", name)
        for stream in world.streams:
            if not stream.slow and stream.task is not None and not stream.task.done():
                behind = stream.last < stream.job.log.last or stream.job.log.closed
                world.require(not behind, "a stream sleeps", stream.job.number, stream.last)
        if stats.state == "running" and not stats.paused and free and not world.broken:
            late = [job.number for job in world.without_worker() if self._is_free(job)]
            world.require(not late, "answered, and workers are idle", late, stats)
        for wait in world.waits:
            world.require(not wait.over, "a wait sleeps", [job.number for job in wait.jobs])
        self._check_gone()

    def _is_free(self, job: Job) -> bool:
        """Whether no limit of its type can keep the job from a worker."""
        options = self.world.options[job.type]
        free = options.max_concurrency is None and job.concurrency_key is None
        return free and job.cancel_requested_at is None and not self.world.faults.active

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
            if job.id not in self._compared:
                self.world.require(_same(record, job), "another job has the id", job.number)
                if job.log.closed:
                    self._compared.add(job.id)  # to compare all of it costs more than the rest
            return "kept"
        self.world.require(job.is_final, "a live job is not kept", job.number)
        return answer

    def _check_pruned(self) -> None:
        """Only what is too old or too many is pruned, and that in time; nothing ends twice."""
        now = self.world.loop.time()
        most, age = self.retention.max_jobs, self.retention.max_age
        for ended, job, last in self.bounds.endings:
            self.world.require(last == job.log.last, "an event after the end", job.number)
            kept = self.world.kept(job)
            too_old = age is not None and ended + age <= now
            running = self.world.runner.stats().state == "running"
            self.world.require(not (kept and too_old and running), "an old job", job.number)
            if not kept and job.id not in self.world.forgotten and not too_old:
                newer = sum(other >= ended for other, *_ in self.bounds.endings) - 1
                many = most is not None and newer >= most
                large = self.retention.max_bytes is not None and newer >= 1
                self.world.require(many or large, "pruned", job.number)

    def nothing_left(self) -> None:
        """Check that of the runner's tasks only those of stuck jobs are left."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        ours = [task for task in others if not _is_clients(task)]
        stuck = {job.id for job in self.world.jobs if self._is_left(job)}
        stray = [task.get_name() for task in ours if task.get_name() not in stuck]
        self.world.require(not stray, "tasks are left", stray)
        declared = self.world.runner.stats().stuck
        self.world.require(len(ours) <= declared, "more tasks than stuck", len(ours), declared)

    def _is_left(self, job: Job) -> bool:
        return is_stuck(job) and resists(self.world, job, self.bounds.grace)


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
