"""Batches: all jobs or none, one progress, each end once, and what is kept of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jobrunner import (
    BatchGone,
    BatchHandle,
    BatchItem,
    BatchNotFound,
    JobCancelled,
    JobContext,
    JobFailed,
    JobGone,
    JobNotFinal,
    JobRunner,
    JobStatus,
    PermanentError,
    Retention,
    RetryableError,
    RetryPolicy,
    RunnerStopped,
    WrongLoop,
)
from tests.runners import runner_with
from tests.serving import Gates
from tests.simulation.loop import EPOCH, virtual_time

Told = list[tuple[int, str, Any]]


def make_runner(**options: Any) -> JobRunner:
    """Return a runner with a type that takes so many seconds, or fails."""
    runner = runner_with(**{"shutdown_timeout": 0.0, "workers": 5, **options})

    @runner.job
    async def analyse(n: int, seconds: float = 0.0, fails: bool = False) -> int:
        await asyncio.sleep(seconds)
        if fails:
            raise PermanentError(f"number {n} can't be analysed")
        return n * n

    return runner


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[JobRunner]:
    async with make_runner(**options) as runner:
        yield runner


def numbers(count: int, **params: Any) -> list[dict[str, Any]]:
    return [{"n": n, **params} for n in range(count)]


def ends(items: list[BatchItem[Any]]) -> list[tuple[int, str | None]]:
    return [(item.index, item.status) for item in items]


def some(counts: dict[JobStatus, int]) -> dict[str, int]:
    """Return the statuses that any job has."""
    return {status.value: count for status, count in counts.items() if count}


@virtual_time
async def test_each_job_runs_once_and_its_result_is_in_its_place() -> None:
    """Fifty documents are one request, and the answers come in the order of the questions."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(50))
        view = await batch.wait()
        results = await batch.results()
    assert [item.result() for item in results] == [n * n for n in range(50)]
    assert [item.job_id for item in results] == list(batch.job_ids)
    assert (some(view.counts), view.progress, view.progress_message) == (
        {"completed": 50}, 100, "50 of 50",
    )  # fmt: skip


@virtual_time
async def test_its_jobs_are_jobs_like_all_others() -> None:
    """They are listed, watched and cancelled as such, and say whose they are."""
    async with running() as runner:
        batch = await runner.submit_batch(
            "analyse", numbers(3), priority=7, session_id="s", metadata={"for": "ada"}, timeout=9.0
        )
        jobs = (await runner.list(batch_id=batch.id)).jobs
        assert [job.job_id for job in reversed(jobs)] == list(batch.job_ids)
        assert {(j.batch_id, j.priority, j.session_id, j.timeout, j.metadata["for"])
                for j in jobs} == {(batch.id, 7, "s", 9.0, "ada")}  # fmt: skip
        assert await runner.handle(batch.job_ids[2]).result() == 4
    assert batch.view().session_id == "s"


@virtual_time
async def test_ends_come_in_the_order_in_which_they_happen() -> None:
    """Whoever works on them needn't wait for the slowest."""
    seconds = [3.0, 1.0, 2.0]
    async with running() as runner:
        batch = await runner.submit_batch(
            "analyse", [{"n": n, "seconds": s} for n, s in enumerate(seconds)]
        )
        loop, seen = asyncio.get_running_loop(), []
        async for item in batch.as_completed():
            seen.append((item.index, item.result(), loop.time()))
    assert seen == [(1, 1, 1.0), (2, 4, 2.0), (0, 0, 3.0)]


