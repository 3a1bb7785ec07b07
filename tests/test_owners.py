"""Jobs that belong to somebody: seen, listed, found again and replaced by their owner alone."""

from typing import Any

import pytest

from jobrunner import (
    DuplicateJob,
    InvalidOption,
    JobGone,
    JobHandle,
    JobNotFound,
    JobRunner,
    PermanentError,
    Retention,
)
from jobrunner.testing import unix_now, virtual_time


def new_runner(**options: Any) -> JobRunner:
    runner = JobRunner(now=unix_now, **options)

    @runner.job
    async def echo(value: int = 1) -> int:
        return value

    @runner.job
    async def fail() -> None:
        raise PermanentError("no")

    return runner


async def ended(runner: JobRunner, owner: str | None, type: str = "echo") -> JobHandle[Any]:
    """Submit for an owner, or for nobody, and wait for the end."""
    job = await (runner.submit(type, owner=owner) if owner else runner.submit(type))
    await job.wait()
    return job


@pytest.mark.parametrize("final", [False, True])
@virtual_time
async def test_a_job_is_there_for_its_owner_and_for_who_asks_for_all(final: bool) -> None:
    """Another owner can't tell it from one that never was, as a live record or packed."""
    async with new_runner() as runner:
        job = await runner.submit("echo", owner="ada", delay=0.0 if final else 60.0)
        if final:
            await job.wait()
        for owner in ("ada", None):
            assert (runner.record(job.id, owner).id, runner.owner_of(job.id)) == (job.id, "ada")
        with pytest.raises(JobNotFound, match=f"there is no job '{job.id}'"):
            runner.record(job.id, "bob")
        await job.cancel()


@virtual_time
async def test_a_job_without_an_owner_is_no_owner_s() -> None:
    """What the server's own code submits isn't shown to whoever comes in."""
    async with new_runner() as runner:
        job = await ended(runner, None)
        assert (runner.record(job.id).owner, runner.owner_of(job.id)) == (None, None)
        with pytest.raises(JobNotFound):
            runner.record(job.id, "ada")


@virtual_time
async def test_lists_are_kept_apart_and_pages_too() -> None:
    """A page costs what it returns, whoever else has a million jobs."""
    async with new_runner() as runner:
        jobs = [await ended(runner, owner) for owner in ("ada", "bob", "ada", None)]
        page = await runner.list(owner="ada", limit=1)
        rest = await runner.list(owner="ada", limit=1, cursor=page.next_cursor)
        everything = await runner.list()
        nobody = await runner.list(owner="eve")
    assert [view.job_id for view in page.jobs + rest.jobs] == [jobs[2].id, jobs[0].id]
    assert (len(everything.jobs), nobody.jobs) == (4, [])


@virtual_time
async def test_what_is_forgotten_is_gone_for_its_owner_and_unknown_to_others() -> None:
    """That an id was there once is nobody else's business, however often it is asked."""
    async with new_runner(retention=Retention(max_tombstones=1)) as runner:
        first, second = await ended(runner, "ada"), await ended(runner, "ada")
        await runner.forget(first.id)
        for owner, error in [("ada", JobGone), (None, JobGone), ("bob", JobNotFound)]:
            with pytest.raises(error):
                runner.record(first.id, owner)
        assert runner.owner_of(first.id) == "ada"
        await runner.forget(second.id)  # there is room for one tombstone
        with pytest.raises(JobNotFound):
            runner.record(first.id, "ada")
        assert runner.owner_of(first.id) is None


@virtual_time
async def test_what_is_forgotten_and_was_nobody_s_is_gone_for_who_asks_for_all_only() -> None:
    """An owner mustn't find the server's own jobs by their tombstones."""
    async with new_runner() as runner:
        job = await ended(runner, None)
        await runner.forget(job.id)
        with pytest.raises(JobGone):
            runner.record(job.id)
        with pytest.raises(JobNotFound):
            runner.record(job.id, "ada")


