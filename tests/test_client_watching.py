"""The events of all jobs, logs and deliveries over HTTP, and batches without asyncio."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from jobrunner import (
    DeliveryNotFound,
    Event,
    InvalidOption,
    JobContext,
    JobNotFound,
    JobStatus,
    ServerProblem,
    ServerUnreachable,
)
from jobrunner.client import JobClient, SyncJobClient
from jobrunner.stats_views import StatsView
from tests.cutting import cutting
from tests.receiving import Receiver
from tests.serving import Bench, bench, listening

IN_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has jobs of its own."""
    async with bench(workers=20) as served:
        yield served


@asynccontextmanager
async def telling() -> AsyncIterator[tuple[Bench, str]]:
    """A server whose webhooks have a receiver, and a job that it was told of."""
    receiver = Receiver()
    async with bench(webhooks=receiver.webhooks()) as served:
        job_id = await served.finished("echo")
        await receiver.first()
        yield served, job_id


@IN_LOOP
async def test_the_events_of_all_jobs_come_without_an_end(served: Bench) -> None:
    """From now on; a job's end isn't the end, and numbers are those of each job."""
    before = await served.finished("echo")
    async with cutting(served.url) as proxy, JobClient(proxy.url, token=served.token) as client:
        async with aclosing(client.events()) as events:
            first = asyncio.create_task(anext(events))
            await begun(served, first)
            seen = [await first]
            job_ids = [await served.finished("echo"), await served.finished("echo")]
            while (seen[-1].job_id, seen[-1].type) != (job_ids[-1], "done"):
                seen.append(await anext(events))
    assert before not in {event.job_id for event in seen}
    for job_id in job_ids:
        told = [(e.seq, e.type) for e in seen if e.job_id == job_id]
        assert told == [(1, "status"), (2, "status"), (3, "done")]


async def begun(served: Bench, first: "asyncio.Task[Event]") -> None:
    """Finish jobs until the stream has begun to tell of one."""
    while not first.done():
        await served.finished("echo")
        await asyncio.wait([first], timeout=0.01)


@IN_LOOP
async def test_the_events_of_all_jobs_go_on_after_a_cut(served: Bench) -> None:
    """By the server's own number: what happened while nobody was connected comes, once."""
    async with cutting(served.url) as proxy, JobClient(proxy.url, token=served.token) as client:
        async with aclosing(client.events()) as events:
            first = asyncio.create_task(anext(events))
            await begun(served, first)
            seen, expected = [await first], set[str]()
            for _ in range(5):
                proxy.cut_all()
                expected.add(await served.finished("say", texts=["a"]))
                while not expected <= {e.job_id for e in seen if e.type == "done"}:
                    seen.append(await anext(events))
    told = [(e.job_id, e.seq) for e in seen]
    assert len(told) == len(set(told))
    assert [e.seq for e in seen if e.job_id in expected] == [1, 2, 4] * 5
    assert proxy.opened >= 5


@IN_LOOP
async def test_a_number_without_a_job_is_refused(served: Bench) -> None:
    """It would be some job's, and nobody knows whose."""
    async with JobClient(served.url, token=served.token) as client:
        with pytest.raises(InvalidOption, match="after"):
            client.events(after=3)


@IN_LOOP
async def test_the_stats_are_the_runner_s(served: Bench) -> None:
    """The same numbers as in process, from both clients."""
    await served.finished("echo")

    def script() -> StatsView:
        with SyncJobClient(served.url, token=served.token) as client:
            return client.stats()

    async with JobClient(served.url, token=served.token) as client:
        stats = await client.stats()
    assert (stats.workers, stats.jobs["completed"]) == (
        20,
        served.runner.stats().jobs[JobStatus.COMPLETED],
    )
    assert await asyncio.to_thread(script) == stats


@IN_LOOP
async def test_what_a_job_said_is_read_as_text(served: Bench) -> None:
    """To keep, after the job is gone; what is no text is no log."""

    @served.runner.job
    async def talk(ctx: JobContext) -> None:
        ctx.log("größer")
        ctx.emit("end\n")

    async with JobClient(served.url, token=served.token) as client:
        job = await client.submit("talk")
        await job.wait()
        said = await client.logs(job.id)
        with pytest.raises(JobNotFound):
            await client.logs("job_never")
    assert [line.partition("Z ")[2] or line for line in said.splitlines()] == ["größer", "end"]


