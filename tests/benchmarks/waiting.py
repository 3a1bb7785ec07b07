"""Many jobs that wait for a person: what each of them holds, and what they cost the others.

python -m tests.benchmarks.waiting              10,000 of them, and 3 workers
python -m tests.benchmarks.waiting --jobs 100
"""

import argparse
import asyncio
import gc
import os
import time
from pathlib import Path
from typing import NamedTuple

from jobrunner import JobContext, JobRunner, JobStatus, Limits, Retention

OTHERS = 2_000
"""Other jobs that are run, with and without those that wait."""
ROUNDS = 5


class Waiting(NamedTuple):
    """What was measured."""

    bytes_each: float
    """Resident memory of a job that waits."""
    alone: float
    """Other jobs per second, without them."""
    beside: float
    """The same while they wait."""


async def ask(ctx: JobContext) -> bool:
    return await ctx.ask("Deploy?", schema=bool)


async def work() -> int:
    return 1


async def measure(jobs: int, others: int = OTHERS) -> Waiting:
    """Have so many jobs wait, and others run beside them."""
    kept = Retention(max_jobs=OTHERS)  # so that jobs are pruned all the time, alone and beside
    runner = JobRunner(workers=3, limits=Limits(max_aside=jobs), retention=kept)
    runner.job(ask)
    runner.job(work)
    async with runner:
        await _speed(runner, OTHERS)
        alone = max([await _speed(runner, others) for _ in range(ROUNDS)])
        before = _resident()
        waiting = [await runner.submit(ask) for _ in range(jobs)]
        while runner.stats().jobs[JobStatus.INPUT_REQUIRED] < jobs:  # noqa: ASYNC110  # to measure
            await asyncio.sleep(0)
        each = (_resident() - before) / jobs
        beside = max([await _speed(runner, others) for _ in range(ROUNDS)])
        for job in waiting:
            await job.answer(None, True)
        await runner.drain()
    return Waiting(each, alone, beside)


async def _speed(runner: JobRunner, others: int) -> float:
    began = time.perf_counter()
    jobs = [await runner.submit(work) for _ in range(others)]
    for job in jobs:
        await job.result()
    return others / (time.perf_counter() - began)


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.waiting")
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    found = asyncio.run(measure(jobs))
    print(f"{found.bytes_each:,.0f} bytes for each of {jobs:,} jobs that wait for an answer")
    print(
        f"other jobs per second: {found.alone:,.0f} without them, {found.beside:,.0f} beside them"
    )


if __name__ == "__main__":
    main()
