"""Which job is next, and which isn't due yet."""

import asyncio
import weakref

from jobrunner.jobs import Job, cancel
from jobrunner.options import TypeOptions
from jobrunner.queue import AGEING, JobQueue
from jobrunner.testing import virtual_time
from jobrunner.timers import Timers
from tests.records import make_job


class Queue(JobQueue):
    """A queue to wait at: it is only asked again when it has said that there may be a job."""

    def __init__(self, timers: Timers) -> None:
        self._told = asyncio.Event()
        super().__init__(timers, lambda type: TypeOptions(), self._told.set)

    async def get(self) -> Job:
        while (job := self.take()) is None:
            self._told.clear()
            await self._told.wait()
        assert isinstance(job, Job)
        return job


def opened() -> tuple[Queue, Timers]:
    timers = Timers()
    timers.open(asyncio.get_running_loop())
    return Queue(timers), timers


async def taken(queue: Queue, count: int) -> list[int]:
    return [(await queue.get()).number for _ in range(count)]


def drop(queue: JobQueue, job: Job) -> None:
    """End a waiting job, as the runner does."""
    cancel(job, 2_000.0)
    queue.discard(job)


@virtual_time
async def test_first_come_first_served() -> None:
    """Equal jobs run in the order of their submission."""
    queue, _ = opened()
    for number in range(1, 6):
        queue.put(make_job(number))
    assert await taken(queue, 5) == [1, 2, 3, 4, 5]


@virtual_time
async def test_higher_priority_goes_first() -> None:
    """Among jobs that came together."""
    queue, _ = opened()
    for number, priority in enumerate([0, -3, 5, 5, 1], 1):
        queue.put(make_job(number, priority=priority))
    assert await taken(queue, 5) == [3, 4, 5, 1, 2]


@virtual_time
async def test_order_holds_between_those_that_overtake_and_those_that_do_not() -> None:
    """Whatever has been taken before: each number here is a priority."""
    queue, _ = opened()
    served = []
    for number, priority in enumerate([0, 3, 1, -2, 3, 0, 2, -2, 0, 1], 1):
        queue.put(make_job(number, priority=priority))
        if number % 3 == 0:
            served += await taken(queue, 1)
    assert served + await taken(queue, 7) == [2, 5, 7, 3, 10, 1, 6, 9, 4, 8]


@virtual_time
async def test_a_point_of_priority_is_worth_a_minute() -> None:
    """A job that has waited longer than that goes before one of higher priority."""
    queue, _ = opened()
    queue.put(make_job(1))
    await asyncio.sleep(AGEING - 1)
    queue.put(make_job(2, priority=1))
    await asyncio.sleep(2)
    queue.put(make_job(3, priority=1))
    assert await taken(queue, 3) == [2, 1, 3]


@virtual_time
async def test_q4_nobody_starves() -> None:
    """Whatever keeps coming, priority 10 overtakes priority 0 for ten minutes (Q4)."""
    queue, _ = opened()
    queue.put(make_job(1))
    served = []
    for number in range(2, 1_000):
        queue.put(make_job(number, priority=10))
        served += await taken(queue, 1)
        await asyncio.sleep(1)
    assert served.index(1) == 10 * AGEING


@virtual_time
async def test_a_job_comes_when_it_is_due() -> None:
    """Not before its time, and in the order of due times."""
    queue, timers = opened()
    for number, delay in enumerate([30.0, 10.0, 20.0], 1):
        queue.put(make_job(number), delay=delay)
    came = []
    for _ in range(3):
        job = await queue.get()
        came.append((job.number, timers.now(), job.timer))
    assert came == [(2, 10.0, None), (3, 20.0, None), (1, 30.0, None)]


@virtual_time
async def test_waiting_counts_from_when_a_job_was_due() -> None:
    """An hour's delay is no head start over what came meanwhile."""
    queue, _ = opened()
    queue.put(make_job(1), delay=3_600.0)
    await asyncio.sleep(3_599)
    queue.put(make_job(2))
    await asyncio.sleep(2)
    assert await taken(queue, 2) == [2, 1]


@virtual_time
async def test_q2_a_job_that_has_ended_is_not_given_out() -> None:
    """An acknowledged cancel never runs (Q2)."""
    queue, _ = opened()
    jobs = [make_job(number) for number in (1, 2, 3)]
    for job in jobs:
        queue.put(job)
    drop(queue, jobs[0])
    drop(queue, jobs[1])
    assert await taken(queue, 1) == [3]


@virtual_time
async def test_q2_a_job_that_was_not_due_leaves_no_timer() -> None:
    """A delay of a day that was cancelled must not wake anybody."""
    queue, timers = opened()
    job = make_job(1)
    queue.put(job, delay=86_400.0)
    drop(queue, job)
    assert (len(timers), job.timer) == (0, None)


@virtual_time
async def test_q10_lets_go_of_ended_jobs_that_nobody_takes() -> None:
    """Ten thousand submits and cancels on a paused runner must not stay in memory (Q10)."""

    class Metadata(dict[str, str]):
        pass

    def held(number: int) -> "weakref.ref[Metadata]":
        metadata = Metadata()
        job = make_job(number, metadata=metadata)
        queue.put(job)
        drop(queue, job)
        return weakref.ref(metadata)

    queue, _ = opened()
    queue.pause()
    queue.put(make_job(2))
    alive = [held(number) for number in range(3, 1_003)]
    assert sum(one() is not None for one in alive) <= 65
    queue.resume()
    assert await taken(queue, 1) == [2]


class Watched(Job):
    """Counts how often somebody asks whether it has ended."""

    looks = 0

    @property
    def is_final(self) -> bool:
        Watched.looks += 1
        return super().is_final


@virtual_time
async def test_letting_go_costs_little_on_the_average() -> None:
    """Going through all that wait at each cancel would be quadratic."""
    queue, _ = opened()
    jobs = [make_job(number, Watched) for number in range(1_000)]
    for job in jobs:
        queue.put(job)
    Watched.looks = 0
    for job in jobs:
        drop(queue, job)
    assert 0 < Watched.looks <= 2 * len(jobs)


@virtual_time
async def test_keeps_its_order_when_it_lets_go() -> None:
    """Whoever waits is served as if the others had never been there."""
    queue, _ = opened()
    jobs = [make_job(number, priority=number % 3) for number in range(300)]
    for job in jobs:
        queue.put(job)
    for job in jobs:
        if job.number % 10:
            drop(queue, job)
    left = sorted(range(0, 300, 10), key=lambda number: (-(number % 3), number))
    assert await taken(queue, 30) == left


@virtual_time
async def test_gives_out_nothing_while_paused() -> None:
    """Whether it had a job before it was paused makes no difference, nor does the job's delay."""
    queue, _ = opened()
    getting = asyncio.create_task(queue.get(), name="worker")
    await asyncio.sleep(0)
    queue.pause()
    queue.put(make_job(2), delay=5.0)
    queue.put(make_job(1))
    await asyncio.sleep(3_600)
    assert (queue.paused, getting.done()) == (True, False)
    queue.resume()
    assert (await getting).number == 1
    assert (queue.paused, await taken(queue, 1)) == (False, [2])


@virtual_time
async def test_stays_paused_when_it_is_opened_again() -> None:
    """Who paused a runner before it was started wants it paused; opening empties the queue."""
    queue, _ = opened()
    queue.put(make_job(1))
    queue.pause()
    queue.open()
    queue.put(make_job(2))
    getting = asyncio.create_task(queue.get(), name="worker")
    await asyncio.sleep(1)
    assert not getting.done()
    queue.resume()
    assert (await getting).number == 2
