"""Measure the page in Chromium: how long its frames take with many jobs and events.

    python -m tests.benchmarks.page                  10,000 jobs, 200 events a second
    python -m tests.benchmarks.page --seconds 30

Needs `chromium` and the package `playwright`. A frame is the time between two callbacks of
`requestAnimationFrame`: 16.7 ms when nothing is late. A long task is 50 ms of work
without a stop, and CPU the share of time for which the page's main thread works.
"""

import argparse
import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from jobrunner import JobContext, JobRunner
from jobrunner.server import serving

from ..paged import Tab, browsing, open_tab

WALKERS = 16
FRAMES = """
(seconds) => new Promise((resolve) => {
  const frames = [], tasks = [];
  const watcher = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) tasks.push(entry.duration);
  });
  watcher.observe({type: "longtask"});
  const begun = performance.now();
  let last = begun;
  const next = (now) => {
    frames.push(now - last);
    last = now;
    if (now - begun < seconds * 1000 || frames.length < 5) requestAnimationFrame(next);
    else setTimeout(() => { watcher.disconnect(); resolve([frames.slice(2), tasks]); }, 100);
  };
  requestAnimationFrame(next);
})
"""
SCROLL = """
() => {
  const grid = document.querySelector(".grid");
  let down = true;
  const next = () => {
    grid.scrollTop += down ? 300 : -300;
    if (grid.scrollTop < 300) down = true;
    if (grid.scrollTop + grid.clientHeight + 300 > grid.scrollHeight) down = false;
    if (grid.isConnected) requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}
"""
Act = Callable[[Tab], Awaitable[None]]


async def every(seconds: float) -> AsyncIterator[int]:
    """Count up once in so many seconds, also after one that came late."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for n in range(10_000_000):
        yield n
        await asyncio.sleep(begun + (n + 1) * seconds - loop.time())


def make_runner(rate: float) -> JobRunner:
    """Return a runner of which sixteen jobs make most of the events, and short ones the others."""
    runner = JobRunner(workers=WALKERS + 4, shutdown_timeout=0.0)

    @runner.job
    async def echo(value: int) -> int:
        return value

    @runner.job(timeout=None)
    async def walk(ctx: JobContext, name: str) -> None:
        async for step in every(WALKERS / rate / 0.7):
            ctx.step(step % 1_000 + 1, 1_000, f"{name} at {step}")
            ctx.emit(f"{name} says \x1b[32m{step}\x1b[0m\n")

    return runner


async def fill(runner: JobRunner, jobs: int) -> str:
    """Have that many jobs that have ended, and sixteen that walk; return the id of one of them."""
    for n in range(jobs - WALKERS):
        await runner.submit("echo", {"value": n}, session_id=f"session {n % 20}")
        if n % 200 == 199:
            await asyncio.sleep(0)
    ids = [(await runner.submit("walk", {"name": f"walker {n}"})).id for n in range(WALKERS)]
    return ids[0]


async def trickle(runner: JobRunner, rate: float) -> None:
    """Submit short jobs, which make three events each, for the rest of the rate."""
    async for n in every(3 / (rate * 0.3)):
        await runner.submit("echo", {"value": n})


async def typed(tab: Tab) -> None:
    """Search for something that every tenth job has."""
    await tab.page.get_by_role("searchbox").fill("session 1")


async def busy(session: Any) -> float:
    """Return for how many seconds the page's main thread has worked so far."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(sum(each["value"] for each in metrics if each["name"] == "TaskDuration"))


async def measure(tab: Tab, name: str, seconds: float, act: Act | None = None) -> None:
    """Measure the frames of some seconds, and print what they were."""
    if act is not None:
        await act(tab)
    await asyncio.sleep(1)
    session = await tab.page.context.new_cdp_session(tab.page)
    await session.send("Performance.enable")
    before = await busy(session)
    frames, tasks = await tab.page.evaluate(FRAMES, seconds)
    spent = await busy(session) - before
    cut = statistics.quantiles(frames, n=100)
    print(f"{name:28} {cut[49]:7.1f} {cut[94]:7.1f} {cut[98]:7.1f} {max(frames):7.1f}"
          f" {sum(frame >= 50 for frame in frames):5} {len(tasks):5}"
          f" {100 * spent / seconds:6.1f} %")  # fmt: skip


async def main(jobs: int, rate: float, seconds: float) -> None:
    """Serve, open the page, and measure it in several uses."""
    runner = make_runner(rate)
    async with serving(runner) as server, browsing() as context:
        walker = await fill(runner, jobs)
        tab = await open_tab(context, server.url, server.token)
        await tab.page.locator(".count").get_by_text("0 jobs").wait_for()
        async with asyncio.TaskGroup() as group:
            submitting = group.create_task(trickle(runner, rate))
            before = runner.feed().last
            await asyncio.sleep(2)
            made = (runner.feed().last - before) / 2
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
                  f"{jobs:,} jobs, {made:.0f} events a second\n")  # fmt: skip
            print(
                f"{'frames in ms':28} {'median':>7} {'95 %':>7} {'99 %':>7} {'max':>7} >=50  long"
            )

            async def scroll(tab: Tab) -> None:
                await tab.page.evaluate(SCROLL)

            async def job(tab: Tab) -> None:
                await tab.go(f"jobs/{walker}")

            await measure(tab, "the list", seconds)
            await measure(tab, "narrowed down by a text", seconds, typed)
            await tab.page.get_by_role("searchbox").fill("")
            await measure(tab, "while it is scrolled", seconds, scroll)
            await measure(tab, "a job that goes on", seconds, job)
            submitting.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each use")
    given = parser.parse_args()
    asyncio.run(main(given.jobs, given.rate, given.seconds))
