"""What a simulated scenario knows beside the runner: what was accepted, asked for and seen.

The runner's records are read through its public face; everything else here is counted from the
outside, so that the two can be compared.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobrunner import Event, JobContext, JobGone, JobHandle, JobNotFound, JobRunner, JobStatus
from jobrunner.jobs import Job
from jobrunner.options import TypeOptions

from .faults import Faults
from .loop import EPOCH, SimulatedLoop, unix_now

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="nobody")
"""Who submits; a handler must see its own submitter."""
WAITING = (JobStatus.PENDING, JobStatus.RETRYING)


class FaultyClock(Exception):
    """Raised by the clock: stands for any fault of the runner's own (T17)."""


@dataclass(eq=False)
class Stream:
    """A client that follows a job's events."""

    job: Job
    after: int
    slow: bool
    seen: list[Event] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    given_up: bool = False

    @property
    def last(self) -> int:
        """Number of the newest event that it saw."""
        return self.seen[-1].seq if self.seen else self.after

    def give_up(self) -> None:
        """Follow no further."""
        assert self.task is not None
        self.given_up = True
        self.task.cancel()


@dataclass(eq=False)
class Wait:
    """A client that waits for jobs."""

    jobs: list[Job]
    enough: int

    @property
    def over(self) -> bool:
        return sum(job.is_final for job in self.jobs) >= self.enough


@dataclass(eq=False)
class Ticket:
    """A client that waits for room, in a line with others of its type."""

    until: float
    """When its time is over, on the loop's clock."""
    task: "asyncio.Task[Any]"


@dataclass(eq=False)
class Run:
    """One attempt, as it looks from outside. Times are on the loop's clock."""

    attempt: int
    began: float
    signs: list[float] = field(default_factory=list)
    extended: float = 0.0
    asked: float = 0.0
    """Seconds for which a person was asked, or a worker waited for, until `asks_since`."""
    asks: int = 0
    """How many ask now, less those that do something of their own meanwhile."""
    asks_since: float = 0.0

    def own(self, now: float) -> float:
        """Return the time on the clock that its limits go by, which no asking moves."""
        return now - self.asked - (now - self.asks_since if self.asks > 0 else 0.0)

    def ask(self, more: int, now: float) -> None:
        """Have so many more ask from now on."""
        if self.asks > 0:
            self.asked += now - self.asks_since
        self.asks += more
        self.asks_since = now

    def silence(self, end: float) -> float:
        """Return the longest time without a sign of life, until `end`."""
        times = [self.began, *self.signs, end]
        return max(b - a for a, b in itertools.pairwise(times))