@virtual_time
async def test_who_comes_late_gets_those_that_have_ended_too() -> None:
    """A page is opened after half of the batch has ended."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(4, seconds=1.0))
        await asyncio.sleep(2.5)
        found = runner.batch(batch.id)
        assert ends([item async for item in found.as_completed()]) == [
            (n, "completed") for n in range(4)
        ]


@virtual_time
async def test_some_fail_and_all_see_which_and_why() -> None:
    """A failure ends one job, not the batch, and hides in no sum."""
    params = [{"n": n, "fails": n % 3 == 1} for n in range(6)]
    async with running() as runner:
        batch = await runner.submit_batch("analyse", params)
        view = await batch.wait()
        results = await batch.results()
    assert some(view.counts) == {"completed": 4, "failed": 2}
    assert view.progress_message == "6 of 6, 2 failed"
    bad = [item for item in results if item.status == "failed"]
    assert [item.index for item in bad] == [1, 4]
    with pytest.raises(JobFailed, match="number 4 can't be analysed"):
        bad[1].result()


@virtual_time
async def test_results_are_partial_while_it_runs() -> None:
    """What there is can be used, and what isn't there says so."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(3, seconds=1.0))
        await asyncio.sleep(1.5)
        results = await batch.results()
        assert ends(results) == [(0, "completed"), (1, "running"), (2, "pending")]
        assert results[0].result() == 0
        with pytest.raises(JobNotFinal, match="is running; it has no result yet"):
            results[1].result()
        assert (some(batch.counts), batch.view().progress) == (
            {"pending": 1, "running": 1, "completed": 1}, 33,
        )  # fmt: skip
        await batch.wait()


@virtual_time
async def test_the_wait_for_a_batch_ends_with_its_time() -> None:
    """Only the wait has ended; the jobs go on."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(3, seconds=1.0))
        with pytest.raises(TimeoutError, match=r"^2 of the 3 jobs of batch .* others go on$"):
            await batch.wait(timeout=2.5)
        assert (await batch.wait()).finished_at is not None


@pytest.mark.parametrize("count", [0, 1])
@virtual_time
async def test_none_and_one_are_batches_too(count: int) -> None:
    """Who makes the list needn't look how long it is."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(count))
        view = await batch.wait()
        items = [item async for item in batch.as_completed()]
        events = [event.type async for event in batch.events()]
    assert (view.total, view.progress, len(items), view.counts[JobStatus.COMPLETED]) == (
        count, 100, count, count,
    )  # fmt: skip
    assert events == ["item", "progress"] * count + ["done"]
    assert (view.step is None) == (count == 0)


# Events


async def log_of(batch: BatchHandle[Any], after: int = 0) -> Told:
    return [(e.seq, e.type, e.data.get("index")) async for e in batch.events(after)]


@virtual_time
async def test_its_log_goes_on_after_every_number() -> None:
    """A browser that was closed for a while gets the rest, nothing twice and nothing lost."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(20))
        everything = await log_of(batch)
        assert [seq for seq, *_ in everything] == list(range(1, len(everything) + 1))
        for after in range(len(everything) + 2):
            assert await log_of(batch, after) == everything[after:]


@virtual_time
async def test_its_log_goes_on_after_every_number_while_it_runs() -> None:
    """Cut at any place, at any time."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(10, seconds=1.0))
        seen = list[int]()
        while not seen or batch.view().finished_at is None:
            async for event in batch.events(after=len(seen)):
                seen.append(event.seq)
                break
        seen += [event.seq async for event in batch.events(after=len(seen))]
    assert seen == list(range(1, 22))


@virtual_time
async def test_progress_is_told_once_for_each_percent() -> None:
    """A thousand jobs aren't a thousand messages about the same bar."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(1_000))
        told = [e.data async for e in batch.events() if e.type == "progress"]
    assert [data["progress"] for data in told] == list(range(1, 101))
    assert told[22] == {
        "progress": 23,
        "progress_message": "230 of 1000",
        "step": {"current": 230, "total": 1_000},
    }


@virtual_time
async def test_the_last_event_counts_what_has_become_of_them() -> None:
    """Whoever reads only that knows whether it went well."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", [{"n": 1}, {"n": 2, "fails": True}])
        *_, last = [event async for event in batch.events()]
        items = [event async for event in batch.events() if event.type == "item"]
    counts = {name: n for name, n in last.data["counts"].items() if n}
    assert (last.type, counts) == ("done", {"completed": 1, "failed": 1})
    assert [(e.job_id, e.data["status"], e.data["reason"]) for e in items] == [
        (batch.job_ids[0], "completed", None),
        (batch.job_ids[1], "failed", "error"),
    ]


# Cancelling


