"""Standing aside: who waits for somebody has no worker, and takes one again before it goes on."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobHandle, JobRunner, JobView, RetryPolicy
from jobrunner.context import stand_aside
from jobrunner.testing import virtual_time
from tests.runners import ended_after, reason, runner_with


class Bench:
    """A runner with a job type that waits aside for a signal, and one that works.

    Args:
        for_answer: Whether a person is waited for.
        limits: Options of the type that waits.
        options: Options of the runner.
    """

    def __init__(
        self, *, for_answer: bool = True, limits: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.runner = runner_with(**{"workers": 1, "seed": 1, **options})
        self.signals: dict[str, asyncio.Event] = {}
        self.trace: list[str] = []

        @self.runner.job(**(limits or {}))
        async def waits(ctx: JobContext, name: str = "a", work: float = 0.0) -> str:
            signal = self.signals[name] = asyncio.Event()
            self.trace.append(f"{name} asks")
            async with stand_aside(ctx, for_answer=for_answer):
                await signal.wait()
            self.trace.append(f"{name} goes on")
            await asyncio.sleep(work)
            return name

        @self.runner.job
        async def works(name: str, seconds: float = 10.0) -> str:
            self.trace.append(f"{name} works")
            await asyncio.sleep(seconds)
            return name

    @property
    def busy(self) -> int:
        return self.runner.stats().busy

    async def waiting(self, name: str = "a", **options: Any) -> JobHandle[str]:
        """Submit one that waits, and return when it stands aside."""
        job: JobHandle[str] = await self.runner.submit("waits", {"name": name}, **options)
        await asyncio.sleep(1.0)
        return job


@virtual_time
async def test_who_stands_aside_leaves_its_worker_to_others() -> None:
    """A person takes hours; the one worker there is goes on with other jobs."""
    bench = Bench()
    async with bench.runner:
        job = await bench.waiting()
        assert (bench.busy, job.status) == (0, "running")
        assert await (await bench.runner.submit("works", {"name": "b"})).result() == "b"
        bench.signals["a"].set()
        assert await job.result() == "a"
    assert bench.trace == ["a asks", "b works", "a goes on"]


@virtual_time
async def test_who_comes_back_waits_until_a_worker_is_free() -> None:
    """Never do more jobs run than there are workers."""
    bench = Bench()
    async with bench.runner:
        job = await bench.waiting()
        other = await bench.runner.submit("works", {"name": "b"})
        await asyncio.sleep(1.0)
        bench.signals["a"].set()
        await asyncio.sleep(1.0)
        assert (bench.busy, bench.trace) == (1, ["a asks", "b works"])
        await ended_after(8.0, other)
        assert await job.result() == "a"


@virtual_time
async def test_who_comes_back_goes_before_those_who_came_later() -> None:
    """What has begun is finished first; an answer doesn't wait behind a thousand new jobs."""
    bench = Bench()
    async with bench.runner:
        job = await bench.waiting()
        for name in "bcd":
            await bench.runner.submit("works", {"name": name})
        urgent = await bench.runner.submit("works", {"name": "urgent"}, priority=1)
        await asyncio.sleep(1.0)
        bench.signals["a"].set()
        await job.result()
        await urgent.wait()
    assert bench.trace[:3] == ["a asks", "urgent works", "a goes on"]


@pytest.mark.parametrize("limits", [{"max_concurrency": 1}, {"concurrency_key": lambda p: "k"}])
@virtual_time
async def test_who_stands_aside_leaves_the_slots_of_its_type_too(
    limits: dict[str, Callable[..., str] | int],
) -> None:
    """One job that waits for a person would stop all others of its type."""
    bench = Bench(limits=dict(limits), workers=5)
    async with bench.runner:
        first, second = await bench.waiting("a"), await bench.waiting("b")
        third = await bench.runner.submit("waits", {"name": "c", "work": 5.0})
        await asyncio.sleep(1.0)
        bench.signals["c"].set()
        await asyncio.sleep(1.0)
        bench.signals["b"].set()
        await asyncio.sleep(1.0)
        assert bench.trace == ["a asks", "b asks", "c asks", "c goes on"]
        await ended_after(3.0, third)
        assert await second.result() == "b"
        bench.signals["a"].set()
        assert await first.result() == "a"


