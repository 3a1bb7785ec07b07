"""Handlers that refuse to end: what is said of them, and how many of them a runner bears."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobHandle, JobRunner, JobView, Limits
from jobrunner.testing import simulate, unix_now, virtual_time


class Bench:
    """A runner with a handler that refuses to end until it is freed, and a normal one."""

    def __init__(self, *, max_stuck: int = 100, **options: Any) -> None:
        given = {"now": unix_now, "cancel_grace": 1.0, "shutdown_timeout": 0.0, **options}
        self.runner = JobRunner(limits=Limits(max_stuck=max_stuck), **given)
        self.freed: dict[int, asyncio.Event] = {}
        self.ran = 0

        @self.runner.job
        async def stubborn(n: int = 0) -> str:
            freed = self.freed.setdefault(n, asyncio.Event())
            while not freed.is_set():
                try:
                    await wait_for_ever(freed)
                except asyncio.CancelledError:
                    continue
            return "late"

        @self.runner.job
        async def normal() -> str:
            self.ran += 1
            return "value"

    async def stuck(self, n: int = 0) -> JobView:
        """Have one more handler stuck."""
        return await (await self.runner.submit("stubborn", {"n": n}, timeout=1.0)).wait()

    def free(self) -> None:
        for event in self.freed.values():
            event.set()


async def wait_for_ever(freed: asyncio.Event) -> None:
    await freed.wait()


# --- what is said of them -----------------------------------------------------------------------

END = ", and the handler did not end within 2 s"


@pytest.mark.parametrize(
    ("options", "reason", "detail"),
    [
        ({"timeout": 5.0}, "timeout", "timed out after 5 s" + END),
        ({"stall_timeout": 5.0}, "stalled", "stalled: no sign of life for 5 s" + END),
        ({"deadline": 5.0}, "deadline", "missed its deadline of 5 s" + END),
        ({"timeout": 5.0, "deadline": 5.5}, "deadline", "missed its deadline of 5.5 s" + END),
    ],
)
@virtual_time
async def test_t3_a_stuck_handler_is_told_with_the_limit_that_it_missed(
    options: Any, reason: str, detail: str
) -> None:
    """Both are of interest: which limit it was, and that something of it still runs."""
    bench = Bench()
    async with bench.runner as runner:
        view = await (await runner.submit("stubborn", **options)).wait()
        assert asyncio.get_running_loop().time() == 7.0
        bench.free()
    assert view.error is not None
    assert (view.status, view.error.reason, view.error.detail) == ("failed", reason, detail)
    assert (view.error.type, view.error.retryable) == ("Stuck", False)


@virtual_time
async def test_t3_one_that_ignores_a_cancel_or_a_shutdown_is_stuck() -> None:
    """It isn't cancelled, since it still runs; and the sentence says who had asked."""
    bench = Bench()
    async with bench.runner as runner:
        cancelled, interrupted = [await runner.submit("stubborn", {"n": n}) for n in (1, 2)]
        await asyncio.sleep(1.0)
        await cancelled.cancel()
        await cancelled.wait()
    bench.free()
    await asyncio.sleep(0.1)
    errors = [job.view().error for job in (cancelled, interrupted)]
    assert [(error.reason, error.detail) for error in errors if error] == [
        ("stuck", "cancelled" + END),
        ("stuck", "the runner is shutting down" + END),
    ]


@virtual_time
async def test_t3_its_stack_is_in_the_error() -> None:
    """To the innermost await, or whoever has to mend it looks at the wrong line."""
    bench = Bench()
    async with bench.runner:
        view = await bench.stuck()
        bench.free()
    assert view.error is not None and view.error.traceback is not None
    assert "in stubborn\n    await wait_for_ever(freed)" in view.error.traceback
    assert "in wait_for_ever\n    await freed.wait()" in view.error.traceback
    assert "traceback" not in view.model_dump()["error"]


async def test_t3_the_stack_of_a_thread_is_in_the_error() -> None:
    """Its own, and not that of the task which waits for it."""
    freed = threading.Event()
    runner = JobRunner(cancel_grace=0.01)

    def innermost() -> None:
        freed.wait(30.0)

    @runner.job(timeout=0.01)
    def stubborn() -> None:
        innermost()

    async with runner:
        view = await (await runner.submit(stubborn)).wait()
        freed.set()
    assert view.error is not None and view.error.traceback is not None
    assert "in stubborn\n    innermost()" in view.error.traceback
    assert "in innermost\n    freed.wait(30.0)" in view.error.traceback
    assert "asyncio" not in view.error.traceback


