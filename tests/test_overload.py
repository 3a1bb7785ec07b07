"""What a full queue answers: at once, after a wait, and over HTTP."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from jobrunner import InvalidOption, InvalidParams, JobRunner, Limits, QueueFull, RunnerStopped
from jobrunner.testing import simulate, unix_now, virtual_time
from tests.serving import in_process, problem


def new_runner(limits: Limits, **options: Any) -> JobRunner:
    """Return a runner with two types whose jobs take ten seconds; of the first, two may wait."""
    runner = JobRunner(**{"now": unix_now, "seed": 1, "workers": 1, "limits": limits, **options})

    @runner.job(max_pending=2)
    async def small(n: int = 0) -> int:
        await asyncio.sleep(10.0)
        return n

    @runner.job
    async def large(n: int = 0, text: str = "") -> int:
        await asyncio.sleep(10.0)
        return n

    return runner


async def refusal(submit: Awaitable[Any]) -> QueueFull:
    """Return how a submit is refused."""
    with pytest.raises(QueueFull) as caught:
        await submit
    return caught.value


def waiting(submit: Any, name: str = "submit") -> "asyncio.Task[Any]":
    """Submit in a task."""
    return asyncio.create_task(submit, name=name)


# --- how many may wait --------------------------------------------------------------------------


@virtual_time
async def test_a_type_has_a_bound_of_its_own() -> None:
    """One type that nobody keeps up with must not take the places of all others."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        for _ in range(2):
            await runner.submit("small")
        assert str(await refusal(runner.submit("small"))) == (
            "2 jobs wait already, 2 of them of type 'small'; there is no room for more: try "
            "again later, or submit with max_wait"
        )
        await runner.submit("large")


@virtual_time
async def test_the_runners_bound_holds_over_all_types() -> None:
    """Memory is the runner's, whoever fills it."""
    async with new_runner(Limits(max_pending=3)) as runner:
        runner.pause()
        for name in ("small", "large", "large"):
            await runner.submit(name)
        await refusal(runner.submit("small"))
        await refusal(runner.submit("large"))


@virtual_time
async def test_a_job_that_runs_takes_no_place() -> None:
    """The bound is on what waits: with one worker and two places, three are in."""
    async with new_runner(Limits()) as runner:
        await runner.submit("small")
        await asyncio.sleep(1.0)
        for _ in range(2):
            await runner.submit("small")
        await refusal(runner.submit("small"))


@virtual_time
async def test_the_params_of_all_live_jobs_are_bounded() -> None:
    """Q10: a thousand jobs of a megabyte are within every count; those that run count as well."""
    async with new_runner(Limits(max_live_bytes=100)) as runner:
        job = await runner.submit("large", {"text": "x" * 90})
        await asyncio.sleep(1.0)
        await refusal(runner.submit("large"))
        await job.wait()
        await runner.submit("large")


# --- how long to stay away ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "idle", "expected"),
    [(0, 0.0, 1.0), (1, 0.0, 1.0), (6, 0.0, 5 / 3), (6, 50.0, 10 / 3), (6, 10_000.0, 60.0)],
)
@virtual_time
async def test_a_refusal_says_when_there_should_be_room(
    ended: int, idle: float, expected: float
) -> None:
    """From the pace at which jobs really end: a hundredth of the queue, 1 to 60 s."""
    async with new_runner(Limits(max_pending=20), workers=1) as runner:
        for _ in range(ended):
            await runner.submit("large")
        await runner.drain()
        await asyncio.sleep(idle)
        runner.pause()
        for _ in range(20):
            await runner.submit("large")
        error = await refusal(runner.submit("large"))
    assert error.retry_after == pytest.approx(expected)


@virtual_time
async def test_the_pace_is_that_of_the_last_jobs() -> None:
    """A fast morning says nothing of a slow afternoon."""
    async with new_runner(Limits(max_pending=1_000), workers=100) as runner:
        for _ in range(500):
            await runner.submit("large")
        await runner.drain()
        runner.resize(1)
        for _ in range(150):
            await runner.submit("large")
        await runner.drain()
        runner.pause()
        for _ in range(1_000):
            await runner.submit("large")
        error = await refusal(runner.submit("large"))
    assert error.retry_after == 60.0


