"""Where the CPU time of a job goes, step by step, beside what each step has to cost at least.

    python -m tests.benchmarks.profile [--jobs 100000] [--top 25] [--readme]

A timer interrupts a saturated runner some hundred times in a second of its CPU time, and each time
the innermost function of the package is noted. What a step has to cost is measured too, as the
cheapest known way to do what it must, by itself.
"""

import argparse
import asyncio
import contextvars
import gc
import marshal
import os
import signal
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json

import jobrunner
from jobrunner import JobRunner

from .peers import BareLoop, Pool, echo
from .readme import FIGURES, replace
from .results import this_machine
from .shape import python_version
from .tables import number, table

PACKAGE = Path(jobrunner.__file__).parent
INTERVAL = 0.001
"""Seconds between two looks; the system may take more."""
PORTION = 1_000
"""Jobs in flight together."""
COMMAND = "python -m tests.benchmarks.profile --readme"
LOOP = "the loop, and what is nobody's"


class Step(NamedTuple):
    """Something that a job needs, and the files in which it is done."""

    title: str
    files: tuple[str, ...]
    needs: tuple[str, ...]
    """What can't be spared, by name of a bare necessity."""


STEPS = [
    Step(
        "submit: options, params validated",
        ("submit_options", "options", "handlers", "signatures", "limits"),
        ("validation",),
    ),
    Step(
        "submit: the job made, its handle",
        ("runner", "submission", "handles", "steering", "lookup", "control"),
        ("id", "timestamp", "record", "context"),
    ),
    Step("the queue, gates, timers", ("queue", "gates", "timers"), ("queue", "deadline")),
    Step(
        "the attempt: a task, its limits, the handler",
        ("worker", "pool", "attempt", "context", "engines", "watchdog"),
        ("task",),
    ),
    Step(
        "the outcome: the result as JSON",
        ("outcomes", "endings", "results", "failures"),
        ("json",),
    ),
    Step(
        "the save: record, events, indexes",
        ("jobs", "store", "events", "views", "pages", "listing"),
        ("timestamp", "event", "event", "event"),
    ),
    Step("the final job packed", ("packing",), ("packed",)),
    Step(LOOP, (), ()),
]


