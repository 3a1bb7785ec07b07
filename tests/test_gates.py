"""Limits of job types: how many run together, and how many start in a time."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobHandle, JobRunner, RetryPolicy
from jobrunner.gates import Gate
from jobrunner.jobs import FINAL, Job
from tests.simulation.loop import simulate, unix_now, virtual_time


class Bench:
    """A runner with a limited job type, and a record of what ran together.

    Args:
        options: Of the job type `limited`.
        more: Options of the runner.
    """

    def __init__(self, options: Mapping[str, Any], **more: Any) -> None:
        self.runner = JobRunner(**{"now": unix_now, "seed": 1, "workers": 10, **more})
        self.order: list[str] = []
        self.starts: list[float] = []
        self.together: Counter[str | None] = Counter()
        self.most: Counter[str | None] = Counter()

        @self.runner.job("limited", **options)
        async def limited(name: str = "", key: str | None = None, seconds: float = 10.0) -> str:
            self.order.append(name)
            self.starts.append(round(asyncio.get_running_loop().time(), 3))
            for of in {None, key}:
                self.together[of] += 1
                self.most[of] = max(self.most[of], self.together[of])
            try:
                await asyncio.sleep(seconds)
            finally:
                for of in {None, key}:
                    self.together[of] -= 1
            return name

        @self.runner.job
        async def free() -> str:
            return "free"

    async def submit(self, name: str = "", key: str | None = None, **options: Any) -> Any:
        seconds = options.pop("seconds", 10.0)
        params = {"name": name, "key": key, "seconds": seconds}
        return await self.runner.submit("limited", params, **options)


def key_of(params: dict[str, Any]) -> str | None:
    key: str | None = params["key"]
    return key


def living(kind: type) -> int:
    """Return how many objects of a class there are in memory."""
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


# --- how many together --------------------------------------------------------------------------


@virtual_time
async def test_no_more_jobs_of_a_type_run_together_than_may() -> None:
    """A model server with two places gets two requests, whatever the runner has workers."""
    bench = Bench({"max_concurrency": 2})
    async with bench.runner as runner:
        for _ in range(7):
            await bench.submit()
        await runner.drain()
    assert bench.most[None] == 2
    assert bench.starts == [0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0]


@virtual_time
async def test_a_closed_gate_holds_no_worker() -> None:
    """One slow type must not stop the others, though hundreds of its jobs wait in front."""
    bench = Bench({"max_concurrency": 1}, workers=2)
    async with bench.runner as runner:
        for _ in range(300):
            await bench.submit(priority=50)
        job = await runner.submit("free")
        assert await job.result(timeout=1.0) == "free"
        assert runner.stats().busy == 1
        await asyncio.sleep(1.0)
        await runner.stop(timeout=0)


@virtual_time
async def test_jobs_with_one_key_run_one_after_the_other() -> None:
    """Two edits of one document must not overlap; those of two documents may."""
    bench = Bench({"concurrency_key": key_of})
    async with bench.runner as runner:
        for n in range(3):
            for key in ("a", "b", None):
                await bench.submit(f"{key}{n}", key)
        await runner.drain()
    assert (bench.most["a"], bench.most["b"]) == (1, 1)
    assert bench.starts == [0.0] * 5 + [10.0] * 2 + [20.0] * 2


@virtual_time
async def test_as_many_with_one_key_run_together_as_may() -> None:
    """Three requests for each customer, for example."""
    bench = Bench({"concurrency_key": key_of, "max_per_key": 3})
    async with bench.runner as runner:
        for _ in range(7):
            await bench.submit(key="a")
        await runner.drain()
    assert (bench.most["a"], bench.starts[-1]) == (3, 20.0)


@pytest.mark.parametrize("options", [{}, {"concurrency_key": key_of}])
@virtual_time
async def test_a_submit_may_name_the_key_itself(options: dict[str, Any]) -> None:
    """Also for a type without a function for it, and instead of what that would say."""
    bench = Bench(options)
    async with bench.runner as runner:
        for key in ("a", "b", None):
            await bench.submit(key=key, concurrency_key="same")
        await runner.drain()
    assert bench.starts == [0.0, 10.0, 20.0]


@virtual_time
async def test_a_key_is_its_types_own() -> None:
    """Two types may both limit by user, each for itself."""
    runner = JobRunner(now=unix_now)

    async def work() -> None:
        await asyncio.sleep(10.0)

    for name in ("one", "two"):
        runner.job(name)(work)
    async with runner:
        for name in ("one", "two"):
            await runner.submit(name, concurrency_key="same")
        await asyncio.sleep(1.0)
        assert runner.stats().busy == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda params: params["missing"], "can't be made of these params: KeyError: 'missing'"),
        (lambda params: 1 / 0, "can't be made of these params: ZeroDivisionError"),
        (lambda params: 5, "concurrency_key is 5; it must be a text"),
        (lambda params: "", "concurrency_key is ''; it must be a text"),
        (lambda params: "x" * 257, "concurrency_key is 'xxx"),
        (lambda params: "a\nb", "concurrency_key is"),
        (lambda params: b"a", "concurrency_key is b'a'"),
        (lambda params: ["a"], r"concurrency_key is \['a'\]"),
        (lambda: "a", "can't be made of these params: TypeError"),
    ],
)
@virtual_time
async def test_a_key_that_can_not_be_made_refuses_the_submit(
    make: Callable[..., Any], said: str
) -> None:
    """T13: it is the type's author's code, on values that nobody has seen; no job is left of it."""
    bench = Bench({"concurrency_key": make})
    async with bench.runner as runner:
        with pytest.raises(InvalidOption, match=said) as caught:
            await bench.submit()
        assert caught.value.option == "concurrency_key"
        assert (await runner.list()).jobs == []


@virtual_time
async def test_a_key_is_made_of_the_validated_params() -> None:
    """`5` and `"5"` are one customer; and what the function does to its dict is its own affair."""
    runner = JobRunner(now=unix_now)
    made: list[Any] = []

    def make(params: dict[str, Any]) -> str:
        made.append(params.pop("customer"))
        return str(made[-1])

    @runner.job(concurrency_key=make)
    async def bill(customer: int) -> int:
        return customer

    async with runner:
        jobs = [await runner.submit("bill", {"customer": given}) for given in (5, "5")]
        assert [await job.result() for job in jobs] == [5, 5]
    assert made == [5, 5]
    assert [runner.record(job.id).concurrency_key for job in jobs] == ["5", "5"]


# --- order --------------------------------------------------------------------------------------


@virtual_time
async def test_jobs_pass_a_gate_in_the_order_of_their_priority() -> None:
    """Waiting at a gate must not make an urgent job wait behind what isn't."""
    bench = Bench({"max_concurrency": 1})
    async with bench.runner as runner:
        await bench.submit("first")
        await asyncio.sleep(1.0)
        for name, priority in [("low", -5), ("b", 0), ("high", 5), ("c", 0), ("highest", 100)]:
            await bench.submit(name, priority=priority)
        await runner.drain()
    assert bench.order == ["first", "highest", "high", "b", "c", "low"]