@virtual_time
async def test_going_on_is_no_start_for_a_rate() -> None:
    """A rate limits how often something begins; an answered job has long begun."""
    bench = Bench(limits={"rate_limit": "1/60s"})
    async with bench.runner:
        job = await bench.waiting()
        later = await bench.runner.submit("waits", {"name": "b"})
        bench.signals["a"].set()
        await ended_after(0.0, job)
        await asyncio.sleep(58.5)
        assert later.status == "pending"
        await asyncio.sleep(0.5)
        assert later.status == "running"


@virtual_time
async def test_a_paused_runner_lets_nobody_go_on() -> None:
    """Who pauses a runner wants nothing new to happen but what runs."""
    bench = Bench()
    async with bench.runner:
        job = await bench.waiting()
        bench.runner.pause()
        bench.signals["a"].set()
        await asyncio.sleep(5.0)
        assert (bench.busy, job.status) == (0, "running")
        bench.runner.resume()
        assert await job.result() == "a"


@virtual_time
async def test_several_waits_of_one_job_hold_no_worker_until_the_last() -> None:
    """A worker held by a job that waits on is missing to those whom it waits for."""
    runner, busy = runner_with(workers=1), []
    signals = [asyncio.Event() for _ in range(3)]

    @runner.job
    async def waits(ctx: JobContext) -> None:
        async def wait(signal: asyncio.Event) -> None:
            async with stand_aside(ctx):
                await signal.wait()
            busy.append(runner.stats().busy)

        async with asyncio.TaskGroup() as group:
            for signal in signals:
                group.create_task(wait(signal))

    async with runner:
        job = await runner.submit(waits)
        await asyncio.sleep(1.0)
        for signal in signals:
            assert (runner.stats().busy, job.status) == (0, "running")
            signal.set()
            await asyncio.sleep(1.0)
        await job.result()
    assert busy == [0, 0, 1]


@pytest.mark.parametrize("is_free", [False, True])
@virtual_time
async def test_a_wait_for_a_worker_ends_when_the_job_waits_for_somebody_again(
    is_free: bool,
) -> None:
    """It has no worker then, and needs none, even when one `is_free` before it goes on."""
    bench, trace = Bench(), []
    first, second = asyncio.Event(), asyncio.Event()

    @bench.runner.job
    async def waits_twice(ctx: JobContext) -> None:
        async def wait(signal: asyncio.Event) -> None:
            async with stand_aside(ctx):
                await signal.wait()
            trace.append(bench.runner.stats().busy)

        async with asyncio.TaskGroup() as group:
            group.create_task(wait(first))
            await asyncio.sleep(2.0)
            group.create_task(wait(second))

    async with bench.runner:
        job = await bench.runner.submit(waits_twice)
        await asyncio.sleep(1.0)
        other = await bench.runner.submit("works", {"name": "b"})
        await asyncio.sleep(0.5)
        first.set()  # and the worker is taken
        await asyncio.sleep(1.0)
        assert trace == [1]  # the other job's
        if is_free:
            await other.wait()
            assert bench.runner.stats().busy == 0
        second.set()
        await other.wait()
        assert (await job.wait()).status == "completed"
    assert trace == [1, 1]


@pytest.mark.parametrize(("for_answer", "seconds"), [(True, 105.0), (False, 5.0)])
@virtual_time
async def test_a_time_limit_stands_still_for_people_only(for_answer: bool, seconds: float) -> None:
    """A person's time isn't the handler's; that of jobs which it has started is."""
    bench = Bench(for_answer=for_answer)
    async with bench.runner:
        job = await bench.runner.submit("waits", {"work": 60.0}, timeout=5.0)
        await asyncio.sleep(0.0)
        asyncio.get_running_loop().call_later(100.0, lambda: bench.signals["a"].set())
        view = await ended_after(seconds, job)
    assert (view.status, reason(view)) == ("failed", "timeout")


@virtual_time
async def test_time_given_meanwhile_counts_when_the_job_goes_on() -> None:
    """A handler knows before it asks that it needs longer afterwards."""
    runner, signal = runner_with(), asyncio.Event()

    @runner.job(timeout=5.0)
    async def waits(ctx: JobContext) -> None:
        await asyncio.sleep(2.0)
        async with stand_aside(ctx, for_answer=True):
            ctx.extend_timeout(10.0)
            await signal.wait()
        await asyncio.sleep(60.0)

    async with runner:
        job = await runner.submit(waits)
        asyncio.get_running_loop().call_later(50.0, signal.set)
        view = await ended_after(63.0, job)
    assert view.error is not None and view.error.title == "timed out after 15 s"


