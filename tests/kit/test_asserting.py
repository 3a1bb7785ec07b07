"""Assertions: each waits, and each says what was expected, what there was, and where."""

import asyncio
from typing import Any

import pytest

from jobrunner import UnknownJobType
from jobrunner.testing import (
    DrivenRunner,
    assert_events,
    assert_status,
    assert_submitted,
    refute_submitted,
    virtual_time,
)
from tests.kit.flows import flow_runner


async def said_by(assertion: Any) -> str:
    """Return what a failing assertion says."""
    with pytest.raises(AssertionError) as caught:
        await assertion
    return str(caught.value)


async def later(seconds: float, call: Any) -> None:
    await asyncio.sleep(seconds)
    await call


async def soon(runner: DrivenRunner, group: asyncio.TaskGroup, topic: str) -> None:
    """Submit in three seconds."""
    group.create_task(later(3.0, runner.submit("research", {"topic": topic})))


@virtual_time
async def test_a_submitted_job_is_found_by_some_of_its_params() -> None:
    """A test should say what matters, and nothing else."""
    async with flow_runner(mode="paused") as runner:
        first = await runner.submit("research", {"topic": "bees"})
        await runner.submit("nap")
        assert (await assert_submitted(runner, "research")).job_id == first.id
        found = await assert_submitted(runner, "research", params={"topic": "bees"})
        assert found.params == {"topic": "bees"}
        await refute_submitted(runner, "research", params={"topic": "ants"})
        await refute_submitted(runner, "broken")


@virtual_time
async def test_a_type_is_named_by_its_function_too() -> None:
    """A refutation that asks for another name than the type's would always hold."""
    runner = DrivenRunner(mode="paused")

    @runner.job("think")
    async def quick() -> None: ...

    async with runner:
        job = await runner.submit(quick)
        assert (await assert_submitted(runner, quick)).job_id == job.id
        said = await said_by(refute_submitted(runner, quick))
        assert said.startswith("expected no 'think' to be submitted, but there is")
        with pytest.raises(UnknownJobType, match="said_by is not registered as a handler"):
            await refute_submitted(runner, said_by)


@virtual_time
async def test_a_name_that_is_no_type_s_is_refused() -> None:
    """A refutation of a misspelt name would always hold."""
    async with flow_runner() as runner:
        with pytest.raises(UnknownJobType, match="did you mean 'research'"):
            await refute_submitted(runner, "reserch")
        with pytest.raises(UnknownJobType, match="did you mean 'research'"):
            await assert_submitted(runner, "reserch")


@virtual_time
async def test_a_job_that_comes_in_time_is_waited_for() -> None:
    """Who submits it may need a moment."""
    async with flow_runner() as runner, asyncio.TaskGroup() as group:
        await soon(runner, group, "bees")
        await assert_submitted(runner, "research", params={"topic": "bees"}, within=5.0)
        assert asyncio.get_running_loop().time() == 3.0
        await refute_submitted(runner, "nap", within=60.0)
        assert asyncio.get_running_loop().time() == 63.0
        await runner.drain()


@virtual_time
async def test_a_job_that_was_not_submitted_says_what_was() -> None:
    """The message has to be enough to see what is wrong."""
    async with flow_runner(mode="paused") as runner:
        empty = await said_by(assert_submitted(runner, "research", within=2.0))
        assert empty == ("expected 'research' to be submitted within 2 s; there is no job at all")
        bees = await runner.submit("research", {"topic": "bees"})
        nap = await runner.submit("nap")
        said = await said_by(assert_submitted(runner, "research", params={"topic": "a", "n": 1}))
        assert said == (
            'expected \'research\' with {"topic": "a", "n": 1} to be submitted; there are:\n'
            f'  {nap.id} nap {{"seconds": 10.0}} pending: another type\n'
            f"  {bees.id} research {{\"topic\": \"bees\"}} pending: topic is 'bees', expected 'a'; "
            "n is missing, expected 1"
        )


@virtual_time
async def test_of_many_jobs_some_are_named() -> None:
    """A message of ten thousand lines is none."""
    async with flow_runner(mode="paused") as runner:
        await runner.submit_batch("nap", [{"seconds": n} for n in range(250)])
        said = await said_by(assert_submitted(runner, "research"))
        assert len(said.splitlines()) == 22
        assert said.endswith("\n  and 230 more")
        await assert_submitted(runner, "nap", params={"seconds": 0.0})  # on the second page