class World:
    """One scenario's surroundings.

    Args:
        seed: What everything is drawn from.
    """

    runner: JobRunner
    loop: SimulatedLoop

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.trace: list[str] = []
        self.faults = Faults(seed, self.trace.append)
        self.broken = 0
        """How often the clock failed in the runner's hands."""
        self.jobs: list[Job] = []
        self.handles: list[JobHandle[Any]] = []
        self.joined: dict[str, set[str]] = {}
        """Idempotency keys of submits that joined a job."""
        self.forgotten: set[str] = set()
        self.never_again: dict[str, float] = {}
        self.resisting: set[str] = set()
        self.options: dict[str, TypeOptions] = {}
        self.runs: dict[str, Run] = {}
        self.entered: dict[str, int] = {}
        self.asking: dict[str, int] = {}
        """Jobs whose handlers are asking, and how often at once."""
        self.notifying: set[str] = set()
        """Those of them that have their workers, and do something by themselves."""
        self.answered: dict[tuple[str, str], object] = {}
        """The answer that a question was given, by job and question."""
        self.active = 0
        self.ceiling = 0
        self.stops: list[float] = []
        self.resumed = -1
        """The loop's step in which the runner was last resumed."""
        self.torn = False
        self.streams: list[Stream] = []
        self.feeds: list[asyncio.Task[None]] = []
        self.waits: list[Wait] = []
        self.lines: defaultdict[str, list[Ticket]] = defaultdict(list)
        self.hidden_submits = 0
        """Calls under way that may have made jobs which nobody has a handle on yet."""
        self.told: Counter[str] = Counter()
        self.gates: dict[asyncio.Future[None], None] = {}
        self.failures: list[str] = []

    @property
    def calm(self) -> bool:
        """Whether the faults have stopped: nothing hangs any more."""
        return self.faults.calm

    def require(self, held: bool, message: str, *values: object) -> None:
        """Note a broken invariant; it is raised at the end, when everything has been let go."""
        if not held:
            self.failures.append(f"{message} {values}")

    def now(self) -> float:
        """Return the time in unix seconds, or fail in the runner's hands now and then."""
        active = self.faults.active
        if "clock.loop" in active or "clock.job" in active:
            task = asyncio.current_task()
            place = "clock.loop" if task is None else "clock.job"
            ours = task is None or task.get_name()[:4] == "job_"
            if ours and self.faults.strikes(place):
                self.broken += 1
                raise FaultyClock
        return unix_now()

    def accepted(self, handle: JobHandle[Any]) -> None:
        """Note a new job."""
        if self.hidden_submits:
            self.discover()
            return
        self.handles.append(handle)
        self.jobs.append(self.runner.record(handle.id))

    def discover(self) -> None:
        """Note the new jobs of calls that haven't returned yet."""
        page = self.runner.page(limit=200)
        for job in reversed(page.jobs):
            if job.number > len(self.jobs):
                self.handles.append(self.runner.handle(job.id))
                self.jobs.append(job)

    def kept(self, job: Job) -> bool:
        """Return whether the runner still has the job."""
        try:
            self.runner.record(job.id)
        except (JobGone, JobNotFound):
            return False
        return True

    def names(self, job: Job) -> set[str]:
        """Return the idempotency keys that stand for the job."""
        joined = self.joined.get(job.id, set())
        return joined if job.idempotency_key is None else {*joined, job.idempotency_key}

    def pick(self, random: Random) -> JobHandle[Any] | None:
        """Draw one of the last few jobs."""
        return random.choice(self.handles[-8:]) if self.handles else None

    def job_of(self, handle: JobHandle[Any]) -> Job:
        """Return the handle's job, kept or not."""
        return self.jobs[self.handles.index(handle)]

    def live(self, type_name: str | None = None, key: str | None = None) -> list[Job]:
        """Return the jobs that haven't ended, of one type and of one concurrency key."""
        return [
            job
            for job in self.jobs
            if not job.is_final
            and type_name in (None, job.type)
            and key in (None, job.concurrency_key)
        ]

    def full(self, type_name: str, less: list[Job] | None = None) -> bool:
        """Return whether there is no room for a job of the type.

        Args:
            less: Jobs that would make room.
        """
        limits, most = self.runner.limits, self.options[type_name].max_pending
        live = self.live()
        freed = [job for job in less or () if job.status in WAITING]
        waiting = [job for job in live if job.status in WAITING and job not in freed]
        of_type = sum(job.type == type_name for job in waiting)
        size = sum(len(job.params) for job in live if job not in freed)
        return (
            len(waiting) >= limits.max_pending
            or (most is not None and of_type >= most)
            or size >= limits.max_live_bytes
        )

    def shut(self, type_name: str) -> bool:
        """Return whether one who comes now finds no room, or others who wait for it."""
        return self.full(type_name) or bool(self.lines[type_name])

    def sign(self, ctx: JobContext) -> None:
        """Note that a handler says something; call it just before."""
        if (run := self._run(ctx)) is not None:
            run.signs.append(run.own(self.loop.time()))

    def without_worker(self) -> list[Job]:
        """Return the running jobs whose handlers may be waiting for a worker."""
        waiting = self.asking.keys() - self.notifying
        return [j for j in self.jobs if j.id in waiting and j.status is JobStatus.RUNNING]

    def has_worker(self, job: Job) -> bool:
        """Return whether the job's handler has a worker for sure."""
        asks = job.id in self.asking and job.id not in self.notifying
        return not asks and (job.status is JobStatus.RUNNING or job.id in self.notifying)

    @contextmanager
    def asks(self, ctx: JobContext) -> Iterator[None]:
        """A handler asks: the time that this takes is nobody's."""
        run = self._run(ctx) or Run(ctx.attempt, self.loop.time())
        self.asking[ctx.job_id] = self.asking.get(ctx.job_id, 0) + 1
        run.ask(1, self.loop.time())
        try:
            yield
        finally:
            self.asking[ctx.job_id] -= 1
            if not self.asking[ctx.job_id]:
                del self.asking[ctx.job_id]
            run.ask(-1, self.loop.time())
            run.signs.append(run.own(self.loop.time()))

    @contextmanager
    def works_on(self, ctx: JobContext) -> Iterator[None]:
        """A handler that asks does something by itself: this takes its own time."""
        run = self._run(ctx) or Run(ctx.attempt, self.loop.time())
        run.ask(-1, self.loop.time())
        self.notifying.add(ctx.job_id)
        try:
            yield
        finally:
            run.ask(1, self.loop.time())
            self.notifying.remove(ctx.job_id)

    def extended(self, ctx: JobContext, seconds: float) -> None:
        """Note that a handler gets more time; call it just before."""
        if not ctx.cancel_requested and (run := self._run(ctx)) is not None:
            run.extended += seconds

    def _run(self, ctx: JobContext) -> Run | None:
        """Return the attempt if it isn't over; its handler may say something as it is begun."""
        run = self.runs.get(ctx.job_id)
        current = asyncio.current_task()
        if current is not None and current.get_name() == ctx.job_id:
            if run is None or run.attempt < ctx.attempt:
                run = self.runs[ctx.job_id] = Run(ctx.attempt, self.loop.time())
        return run if run is not None and run.attempt == ctx.attempt else None

    async def gate(self) -> None:
        """Wait until the faults stop."""
        if self.calm:
            return
        gate = self.loop.create_future()
        self.gates[gate] = None
        try:
            await gate
        finally:
            del self.gates[gate]

    def release(self) -> None:
        """Have the faults stop: what hangs goes on, and nothing new hangs."""
        self.faults.calm = True
        for gate in list(self.gates):
            if not gate.done():
                gate.set_result(None)

    def resume(self) -> None:
        """Have jobs started again, and remember when: it may be paused again in the same step."""
        self.resumed = self.loop.steps
        self.runner.resume()

    def resize(self, workers: int) -> None:
        """Change the number of workers; what runs above it may go on, but no more may start."""
        self.ceiling = max(workers, self.runner.stats().busy)
        self.runner.resize(workers)

    def stops_between(self, start: float, end: float) -> bool:
        """Whether the runner was told to stop meanwhile, in unix seconds."""
        return any(start <= stop <= end for stop in self.stops)

    async def bounded(self, action: Awaitable[object], seconds: float, name: str) -> None:
        """Await `action`, a way to stop, which has to end within `seconds`."""
        self.stops.append(unix_now())
        began = self.loop.time()
        await action
        self.require(self.loop.time() - began <= seconds + 1e-6, f"{name} took too long", began)


def on_loop(unix: float | None) -> float | None:
    """Return unix seconds as a time on the loop's clock."""
    return None if unix is None else unix - EPOCH