@virtual_time
async def test_cancelling_ends_jobs_in_every_state() -> None:
    """One that runs, one that waits, one that isn't due, one between attempts, one that ended."""
    runner = make_runner(workers=2)

    @runner.job(retry=RetryPolicy(max_attempts=2))
    async def work(ctx: JobContext, kind: str) -> None:
        if kind == "retries":
            raise RetryableError("once more", retry_after=60.0)
        await asyncio.sleep({"ends": 0.0, "runs": 60.0}.get(kind, 60.0))

    async with runner:
        kinds = ["ends", "retries", "runs", "runs", "waits", "waits"]
        batch = await runner.submit_batch(work, [{"kind": kind} for kind in kinds])
        later = await runner.submit_batch(work, [{"kind": "later"}], delay=100.0)
        await asyncio.sleep(1.0)
        assert some(batch.counts) == {"completed": 1, "retrying": 1, "running": 2, "pending": 2}
        view = await batch.cancel("changed my mind")
        assert some(view.counts) == {"completed": 1, "cancelled": 3, "running": 2}
        assert (view.cancel_note, view.cancel_requested_at) != (None, None)
        view = await batch.wait()
        assert some((await later.cancel()).counts) == {"cancelled": 1}
        results = await batch.results()
    assert some(view.counts) == {"completed": 1, "cancelled": 5}
    with pytest.raises(JobCancelled, match="changed my mind"):
        results[3].result()
    asked = [e.data async for e in batch.events() if e.type == "status"]
    assert asked == [{"cancel_requested": True, "cancel_note": "changed my mind"}]


