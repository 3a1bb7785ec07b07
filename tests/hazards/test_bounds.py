"""Ten times each bound (Q10)."""

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from jobrunner import (
    InvalidOption,
    JobContext,
    JobGone,
    JobNotFound,
    JobRunner,
    JobRunnerError,
    JobStatus,
    Limits,
    PayloadTooLarge,
    QueueFull,
    Retention,
)
from jobrunner.testing import virtual_time
from tests.runners import new_runner, reason, runner_with


@virtual_time
async def test_q10_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    """The caller hears of it, instead of the memory filling up."""
    runner = new_runner(workers=1, limits=Limits(max_pending=2))
    async with runner:
        jobs = [await runner.submit("slow")]
        await asyncio.sleep(1.0)
        jobs += [await runner.submit("slow"), await runner.submit("slow", delay=60.0)]
        with pytest.raises(
            QueueFull, match=r"^2 jobs wait already, 2 of them of type 'slow'; there is no room"
        ):
            await runner.submit("slow")
        await runner.drain()
    assert [job.status for job in jobs] == ["completed"] * 3


@virtual_time
async def test_q10_a_note_is_cut() -> None:
    """Whoever cancels can't fill the memory either."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        view = await runner.cancel(job.id, "x" * 5_000, reason="superseded")
    assert view.cancel_note is not None
    assert (len(view.cancel_note) < 1_100, view.cancel_reason) == (True, "superseded")


TEN = 10
"""Times each bound."""


def test_q10_every_bound_has_its_test() -> None:
    """One that is added needs a test below that goes ten times over it."""
    bounds = {field.name for kind in (Limits, Retention) for field in dataclasses.fields(kind)}
    assert {name for name in bounds if f"test_q10_{name}" not in globals()} == set()


async def refused(runner: JobRunner, times: int, **options: Any) -> list[type[BaseException]]:
    """Submit so often; return what the refusals were."""
    kinds: list[type[BaseException]] = []
    for _ in range(times):
        try:
            await runner.submit("slow", **options)
        except JobRunnerError as error:
            kinds.append(type(error))
    return kinds


@virtual_time
async def test_q10_max_pending() -> None:
    """Waiting jobs, those that wait for their time included."""
    async with new_runner(workers=1, limits=Limits(max_pending=5)) as runner:
        runner.pause()
        kinds = await refused(runner, 25) + await refused(runner, 25, delay=60.0)
        assert (kinds, runner.stats().jobs[JobStatus.PENDING]) == ([QueueFull] * 45, 5)
        runner.resume()
        await runner.drain()


@virtual_time
async def test_q10_max_batch() -> None:
    """One request can't take the whole queue, or hold the loop up for long."""
    async with new_runner(limits=Limits(max_batch=5)) as runner:
        with pytest.raises(PayloadTooLarge, match=r"^the batch has over 5 jobs, the limit"):
            await runner.submit_batch("slow", [{}] * TEN * 5)
        assert sum(runner.stats().jobs.values()) == 0
        assert (await runner.submit_batch("slow", [{}] * 5)).total == 5
        await runner.drain()


async def asks(ctx: JobContext, prompt: str = "Well?", times: int = 1) -> list[str]:
    """Ask so many questions at once."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ctx.ask(prompt)) for _ in range(times)]
    return [each.result() for each in asked]


@virtual_time
async def test_q10_max_aside() -> None:
    """Each one that waits holds memory; with an attempt left the next may ask later."""
    async with runner_with(workers=2, limits=Limits(max_aside=5)) as runner:
        runner.job(asks)
        jobs = [await runner.submit(asks) for _ in range(TEN * 5)]
        await asyncio.sleep(1.0)
        views = [job.view() for job in jobs]
        assert [view.status for view in views] == ["input_required"] * 5 + ["failed"] * 45
        assert views[5].error is not None and views[5].error.type == "ExceptionGroup"
        assert runner.stats().busy == 0
        await jobs[0].answer(None, "x")
        await asyncio.sleep(1.0)
        again = await runner.submit(asks)
        await asyncio.sleep(1.0)
        assert again.status == "input_required"


@virtual_time
async def test_q10_max_depth() -> None:
    """A job type that submits itself without end must not take the memory of all."""
    runner = runner_with(workers=1, limits=Limits(max_depth=3))

    @runner.job
    async def doll(ctx: JobContext, left: int) -> None:
        if left:
            await (await ctx.submit("doll", {"left": left - 1})).result()

    async with runner:
        job = await runner.submit(doll, {"left": 3 * TEN})
        view = await job.wait()
        errors = [doll.error.type for doll in (await runner.list()).jobs if doll.error]
        assert errors == ["TooDeeplyNested", "JobFailed", "JobFailed", "JobFailed"]
        assert view.error is not None and "Limits.max_depth" in view.error.detail
        await (await runner.submit(doll, {"left": 3})).result()


@virtual_time
async def test_q10_max_questions() -> None:
    """A person isn't asked a thousand things at once."""
    async with runner_with(limits=Limits(max_questions=5)) as runner:
        runner.job(asks)
        few, many = (
            await runner.submit(asks, {"times": 5}),
            await runner.submit(asks, {"times": 5 * TEN}),
        )
        view = await many.wait()
        assert len(few.view().questions) == 5
        assert view.error is not None
        assert "has 5 open questions, as many as it may have" in (view.error.traceback or "")


