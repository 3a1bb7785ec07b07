"""`retry_failed`: which failed jobs are run again, and as what."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    JobRunner,
    JobStatus,
    Limits,
    PermanentError,
    QueueFull,
    RunnerStopped,
    UnknownJobType,
)
from jobrunner.testing import unix_now, virtual_time


def mended() -> tuple[JobRunner, asyncio.Event]:
    """Return a runner with two types that fail until the event is set."""
    runner, well = JobRunner(now=unix_now, seed=1), asyncio.Event()

    def make(name: str) -> None:
        @runner.job(name)
        async def work(n: int = 0, token: SecretStr | None = None) -> int:
            if not well.is_set():
                raise PermanentError("down")
            return n

    for name in ("mail", "push"):
        make(name)
    return runner, well


@virtual_time
async def test_all_failed_jobs_can_be_run_again() -> None:
    """After an outage, in one call: newest first, each a new job that says what it runs again."""
    runner, well = mended()
    async with runner:
        failed = [
            await runner.submit(name, {"n": n}) for n in range(70) for name in ("mail", "push")
        ]
        await runner.drain()
        well.set()
        handles = await runner.retry_failed()
        assert [handle.view().retry_of for handle in handles] == [job.id for job in failed[::-1]]
        assert [await handle.result() for handle in handles] == [
            job.view().params["n"] for job in failed[::-1]
        ]
        assert runner.stats().jobs[JobStatus.FAILED] == 140


@virtual_time
async def test_those_of_one_type_can_be_run_again() -> None:
    """By name or by function; the others stay as they are."""
    runner, well = mended()
    async with runner:
        for name in ("mail", "push", "mail"):
            await runner.submit(name)
        await runner.drain()
        well.set()
        assert [h.view().type for h in await runner.retry_failed("mail")] == ["mail", "mail"]
        with pytest.raises(UnknownJobType):
            await runner.retry_failed("mial")


@virtual_time
async def test_nothing_is_run_again_twice() -> None:
    """Two impatient clicks, or two people, are one second chance for each job."""
    runner, well = mended()
    async with runner:
        for n in range(120):
            await runner.submit("mail", {"n": n})
        await runner.drain()
        well.set()
        calls = [asyncio.create_task(runner.retry_failed()) for _ in range(3)]
        await asyncio.wait(calls)
        assert sum(len(call.result()) for call in calls) == 120
        await runner.drain()
        assert await runner.retry_failed() == []
        assert runner.stats().jobs[JobStatus.COMPLETED] == 120


@virtual_time
async def test_what_failed_again_can_be_run_again() -> None:
    """The newest of its line, and not the first as well."""
    runner, _ = mended()
    async with runner:
        first = await runner.submit("mail")
        await runner.drain()
        second = (await runner.retry_failed())[0]
        await runner.drain()
        third = await runner.retry_failed()
        assert [second.view().retry_of, *(job.view().retry_of for job in third)] == [
            first.id, second.id,
        ]  # fmt: skip


@virtual_time
async def test_only_failed_jobs_are_run_again() -> None:
    """What was cancelled was not wanted, and what completed has its result."""
    runner, well = mended()
    async with runner:
        cancelled = await runner.submit("mail", delay=5.0)
        await cancelled.cancel()
        well.set()
        await (await runner.submit("mail")).wait()
        assert await runner.retry_failed() == []


@virtual_time
async def test_a_full_queue_takes_what_it_has_room_for() -> None:
    """A second call goes on from there; with no room at all the caller is told so."""
    runner = JobRunner(now=unix_now, seed=1, limits=Limits(max_pending=3))

    @runner.job
    async def fail() -> None:
        raise PermanentError("down")

    async with runner:
        failed = []
        for _ in range(5):
            failed.append(await runner.submit(fail))
            await failed[-1].wait()
        runner.pause()
        handles = await runner.retry_failed()
        assert [h.view().retry_of for h in handles] == [job.id for job in failed[:1:-1]]
        with pytest.raises(QueueFull):
            await runner.retry_failed()
        for handle in handles:
            await handle.cancel()
        assert [h.view().retry_of for h in await runner.retry_failed()] == [
            job.id for job in failed[1::-1]
        ]


@virtual_time
async def test_jobs_that_held_secrets_are_left_out() -> None:
    """Their params are not kept, so they can't be; the others can."""
    runner, _ = mended()
    async with runner:
        await runner.submit("mail", {"n": 1, "token": "secret"})
        plain = await runner.submit("mail", {"n": 2})
        await runner.drain()
        assert [h.view().retry_of for h in await runner.retry_failed()] == [plain.id]


@virtual_time
async def test_a_job_that_its_type_would_refuse_by_now_is_left_out() -> None:
    """One customer who is gone must not keep the others' jobs from being run again."""
    runner, gone = JobRunner(now=unix_now, seed=1), set()

    def key(params: dict[str, Any]) -> None:
        if params["customer"] in gone:
            raise KeyError("no such customer")

    @runner.job(concurrency_key=key)
    async def bill(customer: int) -> None:
        raise PermanentError("down")

    async with runner:
        failed = [await runner.submit(bill, {"customer": n}) for n in range(3)]
        await runner.drain()
        gone.add(1)
        handles = await runner.retry_failed()
        assert [h.view().retry_of for h in handles] == [failed[2].id, failed[0].id]


@pytest.mark.parametrize("way", ["enqueue", "join", "reject", "replace"])
@virtual_time
async def test_jobs_with_one_key_are_all_run_again(way: Any) -> None:
    """They are no second clicks: each of them was wanted, and has failed."""
    runner = JobRunner(now=unix_now, seed=1)

    @runner.job(on_duplicate=way, concurrency_key=lambda params: "one")
    async def fail(n: int) -> None:
        raise PermanentError("down")

    async with runner:
        failed = []
        for n in range(3):
            failed.append(await runner.submit(fail, {"n": n}))
            await failed[-1].wait()
        runner.pause()
        handles = await runner.retry_failed()
        assert [h.view().retry_of for h in handles] == [job.id for job in failed[::-1]]
        assert {handle.status for handle in handles} == {"pending"}


@virtual_time
async def test_a_job_runs_again_with_the_options_that_it_had() -> None:
    """Also with those by which it had no limit where its type has one."""
    runner = JobRunner(now=unix_now, seed=1)

    @runner.job(deadline=5.0, stall_timeout=3.0, timeout=7.0)
    async def fail() -> None:
        raise PermanentError("down")

    async with runner:
        for given in ({"deadline": None, "stall_timeout": None, "timeout": None},
                      {"deadline": 50.0, "stall_timeout": 30.0, "timeout": 70.0}, {}):  # fmt: skip
            options: Any = given
            job = await runner.submit(
                fail, priority=3, session_id="s", concurrency_key="k", metadata={"a": 1}, **options
            )
            await job.wait()
            again, before = (await runner.retry_failed())[0].view(), job.view()
            record = runner.record(again.job_id)
            assert (record.deadline, record.stall_timeout, record.timeout) == (
                tuple(given.values()) if given else (5.0, 3.0, 7.0)
            )
            assert (again.priority, again.session_id, again.metadata, record.concurrency_key) == (
                before.priority, "s", {"a": 1}, "k",
            )  # fmt: skip
            await runner.drain()
            await runner.forget(again.job_id)
            await runner.forget(job.id)


@virtual_time
async def test_a_stopped_runner_runs_nothing_again() -> None:
    """T16: it says so, and leaves everything as it is."""
    runner, _ = mended()
    async with runner:
        await (await runner.submit("mail")).wait()
    with pytest.raises(RunnerStopped):
        await runner.retry_failed()