@virtual_time
async def test_an_idempotency_key_is_its_owner_s() -> None:
    """Two users who both call their first request `1` get a job each, and theirs again."""
    async with new_runner() as runner:
        owners: list[Any] = [{"owner": "ada"}, {"owner": "bob"}, {}]
        first = [await runner.submit("echo", idempotency_key="1", **by) for by in owners]
        again = [await runner.submit("echo", idempotency_key="1", **by) for by in owners]
        other = await runner.submit("echo", {"value": 2}, idempotency_key="2", owner="ada")
        await runner.drain()
        await runner.forget(first[0].id)
        new = await runner.submit("echo", idempotency_key="1", owner="ada")
        still = await runner.submit("echo", idempotency_key="1", owner="bob")
    assert len({job.id for job in [*first, other, new]}) == 5
    assert [job.id for job in again] == [job.id for job in first]
    assert (new.outcome, still.id) == ("created", first[1].id)


@pytest.mark.parametrize("on_duplicate", ["join", "replace", "reject"])
@virtual_time
async def test_another_owner_s_job_is_no_duplicate(on_duplicate: Any) -> None:
    """Or a key that two users share would show one the other's job, or end it."""
    async with new_runner() as runner:
        options = {"concurrency_key": "k", "on_duplicate": on_duplicate, "delay": 60.0}
        of_ada = await runner.submit("echo", owner="ada", **options)
        of_bob = await runner.submit("echo", owner="bob", **options)
        assert (of_bob.outcome, of_bob.id == of_ada.id) == ("created", False)
        assert of_ada.status == "pending"
        if on_duplicate == "reject":
            with pytest.raises(DuplicateJob) as refused:
                await runner.submit("echo", owner="bob", **options)
            assert refused.value.job_id == of_bob.id
        else:
            again = await runner.submit("echo", owner="bob", **options)
            assert again.outcome == {"join": "joined", "replace": "replaced"}[on_duplicate]
        assert of_ada.status == "pending"
        await of_ada.cancel()
        new = await runner.submit("echo", owner="ada", **options)
        assert new.outcome == "created"
        for job in runner.page(status="pending").jobs:
            await runner.cancel(job.id)


@virtual_time
async def test_a_key_that_joined_leads_its_owner_to_the_job() -> None:
    """The key of a request that found a job is kept apart like that of the one that made it."""
    async with new_runner() as runner:
        options: Any = {"concurrency_key": "k", "on_duplicate": "join"}
        job = await runner.submit("echo", owner="ada", **options)
        joined = await runner.submit("echo", owner="ada", idempotency_key="1", **options)
        again = await runner.submit("echo", owner="ada", idempotency_key="1")
        other = await runner.submit("echo", owner="bob", idempotency_key="1")
        assert [joined.id, again.id] == [job.id, job.id]
        assert (again.outcome, other.outcome) == ("replayed", "created")
        await runner.drain()
        await runner.forget(job.id)
        new = await runner.submit("echo", owner="ada", idempotency_key="1")
        assert new.outcome == "created"


@virtual_time
async def test_a_job_that_is_run_again_stays_its_owner_s() -> None:
    """The new job is found by who could see the old one."""
    async with new_runner() as runner:
        jobs = [await ended(runner, owner, "fail") for owner in ("ada", "bob")]
        alone = await runner.retry(jobs[0].id)
        assert runner.owner_of(alone.id) == "ada"
        await alone.wait()
        again = await runner.retry_failed(owner="bob")
        assert [(runner.owner_of(job.id), job.view().retry_of) for job in again] == [
            ("bob", jobs[1].id)
        ]


@pytest.mark.parametrize("owner", ["", "x" * 257, "a\nb", 1])
@virtual_time
async def test_an_owner_is_a_name(owner: Any) -> None:
    """An empty one is most likely a variable that was not set."""
    async with new_runner() as runner:
        with pytest.raises(InvalidOption, match="owner is"):
            await runner.submit("echo", owner=owner)