@virtual_time
async def test_cancelling_twice_is_the_same_as_once() -> None:
    """Nobody is asked again, and one that has ended stays as it is."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(3, seconds=9.0))
        await asyncio.sleep(1.0)
        await batch.cancel("first")
        await batch.cancel("second")
        view = await batch.wait()
        assert (await batch.cancel("third")) == view == (await runner.cancel_batch(batch.id))
    assert (view.cancel_note, some(view.counts)) == ("first", {"cancelled": 3})


@virtual_time
async def test_cancelling_touches_no_other_batch() -> None:
    """Nor a single job of the same type."""
    async with running(workers=1) as runner:
        one, two = [await runner.submit_batch("analyse", numbers(3)) for _ in range(2)]
        alone = await runner.submit("analyse", {"n": 1}, batch_id=one.id)
        await one.cancel()
        await two.wait()
        assert (await alone.wait()).status == "completed"
    assert (some(one.counts), some(two.counts)) == ({"cancelled": 3}, {"completed": 3})


# In flight


class Load:
    """Counts how many run at once."""

    def __init__(self) -> None:
        self.now = self.most = self.runs = 0

    async def carry(self, seconds: float) -> None:
        self.now += 1
        self.runs += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now -= 1


@virtual_time
async def test_no_more_are_in_flight_than_may_be() -> None:
    """A batch must not take all workers; others run beside it, and it drains all the same."""
    runner, load, other = runner_with(workers=10), Load(), Load()

    @runner.job
    async def work(mine: bool = True) -> None:
        await (load if mine else other).carry(1.0)

    async with runner:
        batch = await runner.submit_batch(work, [{}] * 12, max_in_flight=3)
        beside = await runner.submit_batch(work, [{"mine": False}] * 7)
        await beside.wait()
        assert asyncio.get_running_loop().time() == 1.0
        await batch.wait()
        assert asyncio.get_running_loop().time() == 4.0
    assert (load.most, load.runs, other.most) == (3, 12, 7)
    assert batch.view().max_in_flight == 3


@virtual_time
async def test_what_is_in_flight_is_counted_over_retries_and_delays() -> None:
    """A job that waits for its next attempt holds no place, and takes one again."""
    runner, load = runner_with(workers=10), Load()

    @runner.job(retry=RetryPolicy(max_attempts=3))
    async def work(ctx: JobContext) -> None:
        await load.carry(1.0)
        if ctx.attempt < 3:
            raise RetryableError("once more", retry_after=5.0)

    async with runner:
        batch = await runner.submit_batch(work, [{}] * 8, max_in_flight=2, delay=10.0)
        view = await batch.wait()
    assert (load.most, load.runs, some(view.counts)) == (2, 24, {"completed": 8})


@pytest.mark.parametrize("limit", [1, 2, 5])
@virtual_time
async def test_the_limits_of_the_type_hold_too(limit: int) -> None:
    """Whichever is less: at once of the type, of a key, or of the batch."""
    runner, load = runner_with(workers=10), Load()

    @runner.job(max_concurrency=3, concurrency_key=lambda p: p["user"], max_per_key=2)
    async def work(user: str) -> None:
        await load.carry(1.0)

    async with runner:
        batches = [
            await runner.submit_batch(work, [{"user": u}] * 6, max_in_flight=limit) for u in "ab"
        ]
        alone = await runner.submit(work, {"user": "c"})
        for batch in batches:
            assert some((await batch.wait()).counts) == {"completed": 6}
        await alone.wait()
    assert (load.most, load.runs) == (min(3, 2 * min(limit, 2)) if limit > 1 else 3, 13)


@virtual_time
async def test_a_cancelled_batch_gives_its_places_back() -> None:
    """Those that waited for a place are cancelled, and the next batch runs."""
    async with running(workers=10) as runner:
        first = await runner.submit_batch("analyse", numbers(6, seconds=60.0), max_in_flight=2)
        await asyncio.sleep(1.0)
        assert some(first.counts) == {"running": 2, "pending": 4}
        await first.cancel()
        assert some((await first.wait()).counts) == {"cancelled": 6}
        second = await runner.submit_batch("analyse", numbers(6, seconds=1.0), max_in_flight=6)
        await second.wait()
        assert asyncio.get_running_loop().time() == 2.0


# What is kept


@virtual_time
async def test_the_counts_outlive_the_jobs() -> None:
    """The jobs are pruned while the batch still runs; nothing of the sum is lost, nor any end."""
    async with running(workers=1, retention=Retention(max_jobs=3)) as runner:
        params = [{"n": n, "fails": n == 2} for n in range(10)]
        batch = await runner.submit_batch("analyse", params)
        view = await batch.wait()
        results = await batch.results()
        items = [item async for item in batch.as_completed()]
        assert len((await runner.list(batch_id=batch.id)).jobs) == 3
        assert runner.batch(batch.id).view() == view
    assert some(view.counts) == {"completed": 9, "failed": 1}
    assert [item.status for item in results] == [None] * 7 + ["completed"] * 3
    assert [item.status for item in items][:4] == ["completed", "completed", "failed", "completed"]
    assert results[9].result() == 81
    with pytest.raises(JobGone, match="has ended and is no longer kept"):
        items[2].result()


@virtual_time
async def test_batches_are_forgotten_as_jobs_are() -> None:
    """No more jobs are in batches that are kept than are kept; the newest stays whatever its
    size, and one that runs too."""
    async with running(retention=Retention(max_jobs=10)) as runner:
        live = await runner.submit_batch("analyse", numbers(2, seconds=99.0))
        old = [await runner.submit_batch("analyse", numbers(4)) for _ in range(3)]
        await old[2].wait()
        with pytest.raises(BatchGone, match="has ended and is no longer kept"):
            runner.batch(old[0].id)
        assert [runner.batch(b.id).id for b in old[1:]] == [b.id for b in old[1:]]
        large = await runner.submit_batch("analyse", numbers(20))
        await large.wait()
        assert [runner.batch(b.id).total for b in (live, large)] == [2, 20]
        with pytest.raises(BatchGone):
            runner.batch(old[2].id)
        assert (await old[0].wait()).counts[JobStatus.COMPLETED] == 4  # who holds it reads on
        assert len([item async for item in old[0].as_completed()]) == 4


@virtual_time
async def test_batches_are_forgotten_with_age() -> None:
    """Also one of no jobs, on which no job's age would strike."""
    async with running(retention=Retention(max_age=100.0)) as runner:
        empty = await runner.submit_batch("analyse", [])
        await asyncio.sleep(50.0)
        batch = await runner.submit_batch("analyse", numbers(3))
        await batch.wait()
        await asyncio.sleep(49.0)
        assert [runner.batch(b.id).total for b in (empty, batch)] == [0, 3]
        await asyncio.sleep(2.0)
        with pytest.raises(BatchGone):
            runner.batch(empty.id)
        await asyncio.sleep(48.0)
        assert runner.batch(batch.id).total == 3
        await asyncio.sleep(2.0)
        with pytest.raises(BatchGone):
            runner.batch(batch.id)