async def test_over_http_it_is_a_503_with_retry_after() -> None:
    """RFC 9110, 10.2.3: whole seconds, at least one, which every client library obeys."""
    async with in_process(limits=Limits(max_pending=1)) as bench:
        bench.runner.pause()
        await bench.submit("echo")
        response = await bench.client.post("/jobs", json={"type": "echo"})
        assert problem(response) == (503, "queue-full")
        assert response.headers["retry-after"] == "1"
        assert len((await bench.runner.list()).jobs) == 1


# --- waiting for room ---------------------------------------------------------------------------


@virtual_time
async def test_a_submit_may_wait_for_room() -> None:
    """Backpressure for who produces jobs: as fast as they are done, and no faster."""
    async with new_runner(Limits()) as runner:
        loop, accepted = asyncio.get_running_loop(), []
        for _ in range(6):
            await runner.submit("small", max_wait=None)
            accepted.append(loop.time())
    assert accepted == [0.0, 0.0, 0.0, 10.0, 20.0, 30.0]


@virtual_time
async def test_who_waits_too_long_is_told_so() -> None:
    """With the same error as without a wait, after exactly the time that was given."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        for _ in range(2):
            await runner.submit("small")
        error = await refusal(runner.submit("small", max_wait=7.5))
        assert asyncio.get_running_loop().time() == 7.5
        assert str(error).startswith("2 jobs wait already, 2 of them of type 'small'")
        assert len((await runner.list()).jobs) == 2


@pytest.mark.parametrize("seed", range(10))
def test_who_waits_for_room_is_served_as_they_came(seed: int) -> None:
    """Whatever the loop does first."""

    async def scenario() -> None:
        async with new_runner(Limits()) as runner:
            submits = []
            for n in range(12):
                submits.append(waiting(runner.submit("small", {"n": n}, max_wait=None)))
                await asyncio.sleep(0.1)
            await asyncio.wait(submits)
            await runner.drain()
            numbers = [submit.result().view().params["n"] for submit in submits]
            order = sorted(submits, key=lambda submit: runner.record(submit.result().id).number)
        assert numbers == list(range(12))
        assert order == submits

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("ticks", range(8))
@virtual_time
async def test_a_newcomer_does_not_pass_who_waits(ticks: int) -> None:
    """A place that gets free is the first one's, at whatever moment somebody else asks."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        first = [await runner.submit("small") for _ in range(2)]
        patient = waiting(runner.submit("small", {"n": 1}, max_wait=None))
        await asyncio.sleep(1.0)
        await first[0].cancel()
        for _ in range(ticks):
            await asyncio.sleep(0)
        await refusal(runner.submit("small", {"n": 2}))
        assert (await patient).view().params == {"n": 1}


@virtual_time
async def test_who_is_of_another_type_need_not_wait_behind() -> None:
    """A line is a type's: its bound is not the others' matter."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        for _ in range(2):
            await runner.submit("small")
        patient = waiting(runner.submit("small", max_wait=None))
        await asyncio.sleep(1.0)
        await runner.submit("large")
        assert not patient.done()
        patient.cancel()
        await asyncio.wait([patient])


@pytest.mark.parametrize("place", [0, 1, 2])
@virtual_time
async def test_t6_a_wait_that_is_cancelled_leaves_nothing_behind(place: int) -> None:
    """Neither a job nor a place in the line, wherever it stood."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        for _ in range(2):
            await runner.submit("small")
        line = [waiting(runner.submit("small", {"n": n}, max_wait=None)) for n in (1, 2, 3)]
        await asyncio.sleep(1.0)
        line[place].cancel()
        await asyncio.sleep(1.0)
        assert [task.done() for task in line] == [n == place for n in range(3)]
        runner.resume()
        await asyncio.wait(line)
        others = [task.result().view().params["n"] for task in line if not task.cancelled()]
        assert others == [n for n in (1, 2, 3) if n != place + 1]
        await runner.drain()
        assert (await runner.submit("small")).outcome == "created"


@pytest.mark.parametrize("ticks", range(12))
@virtual_time
async def test_t6_a_wait_that_is_cancelled_as_room_comes_passes_it_on(ticks: int) -> None:
    """Either it got its job, or the next in the line did; no place is lost between them."""
    async with new_runner(Limits()) as runner:
        runner.pause()
        first = [await runner.submit("small") for _ in range(2)]
        line = [waiting(runner.submit("small", {"n": n}, max_wait=None)) for n in (1, 2)]
        await asyncio.sleep(1.0)
        await first[0].cancel()
        for _ in range(ticks):
            await asyncio.sleep(0)
        line[0].cancel()
        await asyncio.sleep(1.0)
        assert [task.done() for task in line] in ([True, True], [True, False])
        assert line[0].cancelled() == line[1].done()
        jobs = [job for job in (await runner.list()).jobs if job.status == "pending"]
        assert len(jobs) == 2
        line[1].cancel()
        await asyncio.wait(line)


