"""What can be asked about jobs: one, a page, what happens, what has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jobrunner import (
    Event,
    InvalidCursor,
    InvalidOption,
    JobContext,
    JobGone,
    JobHandle,
    JobNotFound,
    JobRunner,
    JobStatus,
    Limits,
    Retention,
    RetryPolicy,
)
from jobrunner.events import EventLog
from jobrunner.jobs import Job, complete, start
from jobrunner.lookup import MAX_PAGE, Lookup
from jobrunner.store import JobStore
from jobrunner.testing import unix_now, virtual_time
from jobrunner.timers import Timers
from tests.records import make_job


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[JobRunner]:
    """A runner with a job type that takes as long as it is told."""
    runner = JobRunner(now=unix_now, seed=1, shutdown_timeout=0.0, **options)

    @runner.job
    async def sleep(ctx: JobContext, seconds: float = 1.0, percent: float = 0.0) -> None:
        ctx.log("began")
        ctx.progress(percent)
        await asyncio.sleep(seconds)

    @runner.job
    async def fail() -> None:
        raise ConnectionError("down")

    async with runner:
        yield runner


def ids(jobs: Any) -> list[str]:
    return [job.job_id for job in jobs]


async def submit(runner: JobRunner, *seconds: float) -> list[JobHandle[Any]]:
    return [await runner.submit("sleep", {"seconds": each}) for each in seconds]


# One job, and pages


@virtual_time
async def test_get_shows_a_job_as_it_stands_now() -> None:
    """Status and progress at any time (row 3)."""
    async with running() as runner:
        job = await runner.submit("sleep", {"seconds": 5, "percent": 40})
        before = await runner.get(job.id)
        await asyncio.sleep(1)
        during = await runner.get(job.id)
        await asyncio.sleep(5)
        after = await runner.get(job.id)
        assert [(v.status, v.progress) for v in (before, during, after)] == [
            (JobStatus.PENDING, 0), (JobStatus.RUNNING, 40), (JobStatus.COMPLETED, 100),
        ]  # fmt: skip
        assert runner.record(job.id).id == job.id


@virtual_time
async def test_get_tells_gone_from_never_there() -> None:
    """Two answers for two cases (row 20), by `get` and whatever else takes an id."""
    async with running(retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("sleep")
        await job.wait()
        for ask in (runner.get, runner.record, runner.poll_after):
            for job_id, error in ((job.id, JobGone), ("job_x", JobNotFound)):
                with pytest.raises(error):
                    answer: Any = ask(job_id)
                    await answer


@virtual_time
async def test_lists_the_newest_first_and_page_by_page() -> None:
    """Pages follow each other without a hole, as views."""
    async with running() as runner:
        jobs = [job.id for job in await submit(runner, 1, 1, 1, 1, 1)]
        first = await runner.list(limit=3)
        rest = await runner.list(limit=3, cursor=first.next_cursor)
        assert ids(first.jobs) + ids(rest.jobs) == jobs[::-1]
        assert (first.next_cursor is None, rest.next_cursor) == (False, None)


@virtual_time
async def test_lists_by_status_type_and_session() -> None:
    """Each filter alone, and all of them together."""
    async with running() as runner:
        short = await runner.submit("sleep", {"seconds": 1}, session_id="s")
        long = await runner.submit("sleep", {"seconds": 9}, session_id="s")
        other = await runner.submit("fail")
        await asyncio.sleep(2)
        filters: list[dict[str, Any]] = [
            {"status": "completed"}, {"status": JobStatus.FAILED}, {"type": "sleep"},
            {"session_id": "s", "status": "running"}, {"batch_id": "b"},
        ]  # fmt: skip
        found = [ids((await runner.list(**each)).jobs) for each in filters]
        assert found == [[short.id], [other.id], [long.id, short.id], [long.id], []]


@virtual_time
async def test_a_page_has_an_upper_bound() -> None:
    """Nobody gets ten thousand jobs in one answer (Q10)."""
    async with running() as runner:
        runner.pause()
        await submit(runner, *[1.0] * (MAX_PAGE + 1))
        pages = [await runner.list(), await runner.list(limit=1), await runner.list(limit=10**9)]
        assert [len(page.jobs) for page in pages] == [50, 1, MAX_PAGE]


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"status": "done"}, InvalidOption, "there is no status 'done'; there are: pending, running"),
    ({"limit": 0}, InvalidOption, "limit is 0; it must be an integer, 1 or more"),
    ({"cursor": "!"}, InvalidCursor, "none of ours"),
])  # fmt: skip
def test_refuses_a_question_that_makes_no_sense(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    """A misspelt status isn't an empty list."""

    @virtual_time
    async def scenario() -> None:
        async with running() as runner:
            with pytest.raises(error, match=said):
                await runner.list(**options)

    scenario()


# What happens


