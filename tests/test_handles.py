"""The handle: wait for a job, watch it, cancel it, or take its result."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from jobrunner import (
    Event,
    InvalidOption,
    JobCancelled,
    JobContext,
    JobFailed,
    JobHandle,
    JobRunner,
    JobView,
    Limits,
    Retention,
    WrongLoop,
)
from jobrunner.testing import EPOCH, unix_now, virtual_time


def runner_with_types(**options: Any) -> JobRunner:
    """Return a runner with a few job types to wait for."""
    runner = JobRunner(now=unix_now, watchdog=None, **options)

    @runner.job
    async def double(n: int) -> int:
        await asyncio.sleep(10.0)
        return 2 * n

    @runner.job
    async def fail() -> None:
        raise ValueError("no luck")

    @runner.job
    async def count(ctx: JobContext, to: int) -> None:
        for i in range(to):
            ctx.log(str(i))
            await asyncio.sleep(1.0)

    return runner


@virtual_time
async def test_the_result_is_waited_for() -> None:
    """It is the handler's value, with the type of its annotation."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 21})
        assert await job.result() == 42


@virtual_time
async def test_a_result_has_the_type_of_the_annotation() -> None:
    """A set goes through JSON as an array, and comes back as a set."""
    runner = runner_with_types()

    @runner.job
    async def words() -> set[str]:
        return {"a", "b"}

    async with runner:
        assert await (await runner.submit(words)).result() == {"a", "b"}


@virtual_time
async def test_a_result_that_is_not_what_was_annotated_is_an_error() -> None:
    """The caller isn't handed a text where an integer was promised."""
    runner = runner_with_types()

    @runner.job
    async def wrong() -> int:
        value: Any = "many"
        return value  # type: ignore[no-any-return]  # the mistake

    async with runner:
        job = await runner.submit(wrong)
        with pytest.raises(JobFailed, match="annotated to return") as failed:
            await job.result()
    assert failed.value.reason == "result_not_serialisable"


@virtual_time
async def test_a_result_whose_validator_fails_is_an_error_of_its_job() -> None:
    """A validator is the user's code: that it has a fault costs the job, and nobody else."""

    def first(pages: list[int]) -> list[int]:
        return pages[:1] or [pages[0]]

    runner = runner_with_types()

    @runner.job
    async def read() -> Annotated[list[int], AfterValidator(first)]:
        return []

    async with runner:
        with pytest.raises(JobFailed, match="not be checked: IndexError: list index") as failed:
            await (await runner.submit(read)).result()
        assert (failed.value.reason, runner.stats().faults) == ("result_not_serialisable", 0)


@virtual_time
async def test_the_result_of_a_failed_job_raises() -> None:
    """The error names the job, and the reason stands beside it."""
    async with runner_with_types() as runner:
        job = await runner.submit("fail")
        with pytest.raises(JobFailed) as caught:
            await job.result()
    assert (str(caught.value), caught.value.job_id, caught.value.reason) == (
        f"job {job.id} failed: no luck",
        job.id,
        "error",
    )


@pytest.mark.parametrize(("note", "said"), [(None, ""), ("not needed", ": not needed")])
@virtual_time
async def test_the_result_of_a_cancelled_job_raises(note: str | None, said: str) -> None:
    """The error says what the canceller said."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 1})
        await job.cancel(note)
        with pytest.raises(JobCancelled) as caught:
            await job.result()
    assert (str(caught.value), caught.value.reason) == (f"job {job.id} was cancelled{said}", "user")


@pytest.mark.parametrize("method", ["wait", "result"])
@virtual_time
async def test_a_wait_that_takes_too_long_leaves_the_job_alone(method: str) -> None:
    """T6: the timeout is the waiter's; the job goes on to its result."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 4})
        with pytest.raises(TimeoutError) as caught:
            await getattr(job, method)(timeout=2.5)
        assert str(caught.value) == f"job {job.id} is still running after 2.5 s; it goes on"
        assert await job.result(timeout=7.6) == 8


