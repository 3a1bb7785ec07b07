"""A day in the life of a runner: jobs come each minute, fail, are limited, and are forgotten.

What grows with time and not with load shows here and nowhere else.
"""

import asyncio
import gc
import logging
import os
import sys
from random import Random

import pytest

from jobrunner import JobContext, JobRunner, Limits, PermanentError, Retention, RetryPolicy
from jobrunner.testing import unix_now, virtual_time

PER_MINUTE = 100
HOUR = 3_600.0


class RateLimited(Exception):
    """What an LLM's API says when it is asked too often."""

    status_code = 429


def make_runner(random: Random) -> JobRunner:
    runner = JobRunner(
        workers=20,
        retry=RetryPolicy(max_attempts=4, base=5.0),
        retention=Retention(max_age=1_800.0, max_jobs=2_000, max_tombstones=1_000),
        limits=Limits(max_feed=1_000),
        watchdog=None,
        now=unix_now,
        seed=1,
    )

    @runner.job(rate_limit="60/min", deadline=HOUR)
    async def ask_model(ctx: JobContext, n: int) -> str:
        ctx.progress(50, "asked")
        await asyncio.sleep(random.uniform(0.5, 5.0))
        if random.random() < 0.1:
            raise RateLimited("slow down")
        return f"answer {n}"

    @runner.job(timeout=20.0, max_concurrency=5, stall_timeout=10.0)
    async def build(ctx: JobContext, n: int) -> int:
        for line in range(5):
            ctx.log(f"line {line}")
            await asyncio.sleep(random.uniform(0.1, 1.0))
        if random.random() < 0.02:
            await asyncio.sleep(HOUR)
        if random.random() < 0.05:
            raise PermanentError("it does not compile")
        return n

    return runner


async def an_hour(runner: JobRunner, random: Random) -> int:
    """Submit so many jobs a minute, and cancel some; return how many."""
    for _ in range(60):
        for n in range(PER_MINUTE):
            name = "ask_model" if n % 2 else "build"
            job = await runner.submit(name, {"n": n}, session_id=f"s{n % 7}", expires=HOUR)
            if random.random() < 0.03:
                await job.cancel()
        await asyncio.sleep(60.0)
    return 60 * PER_MINUTE


async def memory_after(runner: JobRunner, random: Random, hours: int) -> list[int]:
    """Return how many blocks of memory are held after each hour."""
    held, submitted = [], 0
    async with runner:
        for _ in range(hours):
            submitted += await an_hour(runner, random)
            gc.collect()
            held.append(sys.getallocatedblocks())
            stats = runner.stats()
            assert sum(stats.jobs.values()) + stats.pruned == submitted
            assert sum(stats.jobs.values()) <= 2_000 + 500
        await runner.drain()
    return held


@pytest.mark.slow  # an hour or, with JOBRUNNER_HOURS=24, a day of 144,000 jobs
@virtual_time
async def test_a_day_of_jobs_leaves_the_memory_flat(caplog: pytest.LogCaptureFixture) -> None:
    """A server runs for weeks; what it holds may depend on its load, not on its age."""
    caplog.set_level(logging.CRITICAL)  # what is captured would be kept
    hours = int(os.environ.get("JOBRUNNER_HOURS", "2"))
    random = Random(7)
    held = await memory_after(make_runner(random), random, hours)
    assert max(held[1:]) < held[0] * 1.05, held