@virtual_time
async def test_events_of_all_jobs_from_now_on() -> None:
    """One reader for a page of all jobs; log lines stay with their jobs."""
    async with running() as runner:
        (before,) = await submit(runner, 0.0)
        await before.wait()
        seen = []

        async def read() -> None:
            async for event in runner.events():
                seen.append((event.job_id, event.type, event.data.get("status")))

        reader = asyncio.create_task(read(), name="reader")
        await asyncio.sleep(0)
        job = await runner.submit("sleep", {"percent": 5})
        await job.wait()
    await reader
    assert seen == [
        (job.id, "status", "pending"), (job.id, "status", "running"), (job.id, "progress", None),
        (job.id, "done", "completed"),
    ]  # fmt: skip


@virtual_time
async def test_who_is_too_slow_is_told_what_it_missed() -> None:
    """A page that shows all jobs has to know that its list is not the whole truth any more."""
    async with running(limits=Limits(max_feed=4)) as runner:
        events = runner.events()
        jobs = await submit(runner, 0.0, 0.0, 0.0)
        await runner.drain()
        first, second = await anext(events), await anext(events)
        assert (first.type, first.job_id, first.data) == ("gap", "", {"missed": 5})
        assert second.job_id in [job.id for job in jobs]


# Waiting


@virtual_time
async def test_waits_for_all() -> None:
    """In the order asked for, whoever ends first."""
    async with running() as runner:
        jobs = await submit(runner, 3, 1, 2)
        waited = await runner.wait([job.id for job in jobs])
        assert (ids(waited.done), waited.pending) == ([job.id for job in jobs], [])
        assert unix_now() == (await runner.get(jobs[0].id)).finished_at.timestamp()  # type: ignore[union-attr]  # it has ended


@virtual_time
async def test_waits_for_any() -> None:
    """The first end is enough, and the others go on."""
    async with running() as runner:
        slow, quick = await submit(runner, 30, 1)
        waited = await runner.wait([slow.id, quick.id], mode="any")
        assert (ids(waited.done), ids(waited.pending)) == ([quick.id], [slow.id])
        again = await runner.wait([slow.id, quick.id], mode="any")
        assert ids(again.done) == [quick.id]


@pytest.mark.parametrize("mode", ["all", "any"])
def test_a_wait_that_runs_out_of_time_says_what_is_left(mode: Any) -> None:
    """Running out of time is an answer and no error; the jobs go on."""

    @virtual_time
    async def scenario() -> None:
        async with running() as runner:
            jobs = await submit(runner, 20, 30)
            started = unix_now()
            waited = await runner.wait([job.id for job in jobs], mode=mode, timeout=5.0)
            assert (waited.done, ids(waited.pending)) == ([], [job.id for job in jobs])
            assert unix_now() - started == 5.0
            assert (await jobs[0].wait()).status == "completed"

    scenario()


@virtual_time
async def test_waits_for_nothing_and_for_one_twice() -> None:
    """No ids are an empty answer at once; an id given twice comes twice."""
    async with running() as runner:
        (job,) = await submit(runner, 1)
        for mode in ("all", "any"):
            assert await runner.wait([], mode=mode) == ([], [])
        assert ids((await runner.wait([job.id, job.id])).done) == [job.id, job.id]


@virtual_time
async def test_refuses_to_wait_for_what_is_not_there() -> None:
    """A wait for an unknown job would never end; a misspelt mode would be guessed."""
    async with running() as runner:
        with pytest.raises(JobNotFound):
            await runner.wait(["job_x"])
        with pytest.raises(InvalidOption, match="mode is 'some'; it must be 'all' or 'any'"):
            await runner.wait([], mode="some")  # type: ignore[arg-type]  # refused, as is tested


class CountingLog(EventLog):
    """Counts how often somebody begins to wait."""

    begun = 0

    def add_waiter(self, waiter: "asyncio.Future[None]", after: int) -> None:
        CountingLog.begun += 1
        super().add_waiter(waiter, after)


@pytest.mark.parametrize("mode", ["all", "any"])
def test_a_wait_for_many_begins_once_for_each(mode: Any) -> None:
    """Beginning anew at each end would be quadratic: ten thousand jobs, fifty million waits."""

    def end(store: JobStore, job: Job) -> None:
        start(job, 1.0, 0.0)
        complete(job, 1.0, b"1")
        store.save(job, "done", {})

    @virtual_time
    async def scenario() -> None:
        timers = Timers()
        timers.open(asyncio.get_running_loop())
        store = JobStore(retention=Retention(), max_feed=100, now=unix_now, timers=timers)
        jobs = [make_job(number, log=CountingLog()) for number in range(1, 201)]
        for job in jobs:
            store.add(job, {})
            timers.after(job.number, lambda job=job: end(store, job))  # type: ignore[misc]  # bound by default
        CountingLog.begun = 0
        lookup = Lookup(store, unix_now)
        waited = await lookup.wait([job.id for job in jobs], mode=mode)
        assert (len(waited.done), CountingLog.begun) == (200 if mode == "all" else 1, 200)

    scenario()