@virtual_time
async def test_who_waits_when_the_runner_stops_is_told_so() -> None:
    """At the latest when it has stopped; none of them waits for a runner that is gone."""
    runner = new_runner(Limits())
    async with runner:
        runner.pause()
        for _ in range(2):
            await runner.submit("small")
        line = [waiting(runner.submit("small", max_wait=None)) for _ in range(3)]
        await asyncio.sleep(1.0)
    await asyncio.wait(line, timeout=1.0)
    for task in line:
        with pytest.raises(RunnerStopped):
            task.result()
    assert len((await runner.list()).jobs) == 2
    async with runner:
        assert (await runner.submit("small")).outcome == "created"


@virtual_time
async def test_two_types_wait_for_one_place() -> None:
    """One of them gets it, and the other goes on waiting."""
    async with new_runner(Limits(max_pending=2)) as runner:
        runner.pause()
        first = [await runner.submit("large") for _ in range(2)]
        line = [waiting(runner.submit(name, max_wait=None)) for name in ("small", "large")]
        await asyncio.sleep(1.0)
        for n in (1, 2):
            await first[n - 1].cancel()
            await asyncio.sleep(1.0)
            assert sum(task.done() for task in line) == n


@pytest.mark.parametrize("max_wait", [-1, float("nan"), "5", True, 1e12])
@virtual_time
async def test_a_wait_has_to_be_a_time(max_wait: Any) -> None:
    """Said at once, also while there is room."""
    async with new_runner(Limits()) as runner:
        with pytest.raises(InvalidOption, match=r"max_wait is .*; it must be a number of seconds"):
            await runner.submit("small", max_wait=max_wait)


@virtual_time
async def test_what_needs_no_room_does_not_wait_for_it() -> None:
    """A replay, a join and wrong params have their answer, though others stand in the line."""
    runner = new_runner(Limits(max_pending=1))

    @runner.job(concurrency_key=lambda params: str(params["n"]), on_duplicate="join")
    async def joined(n: int) -> None: ...

    async with runner:
        runner.pause()
        await runner.submit("joined", {"n": 1}, idempotency_key="k")
        patient = waiting(runner.submit("joined", {"n": 2}, max_wait=None))
        await asyncio.sleep(1.0)
        outcomes = [
            (await runner.submit("joined", {"n": 1}, idempotency_key="k", max_wait=5.0)).outcome,
            (await runner.submit("joined", {"n": 1}, max_wait=5.0)).outcome,
            (await runner.submit("joined", {"n": 1}, on_duplicate="replace")).outcome,
        ]
        with pytest.raises(InvalidParams):
            await runner.submit("joined", {"n": "x"}, max_wait=5.0)
        assert outcomes == ["replayed", "joined", "replaced"]
        assert asyncio.get_running_loop().time() == 1.0
        patient.cancel()
        await asyncio.wait([patient])


@virtual_time
async def test_a_job_that_is_run_again_does_not_pass_who_waits() -> None:
    """A click on "retry" is a newcomer like any other."""
    async with new_runner(Limits()) as runner:
        ended = await runner.submit("small")
        await ended.wait()
        runner.pause()
        first = [await runner.submit("small") for _ in range(2)]
        patient = waiting(runner.submit("small", {"n": 1}, max_wait=None))
        await asyncio.sleep(1.0)
        await first[0].cancel()
        await refusal(runner.retry(ended.id))
        assert (await patient).outcome == "created"


@virtual_time
async def test_a_timeout_in_a_validator_is_no_full_queue() -> None:
    """It looked something up that didn't answer; the caller has to hear of that."""
    runner, reachable = new_runner(Limits(max_pending=1)), True

    def look_up(n: int) -> int:
        if not reachable:
            raise TimeoutError("the directory does not answer")
        return n

    @runner.job
    async def checked(n: Annotated[int, AfterValidator(look_up)]) -> None: ...

    async with runner:
        runner.pause()
        first = await runner.submit("checked", {"n": 1})
        patient = waiting(runner.submit("checked", {"n": 2}, max_wait=60.0))
        await asyncio.sleep(1.0)
        reachable = False
        await first.cancel()
        with pytest.raises(TimeoutError, match="the directory does not answer"):
            await patient
