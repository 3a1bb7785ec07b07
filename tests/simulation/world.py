"""What a simulated scenario knows beside the runner: what was accepted, asked for and seen.

The runner's records are read through its public face; everything else here is counted from the
outside, so that the two can be compared.
"""

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobrunner import Event, JobGone, JobHandle, JobNotFound, JobRunner
from jobrunner.jobs import Job

from .loop import SimulatedLoop, unix_now

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="nobody")
"""Who submits; a handler must see its own submitter."""


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


@dataclass(eq=False)
class Wait:
    """A client that waits for jobs."""

    jobs: list[Job]
    enough: int

    @property
    def over(self) -> bool:
        return sum(job.is_final for job in self.jobs) >= self.enough


class World:
    """One scenario's surroundings.

    Args:
        seed: What everything is drawn from.
        fault_rate: How often the clock fails in a worker's or a job's task.
    """

    runner: JobRunner
    loop: SimulatedLoop

    def __init__(self, seed: int, fault_rate: float = 0.0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.fault_rate = fault_rate
        self.faulty = self.random.choice(("jobrunner worker", "job_"))
        self.faults = 0
        self.calm = False
        self.jobs: list[Job] = []
        self.handles: list[JobHandle[Any]] = []
        self.forgotten: set[str] = set()
        self.never_again: dict[str, float] = {}
        self.entered: dict[str, int] = {}
        self.active = 0
        self.ceiling = 0
        self.stops: list[float] = []
        self.torn = False
        self.streams: list[Stream] = []
        self.feeds: list[asyncio.Task[None]] = []
        self.waits: set[Wait] = set()
        self.gates: set[asyncio.Future[None]] = set()
        self.failures: list[str] = []
        self.trace: list[str] = []

    def require(self, held: bool, message: str, *values: object) -> None:
        """Note a broken invariant; it is raised at the end, when everything has been let go."""
        if not held:
            self.failures.append(f"{message} {values}")

    def now(self) -> float:
        """Return the time in unix seconds, or fail in the runner's hands now and then."""
        if self.fault_rate and not self.calm and self.random.random() < self.fault_rate:
            task = asyncio.current_task()
            if task is not None and task.get_name().startswith(self.faulty):
                self.faults += 1
                raise FaultyClock
        return unix_now()

    def accepted(self, handle: JobHandle[Any]) -> None:
        """Note a new job."""
        self.handles.append(handle)
        self.jobs.append(self.runner.record(handle.id))

    def kept(self, job: Job) -> bool:
        """Return whether the runner still has the job."""
        try:
            self.runner.record(job.id)
        except (JobGone, JobNotFound):
            return False
        return True

    def pick(self, random: Random) -> JobHandle[Any] | None:
        """Draw one of the last few jobs."""
        return random.choice(self.handles[-8:]) if self.handles else None

    async def gate(self) -> None:
        """Wait until the faults stop."""
        if self.calm:
            return
        gate = self.loop.create_future()
        self.gates.add(gate)
        try:
            await gate
        finally:
            self.gates.discard(gate)

    def release(self) -> None:
        """Have the faults stop: what hangs goes on, and nothing new hangs."""
        self.calm = True
        for gate in list(self.gates):
            if not gate.done():
                gate.set_result(None)

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
