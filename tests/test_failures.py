"""`on_failure`: who is told of a failed job, and what that can't do to anybody."""

import asyncio
import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    JobRunner,
    JobView,
    PermanentError,
    RetryPolicy,
)
from jobrunner.testing import unix_now, virtual_time

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Told:
    """Notes the jobs that it is told of."""

    def __init__(self) -> None:
        self.jobs: list[JobView] = []
        self.came = asyncio.Event()

    async def __call__(self, job: JobView) -> None:
        self.jobs.append(job)
        self.came.set()

    @property
    def numbers(self) -> list[Any]:
        return [job.params.get("n") for job in self.jobs]


def new_runner(on_failure: Callable[[JobView], Any] | None, **options: Any) -> JobRunner:
    """Return a runner with a type that fails, and one that takes ten seconds."""
    given = {"now": unix_now, "seed": 1, "on_failure": on_failure, **options}
    runner = JobRunner(**given)

    @runner.job
    async def fail(n: int = 0, token: SecretStr | None = None) -> None:
        raise PermanentError(f"bad {n}")

    @runner.job
    async def slow(n: int = 0) -> int:
        await asyncio.sleep(10.0)
        return n

    return runner


# --- who is told of what ------------------------------------------------------------------------


@virtual_time
async def test_it_is_told_once_of_a_job_that_has_failed_for_good() -> None:
    """With the job as it ended: who sends an alert needs all of it, and one alert."""
    told = Told()
    async with new_runner(told) as runner:
        job = await runner.submit("fail", {"n": 7}, session_id="s")
        view = await job.wait()
        await asyncio.sleep(1.0)
        assert told.jobs == [view]
    assert (view.status, view.session_id, told.numbers) == ("failed", "s", [7])


@virtual_time
async def test_a_type_may_have_one_of_its_own() -> None:
    """It goes before the runner's, which isn't told as well."""
    general, special = Told(), Told()
    runner = new_runner(general)

    @runner.job(on_failure=special)
    async def important() -> None:
        raise ValueError("bad")

    async with runner:
        for name in ("fail", "important"):
            await (await runner.submit(name)).wait()
        await asyncio.sleep(1.0)
    assert [job.type for job in general.jobs] == ["fail"]
    assert [job.type for job in special.jobs] == ["important"]


@virtual_time
async def test_it_is_told_of_the_last_attempt_only() -> None:
    """What is tried again has not failed yet."""
    told = Told()
    runner = new_runner(told, retry=RetryPolicy(max_attempts=3, base=0.0))

    @runner.job
    async def flaky(until: int) -> None:
        if (attempts := counts.get(until, 0) + 1) < until:
            counts[until] = attempts
            raise OSError("again")

    counts: dict[int, int] = {}
    async with runner:
        recovers = await runner.submit(flaky, {"until": 3})
        fails = await runner.submit(flaky, {"until": 9})
        await runner.drain()
        await asyncio.sleep(1.0)
    assert recovers.status == "completed"
    assert [(job.job_id, job.attempt) for job in told.jobs] == [(fails.id, 3)]


@virtual_time
async def test_it_is_not_told_of_what_was_wanted() -> None:
    """Neither of a success, nor of a cancelled job, though that raised while it stopped."""
    told = Told()
    runner = new_runner(told)

    @runner.job
    async def sore() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            raise ValueError("while it stopped")

    async with runner:
        jobs = [await runner.submit(name) for name in ("slow", "slow", "sore")]
        waits = await runner.submit("slow", delay=60.0)
        await asyncio.sleep(1.0)
        for job in (jobs[1], jobs[2], waits):
            await job.cancel()
        await runner.drain()
        await asyncio.sleep(1.0)
    assert told.jobs == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"expires": 5.0}, "expired"), ({"deadline": 5.0}, "deadline")],
)
@virtual_time
async def test_it_is_told_of_a_job_that_never_started(options: Any, reason: str) -> None:
    """A job that nobody had time for is a failure that somebody has to know of."""
    told = Told()
    async with new_runner(told) as runner:
        runner.pause()
        await runner.submit("slow", **options)
        await asyncio.sleep(6.0)
    assert [job.error.reason for job in told.jobs if job.error] == [reason]


