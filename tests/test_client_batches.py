"""Batches over HTTP: taken once, each item told once, whatever happens to the connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from jobrunner import (
    BatchNotFound,
    InvalidOption,
    InvalidParams,
    JobCancelled,
    JobFailed,
    JobGone,
    JobNotFinal,
    JobRunner,
    JobStatus,
    Retention,
)
from jobrunner.client import JobClient
from jobrunner.server import serving
from tests.cutting import cutting
from tests.serving import Bench, bench

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has batches of its own."""
    async with bench(workers=20) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Bench) -> AsyncIterator[JobClient]:
    """One client for the file."""
    async with JobClient(served.url, token=served.token) as client:
        yield client


def values(count: int) -> list[dict[str, Any]]:
    return [{"value": n} for n in range(count)]


async def test_a_batch_is_submitted_and_its_items_come_as_they_end(
    served: Bench, client: JobClient
) -> None:
    """Each once, with its place and its result; the view is the runner's own."""
    batch = await client.submit_batch("echo", values(5), max_in_flight=2, session_id="ada")
    items = [item async for item in batch.as_completed()]
    local = served.runner.batch(batch.id)
    assert sorted((i.index, i.job_id, i.result()) for i in items) == [
        (n, job_id, n) for n, job_id in enumerate(local.job_ids)
    ]
    assert (await batch.wait(), await batch.view()) == (local.view(), local.view())
    assert await batch.counts() == local.counts
    assert (local.view().max_in_flight, local.view().session_id) == (2, "ada")
    assert (repr(batch), batch.outcome) == (f"<RemoteBatch {batch.id}>", "created")
    assert await batch.results() == sorted(items, key=lambda item: item.index)


async def test_the_events_are_those_of_the_runner(served: Bench, client: JobClient) -> None:
    """With the same numbers; the end of an item has its result, too."""
    batch = await client.submit_batch("echo", values(3))
    await batch.wait()
    local = [event async for event in served.runner.batch(batch.id).events()]
    remote = [event async for event in batch.events()]
    assert [(e.seq, e.job_id, e.type) for e in remote] == [(e.seq, e.job_id, e.type) for e in local]
    assert [dict(e.data) for e in remote if e.type != "item"] == [
        dict(e.data) for e in local if e.type != "item"
    ]
    first = next(e for e in remote if e.type == "item")
    assert {"index", "status", "reason", "error", "cancel_note", "result"} == first.data.keys()
    assert [e.seq async for e in batch.events(after=remote[-2].seq)] == [remote[-1].seq]


async def test_a_failure_is_one_of_the_results(client: JobClient) -> None:
    """The others are there all the same."""
    batch = await client.submit_batch("fail", [{"message": "one"}, {"message": "two"}])
    one, two = await batch.results() if (await batch.wait()).finished_at else []
    with pytest.raises(JobFailed, match="one") as failed:
        one.result()
    assert (failed.value.job_id, failed.value.reason) == (one.job_id, "error")
    assert two.error is not None and "two" in two.error.detail


async def test_who_had_a_job_cancelled_is_told_as_in_process(
    served: Bench, client: JobClient
) -> None:
    """By a user, with what they said, or because another job took its place."""
    by_user = await client.submit_batch("hold", [{"key": "cancelled by a user"}])
    await by_user.cancel("too slow")
    replaced = await client.submit_batch("hold", [{"key": "replaced"}])
    handle = served.runner.batch(replaced.id)
    await served.runner.cancel(handle.job_ids[0], "a newer one", reason="superseded")
    for batch, reason, note in (
        (by_user, "user", "too slow"),
        (replaced, "superseded", "a newer one"),
    ):
        await batch.wait()
        [item] = await batch.results()
        with pytest.raises(JobCancelled) as here:
            (await served.runner.batch(batch.id).results())[0].result()
        with pytest.raises(JobCancelled) as there:
            item.result()
        assert (item.reason, item.note) == (reason, note)
        assert (str(there.value), there.value.reason) == (str(here.value), reason)


async def test_results_of_a_batch_that_runs_are_as_they_stand(
    served: Bench, client: JobClient
) -> None:
    """In the order of the params: what has ended, and where the others are."""
    keys = [f"results {n}" for n in range(3)]
    batch = await client.submit_batch("hold", [{"key": key} for key in keys])
    job_ids = served.runner.batch(batch.id).job_ids
    for key in keys:
        await served.gates[f"{key} reached"].wait()
    assert [(i.job_id, i.status) for i in await batch.results()] == [
        (job_id, "running") for job_id in job_ids
    ]
    served.gates[keys[1]].set()
    async with aclosing(batch.as_completed()) as ended:
        assert (await anext(ended)).index == 1
    items = await batch.results()
    assert [(i.index, i.job_id, i.status) for i in items] == [
        (0, job_ids[0], "running"), (1, job_ids[1], "completed"), (2, job_ids[2], "running"),
    ]  # fmt: skip
    assert items[1].result() == keys[1]
    with pytest.raises(JobNotFinal, match="running"):
        items[0].result()
    with pytest.raises(TimeoutError, match=f"1 of the 3 jobs of batch {batch.id} have ended"):
        await batch.wait(timeout=0.01)
    stopped = await batch.cancel("enough")
    assert (stopped.cancel_note, (await batch.wait()).counts[JobStatus.CANCELLED]) == ("enough", 2)
    with pytest.raises(JobCancelled):
        (await batch.results())[0].result()
    assert await client.cancel_batch(batch.id) == await batch.view()