@pytest.mark.parametrize("seed", range(10))
def test_equal_jobs_pass_a_gate_as_they_came(seed: int) -> None:
    """In whatever order the workers wake up."""

    async def scenario() -> None:
        bench = Bench({"max_concurrency": 1, "concurrency_key": key_of}, workers=3)
        async with bench.runner as runner:
            for n in range(20):
                await bench.submit(str(n), "ab"[n % 2])
            await runner.drain()
        assert bench.order == [str(n) for n in range(20)]

    simulate(scenario, seed=seed)


# --- what opens a gate --------------------------------------------------------------------------


@virtual_time
async def test_a_waiting_job_that_is_cancelled_lets_the_next_one_pass() -> None:
    """Also one that was called already, and stands before the workers again."""
    bench = Bench({"max_concurrency": 1}, workers=1)
    async with bench.runner as runner:
        await bench.submit("first")
        second, third, fourth = [await bench.submit(name) for name in ("second", "third", "last")]
        await asyncio.sleep(1.0)
        await second.cancel()
        runner.pause()
        await asyncio.sleep(10.0)
        await third.cancel()
        runner.resume()
        assert await fourth.result(timeout=11.0) == "last"
    assert bench.order == ["first", "last"]


@virtual_time
async def test_a_called_job_that_is_cancelled_passes_the_call_on() -> None:
    """The gate is open, nobody holds it, and a call that was lost would be lost for all."""
    bench = Bench({"max_concurrency": 1}, workers=2)
    async with bench.runner as runner:
        await bench.submit("first")
        jobs = [await bench.submit(str(n)) for n in range(5)]
        await asyncio.sleep(1.0)
        runner.pause()
        await asyncio.sleep(10.0)
        for job in jobs[:4]:
            await job.cancel()
        runner.resume()
        assert await jobs[4].result(timeout=11.0) == "4"