@virtual_time
async def test_it_is_told_of_jobs_that_a_shutdown_failed() -> None:
    """Those that ran and those that waited: nobody else will ever mention them."""
    told = Told()
    async with new_runner(told, workers=1, shutdown_timeout=0.0) as runner:
        for n in range(30):
            await runner.submit("slow", {"n": n}, delay=float(n // 10))
        await asyncio.sleep(1.5)
    assert sorted(told.numbers) == list(range(30))
    assert {job.error.reason for job in told.jobs if job.error} == {"shutdown"}


@virtual_time
async def test_t3_it_is_told_of_a_stuck_handler() -> None:
    """When the job is given up, not when the handler ends, which may be never."""
    told = Told()
    runner = new_runner(told, cancel_grace=1.0)
    freed = asyncio.Event()

    @runner.job(timeout=1.0)
    async def stuck() -> None:
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue

    async with runner:
        await (await runner.submit(stuck)).wait()
        await asyncio.sleep(1.0)
        assert [job.error.reason for job in told.jobs if job.error] == ["timeout"]
        freed.set()
        await asyncio.sleep(1.0)
    assert len(told.jobs) == 1


# --- how it is called ---------------------------------------------------------------------------


async def test_a_plain_function_is_called_in_a_thread() -> None:
    """It may block, as whatever sends mail does; the loop goes on."""
    said: list[tuple[str, bool]] = []
    loop, came = asyncio.get_running_loop(), asyncio.Event()

    def tell(job: JobView) -> None:
        said.append((job.type, threading.current_thread() is threading.main_thread()))
        loop.call_soon_threadsafe(came.set)

    async with new_runner(tell, now=_no_time) as runner:
        await runner.submit("fail")
        await came.wait()
    assert said == [("fail", False)]


def _no_time() -> float:
    return 1_700_000_000.0


async def async_tell(said: list[str], job: JobView) -> None:
    said.append(job.type)


class AsyncMethod:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    async def tell(self, job: JobView) -> None:
        self.said.append(job.type)


@pytest.mark.parametrize(
    "make",
    [
        lambda said: functools.partial(async_tell, said),
        lambda said: AsyncMethod(said).tell,
        lambda said: functools.partial(functools.partial(async_tell), said),
    ],
    ids=["partial", "method", "nested partial"],
)
@virtual_time
async def test_a_coroutine_function_is_known_in_every_disguise(make: Any) -> None:
    """One that was called in a thread would return a coroutine that nobody awaits."""
    said: list[str] = []
    async with new_runner(make(said)) as runner:
        await runner.submit("fail")
        await asyncio.sleep(1.0)
    assert said == ["fail"]


@virtual_time
async def test_t14_it_sees_no_job_s_context() -> None:
    """Failures of many submitters are told by the same few tasks; none may carry a tenant over."""
    seen: list[tuple[int, str]] = []

    async def tell(job: JobView) -> None:
        seen.append((job.params["n"], tenant.get()))
        tenant.set(f"told of {job.params['n']}")
        await asyncio.sleep(1.0)

    async with new_runner(tell, workers=50) as runner:
        for n in range(30):
            tenant.set(f"owner {n}")
            await runner.submit("fail", {"n": n})
        await asyncio.sleep(20.0)
    assert sorted(seen) == [(n, "nobody") for n in range(30)]


async def test_a_lambda_around_a_coroutine_function_is_awaited() -> None:
    """`lambda job: alert(job, "ops")` is how a second argument is given; it was never awaited."""
    said: list[str] = []
    came = asyncio.Event()

    async def alert(job: JobView, channel: str) -> None:
        said.append(f"{job.type} to {channel}")
        came.set()

    async with new_runner(lambda job: alert(job, "ops"), now=_no_time) as runner:
        await runner.submit("fail")
        async with asyncio.timeout(5.0):
            await came.wait()
    assert said == ["fail to ops"]


# --- what it can't do ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(),
     GeneratorExit(), BaseExceptionGroup("both", [SystemExit(1)])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_t1_nothing_that_it_raises_touches_anything(
    error: BaseException, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Code for bad moments is code that is rarely run; the next failure is told all the same."""
    told, second = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def act(job: JobView) -> None:
        told.append(job.params["n"])
        if len(told) == 2:
            loop.call_soon_threadsafe(second.set)
        raise error

    async def in_loop(job: JobView) -> None:
        act(job)

    tell = in_loop if kind == "coroutine" else act
    async with new_runner(tell, now=_no_time) as runner:
        jobs = []
        for n in (1, 2):
            jobs.append(await runner.submit("fail", {"n": n}))
            await jobs[-1].wait()
        async with asyncio.timeout(5.0):
            await second.wait()
        assert runner.stats().faults == 0
    assert sorted(told) == [1, 2]
    assert [job.view().error.title for job in jobs] == ["bad 1", "bad 2"]  # type: ignore[union-attr]  # they have failed
    logged = [r.getMessage() for r in caplog.records if r.name == "jobrunner.failures"]
    end = "was cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
    assert sorted(logged) == sorted(f"on_failure of job {job.id} (fail) {end}" for job in jobs)


@virtual_time
async def test_it_delays_no_job() -> None:
    """A pager that takes a minute to answer must not take a worker with it."""

    async def tell(job: JobView) -> None:
        await asyncio.sleep(25.0)

    async with new_runner(tell, workers=1) as runner:
        await runner.submit("fail")
        job = await runner.submit("slow")
        await job.wait()
        assert asyncio.get_running_loop().time() == 10.0


@virtual_time
async def test_ten_are_told_at_once_and_the_others_after_them() -> None:
    """A thousand failures in a second must not be a thousand connections to the pager."""
    together = most = 0
    starts: list[float] = []

    async def tell(job: JobView) -> None:
        nonlocal together, most
        starts.append(round(asyncio.get_running_loop().time()))
        together += 1
        most = max(most, together)
        await asyncio.sleep(5.0)
        together -= 1

    async with new_runner(tell) as runner:
        for _ in range(25):
            await runner.submit("fail")
        await asyncio.sleep(60.0)
    assert (most, starts) == (10, [0] * 10 + [5] * 10 + [10] * 5)


@pytest.mark.parametrize("ticks", range(12))
@virtual_time
async def test_a_failure_as_the_last_ones_have_been_told_is_told_too(ticks: int) -> None:
    """All ten that tell end in one tick; whoever fails in that tick needs one of his own."""
    go, told = asyncio.Event(), []

    async def tell(job: JobView) -> None:
        if job.params["n"] < 10:
            await go.wait()
        told.append(job.params["n"])

    runner = new_runner(tell, workers=20)

    @runner.job
    async def late(n: int) -> None:
        await go.wait()
        for _ in range(ticks):
            await asyncio.sleep(0)
        raise ValueError("bad")

    async with runner:
        for n in range(10):
            await runner.submit("fail", {"n": n})
        await runner.submit(late, {"n": 10})
        await asyncio.sleep(1.0)
        go.set()
        await asyncio.sleep(1.0)
        assert sorted(told) == list(range(11))


@pytest.mark.parametrize("stubborn", [False, True])
@virtual_time
async def test_one_that_hangs_is_left(stubborn: bool, caplog: pytest.LogCaptureFixture) -> None:
    """After 30 s it is cancelled, after 30 more nobody waits for it: the next one has its turn."""
    times: list[float] = []
    hanging = True

    async def tell(job: JobView) -> None:
        times.append(round(asyncio.get_running_loop().time()))
        while hanging and len(times) <= 10:
            try:
                await asyncio.sleep(1_000.0)
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    async with new_runner(tell) as runner:
        for _ in range(11):
            await runner.submit("fail")
        await asyncio.sleep(100.0)
        assert times == [0] * 10 + [60 if stubborn else 30]
        hanging = False
    logged = {r.getMessage().partition(" (fail) ")[2] for r in caplog.records
              if r.name == "jobrunner.failures"}  # fmt: skip
    assert logged == ({"does not end; it is left"} if stubborn else {"was cancelled"})


@pytest.mark.parametrize("stubborn", [False, True])
@virtual_time
async def test_a_shutdown_waits_for_them_only_so_long(stubborn: bool) -> None:
    """One grace, and a server that is told to stop has stopped."""
    hanging = True

    async def tell(job: JobView) -> None:
        while hanging:
            try:
                await asyncio.sleep(1_000.0)
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    loop = asyncio.get_running_loop()
    async with new_runner(tell, cancel_grace=3.0) as runner:
        for _ in range(15):
            await runner.submit("fail")
        await asyncio.sleep(1.0)
        await runner.stop(timeout=0)
        assert loop.time() == 4.0
    hanging = False
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []


@virtual_time
async def test_a_shutdown_lets_them_end_that_do() -> None:
    """What failed in the last second is told like everything before it."""
    told: list[int] = []

    async def tell(job: JobView) -> None:
        await asyncio.sleep(0.5)
        told.append(job.params["n"])

    async with new_runner(tell, cancel_grace=3.0) as runner:
        for n in range(25):
            await runner.submit("fail", {"n": n})
        await runner.drain()
    assert sorted(told) == list(range(25))


@virtual_time
async def test_a_runner_that_is_started_again_tells_again() -> None:
    """T16: what hung in its first life takes no place in its second."""
    told: list[int] = []

    async def tell(job: JobView) -> None:
        if job.params["n"] == 0:
            await asyncio.sleep(1_000.0)
        told.append(job.params["n"])

    runner = new_runner(tell, cancel_grace=1.0)
    for _ in range(3):
        async with runner:
            for _ in range(10):
                await runner.submit("fail", {"n": 0})
            await asyncio.sleep(1.0)
    async with runner:
        await runner.submit("fail", {"n": 1})
        await asyncio.sleep(1.0)
    assert told == [1]


@pytest.mark.slow
@virtual_time
async def test_q10_of_too_many_that_wait_the_oldest_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten thousand that nobody has been told of yet are a bound on memory; that takes a second."""
    hanging = asyncio.Event()

    async def tell(job: JobView) -> None:
        await hanging.wait()

    async with new_runner(tell, cancel_grace=0.0) as runner:
        runner.pause()
        first = [await runner.submit("fail", deadline=1.0 + n / 100_000) for n in range(10_012)]
        await asyncio.sleep(5.0)
        missed = [r.getMessage() for r in caplog.records if "too many wait" in r.getMessage()]
        assert missed == [
            f"nobody is told that job {first[n].id} failed: too many wait" for n in (10, 11)
        ]
    said = [r.getMessage() for r in caplog.records if "the runner stops" in r.getMessage()]
    assert said == ["nobody is told of 10000 failed jobs: the runner stops"]