@virtual_time
async def test_waiting_for_a_worker_costs_no_time() -> None:
    """The time limit is the handler's; how busy the runner is isn't its fault."""
    bench = Bench(for_answer=False)
    async with bench.runner:
        job = await bench.runner.submit("waits", {"work": 2.0}, timeout=5.0)
        await asyncio.sleep(1.0)
        await bench.runner.submit("works", {"name": "b", "seconds": 30.0})
        await asyncio.sleep(1.0)
        bench.signals["a"].set()
        view = await ended_after(31.0, job)
    assert view.status == "completed"


@virtual_time
async def test_a_deadline_goes_on() -> None:
    """What missed its deadline is of no use, whoever was waited for."""
    bench = Bench()
    async with bench.runner:
        job = await bench.runner.submit("waits", deadline=7.0)
        view = await ended_after(7.0, job)
        assert (reason(view), bench.busy) == ("deadline", 0)


@pytest.mark.parametrize("for_answer", [True, False])
@virtual_time
async def test_silence_is_counted_from_when_the_job_goes_on(for_answer: bool) -> None:
    """It says nothing because others do."""
    bench = Bench(for_answer=for_answer)
    async with bench.runner:
        job = await bench.runner.submit("waits", {"work": 60.0}, stall_timeout=5.0)
        await asyncio.sleep(1.0)
        asyncio.get_running_loop().call_later(99.0, lambda: bench.signals["a"].set())
        view = await ended_after(104.0, job)
    assert reason(view) == "stalled"


@pytest.mark.parametrize("queued", [False, True])
@virtual_time
async def test_a_cancel_needs_no_worker(queued: bool) -> None:
    """A job that waits, for somebody or for a worker, is cancelled at once."""
    bench = Bench()
    async with bench.runner:
        job = await bench.waiting()
        other = await bench.runner.submit("works", {"name": "b"})
        await asyncio.sleep(1.0)
        if queued:
            bench.signals["a"].set()
            await asyncio.sleep(1.0)
        await job.cancel()
        view = await ended_after(0.0, job)
        await other.wait()
        assert (view.status, bench.busy) == ("cancelled", 0)
    assert bench.trace == ["a asks", "b works"]


@virtual_time
async def test_a_handlers_own_timeout_is_raised_when_there_is_a_worker() -> None:
    """The handler goes on after it, and that takes a worker."""
    bench, times = Bench(), []

    @bench.runner.job
    async def impatient(ctx: JobContext) -> str:
        try:
            async with asyncio.timeout(2.0), stand_aside(ctx):
                await asyncio.sleep(100.0)
        except TimeoutError:
            times.append((asyncio.get_running_loop().time(), bench.busy))
        return "went on"

    async with bench.runner:
        job = await bench.runner.submit(impatient)
        await asyncio.sleep(1.0)
        await bench.runner.submit("works", {"name": "b", "seconds": 5.0})
        assert await job.result() == "went on"
    assert times == [(6.0, 1)]


@virtual_time
async def test_a_handlers_own_timeout_may_come_while_it_waits_for_a_worker() -> None:
    """It isn't lost, and the handler still doesn't go on without a worker."""
    bench, times = Bench(), []

    @bench.runner.job
    async def impatient(ctx: JobContext) -> str:
        try:
            async with asyncio.timeout(3.0), stand_aside(ctx):
                await asyncio.sleep(2.0)
        except TimeoutError:
            times.append((asyncio.get_running_loop().time(), bench.busy))
        return "went on"

    async with bench.runner:
        job = await bench.runner.submit(impatient)
        await asyncio.sleep(1.0)
        await bench.runner.submit("works", {"name": "b", "seconds": 5.0})
        assert await job.result() == "went on"
    assert times == [(6.0, 1)]


@virtual_time
async def test_who_ignores_a_cancel_gets_no_worker_and_is_given_up() -> None:
    """A handler that goes on after it was asked to stop takes nobody's place."""
    runner = runner_with(workers=1, cancel_grace=2.0)

    @runner.job
    async def deaf(ctx: JobContext) -> None:
        while True:
            try:
                async with stand_aside(ctx):
                    await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                assert runner.stats().busy == 0

    async with runner:
        job = await runner.submit(deaf)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await ended_after(4.0, job)
        assert (reason(view), runner.stats().busy, runner.stats().stuck) == ("stuck", 0, 1)


