"""Limits of job types: how many run together, in what order, and what opens a gate."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobRunner, RetryPolicy
from jobrunner.testing import simulate, unix_now, virtual_time
from tests.limited import Bench, key_of


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


@virtual_time
async def test_a_key_is_its_owners_own() -> None:
    """Nobody waits for another tenant because both have called something the same."""
    bench = Bench({"concurrency_key": key_of})
    async with bench.runner as runner:
        for n in range(2):
            for owner in ("ada", "bob", None):
                await bench.submit(f"{owner}{n}", "main", **({"owner": owner} if owner else {}))
        await runner.drain()
    assert (bench.most["main"], bench.starts) == (3, [0.0] * 3 + [10.0] * 3)


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


# --- order ---
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


# --- what opens a gate ---
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