@virtual_time
async def test_t3_the_stack_of_a_generator_is_in_the_error() -> None:
    """A handler that yields is suspended elsewhere than a coroutine."""
    bench, freed = Bench(), asyncio.Event()

    @bench.runner.job(timeout=1.0)
    async def pieces() -> Any:
        yield "piece"
        while not freed.is_set():
            try:
                await wait_for_ever(freed)
            except asyncio.CancelledError:
                continue

    async with bench.runner as runner:
        view = await (await runner.submit("pieces")).wait()
        freed.set()
        await asyncio.sleep(0.1)
    assert view.error is not None and view.error.traceback is not None
    assert "in wait_for_ever\n    await freed.wait()" in view.error.traceback


@virtual_time
async def test_t3_a_late_value_changes_nothing() -> None:
    """The job has ended, and everybody has been told how."""
    bench = Bench()
    async with bench.runner as runner:
        view = await bench.stuck()
        bench.free()
        await asyncio.sleep(1.0)
        assert await runner.get(view.job_id) == view


# --- how many -----------------------------------------------------------------------------------


def test_t3_one_that_its_loop_has_left_is_collected_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is collected whenever, and a line about it would stand among another test's."""

    async def leave_one() -> None:
        async with Bench().runner as runner:
            await (await runner.submit("stubborn", timeout=1.0)).wait()
            caplog.clear()

    simulate(leave_one)
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "stopped: 0 jobs had not ended and failed, 1 handlers are stuck"
    ]


@virtual_time
async def test_t3_they_are_counted_until_they_end() -> None:
    """How many there are, which is what is wrong now, and how many there have been."""
    bench = Bench()
    async with bench.runner as runner:
        for n in range(3):
            await bench.stuck(n)
        assert (runner.stats().stuck, runner.stats().stuck_total) == (3, 3)
        bench.freed[1].set()
        await asyncio.sleep(0.1)
        assert (runner.stats().stuck, runner.stats().stuck_total) == (2, 3)
        bench.free()
        await asyncio.sleep(0.1)
        assert (runner.stats().stuck, runner.stats().stuck_total) == (0, 3)


@pytest.mark.parametrize("workers", [1, 2, 5])
@virtual_time
async def test_t3_with_too_many_no_job_is_begun(workers: int) -> None:
    """Each holds memory and perhaps a thread; what is submitted waits, as in a pause."""
    bench = Bench(max_stuck=2, workers=workers)
    async with bench.runner as runner:
        for n in range(2):
            await bench.stuck(n)
        jobs: list[JobHandle[Any]] = [await runner.submit("normal") for _ in range(10)]
        await asyncio.sleep(100.0)
        assert (bench.ran, {job.status for job in jobs}) == (0, {"pending"})
        bench.freed[0].set()
        assert [await job.result(timeout=1.0) for job in jobs] == ["value"] * 10
        bench.free()


@virtual_time
async def test_t3_fewer_than_that_hold_up_nobody() -> None:
    """One bad handler of a hundred is an alarm, and no standstill."""
    bench = Bench(max_stuck=2, workers=1)
    async with bench.runner as runner:
        await bench.stuck()
        assert await (await runner.submit("normal")).result(timeout=1.0) == "value"
        bench.free()


@virtual_time
async def test_t3_jobs_that_run_go_on_while_too_many_are_stuck() -> None:
    """Only what is new is held back."""
    bench = Bench(max_stuck=1)

    @bench.runner.job
    async def slow() -> str:
        await asyncio.sleep(50.0)
        return "value"

    async with bench.runner as runner:
        job = await runner.submit(slow)
        await bench.stuck()
        assert await job.result() == "value"
        bench.free()


@virtual_time
async def test_t3_a_resume_does_not_let_jobs_pass_that_too_many_hold_back() -> None:
    """Nor does an end of one let them pass in a pause: both have to be over."""
    bench = Bench(max_stuck=1)
    async with bench.runner as runner:
        await bench.stuck()
        job = await runner.submit("normal")
        runner.pause()
        runner.resume()
        await asyncio.sleep(10.0)
        assert (job.status, runner.stats().paused) == ("pending", False)
        runner.pause()
        bench.free()
        await asyncio.sleep(10.0)
        assert (job.status, runner.stats().paused) == ("pending", True)
        runner.resume()
        assert await job.result(timeout=1.0) == "value"