@pytest.mark.parametrize("late", [False, True])
@virtual_time
async def test_what_is_left_of_an_attempt_takes_no_worker_from_the_next(late: bool) -> None:
    """A task that a handler has left behind belongs to an attempt that is over."""
    runner, left = runner_with(workers=1), []
    signal = asyncio.Event()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def careless(ctx: JobContext) -> str:
        async def wait() -> None:
            await asyncio.sleep(1.0 if late else 0.0)
            async with stand_aside(ctx):
                await signal.wait()

        if ctx.attempt == 1:
            left.append(asyncio.create_task(wait()))
            await asyncio.sleep(0.5)
            raise ValueError
        await asyncio.sleep(5.0)
        assert runner.stats().busy == 1
        return "second"

    async with runner:
        job = await runner.submit(careless)
        await asyncio.sleep(2.0)
        signal.set()
        assert await job.result() == "second"
        await asyncio.wait(left)
        assert (left[0].cancelled(), runner.stats().busy) == (late, 0)


@virtual_time
async def test_what_waits_for_a_worker_as_its_attempt_ends_is_cancelled() -> None:
    """Nobody would ever let it go on."""
    bench, left = Bench(), []

    @bench.runner.job
    async def careless(ctx: JobContext) -> None:
        async def wait() -> None:
            async with stand_aside(ctx):
                await asyncio.sleep(1.0)

        left.append(asyncio.create_task(wait()))
        await asyncio.sleep(5.0)

    async with bench.runner:
        job = await bench.runner.submit(careless)
        await asyncio.sleep(0.5)
        other = await bench.runner.submit("works", {"name": "b"})
        await job.result()
        await asyncio.wait(left)
        await other.result()
        assert (left[0].cancelled(), bench.busy) == (True, 0)
        again = await bench.runner.submit("works", {"name": "c"})
        await ended_after(10.0, again)


@virtual_time
async def test_a_shutdown_interrupts_who_stands_aside_without_waiting() -> None:
    """Nobody knows when they would go on; they clean up as the others do."""
    bench = Bench(shutdown_timeout=50.0)
    loop = asyncio.get_running_loop()
    async with bench.runner:
        jobs = [await bench.waiting(name) for name in "abc"]
        other = await bench.runner.submit("works", {"name": "d"})
        await asyncio.sleep(1.0)
        bench.signals["a"].set()
        began = loop.time()
    assert loop.time() - began == 9.0
    views: list[JobView] = [job.view() for job in jobs]
    assert [(view.status, reason(view), view.attempt) for view in views] == [
        ("failed", "shutdown", 0)
    ] * 3
    assert other.status == "completed"


@virtual_time
async def test_a_runner_with_nobody_busy_stops_at_once() -> None:
    """However many stand aside."""
    bench = Bench(shutdown_timeout=50.0, workers=3)
    loop = asyncio.get_running_loop()
    async with bench.runner:
        for number in range(20):
            await bench.runner.submit("waits", {"name": f"{number}"})
        await asyncio.sleep(1.0)
        began = loop.time()
    assert loop.time() == began


@virtual_time
async def test_many_that_come_back_are_let_on_as_workers_are_free() -> None:
    """In the order in which they began, and never more at once than there are workers."""
    bench = Bench(workers=3)
    async with bench.runner:
        names = [f"{number:03}" for number in range(200)]
        jobs = [await bench.runner.submit("waits", {"name": name, "work": 1.0}) for name in names]
        await asyncio.sleep(1.0)
        assert bench.busy == 0
        for name in reversed(names):
            bench.signals[name].set()
        for left in range(67, 0, -1):
            await asyncio.sleep(1.0)
            assert bench.busy == (3 if left > 2 else min(3, bench.busy))
        await bench.runner.drain()
    assert [job.status for job in jobs] == ["completed"] * 200
    on = [line.split()[0] for line in bench.trace if line.endswith("goes on")]
    assert on == names


@virtual_time
async def test_a_handler_in_a_process_is_told_that_it_can_not() -> None:
    """There is no worker in the process to give back."""
    from jobrunner.context import Desk
    from tests.records import make_job

    desk = Desk(asyncio.get_running_loop(), record=lambda *_: None, extend=lambda *_: None)
    with pytest.raises(InvalidOption, match="in a process of its own can't wait for others"):
        stand_aside(JobContext(make_job(), desk))


async def test_who_stands_aside_wakes_nobody() -> None:
    """In real time too: the pool is told when a worker is free."""
    runner, signal = JobRunner(workers=1), asyncio.Event()

    @runner.job
    async def waits(ctx: JobContext) -> str:
        async with stand_aside(ctx):
            await signal.wait()
        return "went on"

    @runner.job
    async def frees() -> None:
        signal.set()

    async with runner:
        job = await runner.submit(waits)
        await runner.submit(frees)
        assert await job.result(timeout=5.0) == "went on"
