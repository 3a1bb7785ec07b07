"""Batches: all jobs or none, one progress, each end once, and what is kept of them."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    BatchHandle,
    JobCancelled,
    JobContext,
    JobFailed,
    JobNotFinal,
    JobStatus,
    RetryableError,
    RetryPolicy,
    RunnerStopped,
    WrongLoop,
)
from jobrunner.testing import EPOCH, virtual_time
from tests.batched import ends, log_of, make_runner, numbers, running, some
from tests.serving import Gates


@virtual_time
async def test_many_results_are_read_in_turns() -> None:
    """Ten thousand of them are seconds, in which streams and timers go on."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(450))
        await batch.wait()
        other = asyncio.create_task(turn())
        assert len(await batch.results()) == 450
        after_results = turns
        assert len([item async for item in batch.as_completed()]) == 450
        other.cancel()
    assert (after_results >= 2, turns - after_results >= 2) == (True, True)


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
async def test_what_is_tried_again_has_not_failed() -> None:
    """Its last error is there to be seen, and is no end."""
    async with make_runner() as runner:

        @runner.job(retry=RetryPolicy(max_attempts=2))
        async def flaky() -> None:
            raise RetryableError("not yet", retry_after=60.0)

        batch = await runner.submit_batch(flaky, [{}])
        await asyncio.sleep(1.0)
        [item] = await batch.results()
        assert item.job is not None and item.job.error is not None
        with pytest.raises(JobNotFinal, match="is retrying; it has no result yet"):
            item.result()


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
async def test_cancelling_many_lets_others_have_a_turn() -> None:
    """A thousand ends take a moment, in which streams and timers go on."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running() as runner:
        batch = await runner.submit_batch("analyse", numbers(1_100), delay=60.0)
        other = asyncio.create_task(turn())
        before = turns
        view = await batch.cancel()
        other.cancel()
    assert (some(view.counts), turns - before >= 2) == ({"cancelled": 1_100}, True)


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
async def test_it_says_after_how_long_it_is_worth_asking() -> None:
    """At the pace until now, and within a minute; at once when it is over."""
    async with running(workers=1) as runner:
        batch = await runner.submit_batch("analyse", numbers(5, seconds=10.0))
        long = await runner.submit_batch("analyse", numbers(100, seconds=10.0))
        asked = []
        for pause in (10.5, 10.0, 10.0, 10.0, 20.0):
            asked.append(round(runner.poll_batch_after(batch.id), 2))
            await asyncio.sleep(pause)
        assert asked == [1.0, 42.0, 30.75, 20.33, 10.12]
        assert (runner.poll_batch_after(batch.id), runner.poll_batch_after(long.id)) == (1.0, 60.0)
        await long.cancel()
        await long.wait()


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
