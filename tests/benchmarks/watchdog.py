"""What the watchdog costs a loop that is saturated with empty jobs.

It is so little that only a close comparison shows it: both runners in one process, in turn, many
times, and of each pair of turns the ratio.
"""

import asyncio
import statistics
import time

from jobrunner import JobRunner

from .peers import echo
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way


async def compare(jobs: int, turns: int) -> Figures:
    """Run `jobs` in each turn, with and without it, and begin with the other one each time."""
    async with _runner(watchdog=0.25) as watched, _runner(watchdog=None) as unwatched:
        both = [watched, unwatched]
        rates: dict[JobRunner, list[float]] = {runner: [] for runner in both}
        for turn in range(turns + 1):
            for runner in both if turn % 2 else reversed(both):
                rates[runner].append(await _rate(runner, jobs))
    pairs = list(zip(rates[watched][1:], rates[unwatched][1:], strict=True))
    return {
        "with": statistics.median(one for one, _ in pairs),
        "without": statistics.median(two for _, two in pairs),
        "share": statistics.median(one / two for one, two in pairs),
    }


def _runner(*, watchdog: float | None) -> JobRunner:
    runner = JobRunner(watchdog=watchdog)
    runner.job("echo")(echo)
    return runner


async def _rate(runner: JobRunner, jobs: int) -> float:
    began = time.perf_counter()
    for n in range(jobs):
        await runner.submit("echo", {"n": n})
    await runner.drain()
    return jobs / (time.perf_counter() - began)


def _measure(sizes: Sizes) -> Figures:
    return asyncio.run(compare(sizes["jobs"], sizes["turns"]))


PART = Part(
    name="watchdog",
    title="Watchdog",
    figures=[
        Figure("with", "jobs per second with the watchdog"),
        Figure("without", "jobs per second with watchdog=None"),
        Figure("share", "jobs per second with the watchdog, of those without"),
    ],
    ways=[Way(OURS, _measure)],
    sizes={"jobs": 2_000, "turns": 12},
    goals=[Goal("share", least=0.98)],
    rounds=3,
)
