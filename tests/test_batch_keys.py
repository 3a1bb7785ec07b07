"""Idempotency and concurrency keys of batches: one batch for one request, one job for one key."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    BatchHandle,
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidOption,
    InvalidParams,
    JobRunner,
    Limits,
    Retention,
)
from jobrunner.testing import virtual_time
from tests.batched import make_runner, numbers, running, taken

# Keys


@virtual_time
async def test_the_same_key_and_request_is_the_same_batch() -> None:
    """A client that doesn't know whether it got through asks again."""
    async with running() as runner:
        batches = [
            await runner.submit_batch("analyse", numbers(3), idempotency_key="k") for _ in range(3)
        ]
        assert {batch.id for batch in batches} == {batches[0].id}
        assert [b.outcome for b in batches] == ["created", "replayed", "replayed"]
        assert taken(runner) == 3
        await runner.drain()
        again = await runner.submit_batch("analyse", numbers(3), idempotency_key="k")
        assert (again.id, again.outcome) == (batches[0].id, "replayed")


@virtual_time
async def test_the_same_key_at_the_same_time_is_one_batch() -> None:
    """Both are checked side by side, and only one is taken in (Q1)."""
    async with running(workers=50) as runner:
        submits = [
            asyncio.create_task(runner.submit_batch("analyse", numbers(600), idempotency_key="k"))
            for _ in range(5)
        ]
        batches: list[BatchHandle[Any]] = [await submit for submit in submits]
        assert sorted(b.outcome for b in batches) == ["created"] + ["replayed"] * 4
        assert ({b.id for b in batches}, taken(runner)) == ({batches[0].id}, 600)


@pytest.mark.parametrize(
    ("type", "params"),
    [
        ("analyse", numbers(2)),
        ("analyse", numbers(4)),
        ("analyse", numbers(3)[::-1]),
        ("nothing", [{}] * 3),
        ("analyse", []),
    ],
)
@virtual_time
async def test_the_same_key_with_another_request_is_an_error(type: str, params: Any) -> None:
    """Silence would give back results of something else."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(3), idempotency_key="k")
        with pytest.raises(IdempotencyKeyReused, match=f"with another request, for {batch.id[:5]}"):
            await runner.submit_batch(type, params, idempotency_key="k")
        await runner.drain()


@virtual_time
async def test_the_same_params_for_another_type_are_another_request() -> None:
    """To the letter the same, and something else is to be done with them."""
    async with running() as runner:
        for name in ("one", "two"):
            runner.job(name)(_same)
        await runner.submit_batch("one", numbers(2), idempotency_key="k")
        with pytest.raises(IdempotencyKeyReused):
            await runner.submit_batch("two", numbers(2), idempotency_key="k")
        await runner.drain()


async def _same(n: int) -> None: ...


@virtual_time
async def test_a_key_is_for_a_batch_or_for_a_job() -> None:
    """One of them isn't the other, whichever came first."""
    async with running() as runner:
        await runner.submit("analyse", {"n": 0}, idempotency_key="job")
        await runner.submit_batch("analyse", numbers(1), idempotency_key="batch")
        with pytest.raises(IdempotencyKeyReused, match="for a single job"):
            await runner.submit_batch("analyse", numbers(1), idempotency_key="job")
        with pytest.raises(IdempotencyKeyReused, match="came before, for batch batch_"):
            await runner.submit("analyse", {"n": 0}, idempotency_key="batch")
        await runner.drain()


@virtual_time
async def test_a_key_is_free_again_when_its_batch_is_forgotten() -> None:
    """It is kept as long as the batch."""
    async with running(retention=Retention(max_age=10.0), workers=5) as runner:
        old = await runner.submit_batch("analyse", numbers(2), idempotency_key="k")
        await asyncio.sleep(20.0)
        new = await runner.submit_batch("analyse", numbers(1), idempotency_key="k")
        assert (new.outcome, new.id == old.id) == ("created", False)
        await new.wait()