@virtual_time
async def test_a_wait_without_time_answers_at_once() -> None:
    """A timeout of 0 asks whether it has ended."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 4})
        with pytest.raises(TimeoutError):
            await job.wait(timeout=0.0)
        await job.wait()
        assert (await job.wait(timeout=0.0)).result == 8


@virtual_time
async def test_events_are_told_from_the_first_to_the_last() -> None:
    """Subscribing is reading from 0: who comes late misses nothing."""
    async with runner_with_types() as runner:
        job = await runner.submit("count", {"to": 2})
        await asyncio.sleep(1.5)
        events = [event async for event in job.events()]
    assert events == [
        Event(1, job.id, "status", EPOCH, {"status": "pending", "attempt": 0}),
        Event(2, job.id, "status", EPOCH, {"status": "running", "attempt": 1}),
        Event(3, job.id, "log", EPOCH, {"text": "0", "fields": {}}),
        Event(4, job.id, "log", EPOCH + 1.0, {"text": "1", "fields": {}}),
        Event(5, job.id, "done", EPOCH + 2.0, {"status": "completed", "error": None}),
    ]


@virtual_time
async def test_events_go_on_after_a_number() -> None:
    """A reader that was cut off remembers one integer, and repeats nothing."""
    async with runner_with_types() as runner:
        job = await runner.submit("count", {"to": 2})
        assert [event.seq async for event in job.events(after=3)] == [4, 5]
        assert [event.seq async for event in job.events(after=5)] == []


@virtual_time
async def test_q8_events_that_are_no_longer_kept_are_a_gap() -> None:
    """What can't be told is told to be missing."""
    async with runner_with_types(limits=Limits(max_events=3)) as runner:
        job = await runner.submit("count", {"to": 10})
        await job.wait()
        events = [event async for event in job.events(after=2)]
    assert events[0] == Event(10, job.id, "gap", EPOCH + 10.0, {"from": 3, "to": 10})
    assert [event.seq for event in events[1:]] == [11, 12, 13]


@virtual_time
async def test_q8_a_handle_outlives_the_retention() -> None:
    """Q8: pruning never takes a job from under who reads it."""
    async with runner_with_types(retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("double", {"n": 3})
        waiter = asyncio.ensure_future(job.wait())
        await runner.drain()
        assert (await runner.list()).jobs == []
        assert [event.type async for event in job.events()] == ["status", "status", "done"]
        assert ((await waiter).result, await job.result()) == (6, 6)


@virtual_time
async def test_a_handle_can_be_made_from_an_id() -> None:
    """An HTTP handler has only the id; its handle does the same."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 2})
        same = runner.handle(job.id)
        assert (same.id, same.outcome, await same.result()) == (job.id, "created", 4)


@virtual_time
async def test_a_handle_shows_itself() -> None:
    """In a debugger or a log line it says which job, of what type, and where it stands."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 2})
        assert repr(job) == f"<JobHandle {job.id} double pending>"


@virtual_time
async def test_many_waiters_wake_together() -> None:
    """Q3: whoever came before the end, and whoever comes after it, gets the same answer."""

    async def watch(job: JobHandle[Any]) -> AsyncIterator[JobView]:
        for _ in range(20):
            yield await job.wait()

    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 2})
        views = await asyncio.gather(*[job.wait() for _ in range(100)])
        late = [view async for view in watch(job)]
    assert set(map(str, views + late)) == {str(job.view())}


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf"), "soon"])
@virtual_time
async def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    """A wait that could never end, or ends at once by mistake, says so instead."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 2})
        with pytest.raises(InvalidOption, match=f"timeout is {timeout!r}; it must be a number"):
            await job.result(timeout=timeout)
        with pytest.raises(InvalidOption, match=f"timeout is {timeout!r}; it must be a number"):
            await runner.wait([job.id], timeout=timeout)


@virtual_time
async def test_a_handle_on_a_forgotten_job_still_answers() -> None:
    """Who holds the handle knows how the job ended, and a cancel of it changes nothing."""
    async with runner_with_types() as runner:
        job = await runner.submit("double", {"n": 2})
        await job.wait()
        await runner.forget(job.id)
        assert (await job.cancel()).status == "completed"


async def test_a_handle_says_when_it_is_used_in_another_loop() -> None:
    """A wait that nobody can wake would hang; the other loop is told so at once."""
    async with runner_with_types(shutdown_timeout=0.0) as runner:
        job = await runner.submit("double", {"n": 2})

        def elsewhere(call: Callable[[], Any]) -> None:
            with pytest.raises(WrongLoop, match="the runner belongs to another event loop"):
                asyncio.run(call())

        for call in (job.wait, job.result, job.cancel, runner.drain, lambda: runner.wait([job.id])):
            await asyncio.to_thread(elsewhere, call)
