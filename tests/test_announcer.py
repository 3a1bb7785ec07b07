"""One reader of the feed tells of all jobs, of each event once."""

import asyncio

import pytest

from jobrunner import (
    DeliveryNotFound,
    JobContext,
    JobNotFound,
    JobRunner,
    Limits,
    Retention,
)
from jobrunner.jobs import Job
from jobrunner.testing import unix_now, virtual_time
from tests.limited import living
from tests.receiving import Receiver, data_of, runner_with_webhooks, settled


async def quiet() -> None:
    """End at once."""


@virtual_time
async def test_a_job_that_is_pruned_at_once_is_told_of() -> None:
    """What is kept afterwards has nothing to do with who was promised a call."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver, retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("echo", {"value": 7})
        await job.wait()
        await settled(runner)
        with pytest.raises(LookupError):
            await runner.deliveries(job.id)
    assert data_of(receiver.received[0])["result"] == 7


@virtual_time
async def test_a_feed_that_overflows_loses_no_event() -> None:
    """It is bounded, and a thousand jobs may end in one step; each is told of, and once."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver, limits=Limits(max_feed=5), workers=1) as runner:
        early = [await runner.submit("echo", delay=100.0) for _ in range(20)]
        await asyncio.sleep(1.0)
        late = [await runner.submit("echo", delay=200.0) for _ in range(120)]
        for job in early:
            await job.cancel()
        await late[0].cancel()
        await settled(runner)
        ended = {r.message["data"]["job_id"]: r.message["type"] for r in receiver.received}
    assert len(receiver.received) == len(ended) == 140
    cancelled = {job.id for job in [*early, late[0]]}
    assert {job_id for job_id, kind in ended.items() if kind == "job.cancelled"} == cancelled


@virtual_time
async def test_a_job_is_told_of_though_neither_log_still_has_its_first_event() -> None:
    """A busy job says more than is kept, while the reader of the feed is behind."""
    receiver, limits = Receiver(), Limits(max_feed=300, max_events=5)
    async with runner_with_webhooks(receiver, limits=limits) as runner:

        @runner.job
        async def chatty(ctx: JobContext) -> None:
            for row in range(300):
                ctx.progress(row % 100, f"row {row}")

        await runner.submit_batch("echo", [{}] * 290, delay=100.0)
        job = await runner.submit(chatty, priority=1)
        await settled(runner)
    assert data_of(receiver.received[0])["job_id"] == job.id
    assert len(receiver.received) == 291


@virtual_time
async def test_much_to_read_leaves_others_their_turn() -> None:
    """A crowd that ends in one step must not hold up the loop for a second."""
    async with runner_with_webhooks(Receiver()) as runner:
        jobs = [await runner.submit("echo", delay=100.0) for _ in range(250)]
        await asyncio.sleep(1.0)
        for job in jobs:
            await job.cancel()
        turns = []
        for _ in range(12):
            await asyncio.sleep(0)
            counts = runner.stats().webhooks
            turns.append(counts.get("pending", 0) + counts.get("delivered", 0))
    assert {100, 200, 250} <= set(turns)


@virtual_time
async def test_a_job_that_has_ended_is_let_go_of() -> None:
    """Its record was held only so that it could be told of."""
    before = living(Job)  # of tests whose server goes on
    async with runner_with_webhooks(Receiver(), retention=Retention(max_jobs=0)) as runner:
        for _ in range(20):
            await (await runner.submit("echo")).wait()
        await settled(runner)
        assert living(Job) == before


@virtual_time
async def test_a_job_that_nobody_could_see_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Come, ended and pruned in one step: the one case that isn't told of, and it is said."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver, retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("echo", delay=100.0)
        await job.cancel()
        await settled(runner)
    said = f"job {job.id} is not told of: it was pruned before anybody saw it"
    assert (receiver.received, caplog.messages) == ([], [said])


@virtual_time
async def test_what_happens_while_the_runner_stops_is_not_forgotten() -> None:
    """The second start tells of it, without having seen it happen."""
    receiver = Receiver(seconds=1.0)
    runner = runner_with_webhooks(receiver, cancel_grace=0.0, shutdown_timeout=0.0)
    async with runner:
        jobs = [await runner.submit("echo", delay=100.0) for _ in range(9)]
    assert receiver.sending == 0
    async with runner:
        await settled(runner)
    told = {r.message["data"]["job_id"] for r in receiver.received[-9:]}
    assert told == {job.id for job in jobs}


@virtual_time
async def test_a_job_that_waits_for_a_person_is_told_of() -> None:
    """Whoever is to answer has to hear of each question, once, and can answer it with its token."""
    receiver = Receiver()
    runner = JobRunner(
        webhooks=receiver.webhooks(), now=unix_now, seed=1, limits=Limits(max_feed=2)
    )

    @runner.job
    async def careful(ctx: JobContext) -> list[bool]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ctx.ask(text, schema=bool)) for text in ("Now?", "Sure?")]
        for percent in range(5):  # more than the feed keeps: all of the job is read again
            ctx.progress(percent)
        await asyncio.sleep(1.0)
        return [each.result() for each in asked]

    async with runner:
        job = await runner.submit(careful)
        await asyncio.sleep(1.0)
        told = [request.message for request in receiver.received]
        assert [message["type"] for message in told] == ["job.input_required"] * 2
        assert [message["data"]["question_id"] for message in told] == ["q1", "q2"]
        assert [request.headers["webhook-id"][-2:] for request in receiver.received] == ["_3", "_5"]
        for message, answer in zip(told, (True, False), strict=True):
            assert message["data"]["question"]["prompt"] == "Now?"
            await runner.answer_by_token(message["data"]["answer_token"], answer)
        (first, *_) = await runner.deliveries(job.id)
        await runner.resend(job.id, first.delivery_id)
        await asyncio.sleep(0.5)
        assert "answer_token" not in receiver.received[-1].message["data"]
        assert await job.result() == [True, False]
    assert [request.message["type"] for request in receiver.received[3:]] == ["job.completed"]


@virtual_time
async def test_a_fault_over_one_job_ends_nobody_else_s_webhooks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One reader reads for all (T17)."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        broken = await runner.submit("echo", delay=100.0)
        record = runner.record(broken.id)
        record.metadata = {"no JSON": object()}
        await broken.wait()
        well = await runner.submit("echo")
        await settled(runner)
    assert [data_of(r)["job_id"] for r in receiver.received] == [well.id]
    assert caplog.messages == [f"job {broken.id} is not told of"]


@virtual_time
async def test_a_job_without_a_url_costs_no_delivery() -> None:
    """Most jobs have somebody who waits for them."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver, hooks={"url": None}) as runner:
        job = await runner.submit("echo")
        await job.wait()
        await settled(runner)
        assert (await runner.deliveries(job.id), runner.stats().webhooks) == ([], {})
    assert receiver.received == []


@virtual_time
async def test_a_runner_without_webhooks_has_no_deliveries() -> None:
    """Asking is no error; sending again what isn't there is."""
    runner = JobRunner(now=unix_now)
    runner.job("quiet")(quiet)
    async with runner:
        job = await runner.submit("quiet")
        await job.wait()
        assert (await runner.deliveries(job.id), runner.stats().webhooks) == ([], {})
        with pytest.raises(DeliveryNotFound, match="the runner has none"):
            await runner.resend(job.id, "msg_1")
        with pytest.raises(JobNotFound):
            await runner.deliveries("job_0")