@virtual_time
async def test_a_job_that_should_not_be_there_is_shown() -> None:
    """So that it can be found in the code that submitted it."""
    async with flow_runner(mode="paused") as runner:
        job = await runner.submit("research", {"topic": "bees"})
        line = f'  {job.id} research {{"topic": "bees"}} pending'
        assert await said_by(refute_submitted(runner, "research")) == (
            f"expected no 'research' to be submitted, but there is\n{line}"
        )
        params = {"topic": "bees"}
        assert await said_by(refute_submitted(runner, "research", params=params)) == (
            f'expected no \'research\' with {{"topic": "bees"}} to be submitted, but there is\n'
            f"{line}"
        )


@virtual_time
async def test_a_status_is_waited_for() -> None:
    """As long as the job goes on, or as long as is said."""
    async with flow_runner() as runner:
        job = await runner.submit("research", {"topic": "bees"})
        assert (await assert_status(job, "retrying")).attempt == 1
        assert (await assert_status(job, "completed")).attempt == 3
        nap = await runner.submit("nap")
        said = await said_by(assert_status(nap, "completed", within=5.0))
        assert said == (
            f"job {nap.id} (nap) is running after 5 s, expected completed; attempt 1 of 1\n"
            "  so far: pending > running"
        )
        await runner.drain()
        with pytest.raises(ValueError, match="done"):
            await assert_status(nap, "done")


@virtual_time
async def test_another_status_says_why_and_how_it_came_about() -> None:
    """Failed where completed was expected: the error is the first thing one asks for."""
    async with flow_runner() as runner:
        job = await runner.submit("broken", {"text": "no bees"})
        assert await said_by(assert_status(job, "completed")) == (
            f"job {job.id} (broken) is failed, expected completed; attempt 1 of 1\n"
            "  error: ValueError: no bees\n"
            "  so far: pending > running > failed"
        )


FLOW = ["pending", "running", "progress", "retrying", "running", "progress", "retrying",
        "running", "progress", "log", "output", "completed"]  # fmt: skip


@virtual_time
@pytest.mark.parametrize(
    "expected",
    [
        FLOW,
        [...],
        ["pending", ..., "completed"],
        [..., "retrying", ..., "retrying", ..., "completed", ...],
        [..., ("log", {"fields": {"pages": 3}}), ("output", {"text": "All about bees"}), ...],
        [("pending", {"attempt": 0}), ..., ("completed", {})],
    ],
)
async def test_events_are_named_in_order(expected: Any) -> None:
    """All of them, or those that matter."""
    async with flow_runner() as runner:
        job = await runner.submit("research", {"topic": "bees"})
        assert len(await assert_events(job, expected)) == len(FLOW)


@virtual_time
@pytest.mark.parametrize(
    "expected",
    [
        [],
        FLOW[:-1],
        [*FLOW, "completed"],
        ["running", ..., "completed"],
        [..., "log", "completed"],
        [..., ("log", {"fields": {"pages": 4}}), ...],
        [..., "log", ..., "log", ...],
        ["nothing", ...],
    ],
)
async def test_other_events_fail(expected: Any) -> None:
    """An assertion that can't fail is none."""
    async with flow_runner() as runner:
        job = await runner.submit("research", {"topic": "bees"})
        assert "has other events than expected" in await said_by(assert_events(job, expected))


@virtual_time
async def test_other_events_are_shown_beside_the_expected() -> None:
    """What is missing, what is too much, and between what."""
    async with flow_runner() as runner:
        job = await runner.submit("broken")
        said = await said_by(assert_events(job, ["pending", "running", "log", ..., "completed"]))
        assert said == (
            f"job {job.id} (broken) has other events than expected: - expected, + there\n"
            "    pending\n    running\n  - log\n  - ...\n  - completed\n  + failed"
        )
        nap = await runner.submit("nap")
        said = await said_by(assert_events(nap, [("pending", {"attempt": 1})], within=1.0))
        assert said == (
            f"job {nap.id} (nap) has other events than expected: - expected, + there\n"
            '  - pending {"attempt": 1}\n'
            '  + pending {"status": "pending", "attempt": 0}\n'
            "  + running"
        )
        await runner.drain()