@pytest.mark.parametrize(("size", "status"), [(16_384, "input_required"), (163_840, "failed")])
@virtual_time
async def test_q10_max_prompt(size: int, status: str) -> None:
    """It isn't cut: what is left out could be what is decided."""
    async with runner_with() as runner:
        runner.job(asks)
        job = await runner.submit(asks, {"prompt": "x" * size})
        await asyncio.sleep(1.0)
        assert job.status == status
        if status == "failed":
            assert f"prompt has {size} characters; the limit is 16384" in str(job.view().error)


@virtual_time
async def test_q10_max_answer() -> None:
    """An answer is kept in the job's log."""
    async with runner_with() as runner:
        runner.job(asks)
        job = await runner.submit(asks)
        await asyncio.sleep(1.0)
        with pytest.raises(PayloadTooLarge, match="is 163842 bytes of JSON; the limit is 16384"):
            await job.answer("q1", "x" * TEN * 16_384)
        assert job.status == "input_required"
        await job.answer("q1", "x" * 16_382)
        assert len((await job.result())[0]) == 16_382


@virtual_time
async def test_q10_max_live_bytes() -> None:
    """Params of all jobs that haven't ended; what has ended makes room."""
    runner = new_runner(workers=1, limits=Limits(max_live_bytes=10_000))

    @runner.job
    async def take(text: str) -> None: ...

    async with runner:
        runner.pause()
        taken = 0
        with pytest.raises(QueueFull):
            for _ in range(TEN * 10):
                await runner.submit(take, {"text": "x" * 1_000})
                taken += 1
        assert taken == 10  # the last one may be over it
        runner.resume()
        await runner.drain()
        assert (await runner.submit(take, {"text": "x" * 1_000})).outcome == "created"


@pytest.mark.parametrize(("size", "refusal"), [(262_144 - 11, None), (TEN * 262_144, "params")])
@virtual_time
async def test_q10_max_params(size: int, refusal: str | None) -> None:
    """What one job is given; a file belongs somewhere else."""
    runner = new_runner()

    @runner.job
    async def take(text: str) -> int:
        return len(text)

    async with runner:
        if refusal is None:
            assert await (await runner.submit(take, {"text": "x" * size})).result() == size
        else:
            with pytest.raises(PayloadTooLarge, match=r"^the params are "):
                await runner.submit(take, {"text": "x" * size})
            assert sum(runner.stats().jobs.values()) == 0


@virtual_time
async def test_q10_max_metadata() -> None:
    """It is kept with the job for as long as that is, and shown in each list."""
    async with new_runner() as runner:
        with pytest.raises(PayloadTooLarge, match=r"^the metadata is "):
            await runner.submit("slow", metadata={"text": "x" * TEN * 16_384})
        assert sum(runner.stats().jobs.values()) == 0


@virtual_time
async def test_q10_max_result() -> None:
    """The job fails; its value is not kept."""
    runner = new_runner()

    @runner.job
    async def large() -> str:
        return "x" * TEN * 1_048_576

    async with runner:
        view = await (await runner.submit(large)).wait()
    assert (view.status, reason(view), view.result) == ("failed", "too_large", None)


@virtual_time
async def test_q10_max_events() -> None:
    """The newest are kept, and a gap says what went."""
    runner = new_runner(limits=Limits(max_events=50))

    @runner.job
    async def talk(ctx: JobContext) -> None:
        for number in range(TEN * 50):
            ctx.log(str(number))

    async with runner:
        job = await runner.submit(talk)
        await job.wait()
        events = [event async for event in job.events()]
    assert [event.type for event in events[:2]] == ["gap", "log"]
    assert [event.seq for event in events[1:]] == list(range(504 - 50, 504))


@virtual_time
async def test_q10_max_text() -> None:
    """Log lines and output of one job, the newest."""
    runner = new_runner(limits=Limits(max_text=10_000))

    @runner.job
    async def talk(ctx: JobContext) -> None:
        for number in range(TEN * 10):
            ctx.emit(f"{number:04}" * 250)

    async with runner:
        job = await runner.submit(talk)
        await job.wait()
        texts = [event.data["text"] async for event in job.events() if event.type == "output"]
    newest = [f"{number:04}" for number in range(TEN * 10)][-len(texts) :]
    assert [text[:4] for text in texts] == newest
    assert 9_000 <= sum(map(len, texts)) <= 10_000