@virtual_time
async def test_t3_a_runner_that_holds_back_jobs_can_be_stopped() -> None:
    """At once; what waited is told of the shutdown."""
    bench = Bench(max_stuck=1)
    async with bench.runner as runner:
        await bench.stuck()
        job = await runner.submit("normal")
        began = asyncio.get_running_loop().time()
        await runner.stop()
        assert asyncio.get_running_loop().time() == began
    bench.free()
    error = job.view().error
    assert error is not None
    assert error.reason == "shutdown"


@virtual_time
async def test_t3_those_of_a_first_life_count_in_the_second() -> None:
    """In one loop they still run; when they end, jobs are begun again."""
    bench = Bench(max_stuck=1)
    async with bench.runner:
        await bench.stuck()
    async with bench.runner as runner:
        job = await runner.submit("normal")
        await asyncio.sleep(10.0)
        assert (job.status, runner.stats().stuck) == ("pending", 1)
        bench.free()
        assert await job.result(timeout=1.0) == "value"


def test_t16_those_of_another_loop_hold_up_nobody() -> None:
    """Its loop has ended, so they never will: a test suite would stand still at the next test."""
    bench = Bench(max_stuck=1, workers=2)

    async def first() -> None:
        async with bench.runner as runner:
            await bench.stuck()
            await runner.submit("normal")

    async def second() -> None:
        async with bench.runner as runner:
            assert await (await runner.submit("normal")).result(timeout=1.0) == "value"
            stats = runner.stats()
            assert (stats.stuck, stats.stuck_total, stats.faults) == (0, 1, 0)

    simulate(first)
    simulate(second)


@virtual_time
async def test_a_runner_with_as_many_as_workers_is_not_ready() -> None:
    """Whoever sends work here should send it elsewhere."""
    bench = Bench(workers=2)
    async with bench.runner as runner:
        for n in range(2):
            assert runner.stats().unready is None
            await bench.stuck(n)
        assert runner.stats().unready == "2 handlers refused to end and still run"
        bench.free()
        await asyncio.sleep(0.1)
        assert runner.stats().unready is None


async def test_t10_threads_that_are_stuck_are_counted_and_bounded() -> None:
    """A handler that is left takes its thread with it; the next one is refused, and says why."""
    freed, threads = threading.Event(), []
    runner = JobRunner(cancel_grace=0.005, limits=Limits(max_threads=2))

    @runner.job(timeout=0.005)
    def stubborn() -> None:
        threads.append(threading.current_thread())
        freed.wait(30.0)

    @runner.job
    def plain(ctx: JobContext) -> str:
        return "value"

    async with runner:
        for _ in range(2):
            await (await runner.submit(stubborn)).wait()
        refused = await (await runner.submit(plain)).wait()
        freed.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await (await runner.submit(plain)).result(timeout=5.0) == "value"
    assert refused.error is not None
    assert refused.error.detail.startswith("2 threads of handlers still run, the limit; a handler")


def test_t10_a_thread_that_ends_after_its_loop_harms_nobody() -> None:
    """The runner has stopped without it, and the loop that it would tell is closed."""
    freed, threads = threading.Event(), []
    runner = JobRunner(cancel_grace=0.005, shutdown_timeout=0.0)

    @runner.job
    def stubborn() -> None:
        threads.append(threading.current_thread())
        freed.wait(30.0)

    async def use() -> JobHandle[Any]:
        async with runner:
            job = await runner.submit(stubborn)
            async for event in job.events():
                if event.data.get("status") == "running":
                    return job
        raise AssertionError("it never ran")

    job = asyncio.run(use())
    freed.set()
    for thread in threads:
        thread.join(5.0)
        assert not thread.is_alive()
    error = job.view().error
    assert error is not None
    assert error.reason == "stuck"


def test_none_at_all_is_no_limit_that_can_be() -> None:
    """A runner that bears no stuck handler would never begin a job."""
    with pytest.raises(InvalidOption, match="max_stuck is 0"):
        Limits(max_stuck=0)
