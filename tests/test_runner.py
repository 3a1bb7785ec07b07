"""JobRunner: how it starts and stops, and what it does for a job."""

import asyncio
from datetime import UTC, datetime

import pytest

from jobrunner import (
    IdempotencyKeyReused,
    JobCancelled,
    JobContext,
    JobFailed,
    JobGone,
    JobHandle,
    JobNotFound,
    JobRunner,
    Retention,
    RetryPolicy,
)
from jobrunner.testing import EPOCH, unix_now, virtual_time
from tests.runners import new_runner, noting


@virtual_time
async def test_leaving_with_an_error_waits_for_no_job() -> None:
    """The program is going down; jobs are interrupted at once."""
    runner = new_runner(shutdown_timeout=60.0)
    with pytest.raises(KeyError):
        async with runner:
            job = await runner.submit("slow")
            await asyncio.sleep(1.0)
            raise KeyError
    assert (asyncio.get_running_loop().time(), job.status) == (1.0, "failed")


@virtual_time
async def test_what_waits_when_the_runner_stops_fails_with_the_reason() -> None:
    """Nothing is pending for ever in a runner that runs no more."""
    retry = RetryPolicy(max_attempts=2, base=1_000.0)
    runner = new_runner(workers=1, shutdown_timeout=60.0, retry=retry)

    @runner.job
    async def again() -> None:
        raise ValueError("first")

    async with runner:
        jobs = [
            await runner.submit(again),
            await runner.submit("slow"),
            await runner.submit("slow"),
        ]
        jobs.append(await runner.submit("slow", delay=3_600.0))
        await asyncio.sleep(1.0)
        statuses = [job.status for job in jobs]
        waiting = asyncio.ensure_future(jobs[2].wait())
    assert statuses == ["retrying", "running", "pending", "pending"]
    errors = [job.view().error for job in jobs]
    assert [error and error.reason for error in errors] == [
        "shutdown",
        None,
        "shutdown",
        "shutdown",
    ]
    assert (await waiting).status == "failed"


@virtual_time
async def test_a_second_stop_waits_for_the_first() -> None:
    """Whoever calls it may take the runner as stopped when it returns."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        await runner.submit("slow")
        await asyncio.sleep(1.0)
        first = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        await runner.stop()
        assert (runner.stats().state, unix_now()) == ("stopped", EPOCH + 10.0)
        await first


@virtual_time
async def test_a_second_stop_can_make_the_first_one_hurry() -> None:
    """The second Ctrl-C: what still runs is interrupted now."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        first = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        await runner.stop(timeout=0.0)
        await first
    assert (job.status, unix_now()) == ("failed", EPOCH + 2.0)


@virtual_time
async def test_a_stop_that_is_cancelled_leaves_no_job_open() -> None:
    """Whatever still runs is given up, and who waits for it is told."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        stopping = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        view = await job.wait(timeout=0.0)
    assert (view.status, runner.stats().state, runner.stats().busy) == ("failed", "stopped", 0)


@virtual_time
async def test_a_handler_may_stop_the_runner() -> None:
    """An admin job that shuts the app down is interrupted like any other, and nothing hangs."""
    runner = new_runner(shutdown_timeout=2.0)

    @runner.job
    async def shut_down() -> None:
        await runner.stop()

    async with runner:
        job = await runner.submit(shut_down)
        await job.wait(timeout=60.0)
    assert (job.status, runner.stats().state) == ("failed", "stopped")


# --- order and time -----------------------------------------------------------------------------


@virtual_time
async def test_jobs_run_in_the_order_of_their_priority() -> None:
    """A user who waits goes before a nightly report."""
    runner = new_runner(workers=1)
    order = noting(runner)
    async with runner:
        for name, priority in (("report", -5), ("usual", 0), ("user", 5), ("also usual", 0)):
            await runner.submit("note", {"name": name}, priority=priority)
        await runner.drain()
    assert order == ["user", "usual", "also usual", "report"]


@virtual_time
async def test_a_job_that_has_waited_long_enough_goes_first() -> None:
    """Q4: a point of priority is worth a minute, so nothing waits for ever."""
    runner = new_runner(workers=1)
    order = noting(runner)
    async with runner:
        runner.pause()
        await runner.submit("note", {"name": "old"})
        await asyncio.sleep(59.0)
        await runner.submit("note", {"name": "important"}, priority=1)
        await asyncio.sleep(2.0)
        await runner.submit("note", {"name": "important, too late"}, priority=1)
        runner.resume()
        await runner.drain()
    assert order == ["important", "old", "important, too late"]


@virtual_time
async def test_a_delayed_job_starts_when_it_is_due() -> None:
    """The delay is seconds, and the view says when."""
    async with new_runner() as runner:
        job = await runner.submit("slow", delay=3_600.0)
        assert job.view().run_at == datetime.fromtimestamp(EPOCH + 3_600.0, UTC)
        view = await job.wait()
    assert view.started_at == view.run_at


@virtual_time
async def test_a_job_can_be_given_a_moment() -> None:
    """`run_at` is a datetime with a time zone; one that has passed is now."""
    async with new_runner() as runner:
        later = await runner.submit("slow", run_at=datetime.fromtimestamp(EPOCH + 60.0, UTC))
        past = await runner.submit("slow", run_at=datetime.fromtimestamp(EPOCH - 60.0, UTC))
        await runner.drain()
    started = [job.view().started_at for job in (later, past)]
    assert started == [
        datetime.fromtimestamp(EPOCH + 60.0, UTC),
        datetime.fromtimestamp(EPOCH, UTC),
    ]


@virtual_time
async def test_draining_waits_for_delayed_and_retried_jobs() -> None:
    """A test that drains has seen everything."""
    runner = new_runner(retry=RetryPolicy(max_attempts=3, base=100.0))

    @runner.job
    async def flaky(ctx: JobContext) -> None:
        if ctx.attempt < 3:
            raise ValueError

    async with runner:
        jobs = [await runner.submit(flaky), await runner.submit("slow", delay=1_000.0)]
        await runner.drain()
    assert [job.status for job in jobs] == ["completed", "completed"]


@virtual_time
async def test_waiting_for_any_comes_back_with_the_first() -> None:
    """The others are in `pending`, and go on."""
    async with new_runner() as runner:
        first, second = await runner.submit("slow"), await runner.submit("slow", delay=5.0)
        done, pending = await runner.wait([second.id, first.id], mode="any")
        assert ([v.job_id for v in done], [v.job_id for v in pending]) == ([first.id], [second.id])
        done, pending = await runner.wait([second.id, first.id])
        assert ([v.job_id for v in done], pending) == ([second.id, first.id], [])


@virtual_time
async def test_waiting_never_raises_for_time() -> None:
    """A poll wants to know what has ended by now."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        done, pending = await runner.wait([job.id], timeout=3.0)
        assert (done, [view.status for view in pending], unix_now()) == (
            [],
            ["running"],
            EPOCH + 3.0,
        )


