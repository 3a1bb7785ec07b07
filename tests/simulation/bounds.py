"""What has to hold of limits: of types, keys and rates, of time, of silence."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from jobrunner import JobStatus
from jobrunner.jobs import Job

from .world import WAITING, Run, World, on_loop

BEGUN = (JobStatus.RUNNING, JobStatus.INPUT_REQUIRED)
"""Statuses of a job whose handler runs."""
EPSILON = 1e-3
"""Seconds within which two times are one: unix times are floats of 2e-7 s, ISO times of 1e-3 s."""


@dataclass(eq=False, slots=True)
class Tracked:
    """A live job, as it was when it was last looked at."""

    job: Job
    expires: float
    live_until: float
    """When it has to have ended, with what its handler has to stop."""
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0


class Bounds:
    """Watches the live jobs of one scenario.

    Args:
        world: The scenario.
        grace: Seconds that its handlers have to stop, twice.
    """

    def __init__(self, world: World, grace: float) -> None:
        self.world = world
        self.grace = grace
        self.live: list[Tracked] = []
        self.endings: list[tuple[float, Job, int]] = []
        """When each job ended, and the number of its last event then."""
        self._starts: defaultdict[str, list[float]] = defaultdict(list)
        self._seen = 0
        self._stuck, self._paused = 0, False

    def begin(self) -> None:
        """A runner that is entered again counts anew."""
        self._starts.clear()

    def look(self, stuck: int, paused: bool) -> None:
        """Look at all live jobs, after each step.

        Args:
            stuck: How many handlers are.
            paused: Whether no job may start.
        """
        world, now = self.world, self.world.loop.time()
        if self._seen < len(world.jobs):
            self.live.extend(self._tracked(job) for job in world.jobs[self._seen :])
            self._seen = len(world.jobs)
        changed = ended = False
        for tracked in self.live:
            job = tracked.job
            if job.status is not tracked.status or job.attempt != tracked.attempt:
                self._changed(tracked, now, stuck)
                changed = True
            ended = ended or job.log.closed
            if now > tracked.live_until and not job.log.closed:
                world.require(False, "alive after its deadline", job.number, now)
                tracked.live_until = math.inf
            elif now > tracked.expires and job.started_at is None and not job.log.closed:
                world.require(False, "alive after its expiry", job.number, now)
                tracked.expires = math.inf
        if changed and not world.broken:  # what a fault left running has given its place back
            self._check_concurrency()
        if ended:
            self._note_ends(now)
        self._stuck, self._paused = stuck, paused

    def _tracked(self, job: Job) -> Tracked:
        deadline, expires = on_loop(job.deadline_at), on_loop(job.expires_at)
        return Tracked(
            job,
            math.inf if expires is None else expires + EPSILON,
            math.inf if deadline is None else deadline + 2 * self.grace + EPSILON,
        )

    def _changed(self, tracked: Tracked, now: float, stuck: int) -> None:
        job, was, attempt = tracked.job, tracked.status, tracked.attempt
        tracked.status, tracked.attempt = job.status, job.attempt
        run = self.world.runs.get(job.id)
        if run is not None and (job.status not in BEGUN or run.attempt < job.attempt):
            del self.world.runs[job.id]
            if was in BEGUN:
                self._check_run(job, run, now)
        if job.status in BEGUN:
            self.world.runs.setdefault(job.id, Run(job.attempt, now))
        starts = job.attempt - attempt  # each may have ended at once
        if starts > 0 or (job.status is JobStatus.RUNNING and was not in BEGUN):
            for _ in range(max(1, starts)):
                self._check_start(tracked, now, stuck)
        elif job.status is JobStatus.FAILED and was in WAITING:
            self._check_missed(job, now)

    def _check_start(self, tracked: Tracked, now: float, stuck: int) -> None:
        job, require = tracked.job, self.world.require
        require(job.attempt > 1 or now <= tracked.expires, "started after its expiry", job.number)
        stuck = min(stuck, self._stuck)  # one may have ended in this step
        room = stuck < self.world.runner.limits.max_stuck
        require(room, "begun among too many stuck", job.number, stuck)
        paused = self._paused and self.world.runner.stats().paused
        paused = paused and self.world.resumed != self.world.loop.steps
        require(not paused, "started while all is paused", job.number)
        starts, rate = self._starts[job.type], self.world.options[job.type].rate
        starts.append(now)
        if rate is not None and len(starts) > rate.starts:
            apart = now - starts[-1 - rate.starts]
            require(apart >= rate.seconds - 1e-6, "too many starts", job.type, rate, apart)

    def _check_run(self, job: Job, run: Run, now: float) -> None:
        """An attempt is over: no limit was passed, and none struck too early."""
        world, end = self.world, run.own(now)
        reason = None
        if job.error is not None and job.error.attempt == run.attempt:
            reason = job.error.reason
        ends = {"timeout": job.timeout, "stalled": job.stall_timeout}
        measured = {"timeout": end - run.began - run.extended, "stalled": run.silence(end)}
        for name, limit in ends.items():
            if limit is not None:
                late = measured[name] > limit + 2 * self.grace + EPSILON
                world.require(not late, "ran on", name, job.number, measured[name])
                early = reason == name and measured[name] < limit - EPSILON
                world.require(not early, "stopped early", name, job.number, measured[name])
            else:
                world.require(reason != name, "a limit that nobody set", name, job.number)
        if reason == "deadline":
            self._check_missed(job, now)
        last = job.attempt == run.attempt  # or one after it has begun and ended in the same step
        if last and job.status is JobStatus.COMPLETED and not self._excused(job, run):
            self._check_in_time(job, run, now)

    def _check_in_time(self, job: Job, run: Run, now: float) -> None:
        limit, due = job.timeout, on_loop(job.deadline_at)
        over = limit is not None and run.own(now) - run.began > limit + run.extended + EPSILON
        missed = due is not None and now > due + EPSILON
        self.world.require(not over and not missed, "completed late", job.number, over, missed)

    def _excused(self, job: Job, run: Run) -> bool:
        """Whether it was asked to stop for another reason, and then returned a value."""
        stops = any((on_loop(stop) or 0.0) >= run.began for stop in self.world.stops)
        return stops or job.id in self.world.never_again

    def _check_missed(self, job: Job, now: float) -> None:
        """It failed for a limit of all its time: that was over, and not for long."""
        reason = job.error and job.error.reason
        if reason not in ("deadline", "expired"):
            return
        due = on_loop(job.deadline_at if reason == "deadline" else job.expires_at)
        late = self.grace * 2 if reason == "deadline" else 0.0
        fits = due is not None and due - EPSILON <= now <= due + late + EPSILON
        self.world.require(fits, "failed for a limit at another time", job.number, reason, now)
        begun = reason == "expired" and job.started_at is not None
        self.world.require(not begun, "expired after its start", job.number)

    def _check_concurrency(self) -> None:
        types: Counter[str] = Counter()
        keys: Counter[tuple[str, str, str | None]] = Counter()
        for tracked in self.live:
            job = tracked.job
            if self.world.has_worker(job):
                types[job.type] += 1
                if job.concurrency_key is not None:
                    keys[job.type, job.concurrency_key, job.owner] += 1
        for name, running in types.items():
            most = self.world.options[name].max_concurrency
            self.world.require(most is None or running <= most, "too many of a type", name)
        for (name, key, _), running in keys.items():
            most = self.world.options[name].max_per_key
            self.world.require(running <= most, "too many of a key", name, key)

    def _note_ends(self, now: float) -> None:
        ended = [tracked for tracked in self.live if tracked.job.log.closed]
        self.endings.extend((now, tracked.job, tracked.job.log.last) for tracked in ended)
        self.live = [tracked for tracked in self.live if not tracked.job.log.closed]

    def startable(self) -> list[int]:
        """Return the jobs that nothing holds back but the lack of a worker."""
        now = self.world.loop.time()
        return [t.job.number for t in self.live if _is_due(t.job, now) and self._pass(t.job, now)]

    def _pass(self, job: Job, now: float) -> bool:
        """Whether all gates of the job's type are open to it."""
        options = self.world.options[job.type]
        running = [t.job for t in self.live if self.world.has_worker(t.job)]
        alike = [other for other in running if other.type == job.type]
        if options.max_concurrency is not None and len(alike) >= options.max_concurrency:
            return False
        own = (job.concurrency_key, job.owner)
        of_key = sum((other.concurrency_key, other.owner) == own for other in alike)
        if job.concurrency_key is not None and of_key >= options.max_per_key:
            return False
        rate, starts = options.rate, self._starts[job.type]
        if rate is None or self.world.broken:  # what a fault has taken from a window is not seen
            return rate is None
        return len(starts) < rate.starts or starts[-rate.starts] + rate.seconds <= now - EPSILON


def _is_due(job: Job, now: float) -> bool:
    if job.status not in WAITING:
        return False
    due = on_loop(job.run_at if job.status is JobStatus.PENDING else job.next_attempt_at)
    return due is None or due <= now - EPSILON
