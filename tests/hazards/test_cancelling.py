"""Cancels, results and stops in whatever order, and waiters that leave (T2, T5, T6)."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jobrunner import JobHandle, JobRunner, RetryPolicy
from jobrunner.testing import simulate, virtual_time
from tests.runners import ended_after, new_runner, reason, runner_with


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_t2_a_cancel_around_the_result_ends_the_job_once(ticks: int) -> None:
    """On 3.11 a cancel in the tick of the result was swallowed, and stop() hung."""
    runner = runner_with(workers=1)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        job = await runner.submit(short)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await job.cancel()
        view = await job.wait(timeout=1.0)
        ends = [event async for event in job.events() if event.type == "done"]
    assert (view.status, view.result, len(ends)) in [
        ("cancelled", None, 1),
        ("completed", "value", 1),
    ]


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_t2_a_stop_around_the_result_never_hangs(ticks: int) -> None:
    """Whatever a worker is about to do when the runner stops, it ends."""
    runner = runner_with(workers=2, shutdown_timeout=0.0)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        jobs = [await runner.submit(short) for _ in range(5)]
        for _ in range(ticks):
            await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await runner.stop()
        assert asyncio.get_running_loop().time() == began
    outcomes = {(job.status, reason(job.view())) for job in jobs}
    assert outcomes <= {("completed", None), ("failed", "shutdown")}


@pytest.mark.parametrize("ticks", range(6))
@virtual_time
async def test_t2_a_worker_that_is_to_leave_ends_the_job_in_hand_first(ticks: int) -> None:
    """Its cancellation is for it alone, wherever it stands between two jobs."""
    async with new_runner(workers=1, shutdown_timeout=60.0) as runner:
        first = await runner.submit("slow")
        await asyncio.sleep(1.0)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await runner.stop()
        assert (first.status, asyncio.get_running_loop().time()) == ("completed", 10.0)


@pytest.mark.parametrize("seed", range(40))
def test_t2_a_stop_that_is_cancelled_around_a_start_leaves_no_job_open(seed: int) -> None:
    """Also a job that a worker has just taken, whatever the order of what is ready."""

    async def main() -> tuple[str, int]:
        runner = new_runner(shutdown_timeout=60.0)
        async with runner:
            job = await runner.submit("slow")
            stopping = asyncio.ensure_future(runner.stop())
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
        return job.status.value, runner.stats().busy

    ended = simulate(main, seed=seed)
    assert ended in [("failed", 0), ("completed", 0)]  # completed: cancelled before it began


@pytest.mark.parametrize("first", ["cancel", "stop"])
@virtual_time
async def test_t5_a_cancel_beats_a_shutdown(first: str) -> None:
    """In the same tick, in either order: a cancelled job is not given back to the queue."""
    runner = runner_with(shutdown_timeout=0.0)

    @runner.job
    async def long() -> None:
        try:
            await asyncio.sleep(3_600.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(long)
        await asyncio.sleep(1.0)
        acts = [job.cancel(), runner.stop()]
        if first == "stop":
            acts.reverse()
        await asyncio.gather(*acts)
    view = job.view()
    assert (view.status, view.attempt, view.error) == ("cancelled", 1, None)


@virtual_time
async def test_t5_a_cancel_beats_a_time_limit() -> None:
    """A job that runs out of time while it is asked to stop was cancelled."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5))

    @runner.job(timeout=10.0)
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(11.0)  # it is out of time, and cleans up
        await job.cancel()
        assert (await ended_after(2.0, job)).status == "cancelled"


@virtual_time
async def test_t5_a_result_beats_a_time_limit_that_comes_second() -> None:
    """The value was there in the same tick, and first."""
    runner = runner_with()

    @runner.job(timeout=10.0)
    async def just_in_time() -> str:
        await asyncio.sleep(9.999_999_999)
        return "value"

    async with runner:
        job = await runner.submit(just_in_time)
        assert await job.result() == "value"
        await asyncio.sleep(10.0)
        assert job.status == "completed"


