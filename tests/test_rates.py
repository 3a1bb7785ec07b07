"""How many attempts start in a time, several limits at once, and what limits cost."""

import asyncio
import time
from typing import Any

import pytest

from jobrunner import JobHandle, JobRunner, RetryPolicy
from jobrunner.gates import Gate
from jobrunner.jobs import FINAL, Job
from jobrunner.testing import simulate, unix_now, virtual_time
from tests.limited import Bench, key_of, living


@virtual_time
async def test_no_more_attempts_start_in_a_time_than_may() -> None:
    """A provider that allows three requests in ten seconds sees three in any ten seconds."""
    bench = Bench({"rate_limit": "3/10s"})
    async with bench.runner as runner:
        for _ in range(8):
            await bench.submit(seconds=1.0)
        await runner.drain()
    assert bench.starts == [0.0] * 3 + [10.0] * 3 + [20.0] * 2


@virtual_time
async def test_a_rate_is_no_matter_of_the_clocks_minutes() -> None:
    """Two bursts around the full minute would be twice the rate: the window slides."""
    bench = Bench({"rate_limit": "3/min"})
    async with bench.runner as runner:
        for at in (50.0, 55.0, 59.0):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            await bench.submit()
        for _ in range(4):
            await bench.submit()
        await runner.drain()
    assert bench.starts == [50.0, 55.0, 59.0, 110.0, 115.0, 119.0, 170.0]


@virtual_time
async def test_a_rate_counts_retries() -> None:
    """The provider counts requests, and doesn't know which of them are second ones."""
    runner = JobRunner(now=unix_now, seed=1, retry=RetryPolicy(max_attempts=3, base=0.0))
    starts: list[float] = []

    @runner.job(rate_limit="1/10s")
    async def failing() -> None:
        starts.append(asyncio.get_running_loop().time())
        raise OSError("again")

    async with runner:
        await runner.submit(failing)
        await runner.submit(failing)
        await runner.drain()
    assert [round(start) for start in starts] == [0, 10, 20, 30, 40, 50]


@virtual_time
async def test_a_waiting_job_that_is_cancelled_uses_up_no_start() -> None:
    """Starts are counted when they happen."""
    bench = Bench({"rate_limit": "1/10s"})
    async with bench.runner as runner:
        jobs = [await bench.submit(str(n)) for n in range(4)]
        await asyncio.sleep(1.0)
        await jobs[1].cancel()
        await jobs[2].cancel()
        await runner.drain()
    assert bench.starts == [0.0, 10.0]


@virtual_time
async def test_an_idle_time_saves_up_no_starts() -> None:
    """An hour without jobs is no credit for a burst."""
    bench = Bench({"rate_limit": "2/min"})
    async with bench.runner as runner:
        await bench.submit()
        await asyncio.sleep(3_600.0)
        for _ in range(3):
            await bench.submit()
        await runner.drain()
    assert bench.starts == [0.0, 3_600.0, 3_600.0, 3_660.0]


@virtual_time
async def test_an_urgent_job_is_the_first_when_the_window_opens() -> None:
    """Whenever it came."""
    bench = Bench({"rate_limit": "1/min"}, workers=1)
    async with bench.runner as runner:
        for name in ("first", "second"):
            await bench.submit(name)
        await asyncio.sleep(1.0)
        await bench.submit("urgent", priority=50)
        await runner.drain()
    assert bench.order == ["first", "urgent", "second"]


@virtual_time
async def test_a_rate_holds_in_a_runner_that_is_started_again() -> None:
    """T16: what would have opened the window has gone with the first life."""
    bench = Bench({"rate_limit": "1/10s"}, shutdown_timeout=0.0)
    for _ in range(2):
        async with bench.runner:
            jobs = [await bench.submit(seconds=1.0) for _ in range(3)]
            await jobs[1].wait(timeout=12.0)
    assert bench.starts == [0.0, 10.0, 11.0, 21.0]


# --- several gates ---
LIMITS = {"max_concurrency": 3, "concurrency_key": key_of, "max_per_key": 2, "rate_limit": "5/20s"}


