"""Keys, cancels, streams, order and retries (Q1 to Q5)."""

import asyncio
from bisect import bisect_left
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from jobrunner import JobContext, JobHandle, RetryableError, RetryPolicy
from jobrunner.queue import AGEING
from jobrunner.testing import simulate, virtual_time
from tests.runners import new_runner, noting, runner_with


@virtual_time
async def test_q1_a_thousand_submits_with_one_key_run_once() -> None:
    """Two submits with one key ran twice or thrice in a quarter of the orders."""
    runner = new_runner()
    order = noting(runner)
    async with runner:
        jobs = await asyncio.gather(
            *[runner.submit("note", {"name": "x"}, idempotency_key="k") for _ in range(1_000)]
        )
        await runner.drain()
    assert (order, len({job.id for job in jobs})) == (["x"], 1)
    assert sum(job.outcome == "created" for job in jobs) == 1


@pytest.mark.parametrize("ticks", range(6))
@virtual_time
async def test_q2_an_acknowledged_cancel_keeps_the_handler_from_running(ticks: int) -> None:
    """Also when a worker has the job in hand already; 16 of 100 ran all the same."""
    runner, ran = runner_with(workers=1), []

    @runner.job
    async def note() -> None:
        ran.append("ran")

    async with runner:
        job = await runner.submit(note)
        for _ in range(ticks):
            await asyncio.sleep(0)
        before = list(ran)
        await job.cancel()
        view = await job.wait()
    assert ran == before
    assert view.status == ("completed" if ran else "cancelled")


@pytest.mark.parametrize("seed", range(50))
def test_q2_what_was_acknowledged_as_cancelled_never_begins(seed: int) -> None:
    """Whatever the order of callbacks, and whether it waited for a worker, its time or a retry."""
    draw = Random(seed)

    async def main() -> list[str]:
        runner, begun = runner_with(workers=2, retry=RetryPolicy(max_attempts=3, base=0.001)), []

        @runner.job
        async def work(ctx: JobContext) -> None:
            begun.append(ctx.job_id)
            if ctx.attempt < 3 and draw.random() < 0.5:
                raise ConnectionError

        async with runner:
            jobs = [await runner.submit(work, delay=draw.choice([0.0, 0.002])) for _ in range(10)]
            before = {}
            for job in draw.sample(jobs, 8):
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)
                if (await job.cancel()).status in ("cancelled", "completed"):
                    before[job.id] = begun.count(job.id)
            await runner.drain()
        return [job_id for job_id, count in before.items() if begun.count(job_id) != count]

    assert simulate(main, seed=seed) == []


@pytest.mark.parametrize("seed", range(50))
def test_q3_a_stream_that_is_opened_at_any_moment_has_all_and_ends(seed: int) -> None:
    """Between a snapshot and a subscription things went missing, and 3 % of streams never ended."""
    draw = Random(seed)

    async def main() -> list[list[int]]:
        runner = runner_with(workers=2)

        @runner.job
        async def talk(ctx: JobContext) -> None:
            for number in range(5):
                ctx.progress(number + 1)
                for _ in range(draw.randrange(3)):
                    await asyncio.sleep(0)

        async def read(job: JobHandle[Any], ticks: int) -> list[int]:
            for _ in range(ticks):
                await asyncio.sleep(0)
            if ticks % 2:  # who only waits for the end mustn't miss it either
                await job.wait()
            return [event.seq async for event in job.events()]

        async with runner, asyncio.TaskGroup() as group:
            jobs = [await runner.submit(talk) for _ in range(3)]
            readers = [
                group.create_task(read(job, draw.randrange(25)), name="reader")
                for job in jobs
                for _ in range(4)
            ]
        return [reader.result() for reader in readers]

    assert simulate(main, seed=seed) == [list(range(1, 9))] * 12  # or Deadlock: one never ended


@pytest.mark.parametrize("seed", range(20))
def test_q4_nobody_is_overtaken_for_longer_than_the_bound(seed: int) -> None:
    """A point of priority is worth a minute: more never, however much is in the line."""
    draw = Random(seed)

    async def main() -> list[tuple[float, int]]:
        runner, order = runner_with(workers=1), []

        @runner.job
        async def work(due: float, priority: int) -> None:
            order.append((due, priority))
            await asyncio.sleep(10.0)

        async with runner:
            for _ in range(100):
                due, priority = asyncio.get_running_loop().time(), draw.randint(-5, 5)
                await runner.submit(work, {"due": due, "priority": priority}, priority=priority)
                await asyncio.sleep(draw.expovariate(1 / 7.0))
            await runner.drain()
        return order

    order = simulate(main)
    overtaken = [
        (due, priority, later, more)
        for place, (due, priority) in enumerate(order)
        for later, more in order[:place]
        if later - due > AGEING * (more - priority) and later > due
    ]
    assert overtaken == []
    urgent = [place for place, (_, priority) in enumerate(order) if priority > 0]
    patient = [place for place, (_, priority) in enumerate(order) if priority < 0]
    assert sum(urgent) / len(urgent) < sum(patient) / len(patient)


def attempts_of(crowd: int, policy: RetryPolicy) -> list[float]:
    """Return when the attempts after the first start, of jobs that fail together."""

    async def main() -> list[float]:
        runner, starts = runner_with(workers=crowd, retry=policy, seed=5), []

        @runner.job
        async def flaky(ctx: JobContext) -> None:
            if ctx.attempt > 1:
                starts.append(asyncio.get_running_loop().time())
            if ctx.attempt < policy.max_attempts:
                raise ConnectionError

        async with runner:
            for _ in range(crowd):
                await runner.submit(flaky)
            await runner.drain()
        return starts

    return simulate(main)


def most_at_once(moments: list[float], seconds: float) -> int:
    """Return how many of the moments lie within so many seconds at most."""
    return max(bisect_left(moments, at + seconds) - place for place, at in enumerate(moments))


def test_q5_what_failed_together_comes_back_spread() -> None:
    """Without jitter 300 of 300 came back in one tenth of a second."""
    assert most_at_once(attempts_of(300, RetryPolicy(max_attempts=2, base=10.0)), 0.1) < 20


def test_q5_a_crowd_comes_back_within_its_budget() -> None:
    """However short the delays are: ten a second, twenty in any second at most."""
    starts = attempts_of(300, RetryPolicy(max_attempts=2, base=0.001, budget=10.0))
    assert (len(starts), most_at_once(starts, 1.0) <= 20) == (300, True)


def test_q5_no_delay_grows_past_the_cap() -> None:
    """Twenty attempts with doubled delays would take days."""
    policy = RetryPolicy(max_attempts=20, base=1.0, cap=5.0)
    starts = attempts_of(1, policy)
    assert (len(starts), max(b - a for a, b in pairwise(starts)) <= 5.0) == (19, True)


@virtual_time
async def test_q5_what_a_handler_was_told_to_wait_is_waited() -> None:
    """Retry-After is a promise of the other side: before it every attempt is wasted."""
    runner, starts = runner_with(retry=RetryPolicy(max_attempts=2, base=1.0)), []

    @runner.job
    async def limited() -> None:
        starts.append(asyncio.get_running_loop().time())
        raise RetryableError("rate limit", retry_after=30.0)

    async with runner:
        await (await runner.submit(limited)).wait()
    assert 30.0 <= starts[1] - starts[0] <= 31.0