@virtual_time
async def test_a_called_job_that_waits_elsewhere_then_passes_the_call_on() -> None:
    """The type has room and the job's key has not: the room is for one of another key."""
    bench = Bench({"max_concurrency": 2, "concurrency_key": key_of})
    async with bench.runner as runner:
        await bench.submit("x1", "x1", seconds=10.0)
        await bench.submit("x2", "x2", seconds=11.0)
        for name in ("a1", "a2", "b1"):
            await bench.submit(name, name[0], seconds=30.0)
        await runner.drain()
    assert bench.order == ["x1", "x2", "a1", "b1", "a2"]
    assert bench.starts == [0.0, 0.0, 10.0, 11.0, 40.0]


@pytest.mark.parametrize("limit", [{"expires": 5.0}, {"deadline": 5.0}])
@virtual_time
async def test_a_waiting_job_whose_time_is_over_lets_the_next_one_pass(limit: Any) -> None:
    """It ends where it waits, and the gate goes on to the next."""
    bench = Bench({"max_concurrency": 1})
    async with bench.runner:
        await bench.submit("first")
        late = await bench.submit("late", **limit)
        last = await bench.submit("last")
        assert await last.result(timeout=21.0) == "last"
        assert late.status == "failed"
    assert bench.order == ["first", "last"]


@virtual_time
async def test_a_retry_gives_its_slot_back_meanwhile() -> None:
    """Others run while it waits, and then it waits for its turn like them."""
    runner = JobRunner(now=unix_now, seed=1, retry=RetryPolicy(max_attempts=2, base=0.0))
    order: list[str] = []

    @runner.job(max_concurrency=1)
    async def flaky(ctx: JobContext, name: str) -> None:
        order.append(f"{name}{ctx.attempt}")
        await asyncio.sleep(10.0)
        if name == "a" and ctx.attempt == 1:
            raise OSError("once")

    async with runner:
        for name in "abc":
            await runner.submit(flaky, {"name": name})
        await runner.drain()
    assert order == ["a1", "b1", "c1", "a2"]


@virtual_time
async def test_a_job_that_fails_or_is_cancelled_gives_its_slot_back() -> None:
    """However a job ends, the next one may start."""
    runner = JobRunner(now=unix_now, seed=1)

    @runner.job(max_concurrency=1, concurrency_key=lambda params: "all")
    async def work(how: str) -> str:
        if how == "fails":
            raise ValueError("bad")
        if how == "returns nonsense":
            return object()  # type: ignore[return-value]  # as is tested
        await asyncio.sleep(5.0)
        return how

    async with runner:
        for how in ("fails", "returns nonsense"):
            await runner.submit(work, {"how": how})
        slow = await runner.submit(work, {"how": "is cancelled"})
        timed = await runner.submit(work, {"how": "is slow"}, timeout=1.0)
        last = await runner.submit(work, {"how": "last"})
        await asyncio.sleep(1.0)
        await slow.cancel()
        assert await last.result(timeout=10.0) == "last"
    assert (slow.status, timed.status) == ("cancelled", "failed")


@virtual_time
async def test_t3_the_slot_of_a_stuck_handler_is_free_again() -> None:
    """One that never ends must not close its type for ever; `Limits.max_stuck` is for that."""
    runner = JobRunner(now=unix_now, workers=2, cancel_grace=1.0, shutdown_timeout=0.0)
    freed = asyncio.Event()

    @runner.job(max_concurrency=1, timeout=1.0)
    async def work(stubborn: bool) -> str:
        while stubborn and not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue
        return "value"

    async with runner:
        await runner.submit(work, {"stubborn": True})
        job = await runner.submit(work, {"stubborn": False})
        assert await job.result(timeout=3.1) == "value"
        freed.set()
        again = [await runner.submit(work, {"stubborn": False}) for _ in range(3)]
        assert [await job.result(timeout=1.0) for job in again] == ["value"] * 3


@virtual_time
async def test_a_paused_runner_opens_no_gate() -> None:
    """And when it is resumed, the limit still holds."""
    bench = Bench({"max_concurrency": 2})
    async with bench.runner as runner:
        for _ in range(6):
            await bench.submit()
        await asyncio.sleep(1.0)
        runner.pause()
        await asyncio.sleep(100.0)
        assert len(bench.starts) == 2
        runner.resume()
        await runner.drain()
    assert (bench.most[None], bench.starts[2:]) == (2, [101.0, 101.0, 111.0, 111.0])