@IN_LOOP
async def test_a_log_from_elsewhere_is_an_error() -> None:
    """Another program's page isn't what the job said."""

    async def page(scope: object, receive: object, send: object) -> None:
        start = {"type": "http.response.start", "status": 200}
        await send(start | {"headers": [(b"content-type", b"text/html")]})  # type: ignore[operator]  # any ASGI app
        await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[operator]  # any ASGI app

    async with listening(page, lifespan="off") as url, JobClient(url) as client:
        with pytest.raises(ServerProblem) as refused:
            await client.logs("job_1")
    assert refused.value.code == "no-jobrunner"


@IN_LOOP
async def test_deliveries_are_seen_and_sent_again() -> None:
    """As the runner has them; another id is none."""
    async with (
        telling() as (served, job_id),
        JobClient(served.url, token=served.token) as client,
    ):
        (seen,) = await client.deliveries(job_id)
        (local,) = await served.runner.deliveries(job_id)
        assert (seen.delivery_id, seen.event, seen.url) == (
            local.delivery_id, "job.completed", local.url,
        )  # fmt: skip
        sent = await client.resend(job_id, seen.delivery_id)
        assert (sent.delivery_id, sent.job_id) == (seen.delivery_id, job_id)
        for unknown in ("msg_never_1", "../x"):
            with pytest.raises(DeliveryNotFound):
                await client.resend(job_id, unknown)
        with pytest.raises(JobNotFound):
            await client.deliveries("job_never")


@IN_LOOP
async def test_a_resend_whose_answer_was_lost_is_not_made_again() -> None:
    """It could send the webhook twice; whoever wants that asks once more."""
    async with telling() as (served, job_id), cutting(served.url, [30]) as proxy:
        (seen,) = await served.runner.deliveries(job_id)
        async with JobClient(proxy.url, token=served.token) as client:
            with pytest.raises(ServerUnreachable):
                await client.resend(job_id, seen.delivery_id)
        assert proxy.requests == 1


class Elsewhere(NamedTuple):
    """A server in a thread of its own, and a client of it."""

    portal: BlockingPortal
    bench: Bench
    client: SyncJobClient
    receiver: Receiver
    """Is told of the jobs that have a webhook."""


@pytest.fixture(scope="module")
def there() -> Iterator[Elsewhere]:
    """One server for the tests without a loop."""
    receiver = Receiver()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(bench(webhooks=receiver.webhooks(url=None))) as served,
        SyncJobClient(served.url, token=served.token) as client,
    ):
        yield Elsewhere(portal, served, client, receiver)


def test_a_script_has_batches_too(there: Elsewhere) -> None:
    """The same verbs, each of which waits for its answer."""
    client = there.client
    batch = client.submit_batch("echo", ({"value": n} for n in range(4)))
    assert sorted(item.result() for item in batch.as_completed()) == [0, 1, 2, 3]
    ended = batch.wait(timeout=60.0)
    assert ended == batch.view() == client.get_batch(batch.id, wait=1) == batch.cancel()
    assert ended == client.cancel_batch(batch.id) == client.batch(batch.id).view()
    assert [item.result() for item in batch.results()] == [0, 1, 2, 3]
    assert batch.counts() == ended.counts
    assert list(batch.events()) == list(client.batch_events(batch.id))
    assert (repr(batch), batch.outcome) == (f"<SyncRemoteBatch {batch.id}>", "created")


def test_a_script_sees_what_jobs_said_and_where_it_was_told(there: Elsewhere) -> None:
    """Logs, deliveries and the events of all jobs, which it may leave at any time."""
    job = there.client.submit("say", {"texts": ["a"]}, webhook_url="https://192.0.2.1/hook")
    job.wait()
    there.portal.call(there.receiver.first)
    assert there.client.logs(job.id) == "a"
    (delivery,) = there.client.deliveries(job.id)
    sent = there.client.resend(job.id, delivery.delivery_id)
    assert sent.delivery_id == delivery.delivery_id
    held = there.client.submit("hold", {"key": "sync"})
    there.portal.start_task_soon(keep_busy, there.bench)
    for event in there.client.events():
        assert event.job_id != job.id
        break
    there.portal.call(there.bench.gates["sync"].set)
    assert held.result() == "sync"


async def keep_busy(served: Bench) -> None:
    """Have something happen until the gate is opened."""
    while not served.gates["sync"].is_set():
        await served.finished("echo")