@pytest.mark.slow  # a batch of over a page
async def test_results_of_many_take_few_requests(served: Bench) -> None:
    """One stream, and pages for what runs: never one request each."""
    async with cutting(served.url) as proxy, JobClient(proxy.url, token=served.token) as client:
        held = await client.submit_batch("hold", [{"key": "many"}] * 450, max_in_flight=1)
        assert [item.index for item in await held.results()] == list(range(450))
        served.gates["many"].set()
        await held.wait()
        before = proxy.requests
        assert [item.result() for item in await held.results()] == ["many"] * 450
        assert proxy.requests - before == 2


async def test_what_is_no_longer_kept_is_gone() -> None:
    """The item is told with its status; its result is no longer there."""
    async with bench(retention=Retention(max_jobs=1)) as served:
        async with JobClient(served.url, token=served.token) as client:
            batch = await client.submit_batch("echo", values(3))
            await batch.wait()
            items = await batch.results()
    gone = [item for item in items if not item.kept]
    assert gone and {item.status for item in gone} == {"completed"}
    with pytest.raises(JobGone):
        gone[0].result()


async def test_a_batch_of_none_has_ended(client: JobClient) -> None:
    """Whoever found nothing to do needs no case of their own."""
    batch = await client.submit_batch("echo", [])
    assert (await batch.wait(timeout=0)).total == 0
    assert (await batch.results(), [i async for i in batch.as_completed()]) == ([], [])


async def test_items_come_once_over_cuts(served: Bench) -> None:
    """At random bytes; nothing is told twice, and nothing is left out."""
    random = Random(1)
    limits = [None, *(random.randint(0, 2_500) for _ in range(25))]
    async with cutting(served.url, limits) as proxy:
        async with JobClient(proxy.url, token=served.token) as client:
            batch = await client.submit_batch("echo", values(120))
            proxy.cut_all()
            items = [item async for item in batch.as_completed()]
            assert proxy.cuts > 3
            again = await batch.results()
    assert sorted(item.index for item in items) == list(range(120))
    assert [item.result() for item in again] == list(range(120))


async def test_a_batch_whose_answer_was_lost_is_taken_once(served: Bench) -> None:
    """The client's own try again has the same key, and isn't told as replayed."""
    async with cutting(served.url, [30]) as proxy:
        async with JobClient(proxy.url, token=served.token) as client:
            batch = await client.submit_batch("echo", values(2), session_id="lost answer")
    assert (proxy.requests, batch.outcome) == (2, "created")
    assert len((await served.runner.list(session_id="lost answer")).jobs) == 2


async def test_a_key_of_one_s_own_gives_the_same_batch(client: JobClient) -> None:
    """And says so; other params under it are refused by the server."""
    first = await client.submit_batch("echo", values(2), idempotency_key="mine")
    again = await client.submit_batch("echo", values(2), idempotency_key="mine")
    assert (first.outcome, again.outcome, again.id) == ("created", "replayed", first.id)


async def test_what_is_wrong_is_told_with_its_place(client: JobClient) -> None:
    """As in process: which params, and where in them; what isn't known is not found."""
    with pytest.raises(InvalidParams) as refused:
        await client.submit_batch("say", [{"texts": []}, {"texts": 1}])
    assert [fault["pointer"] for fault in refused.value.errors] == ["#/1/texts"]
    with pytest.raises(InvalidOption):
        await client.submit_batch("echo", values(1), max_in_flight=0)
    for name in ("batch_never", "../jobs"):
        with pytest.raises(BatchNotFound):
            await client.batch(name).view()


async def test_a_server_that_lost_the_batch_is_told_of(served: Bench) -> None:
    """A new process has none of the old one's batches: an error that says so, and no hang."""
    async with (
        cutting(served.url) as proxy,
        JobClient(proxy.url, token=served.token) as client,
        serving(JobRunner(), token=served.token) as restarted,
    ):
        batch = await client.submit_batch("hold", [{"key": "lost batch"}])
        waiting = asyncio.create_task(batch.wait())
        await proxy.until_asked(3)
        proxy.target = restarted.url
        proxy.cut_all()
        with pytest.raises(BatchNotFound, match=batch.id) as lost:
            await waiting
    assert "restarted" in lost.value.__notes__[0]
    served.gates["lost batch"].set()