@virtual_time
async def test_a_runner_that_is_started_again_begins_with_open_gates() -> None:
    """T16: what ran and waited in its first life takes no slot in its second."""
    bench = Bench({"max_concurrency": 1, "concurrency_key": key_of}, shutdown_timeout=0.0)
    async with bench.runner:
        for _ in range(5):
            await bench.submit(key="a")
        await asyncio.sleep(1.0)
    async with bench.runner:
        jobs = [await bench.submit(str(n), key="a") for n in range(3)]
        assert [await job.result() for job in jobs] == ["0", "1", "2"]
    assert bench.most["a"] == 1


# --- rates --------------------------------------------------------------------------------------


@virtual_time
async def test_no_more_attempts_start_in_a_time_than_may() -> None:
    """A provider that allows three requests in ten seconds sees three in any ten seconds."""
    bench = Bench({"rate_limit": "3/10s"})
    async with bench.runner as runner:
        for _ in range(8):
            await bench.submit(seconds=1.0)
        await runner.drain()
    assert bench.starts == [0.0] * 3 + [10.0] * 3 + [20.0] * 2


@virtual_time
async def test_a_rate_is_no_matter_of_the_clocks_minutes() -> None:
    """Two bursts around the full minute would be twice the rate: the window slides."""
    bench = Bench({"rate_limit": "3/min"})
    async with bench.runner as runner:
        for at in (50.0, 55.0, 59.0):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            await bench.submit()
        for _ in range(4):
            await bench.submit()
        await runner.drain()
    assert bench.starts == [50.0, 55.0, 59.0, 110.0, 115.0, 119.0, 170.0]


@virtual_time
async def test_a_rate_counts_retries() -> None:
    """The provider counts requests, and doesn't know which of them are second ones."""
    runner = JobRunner(now=unix_now, seed=1, retry=RetryPolicy(max_attempts=3, base=0.0))
    starts: list[float] = []

    @runner.job(rate_limit="1/10s")
    async def failing() -> None:
        starts.append(asyncio.get_running_loop().time())
        raise OSError("again")

    async with runner:
        await runner.submit(failing)
        await runner.submit(failing)
        await runner.drain()
    assert [round(start) for start in starts] == [0, 10, 20, 30, 40, 50]


@virtual_time
async def test_a_waiting_job_that_is_cancelled_uses_up_no_start() -> None:
    """Starts are counted when they happen."""
    bench = Bench({"rate_limit": "1/10s"})
    async with bench.runner as runner:
        jobs = [await bench.submit(str(n)) for n in range(4)]
        await asyncio.sleep(1.0)
        await jobs[1].cancel()
        await jobs[2].cancel()
        await runner.drain()
    assert bench.starts == [0.0, 10.0]


@virtual_time
async def test_an_idle_time_saves_up_no_starts() -> None:
    """An hour without jobs is no credit for a burst."""
    bench = Bench({"rate_limit": "2/min"})
    async with bench.runner as runner:
        await bench.submit()
        await asyncio.sleep(3_600.0)
        for _ in range(3):
            await bench.submit()
        await runner.drain()
    assert bench.starts == [0.0, 3_600.0, 3_600.0, 3_660.0]


@virtual_time
async def test_an_urgent_job_is_the_first_when_the_window_opens() -> None:
    """Whenever it came."""
    bench = Bench({"rate_limit": "1/min"}, workers=1)
    async with bench.runner as runner:
        for name in ("first", "second"):
            await bench.submit(name)
        await asyncio.sleep(1.0)
        await bench.submit("urgent", priority=50)
        await runner.drain()
    assert bench.order == ["first", "urgent", "second"]


@virtual_time
async def test_a_rate_holds_in_a_runner_that_is_started_again() -> None:
    """T16: what would have opened the window has gone with the first life."""
    bench = Bench({"rate_limit": "1/10s"}, shutdown_timeout=0.0)
    for _ in range(2):
        async with bench.runner:
            jobs = [await bench.submit(seconds=1.0) for _ in range(3)]
            await jobs[1].wait(timeout=12.0)
    assert bench.starts == [0.0, 10.0, 11.0, 21.0]


# --- several gates ------------------------------------------------------------------------------

LIMITS = {"max_concurrency": 3, "concurrency_key": key_of, "max_per_key": 2, "rate_limit": "5/20s"}