# --- what is taken, and what is kept ------------------------------------------------------------


@virtual_time
async def test_a_key_that_comes_again_with_another_request_is_refused() -> None:
    """The client has mixed up its keys; neither answer would be right."""
    async with new_runner() as runner:
        job = await runner.submit("slow", {"n": 1}, idempotency_key="k")
        with pytest.raises(IdempotencyKeyReused, match=f"for job {job.id}"):
            await runner.submit("slow", {"n": 2}, idempotency_key="k")


@virtual_time
async def test_a_key_is_free_when_its_job_is_forgotten() -> None:
    """The promise is kept for as long as the job is."""
    async with new_runner() as runner:
        first = await runner.submit("slow", idempotency_key="k")
        await first.wait()
        await runner.forget(first.id)
        second = await runner.submit("slow", idempotency_key="k")
        assert (second.outcome, second.id != first.id) == ("created", True)


@virtual_time
async def test_session_and_metadata_stay_with_the_job() -> None:
    """Whoever lists a conversation's jobs finds them, and what was said about them."""
    async with new_runner() as runner:
        job = await runner.submit("slow", session_id="s1", metadata={"user": "u1"})
        await runner.submit("slow", session_id="s2")
        listed = (await runner.list(session_id="s1")).jobs
    assert [(view.job_id, view.session_id, view.metadata) for view in listed] == [
        (job.id, "s1", {"user": "u1"})
    ]


@virtual_time
async def test_a_pruned_job_is_gone_and_not_unknown() -> None:
    """A client that comes back late is told the truth."""
    runner = new_runner(retention=Retention(max_age=60.0, max_tombstones=1))
    async with runner:
        first, second = await runner.submit("slow"), await runner.submit("slow", delay=1.0)
        await runner.drain()
        await asyncio.sleep(61.0)
        with pytest.raises(JobGone, match=f"^job {second.id} has ended and is no longer kept$"):
            await runner.get(second.id)
        with pytest.raises(JobNotFound):  # even the memory of ids is bounded
            await runner.get(first.id)


@virtual_time
async def test_a_seed_makes_ids_repeatable() -> None:
    """A test can compare whole outputs."""

    async def ids() -> list[str]:
        async with new_runner(seed=7) as runner:
            return [(await runner.submit("slow", delay=60.0)).id for _ in range(3)]

    assert await ids() == await ids()


@virtual_time
async def test_all_jobs_together_can_be_watched() -> None:
    """One reader sees statuses and ends of every job, until the runner stops."""
    runner = new_runner()
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for event in runner.events():
            seen.append((event.type, event.data["status"]))

    async with runner:
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        await (await runner.submit("slow")).wait()
    await watching
    assert seen == [("status", "pending"), ("status", "running"), ("done", "completed")]


def test_the_result_type_follows_the_function() -> None:
    """mypy reads this test: what a handler returns is what its handle gives."""
    runner = JobRunner()

    @runner.job
    async def text() -> str:
        return "x"

    @runner.job
    def number() -> int:
        return 1

    async def use() -> tuple[str, int]:
        async with runner:
            first: JobHandle[str] = await runner.submit(text)
            second: JobHandle[int] = await runner.submit(number)
            return await first.result(), await second.result()

    assert asyncio.run(use()) == ("x", 1)


@virtual_time
async def test_the_ways_a_job_can_end_are_told_apart() -> None:
    """A caller catches what it can deal with."""
    runner = new_runner()

    @runner.job
    async def fail() -> None:
        raise ValueError

    async with runner:
        failed, cancelled = await runner.submit(fail), await runner.submit("slow")
        await cancelled.cancel()
        with pytest.raises(JobFailed):
            await failed.result()
        with pytest.raises(JobCancelled):
            await cancelled.result()


async def test_no_task_is_left_when_the_runner_has_stopped() -> None:
    """Whatever it has begun ends with it."""
    runner = JobRunner(workers=3)

    @runner.job
    def in_thread() -> None: ...

    async with runner:
        await (await runner.submit(in_thread)).wait(timeout=5.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