@pytest.mark.parametrize("seed", range(20))
def test_jobs_that_pass_several_gates_never_wait_for_each_other(seed: int) -> None:
    """A job that took one gate and waited at the next would be half of a deadlock."""

    async def scenario() -> None:
        bench = Bench(LIMITS, workers=5)
        async with bench.runner as runner:
            jobs = [
                await bench.submit(str(n), "abc"[(n + seed) % 3], seconds=1.0 + n % 7,
                                   priority=n % 4, delay=float(n % 5))
                for n in range(40)
            ]  # fmt: skip
            for job in jobs[::6]:
                await asyncio.sleep(3.0)
                await job.cancel()
            await runner.drain(timeout=1_000.0)
        check_limits(bench)

    simulate(scenario, seed=seed)


def check_limits(bench: Bench) -> None:
    """Fail if a limit of `LIMITS` didn't hold, or a gate has stayed."""
    assert bench.most[None] <= 3
    assert max(bench.most[key] for key in "abc") <= 2
    starts = sorted(bench.starts)
    assert all(later - first >= 20.0 for first, later in zip(starts, starts[5:], strict=False))


@virtual_time
async def test_a_worker_is_never_idle_while_a_job_could_run() -> None:
    """Jobs of one key in front must not hide those of another behind them."""
    bench = Bench({"max_concurrency": 2, "concurrency_key": key_of})
    async with bench.runner as runner:
        for key in "aaaaaaaab":
            await bench.submit(key=key)
        await runner.drain()
    assert bench.starts == [0.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]


# --- cost ---
@pytest.mark.slow  # looks at every object that there is
@virtual_time
async def test_q10_a_key_that_nobody_uses_costs_nothing() -> None:
    """A key for each user, for years: what was for a job must go with it, however that ended."""
    bench = Bench({"concurrency_key": key_of, "max_concurrency": 50}, workers=50)
    before = living(Gate)
    async with bench.runner as runner:
        jobs: list[JobHandle[Any]] = [
            await bench.submit(key=f"user {n}", seconds=0.1, delay=float(n % 3), deadline=4.0)
            for n in range(400)
        ]
        for job in jobs[::5]:
            await job.cancel()
        await asyncio.sleep(0.2)
        runner.pause()
        await runner.drain()
        assert living(Gate) - before == 1  # the type's own
        counts = runner.stats().jobs
    assert min(counts[status] for status in FINAL) >= 50


@virtual_time
async def test_q10_a_key_whose_waiting_jobs_were_cancelled_costs_nothing() -> None:
    """They are passed over when the key's turn comes, and then nothing of it is left."""
    bench, before = Bench({"concurrency_key": key_of}), living(Gate)
    async with bench.runner as runner:
        await bench.submit(key="a")
        jobs = [await bench.submit(key="a") for _ in range(3)]
        await asyncio.sleep(1.0)
        for job in jobs[:2]:
            await job.cancel()
        await runner.drain()
        assert living(Gate) == before


@virtual_time
async def test_q10_cancelled_jobs_behind_a_gate_are_let_go() -> None:
    """Submits and cancels behind a gate that stays closed for hours must not stay in memory."""
    bench = Bench({"max_concurrency": 1})
    async with bench.runner:
        await bench.submit(seconds=3_600.0)
        await bench.submit("kept")
        await asyncio.sleep(1.0)
        before = living(Job)
        for _ in range(300):
            await (await bench.submit()).cancel()
        assert living(Job) - before <= 65
        await bench.runner.drain()
    assert bench.order == ["", "kept"]


@pytest.mark.slow
async def test_q4_ten_thousand_jobs_behind_a_gate_do_not_hold_up_the_loop() -> None:
    """Whoever else is on the loop, an answer or a timer, must not wait while they are sent off."""
    runner = JobRunner(workers=4, watchdog=None)
    opened = asyncio.Event()

    @runner.job(max_concurrency=1)
    async def work() -> None:
        await opened.wait()

    @runner.job
    async def free() -> None: ...

    runner.pause()
    async with runner:
        for _ in range(10_000):
            await runner.submit(work)
        runner.resume()
        began, ticks = time.perf_counter(), 0
        job = await runner.submit(free, priority=-100)
        while job.status == "pending":
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 10_000 / (4 * 100)
        assert (time.perf_counter() - began) / ticks < 0.05
        opened.set()
        await runner.stop(timeout=0)