# When to ask again, and waiting for the end of all


@pytest.mark.parametrize(("percent", "after", "expected"), [
    (0, 10, 1.0),  # nothing is known
    (50, 10, 10.0),  # half of it took ten seconds
    (1, 10, 60.0),  # 990 seconds, but nobody should wait that long
    (99, 10, 1.0),
])  # fmt: skip
def test_advises_when_to_ask_about_a_running_job(
    percent: float, after: float, expected: float
) -> None:
    """A client that obeys asks seldom, and not too late."""

    @virtual_time
    async def scenario() -> None:
        async with running() as runner:
            job = await runner.submit("sleep", {"seconds": 100.0, "percent": percent})
            await asyncio.sleep(after)
            assert runner.poll_after(job.id) == pytest.approx(expected)

    scenario()


@virtual_time
async def test_advises_when_to_ask_about_a_job_that_waits() -> None:
    """A job that isn't due yet says when; one that could start any moment is asked about soon."""
    async with running(workers=1) as runner:
        busy = await runner.submit("sleep", {"seconds": 500})
        waiting, due, far = [
            await runner.submit("sleep", delay=delay) for delay in (0.0, 30.0, 1_000.0)
        ]
        await asyncio.sleep(10)
        advice = [runner.poll_after(job.id) for job in (waiting, due, far)]
        assert (advice, runner.poll_after(busy.id)) == ([1.0, 20.0, 60.0], 1.0)


@virtual_time
async def test_advises_when_to_ask_about_a_job_that_retries() -> None:
    """It says when the next attempt may start."""
    async with running(retry=RetryPolicy(base=50.0, cap=50.0)) as runner:
        job = await runner.submit("fail")
        await asyncio.sleep(0.01)
        next_at = runner.record(job.id).next_attempt_at
        assert next_at is not None
        assert runner.poll_after(job.id) == max(1.0, next_at - unix_now())


@virtual_time
async def test_drain_waits_for_everything() -> None:
    """What waits for its time or a retry too, and what comes meanwhile."""
    async with running(retry=RetryPolicy(max_attempts=3)) as runner:
        await runner.drain()
        jobs = [
            await runner.submit("sleep", {"seconds": 5}), await runner.submit("sleep", delay=3_600),
            await runner.submit("fail"),
        ]  # fmt: skip
        asyncio.get_running_loop().call_later(
            3_000, lambda: later.append(asyncio.ensure_future(runner.submit("sleep")))
        )
        later: list[Any] = []
        await runner.drain()
        jobs.append(await later[0])
        statuses = [job.status for job in jobs]
        assert statuses == ["completed", "completed", "failed", "completed"]


@virtual_time
async def test_events_begin_with_the_call_and_not_with_the_first_step() -> None:
    """Whoever asks for events and then submits must see the submit."""
    async with running() as runner:
        events = runner.events()
        [job] = await submit(runner, 1.0)
        first = await anext(events)
    assert (first.job_id, first.seq, first.data["status"]) == (job.id, 1, "pending")


@virtual_time
async def test_who_follows_a_runner_is_told_of_its_end_though_it_is_started_again() -> None:
    """A restart in the same tick must not make one stream of two lives (restarted TestClients)."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def nothing() -> None: ...

    async def follow(events: AsyncIterator[Event]) -> list[str]:
        return [event.data["status"] async for event in events]

    async with runner:
        following = asyncio.get_running_loop().create_task(follow(runner.events()))
        await (await runner.submit(nothing)).wait()
    async with runner:
        assert await following == ["pending", "running", "completed"]
        job = await runner.submit(nothing)
        await job.wait()


@virtual_time
async def test_a_drain_may_be_limited() -> None:
    """Every call that waits has its timeout; the jobs go on."""
    async with running() as runner:
        (job,) = await submit(runner, 100.0)
        with pytest.raises(TimeoutError, match="jobs still run or wait after 5 s; they go on"):
            await runner.drain(timeout=5.0)
        assert job.status is JobStatus.RUNNING
        await runner.drain(timeout=100.0)
        assert job.view().status == "completed"


@virtual_time
async def test_jobs_are_listed_by_their_batch() -> None:
    """Fifty documents of one request are found again, whatever else came between."""
    async with running() as runner:
        mine = [await runner.submit("sleep", batch_id="b1") for _ in range(2)]
        other = await runner.submit("sleep", batch_id="b2", session_id="s")
        assert ids((await runner.list(batch_id="b1")).jobs) == [mine[1].id, mine[0].id]
        assert ids((await runner.list(batch_id="b2", session_id="s")).jobs) == [other.id]
        assert ids((await runner.list(batch_id="b3")).jobs) == []
        with pytest.raises(InvalidOption, match="batch_id is ''; it must be a text of 1 to 256"):
            await runner.submit("sleep", batch_id="")
