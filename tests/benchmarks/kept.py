"""Very many finished jobs: in how much memory, how exactly, and how long the collector takes."""

import asyncio
import gc
import time
from typing import Literal

from jobrunner import JobRunner, JobStatus, Retention

from .memory import PORTION
from .processes import resident
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way


class Pauses:
    """How long the garbage collector's turns take, while the block runs."""

    def __init__(self) -> None:
        self.longest = self.longest_cpu = 0.0
        """Seconds, and those of them in which the thread had the processor."""

    def __enter__(self) -> "Pauses":
        gc.callbacks.append(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._turn)

    def _turn(self, phase: Literal["start", "stop"], _: dict[str, int]) -> None:
        if phase == "start":
            self._began, self._began_cpu = time.perf_counter(), time.thread_time()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)
            self.longest_cpu = max(self.longest_cpu, time.thread_time() - self._began_cpu)


async def keep(kept: int, more: int) -> Figures:
    """Run as many jobs as may be kept, and some more, that others are pruned for."""
    runner = JobRunner(retention=Retention(max_jobs=kept, max_bytes=None, max_age=None))

    @runner.job
    async def echo(n: int) -> int:
        return n

    before = resident()
    async with runner:
        with Pauses() as pauses:
            for first in range(0, kept + more, PORTION):
                for n in range(first, min(first + PORTION, kept + more)):
                    await runner.submit(echo, {"n": n})
                await runner.drain()
        taken, stats = resident(), runner.stats()
    return {
        "resident": taken / 1e6,
        "grown": (taken - before) / 1e6,
        "surplus": stats.jobs[JobStatus.COMPLETED] - kept,
        "pruned": stats.pruned,
        "pause": pauses.longest * 1e3,
        "pause_cpu": pauses.longest_cpu * 1e3,
    }


def _measure(sizes: Sizes) -> Figures:
    return asyncio.run(keep(sizes["kept"], sizes["more"]))


PART = Part(
    name="kept",
    title="A million finished jobs",
    figures=[
        Figure("resident", "resident memory of the process, MB", less=True),
        Figure("grown", "of that, since before the first job, MB", less=True),
        Figure("surplus", "jobs kept above `Retention.max_jobs`", less=True),
        Figure("pruned", "jobs pruned"),
        Figure("pause", "longest pause of the garbage collector, ms", less=True),
        Figure("pause_cpu", "the same in CPU time, ms", less=True),
    ],
    ways=[Way(OURS, _measure)],
    sizes={"kept": 1_000_000, "more": 5_000},
    goals=[Goal("resident", most=400), Goal("surplus", most=0), Goal("pause", most=50)],
    rounds=3,
)
