"""The pool: as many jobs at once as it has workers, more, fewer, and none when it stops."""

import asyncio
from typing import Any

import pytest

from jobrunner import InvalidOption, JobHandle, JobRunner
from jobrunner.testing import unix_now, virtual_time


class Gauge:
    """A job type that counts how many of it run at once."""

    def __init__(self, runner: JobRunner) -> None:
        self.running = 0
        self.most = 0
        runner.job("gauge")(self)

    async def __call__(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(10.0)
        finally:
            self.running -= 1


async def submit_many(runner: JobRunner, count: int) -> list[JobHandle[None]]:
    return [await runner.submit("gauge") for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 3])
@virtual_time
async def test_no_more_jobs_run_than_there_are_workers(workers: int) -> None:
    """More jobs than workers wait their turn."""
    runner = JobRunner(workers=workers, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        await submit_many(runner, 7)
        await runner.drain()
    assert gauge.most == workers


@virtual_time
async def test_a_large_pool_is_filled_in_several_turns() -> None:
    """Who begins hundreds of jobs in one step would hold up everybody else."""
    runner = JobRunner(workers=250, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        await submit_many(runner, 300)
        await asyncio.sleep(1.0)
        assert gauge.running == 250
        await runner.drain()


@virtual_time
async def test_a_loop_s_own_kind_of_task_is_used() -> None:
    """Who gives the loop a task factory wants it for all tasks."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    asyncio.get_running_loop().set_task_factory(factory)
    runner = JobRunner(workers=2, now=unix_now)
    Gauge(runner)
    async with runner:
        jobs = await submit_many(runner, 3)
        await runner.drain()
    assert {job.id for job in jobs} <= {task.get_name() for task in made}


@virtual_time
async def test_a_larger_pool_starts_more_jobs_at_once() -> None:
    """Who waits doesn't wait for a running job to end."""
    runner = JobRunner(workers=1, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        await submit_many(runner, 5)
        await asyncio.sleep(1.0)
        runner.resize(4)
        await asyncio.sleep(1.0)
        assert (gauge.running, runner.stats().workers) == (4, 4)


@virtual_time
async def test_a_smaller_pool_interrupts_no_job() -> None:
    """What runs goes on to its end; then fewer run."""
    runner = JobRunner(workers=4, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        jobs = await submit_many(runner, 8)
        await asyncio.sleep(1.0)
        runner.resize(1)
        await asyncio.sleep(5.0)
        assert (gauge.running, runner.stats().busy) == (4, 4)
        await asyncio.sleep(5.0)
        assert gauge.running == 1
        await runner.drain()
    assert [job.status for job in jobs] == ["completed"] * 8


@virtual_time
async def test_a_pool_that_shrinks_and_grows_again_has_its_size() -> None:
    """A worker that was about to leave doesn't count, and doesn't leave twice."""
    runner = JobRunner(workers=3, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        await submit_many(runner, 30)
        for size in (3, 1, 2, 1, 3, 2):
            await asyncio.sleep(4.0)
            runner.resize(size)
        await asyncio.sleep(30.0)
        assert (gauge.running, runner.stats().busy) == (2, 2)
        await runner.drain()
    assert gauge.most <= 4


@virtual_time
async def test_idle_workers_leave_before_busy_ones() -> None:
    """A shrunk pool still has a free worker when one job runs."""
    runner = JobRunner(workers=4, now=unix_now)
    gauge = Gauge(runner)
    async with runner:
        await submit_many(runner, 1)
        await asyncio.sleep(1.0)
        runner.resize(2)
        await submit_many(runner, 2)
        await asyncio.sleep(1.0)
        assert gauge.running == 2


@virtual_time
async def test_a_runner_can_be_resized_before_it_starts() -> None:
    """The size may come from a configuration that is read later."""
    runner = JobRunner(workers=1, now=unix_now)
    gauge = Gauge(runner)
    runner.resize(3)
    async with runner:
        await submit_many(runner, 5)
        await runner.drain()
    assert gauge.most == 3


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", None])
def test_a_pool_has_at_least_one_worker(workers: int) -> None:
    """A pool of none would take jobs and never run them."""
    message = f"workers is {workers!r}; it must be an integer, 1 or more"
    with pytest.raises(InvalidOption) as made:
        JobRunner(workers=workers)
    runner = JobRunner(workers=2)
    with pytest.raises(InvalidOption) as resized:
        runner.resize(workers)
    assert (str(made.value), str(resized.value), runner.stats().workers) == (message, message, 2)


@virtual_time
async def test_stopping_lets_running_jobs_end() -> None:
    """They have the time of the shutdown; what waited fails with the reason."""
    runner = JobRunner(workers=2, shutdown_timeout=60.0, now=unix_now)
    Gauge(runner)
    loop = asyncio.get_running_loop()
    async with runner:
        jobs = await submit_many(runner, 3)
        await asyncio.sleep(1.0)
        began = loop.time()
    assert loop.time() - began == 9.0
    assert [job.status for job in jobs] == ["completed", "completed", "failed"]


@virtual_time
async def test_stopping_interrupts_what_does_not_end_in_time() -> None:
    """The jobs are told, they clean up, and nothing is left running."""
    runner = JobRunner(workers=2, shutdown_timeout=4.0, now=unix_now)
    gauge = Gauge(runner)
    loop = asyncio.get_running_loop()
    async with runner:
        await submit_many(runner, 2)
        await asyncio.sleep(1.0)
        began = loop.time()
    assert (loop.time() - began, gauge.running, len(asyncio.all_tasks())) == (4.0, 0, 1)


@virtual_time
async def test_stopping_an_idle_pool_takes_no_time() -> None:
    """Nothing is waited for that doesn't run."""
    loop = asyncio.get_running_loop()
    async with JobRunner(workers=50, now=unix_now):
        pass
    assert (loop.time(), len(asyncio.all_tasks())) == (0.0, 1)