@virtual_time
async def test_owners_have_keys_and_batches_of_their_own() -> None:
    """The same key of another one is another batch."""
    async with running(workers=5) as runner:
        ada, bob = [
            await runner.submit_batch("analyse", numbers(2), idempotency_key="k", owner=owner)
            for owner in ("ada", "bob")
        ]
        assert (ada.id == bob.id, bob.outcome) == (False, "created")
        again = await runner.submit_batch("analyse", numbers(2), idempotency_key="k", owner="bob")
        assert (again.id, again.outcome) == (bob.id, "replayed")
        assert {job.job_id for job in (await runner.list(owner="ada")).jobs} == set(ada.job_ids)
        await runner.drain()


# Duplicates


def keyed(runner: JobRunner, on_duplicate: Any) -> Any:
    """Register a type of which one job runs for each user."""

    @runner.job(concurrency_key=lambda p: p["user"], on_duplicate=on_duplicate)
    async def call(user: str) -> str:
        await asyncio.sleep(1.0)
        return user

    return call


def users(*names: str) -> list[dict[str, Any]]:
    return [{"user": name} for name in names]


@virtual_time
async def test_jobs_with_one_key_run_one_after_the_other() -> None:
    """As jobs that were submitted by themselves."""
    runner = make_runner(workers=5)
    call = keyed(runner, "enqueue")
    async with runner:
        await (await runner.submit_batch(call, users("a", "a", "b", "a"))).wait()
        assert asyncio.get_running_loop().time() == 3.0


@virtual_time
async def test_a_batch_joins_no_other_jobs() -> None:
    """Each of its params has a job of its own, or it couldn't say what became of them."""
    runner = make_runner()
    call = keyed(runner, "join")
    async with runner:
        with pytest.raises(InvalidOption, match="submit it with on_duplicate='enqueue'"):
            await runner.submit_batch(call, users("a"))
        batch = await runner.submit_batch(call, users("a", "a"), on_duplicate="enqueue")
        assert (await batch.wait()).progress == 100
        assert (await runner.submit_batch("analyse", numbers(1), on_duplicate="join")).total == 1
        await runner.drain()


@virtual_time
async def test_a_duplicate_that_is_rejected_rejects_all() -> None:
    """One of a live job, and one of another in the same batch."""
    runner = make_runner(workers=5)
    call = keyed(runner, "reject")
    async with runner:
        live = await runner.submit(call, {"user": "b"})
        with pytest.raises(
            DuplicateJob, match=r"^params 1: job .* has the concurrency key"
        ) as told:
            await runner.submit_batch(call, users("a", "b", "c"))
        assert told.value.job_id == live.id
        with pytest.raises(
            InvalidParams, match=r"^params 2: it has the concurrency key 'a'"
        ) as bad:
            await runner.submit_batch(call, users("a", "c", "a"))
        assert [fault["pointer"] for fault in bad.value.errors] == ["#/2"]
        assert taken(runner) == 1
        await (await runner.submit_batch(call, users("a", "c"))).wait()


@virtual_time
async def test_duplicates_are_replaced_and_make_room() -> None:
    """Those of before, and those in the same batch: the last one stays."""
    runner = make_runner(limits=Limits(max_pending=4), workers=1)
    call = keyed(runner, "replace")
    async with runner:
        runner.pause()
        old = [await runner.submit(call, {"user": user}) for user in "ab"]
        batch = await runner.submit_batch(call, users("a", "c", "a"))
        assert [(await runner.get(job.id)).status for job in old] == ["cancelled", "pending"]
        runner.resume()
        await batch.wait()
        unlike = await runner.submit_batch("nothing", [{}, {}], on_duplicate="replace")
        await unlike.wait()
        results = await batch.results()
    assert unlike.view().progress_message == "2 of 2"
    assert [item.status for item in results] == ["cancelled", "completed", "completed"]
    assert results[0].job is not None and results[0].job.cancel_reason == "superseded"