@pytest.mark.parametrize("seed", range(20))
def test_jobs_that_pass_several_gates_never_wait_for_each_other(seed: int) -> None:
    """A job that took one gate and waited at the next would be half of a deadlock."""

    async def scenario() -> None:
        bench = Bench(LIMITS, workers=5)
        async with bench.runner as runner:
            jobs = [
                await bench.submit(str(n), "abc"[(n + seed) % 3], seconds=1.0 + n % 7,
                                   priority=n % 4, delay=float(n % 5))
                for n in range(40)
            ]  # fmt: skip
            for job in jobs[::6]:
                await asyncio.sleep(3.0)
                await job.cancel()
            await runner.drain(timeout=1_000.0)
        check_limits(bench)

    simulate(scenario, seed=seed)


def check_limits(bench: Bench) -> None:
    """Fail if a limit of `LIMITS` didn't hold, or a gate has stayed."""
    assert bench.most[None] <= 3
    assert max(bench.most[key] for key in "abc") <= 2
    starts = sorted(bench.starts)
    assert all(later - first >= 20.0 for first, later in zip(starts, starts[5:], strict=False))


@virtual_time
async def test_a_worker_is_never_idle_while_a_job_could_run() -> None:
    """Jobs of one key in front must not hide those of another behind them."""
    bench = Bench({"max_concurrency": 2, "concurrency_key": key_of})
    async with bench.runner as runner:
        for key in "aaaaaaaab":
            await bench.submit(key=key)
        await runner.drain()
    assert bench.starts == [0.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]


# --- cost ---------------------------------------------------------------------------------------


@pytest.mark.slow  # looks at every object that there is
@virtual_time
async def test_q10_a_key_that_nobody_uses_costs_nothing() -> None:
    """A key for each user, for years: what was for a job must go with it, however that ended."""
    bench = Bench({"concurrency_key": key_of, "max_concurrency": 50}, workers=50)
    before = living(Gate)
    async with bench.runner as runner:
        jobs: list[JobHandle[Any]] = [
            await bench.submit(key=f"user {n}", seconds=0.1, delay=float(n % 3), deadline=4.0)
            for n in range(400)
        ]
        for job in jobs[::5]:
            await job.cancel()
        await asyncio.sleep(0.2)
        runner.pause()
        await runner.drain()
        assert living(Gate) - before == 1  # the type's own
        counts = runner.stats().jobs
    assert min(counts[status] for status in FINAL) >= 50


@virtual_time
async def test_q10_a_key_whose_waiting_jobs_were_cancelled_costs_nothing() -> None:
    """They are passed over when the key's turn comes, and then nothing of it is left."""
    bench, before = Bench({"concurrency_key": key_of}), living(Gate)
    async with bench.runner as runner:
        await bench.submit(key="a")
        jobs = [await bench.submit(key="a") for _ in range(3)]
        await asyncio.sleep(1.0)
        for job in jobs[:2]:
            await job.cancel()
        await runner.drain()
        assert living(Gate) == before


@virtual_time
async def test_q10_cancelled_jobs_behind_a_gate_are_let_go() -> None:
    """Submits and cancels behind a gate that stays closed for hours must not stay in memory."""
    bench = Bench({"max_concurrency": 1})
    async with bench.runner:
        await bench.submit(seconds=3_600.0)
        await bench.submit("kept")
        await asyncio.sleep(1.0)
        before = living(Job)
        for _ in range(300):
            await (await bench.submit()).cancel()
        assert living(Job) - before <= 65
        await bench.runner.drain()
    assert bench.order == ["", "kept"]


@pytest.mark.slow
async def test_q4_ten_thousand_jobs_behind_a_gate_do_not_hold_up_the_loop() -> None:
    """Whoever else is on the loop, an answer or a timer, must not wait while they are sent off."""
    runner = JobRunner(workers=4, watchdog=None)
    opened = asyncio.Event()

    @runner.job(max_concurrency=1)
    async def work() -> None:
        await opened.wait()

    @runner.job
    async def free() -> None: ...

    runner.pause()
    async with runner:
        for _ in range(10_000):
            await runner.submit(work)
        runner.resume()
        began, ticks = time.perf_counter(), 0
        job = await runner.submit(free, priority=-100)
        while job.status == "pending":
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 10_000 / (4 * 100)
        assert (time.perf_counter() - began) / ticks < 0.05
        opened.set()
        await runner.stop(timeout=0)