@dataclass
class Profile:
    """What was seen of a run."""

    jobs: int
    cpu: float = 0.0
    """Seconds of CPU time."""
    collecting: float = 0.0
    """Seconds of it in the garbage collector."""
    samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each function was seen, by its file and its name."""

    def cost(self, samples: int) -> float:
        """Return microseconds for each job."""
        return 1e6 * self.cpu / self.jobs * samples / max(1, self.samples.total())

    def sample(self, number: int, frame: FrameType | None) -> None:
        """Note where the program stands: a signal handler."""
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
                self.samples[name, frame.f_code.co_qualname] += 1
                return
            frame = frame.f_back
        self.samples["", LOOP] += 1


async def profile_runner(jobs: int) -> Profile:
    """Take the samples of a runner that is saturated with empty jobs."""
    runner = JobRunner()
    runner.job("echo")(echo)
    async with runner:
        await _run(runner, jobs // 10)
        profile = Profile(jobs)
        with _sampling(profile), _collections(profile):
            began = time.process_time()
            await _run(runner, jobs)
            profile.cpu = time.process_time() - began
    return profile


async def _run(runner: JobRunner, jobs: int) -> None:
    for first in range(0, jobs, PORTION):
        for n in range(first, min(first + PORTION, jobs)):
            await runner.submit("echo", {"n": n})
        await runner.drain()


@contextmanager
def _sampling(profile: Profile) -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, profile.sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _collections(profile: Profile) -> Iterator[None]:
    began = 0.0

    def collecting(phase: str, info: Mapping[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
        else:
            profile.collecting += time.thread_time() - began

    gc.callbacks.append(collecting)
    try:
        yield
    finally:
        gc.callbacks.remove(collecting)


async def bare_cost(jobs: int) -> float:
    """Return the CPU time of a job in the bare loop, in µs."""
    pool: Pool = BareLoop(echo)
    await pool.start()
    began = time.process_time()
    for first in range(0, jobs, PORTION):
        for n in range(first, min(first + PORTION, jobs)):
            await pool.submit(n)
        await pool.drain()
    took = time.process_time() - began
    await pool.stop()
    return 1e6 * took / jobs


class _Params(BaseModel):
    n: int


class _Record:
    __slots__ = ("a", "b", "c", "d", "e", "f")

    def __init__(self) -> None:
        self.a = self.b = self.c = self.d = self.e = self.f = None


def necessities() -> dict[str, float]:
    """Return what each necessity costs in µs, done in the cheapest way there is."""
    pool, heap = bytearray(os.urandom(4_096)), [(n, n) for n in range(PORTION)]
    params, deadlines = {"n": 1}, dict.fromkeys(range(10), 0.0)
    context, validate = contextvars.copy_context(), _Params.__pydantic_validator__.validate_python

    def queue() -> None:
        heappush(heap, (500, 500))
        heappop(heap)

    def deadline() -> None:
        deadlines[10] = 1.0
        del deadlines[10]

    packed = (1, "echo", b"{}", 1.0, 2.0, 3.0, 1, 1, 600.0, None, b"1", (1.0, 2.0, 3.0), "cqrd")
    cheapest: dict[str, Callable[[], object]] = {
        "id": lambda: pool[:16].hex(),
        "timestamp": time.time,
        "validation": lambda: validate(params),
        "record": _Record,
        "context": context.copy,
        "queue": queue,
        "deadline": deadline,
        "json": lambda: to_json(1),
        "event": lambda: (1, "job", "status", 1.0, params),
        "packed": lambda: marshal.dumps(packed),
    }
    return {name: _fastest(call) for name, call in cheapest.items()} | {"task": _task()}


def _fastest(call: Callable[[], object]) -> float:
    return 1e6 * min(timeit.repeat(call, number=5_000, repeat=7)) / 5_000


def _task() -> float:
    """A task in a context of its own, run to its end while many are there."""

    async def main() -> float:
        loop, times = asyncio.get_running_loop(), []
        for _ in range(7):
            began = time.perf_counter()
            tasks = [loop.create_task(echo_once(), context=context.copy()) for _ in range(PORTION)]
            await asyncio.wait(tasks)
            times.append(time.perf_counter() - began)
        return 1e6 * min(times) / PORTION

    async def echo_once() -> int:
        return await echo(1)

    context = contextvars.copy_context()
    return asyncio.run(main())


def steps_table(profile: Profile, least: Mapping[str, float], bare: float) -> str:
    """Return the table of steps: what each has to cost, and what it costs now."""
    rows, known = [], {name for step in STEPS for name in step.files}
    for step in STEPS:
        seen = sum(n for (file, _), n in profile.samples.items() if _belongs(file, step, known))
        budget = sum(least[need] for need in step.needs)
        rows.append([step.title, number(budget), number(profile.cost(seen))])
    total = 1e6 * profile.cpu / profile.jobs
    rows.append(["**together**", number(sum(float(row[1]) for row in rows)), number(total)])
    collecting = 1e6 * profile.collecting / profile.jobs
    rows.append(["of it in the garbage collector", "0", number(collecting)])
    rows.append(["the bare loop, and all that a job may cost at 0.45 of it", number(bare / 0.45),
                 number(bare)])  # fmt: skip
    return table(["µs of CPU time for each job", "at least", "now"], rows)


def _belongs(file: str, step: Step, known: set[str]) -> bool:
    return file in step.files or (step.title == LOOP and file not in known)


def functions_table(profile: Profile, top: int) -> str:
    """Return the functions that take most, without what they call in the package."""
    rows = [
        [f"{file}: {name}" if file else name, number(profile.cost(seen))]
        for (file, name), seen in profile.samples.most_common(top)
    ]
    return table(["function, with what it calls outside of the package", "µs"], rows)


def main() -> None:
    """Profile, print both tables, and write the first where people read it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--readme", action="store_true")
    given = parser.parse_args()
    least = necessities()
    bare = asyncio.run(bare_cost(given.jobs))
    profile = asyncio.run(profile_runner(given.jobs))
    steps = steps_table(profile, least, bare)
    print(f"{steps}\n\n{functions_table(profile, given.top)}")
    if given.readme:
        machine = this_machine()
        where = f"{machine['date']}, Python {python_version()}, {machine['cpu']}"
        replace(FIGURES, f"{where}, load {machine['load']}.\n\n{steps}", COMMAND)


if __name__ == "__main__":
    main()
