"""Measure what finished jobs cost, a million of them by default.

    python -m tests.benchmarks.memory [--jobs 1000000] [--over 10000] [--few 1000]

It runs `--jobs` trivial jobs through a runner that keeps them all, takes the growth of resident
memory, then runs `--over` more and looks that exactly the newest are kept. Then it times what
readers do, beside a runner that keeps few. The collector's pauses are those of the whole run.
"""

import argparse
import asyncio
import gc
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jobrunner import JobNotFound, JobRunner, Limits, Retention
from jobrunner.jobs import FINAL

PORTION = 1_000
"""Jobs in flight together."""
ROUNDS = 2_000
"""How often each reader's call is timed."""


class Pauses:
    """Takes the longest collection of each generation, by the clock and in time of this thread.

    Where others share the machine, the clock shows their turns too.
    """

    def __init__(self) -> None:
        self.longest = dict.fromkeys(range(3), (0.0, 0.0))
        self._began = (0.0, 0.0)

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter(), time.thread_time()
        if phase == "start":
            self._began = now
            return
        known = self.longest[info["generation"]]
        clock, own = (two - one for one, two in zip(self._began, now, strict=True))
        self.longest[info["generation"]] = max(known[0], clock), max(known[1], own)


async def main() -> None:
    """Measure everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--over", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1_000)
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {given.jobs:,} finished jobs\n", flush=True)
    print("| | |\n| --- | ---: |", flush=True)
    async with make_runner(given.few) as few, make_runner(given.jobs) as many:
        await run(few, given.few + 100)
        pauses = Pauses()
        gc.callbacks.append(pauses)
        await fill(many, given.jobs)
        await overfill(many, given.jobs, given.over)
        gc.collect()
        gc.callbacks.remove(pauses)
        for generation, (clock, own) in pauses.longest.items():
            title = f"longest collection of generation {generation}, ms (own time)"
            row(title, f"{1e3 * clock:.1f} ({1e3 * own:.1f})")
        await compare(few, many)


async def fill(runner: JobRunner, count: int) -> None:
    """Run as many jobs as are kept, and say what each of them costs."""
    gc.collect()
    before, began = resident(), time.perf_counter()
    await run(runner, count)
    took = time.perf_counter() - began
    gc.collect()
    grown = resident() - before
    row("growth of resident memory, MB", f"{grown / 1e6:,.1f}")
    row("bytes for each job", f"{grown / count:.0f}")
    row("jobs per second", f"{count / took:,.0f}")


async def overfill(runner: JobRunner, count: int, over: int) -> None:
    """Run more than are kept, and look whether it is the newest that are there."""
    before, most = resident(), 0
    for _ in range(0, over, 100):
        await run(runner, 100)
        most = max(most, sum(runner.stats().jobs[status] for status in FINAL))
    page = await runner.list(limit=1)
    newest = runner.record(page.jobs[0].job_id).number
    row("most jobs kept", f"{most:,}")
    row("kept and pruned in the end", f"{kept(runner):,} and {runner.stats().pruned:,}")
    row("number of the newest", f"{newest:,}")
    row(f"growth over {over:,} more jobs, MB", f"{(resident() - before) / 1e6:,.1f}")
    assert (most, newest) == (count, count + over)


def kept(runner: JobRunner) -> int:
    """Return how many jobs the runner knows."""
    return sum(runner.stats().jobs.values())


async def compare(few: JobRunner, many: JobRunner) -> None:
    """Time what readers do, and one prune, in turn on both."""
    print(f"\n| µs, medians of {ROUNDS} | {kept(few):,} kept | {kept(many):,} kept | ratio |")
    print("| --- | ---: | ---: | ---: |", flush=True)
    ids = {runner: await some_ids(runner) for runner in (few, many)}

    async def get(runner: JobRunner, i: int) -> None:
        await runner.get(ids[runner][i % len(ids[runner])])

    async def page(runner: JobRunner, _: int) -> None:
        await runner.list(limit=10)

    async def filtered(runner: JobRunner, _: int) -> None:
        await runner.list(limit=10, type="echo", status="completed")

    async def unknown(runner: JobRunner, i: int) -> None:
        try:
            await runner.get(f"job_{i}")
        except JobNotFound:
            return

    async def run_and_prune(runner: JobRunner, i: int) -> None:
        handle = await runner.submit("echo", {"n": i})
        await handle.wait()

    for call in (get, page, filtered, unknown, run_and_prune):
        one, two = await medians(call, few, many)
        print(f"| {call.__name__} | {one:.1f} | {two:.1f} | {two / one:.2f} |", flush=True)


async def medians(
    call: Callable[[JobRunner, int], Awaitable[None]], *runners: JobRunner
) -> list[float]:
    """Return the median times of the calls in µs, taken in turn."""
    taken: list[list[float]] = [[] for _ in runners]
    for i in range(ROUNDS):
        for runner, seconds in zip(runners, taken, strict=True):
            began = time.perf_counter()
            await call(runner, i)
            seconds.append(time.perf_counter() - began)
    return [1e6 * statistics.median(seconds) for seconds in taken]


async def some_ids(runner: JobRunner) -> list[str]:
    """Return ids of the newest jobs."""
    ids: list[str] = []
    cursor = None
    while len(ids) < 500:
        page = await runner.list(limit=100, cursor=cursor)
        ids += [view.job_id for view in page.jobs]
        cursor = page.next_cursor
    return ids


def make_runner(count: int) -> JobRunner:
    """Return a runner that keeps `count` jobs, with one type."""
    retention = Retention(max_jobs=count, max_age=None, max_bytes=None)
    runner = JobRunner(workers=10, retention=retention, limits=Limits(max_feed=1_000))

    @runner.job
    async def echo(n: int) -> int:
        return n

    return runner


async def run(runner: JobRunner, count: int) -> None:
    """Run jobs to their end, and hold on to none."""
    left = count
    while left > 0:
        for number in range(min(left, PORTION)):
            await runner.submit("echo", {"n": left - number})
        await runner.drain()
        left -= PORTION


def row(title: str, figure: Any) -> None:
    """Print a line of the table."""
    print(f"| {title} | {figure} |", flush=True)


def resident() -> int:
    """Return the resident memory of this process in bytes; Linux only."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    asyncio.run(main())