@virtual_time
async def test_t5_a_result_beats_a_cancel() -> None:
    """A handler that goes on to its value though it was asked to stop has completed."""
    runner = runner_with()

    @runner.job
    async def eager() -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            return "value"
        return "not reached"

    async with runner:
        job = await runner.submit(eager)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, view.result, view.cancel_requested_at is not None) == (
        "completed",
        "value",
        True,
    )


ACTS = list(itertools.permutations(["cancel", "stop", "result"]))


@pytest.mark.parametrize("seed", [None, *range(10)])
@pytest.mark.parametrize("order", ACTS, ids="-".join)
def test_t5_a_cancel_in_the_tick_of_a_stop_and_a_result_is_never_undone(
    order: tuple[str, ...], seed: int | None
) -> None:
    """Whatever comes first: the job is cancelled, or has its value; it never goes back in line."""

    async def main() -> tuple[str, int, int]:
        runner, ready, runs = runner_with(shutdown_timeout=0.0), asyncio.Event(), []

        @runner.job
        async def work() -> str:
            runs.append(1)
            await ready.wait()
            return "value"

        async def give() -> None:
            ready.set()

        async with runner:
            job = await runner.submit(work)
            await asyncio.sleep(1.0)
            acts: dict[str, Callable[[], Coroutine[Any, Any, Any]]]
            acts = {"cancel": job.cancel, "stop": runner.stop, "result": give}
            async with asyncio.TaskGroup() as group:
                for name in order:
                    group.create_task(acts[name](), name=name)
        return job.status.value, job.view().attempt, len(runs)

    assert simulate(main, seed=seed) in [("cancelled", 1, 1), ("completed", 1, 1)]


async def read_all(job: JobHandle[Any]) -> None:
    async for _ in job.events():
        pass


Wait = Callable[[JobRunner, JobHandle[Any]], Coroutine[Any, Any, Any]]
WAITS: dict[str, Wait] = {
    "handle.wait": lambda runner, job: job.wait(),
    "handle.result": lambda runner, job: job.result(timeout=50.0),
    "handle.events": lambda runner, job: read_all(job),
    "runner.wait for all": lambda runner, job: runner.wait([job.id]),
    "runner.wait for any": lambda runner, job: runner.wait([job.id], mode="any"),
    "runner.drain": lambda runner, job: runner.drain(),
}


@pytest.mark.parametrize("ticks", range(8))
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@virtual_time
async def test_t6_a_waiter_that_is_cancelled_takes_nobody_with_it(wait: Wait, ticks: int) -> None:
    """At each of its awaits: neither the job nor who waits for the same job notices."""
    runner = runner_with()

    @runner.job
    async def double(n: int) -> int:
        for _ in range(4):  # so that some of the waiters leave when it has ended
            await asyncio.sleep(0)
        return 2 * n

    async with runner:
        job = await runner.submit(double, {"n": 5})
        leaving, staying = (asyncio.create_task(wait(runner, job), name="waiter") for _ in "ab")
        for _ in range(ticks):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        await staying
        assert leaving.cancelled() or leaving.exception() is None
        assert (await job.result(), job.view().cancel_requested_at) == (10, None)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@virtual_time
async def test_t6_a_waiter_that_hangs_up_leaves_the_job_running(wait: Wait) -> None:
    """An HTTP client that hung up cancelled the work of everybody."""
    async with new_runner() as runner:
        job = await runner.submit("slow", {"n": 5})
        waiters = [asyncio.create_task(wait(runner, job), name="waiter") for _ in range(2)]
        await asyncio.sleep(1.0)
        waiters[0].cancel()
        await asyncio.sleep(1.0)
        assert (waiters[0].cancelled(), waiters[1].done(), job.status) == (True, False, "running")
        await waiters[1]
        assert (await job.result(), job.view().cancel_requested_at) == (5, None)
