"""What is counted of jobs is exact, whatever they do and however little of them is kept."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner, Limits, Question, Retention, RetryPolicy
from jobrunner.tally import BOUNDS, Durations, Tally
from jobrunner.testing import virtual_time
from tests.runners import runner_with, swallow

NOTHING_KEPT: dict[str, Any] = {
    "limits": Limits(max_feed=1, max_events=1),
    "retention": Retention(max_jobs=0, max_tombstones=0),
}


def busy_runner(**options: Any) -> JobRunner:
    """Return a runner with handlers that end in many ways."""
    runner = runner_with(cancel_grace=1.0, shutdown_timeout=0.0, **options)

    @runner.job
    async def work(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)

    @runner.job(retry=RetryPolicy(max_attempts=3, base=0.0))
    async def flaky(good: int) -> None:
        good_at.append(good)
        await asyncio.sleep(1.0)
        if len(good_at) < good:
            raise OSError("not yet")

    @runner.job(timeout=1.0)
    async def deaf() -> None:
        await swallow(3)

    good_at: list[int] = []
    return runner


@virtual_time
async def test_each_end_is_counted_with_its_reason() -> None:
    """An alert on failures has to tell a timeout from a user's cancel."""
    runner = busy_runner()
    tally = runner.tally()
    async with runner:
        await (await runner.submit("work")).wait()
        await (await runner.submit("work", {"seconds": 9.0}, timeout=1.0)).wait()
        waiting = await runner.submit("work", delay=9.0)
        await waiting.cancel()
        await (await runner.submit("deaf")).wait()
        left = await runner.submit("work", delay=60.0)
    assert left.status == "failed"
    assert tally.submitted == {"work": 4, "deaf": 1}
    assert tally.finished == {
        ("work", "completed", ""): 1,
        ("work", "failed", "timeout"): 1,
        ("work", "cancelled", "user"): 1,
        ("work", "failed", "shutdown"): 1,
        ("deaf", "failed", "timeout"): 1,
    }


@virtual_time
async def test_nothing_is_missed_of_jobs_that_nobody_could_have_read() -> None:
    """A reader that is slow, or a runner that keeps nothing, must not make counters wrong."""
    runner = busy_runner(**NOTHING_KEPT)
    tally = runner.tally()
    async with runner:
        await runner.submit_batch("work", [{}] * 500)
        await (await runner.submit("flaky", {"good": 3})).wait()
        await runner.drain()
    assert (len(runner.stats().jobs), runner.stats().pruned) == (7, 501)
    assert tally.submitted == {"work": 500, "flaky": 1}
    assert tally.finished == {("work", "completed", ""): 500, ("flaky", "completed", ""): 1}
    assert sum(tally.durations["work"].counts) == sum(tally.waits["work"].counts) == 500
    assert tally.retries == 2


@virtual_time
async def test_durations_are_those_of_the_whole_job_and_waits_of_each_attempt() -> None:
    """A job that is tried three times has kept a person waiting all along."""
    runner = busy_runner(workers=1)
    tally = runner.tally()
    async with runner:
        await runner.submit("work", {"seconds": 4.0})
        await runner.submit("work", {"seconds": 2.0}, delay=1.0)
        await runner.drain()
        await (await runner.submit("flaky", {"good": 3})).wait()
    work, flaky = tally.durations["work"], tally.durations["flaky"]
    assert (round(work.total, 6), sum(work.counts)) == (6.0, 2)
    assert (round(flaky.total, 6), sum(flaky.counts)) == (3.0, 1)  # of three attempts
    waits = {name: (round(each.total, 6), sum(each.counts)) for name, each in tally.waits.items()}
    assert waits == {"work": (3.0, 2), "flaky": (0.0, 3)}


@virtual_time
async def test_a_job_that_never_began_has_no_duration() -> None:
    """Zeros would make a slow type look fast."""
    runner = busy_runner()
    tally = runner.tally()
    async with runner:
        await (await runner.submit("work", delay=60.0)).cancel()
    assert (tally.durations, tally.waits) == ({}, {})


@virtual_time
async def test_an_answer_is_no_second_start() -> None:
    """Who waits for a person goes on with the attempt that it has."""
    runner = runner_with()
    tally = runner.tally()

    @runner.job
    async def ask(ctx: JobContext) -> Any:
        async def answer(question: Question) -> None:
            asked.set()

        return await ctx.ask("Go on?", schema=bool, notify=answer)

    asked = asyncio.Event()
    async with runner:
        job = await runner.submit(ask)
        await asked.wait()
        await asyncio.sleep(7.0)
        await runner.answer(job.id, None, True)
        await job.wait()
    assert sum(tally.waits["ask"].counts) == 1
    assert round(tally.durations["ask"].total, 6) == 7.0


@virtual_time
async def test_a_sub_job_has_waited_since_it_was_submitted() -> None:
    """It goes where its parent was, and hasn't waited for as long as that."""
    runner = runner_with(workers=1)
    tally = runner.tally()

    @runner.job
    async def leaf() -> None:
        pass

    @runner.job
    async def root(ctx: JobContext) -> None:
        await asyncio.sleep(50.0)
        await (await ctx.submit("leaf")).result()
        await (await ctx.submit("leaf", delay=5.0)).result()

    async with runner:
        await (await runner.submit(root)).wait()
    assert (sum(tally.waits["leaf"].counts), round(tally.waits["leaf"].total, 6)) == (2, 0.0)


@virtual_time
async def test_counting_goes_on_when_the_runner_is_entered_again() -> None:
    """Counters that fall look like a restart of the process."""
    runner = busy_runner()
    tally = runner.tally()
    for _ in range(2):
        async with runner:
            await (await runner.submit("work")).wait()
    assert tally.submitted["work"] == tally.finished["work", "completed", ""] == 2
    assert runner.tally() is tally


@virtual_time
async def test_an_interrupted_attempt_is_neither_an_end_nor_a_retry() -> None:
    """A shutdown gives the attempt back; the job ends once, as what it was then."""
    runner = busy_runner()
    tally = runner.tally()
    async with runner:
        await runner.submit("work", {"seconds": 60.0})
        await asyncio.sleep(1.0)
    assert tally.finished == {("work", "failed", "shutdown"): 1}
    assert tally.retries == 0


@pytest.mark.parametrize("seconds", [0.0, *BOUNDS, 1e9])
def test_a_bucket_has_its_own_bound(seconds: float) -> None:
    """Prometheus says `le`: less or equal."""
    durations = Durations()
    durations.add(seconds)
    up_to = dict(zip((*BOUNDS, float("inf")), durations.cumulative(), strict=True))
    assert up_to == {bound: int(seconds <= bound) for bound in up_to}


def test_who_asks_for_no_tally_has_none() -> None:
    """A job pays only for what somebody looks at."""
    first, second = JobRunner(), JobRunner()
    assert isinstance(first.tally(), Tally)
    assert first.tally() is not second.tally()