async def test_q10_max_threads() -> None:
    """Handlers in threads that never end don't fill the machine."""
    runner = JobRunner(workers=20, limits=Limits(max_threads=2), shutdown_timeout=0.0)
    release, running = threading.Event(), []

    @runner.job
    def block() -> None:
        running.append(threading.current_thread())
        release.wait()

    async with runner:
        jobs = [await runner.submit(block) for _ in range(TEN * 2)]
        _, waiting = await runner.wait([job.id for job in jobs[2:]], timeout=20.0)
        failed = [job.view().error for job in jobs[2:]]
        release.set()
        await runner.wait([job.id for job in jobs], timeout=20.0)
    assert (len(running), waiting, len(failed)) == (2, [], 18)
    assert all(error and "2 threads of handlers still run" in error.title for error in failed)


@virtual_time
async def test_q10_max_stuck() -> None:
    """With so many stuck handlers no job is begun, until one of them ends."""
    runner = runner_with(workers=1, cancel_grace=1.0, limits=Limits(max_stuck=3))
    release = asyncio.Event()

    @runner.job(timeout=1.0)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with runner:
        jobs = [await runner.submit(stubborn) for _ in range(TEN * 3)]
        await asyncio.sleep(600.0)
        assert (runner.stats().stuck, runner.stats().busy) == (3, 0)
        assert runner.stats().jobs[JobStatus.PENDING] == len(jobs) - 3
        release.set()
        await runner.drain()
        assert runner.stats().stuck == 0


@virtual_time
async def test_q10_max_feed() -> None:
    """Who follows all jobs and is slow is told how much it missed."""
    runner = new_runner(limits=Limits(max_feed=20))
    async with runner:
        feed = runner.events()
        await runner.submit("slow")
        assert (await anext(feed)).type == "status"
        jobs = [await runner.submit("slow", delay=1.0) for _ in range(TEN * 20)]
        first = await anext(feed)
        for job in jobs:
            await job.cancel()
    assert (first.type, first.data["missed"] >= 180) == ("gap", True)


async def kept(retention: Retention, jobs: int, *, text: str = "") -> tuple[int, int, list[str]]:
    """Run so many jobs; return how many are kept, and gone, and the first ten's answers."""
    runner = runner_with(retention=retention)

    @runner.job
    async def give() -> str:
        return text

    async with runner:
        handles = []
        for _ in range(jobs):
            handles.append(await runner.submit(give))
            await handles[-1].wait()
        answers = []
        for handle in handles[:TEN]:
            try:
                await runner.get(handle.id)
                answers.append("kept")
            except (JobGone, JobNotFound) as error:
                answers.append(type(error).__name__)
        return sum(runner.stats().jobs.values()), runner.stats().pruned, answers


@virtual_time
async def test_q10_max_jobs() -> None:
    """The newest final jobs."""
    assert await kept(Retention(max_jobs=5), 50) == (5, 45, ["JobGone"] * 10)


@virtual_time
async def test_q10_max_tombstones() -> None:
    """Even the memory of ids that are gone is bounded."""
    expected = ["JobNotFound"] * 4 + ["JobGone"] * 5 + ["kept"]
    assert await kept(Retention(max_jobs=1, max_tombstones=5), 10) == (1, 9, expected)
    assert (await kept(Retention(max_jobs=1, max_tombstones=5), 60))[2] == ["JobNotFound"] * 10


@virtual_time
async def test_q10_max_bytes() -> None:
    """A few large results take the place of many small ones."""
    left, pruned, _ = await kept(Retention(max_bytes=100_000), 100, text="x" * 10_000)
    assert (left, pruned) == (9, 91)


@virtual_time
async def test_q10_max_age() -> None:
    """Pruned in time, though nobody asks and nothing else ends."""
    async with new_runner(retention=Retention(max_age=60.0)) as runner:
        for _ in range(50):
            await runner.submit("slow")
        await runner.drain()
        await asyncio.sleep(TEN * 60.0)
        assert (sum(runner.stats().jobs.values()), runner.stats().pruned) == (0, 50)


@virtual_time
async def test_q10_texts_of_a_handler_are_cut() -> None:
    """A log line, its fields, a message: 16 kB, with both ends; output in pieces of as much."""
    runner, limit = new_runner(), 16_384

    @runner.job
    async def talk(ctx: JobContext) -> None:
        text = "begin" + "x" * TEN * limit + "end"
        ctx.log(text, more=text)
        ctx.emit(text)
        ctx.progress(1, text)

    async with runner:
        job = await runner.submit(talk)
        await job.wait()
        line, *output = [e.data async for e in job.events() if e.type in ("log", "output")]
    said = [str(line["text"]), job.view().progress_message or ""]
    assert [(text[:5], text[-3:], len(text) < limit + 100) for text in said] == [
        ("begin", "end", True)
    ] * 2
    assert len(str(line["fields"])) < 100
    assert [len(piece["text"]) for piece in output] == [limit] * TEN + [len("beginend")]


@pytest.mark.parametrize("name", ["session_id", "batch_id", "idempotency_key", "concurrency_key"])
@virtual_time
async def test_q10_a_name_that_is_too_long_is_refused(name: str) -> None:
    """256 characters: names are kept in tables, for as long as the job is."""
    async with new_runner() as runner:
        assert await refused(runner, 1, **{name: "n" * TEN * 256}) == [InvalidOption]