@virtual_time
async def test_batches_are_bounded_in_bytes_too() -> None:
    """Where the number of jobs isn't, memory is."""
    kept = Retention(max_jobs=None, max_age=None, max_bytes=10_000)
    async with running(retention=kept) as runner:
        batches = [await runner.submit_batch("analyse", numbers(5)) for _ in range(10)]
        await runner.drain()
        gone = 0
        for batch in batches:
            try:
                runner.batch(batch.id)
            except BatchGone:
                gone += 1
    assert gone == 7


@virtual_time
async def test_a_batch_that_never_was_is_unknown() -> None:
    """And one that was forgotten long ago, too."""
    async with running(retention=Retention(max_jobs=1, max_tombstones=1)) as runner:
        with pytest.raises(BatchNotFound, match="there is no batch 'batch_0'"):
            runner.batch("batch_0")
        batches = [await runner.submit_batch("analyse", numbers(1)) for _ in range(3)]
        await batches[2].wait()
        with pytest.raises(BatchNotFound):
            runner.batch(batches[0].id)


# The runner's life


@virtual_time
async def test_a_shutdown_ends_the_batch_and_tells_its_watchers() -> None:
    """Nobody waits for ever for the rest of a batch that will never run."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(5, seconds=10.0), max_in_flight=1)
        watching = asyncio.create_task(log_of(batch))
        await asyncio.sleep(15.0)
        await runner.stop()
        told = await watching
        with pytest.raises(RunnerStopped):
            await runner.submit_batch("analyse", numbers(1))
    assert told[-1][1] == "done"
    assert some(batch.counts) == {"completed": 1, "failed": 4}
    assert [i.job and i.job.error and i.job.error.reason for i in await batch.results()] == (
        [None] + ["shutdown"] * 4
    )


@virtual_time
async def test_a_runner_that_was_started_again_still_has_it() -> None:
    """With everything of it, and room for new ones."""
    runner = make_runner()
    async with runner:
        batch = await runner.submit_batch("analyse", numbers(2))
        await batch.wait()
    async with runner:
        assert ends(await runner.batch(batch.id).results()) == [(0, "completed"), (1, "completed")]
        await (await runner.submit_batch("analyse", numbers(2))).wait()


def test_a_batch_can_be_watched_in_its_own_loop_only() -> None:
    """Another loop would wait for what it is never told; what has ended is read from anywhere."""
    runner, gates = make_runner(), Gates()

    @runner.job
    async def hold() -> None:
        await gates["go"].wait()

    async def main() -> BatchHandle[Any]:
        async with runner:
            batch: BatchHandle[Any] = await runner.submit_batch(hold, [{}])
            with pytest.raises(WrongLoop):
                await asyncio.to_thread(asyncio.run, batch.wait())
            with pytest.raises(WrongLoop):
                await asyncio.to_thread(asyncio.run, batch.cancel())
            gates["go"].set()
            await batch.wait()
            return batch

    batch = asyncio.run(main())
    assert asyncio.run(batch.wait()).progress == 100


@virtual_time
async def test_the_times_of_a_batch_are_those_of_its_jobs() -> None:
    """Accepted with the first, ended with the last."""
    async with running() as runner:
        await asyncio.sleep(5.0)
        batch = await runner.submit_batch("analyse", numbers(2, seconds=3.0))
        view = await batch.wait()
    assert view.finished_at == view.updated_at
    assert view.finished_at is not None
    assert (view.created_at.timestamp(), view.finished_at.timestamp()) == (EPOCH + 5, EPOCH + 8)
    assert repr(batch) == f"<BatchHandle {batch.id} analyse 2 of 2>"


@pytest.mark.slow  # ten thousand jobs
@virtual_time
async def test_ten_thousand_items_are_one_batch() -> None:
    """All of them in one call, each run once, each end told once."""
    async with running(workers=50) as runner:
        batch = await runner.submit_batch("analyse", numbers(10_000))
        assert (batch.total, len(set(batch.job_ids))) == (10_000, 10_000)
        seen = [item.index async for item in batch.as_completed()]
        view = batch.view()
    assert sorted(seen) == list(range(10_000))
    assert (some(view.counts), len(view.job_ids)) == ({"completed": 10_000}, 200)
