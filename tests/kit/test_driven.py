"""Drive modes: the same runner, whoever says when it goes on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from jobrunner import InvalidOption, JobRunner, JobStatus, Webhooks
from jobrunner.testing import (
    DrivenRunner,
    WebhookReceiver,
    assert_submitted,
    normalise,
    refute_submitted,
    virtual_time,
)
from jobrunner.web import create_app
from jobrunner.webhooks import new_secret
from tests.kit.flows import add_flow, flow_runner


def now() -> float:
    return asyncio.get_running_loop().time()


async def live(runner: DrivenRunner) -> Any:
    job = await runner.submit("research", {"topic": "bees"})
    await job.wait()
    return job


async def drained(runner: DrivenRunner) -> Any:
    job = await runner.submit("research", {"topic": "bees"})
    await runner.drain()
    return job


async def stepped(runner: DrivenRunner) -> Any:
    job = await runner.submit("research", {"topic": "bees"})
    statuses = []
    while (view := await runner.step()) is not None:
        statuses.append(view.status)
    assert statuses == ["retrying", "retrying", "completed"]
    return job


async def inline(runner: DrivenRunner) -> Any:
    job = await runner.submit("research", {"topic": "bees"})
    assert job.status == "completed"
    return job


async def log_of(way: Any, mode: Any, *, times: bool, **options: Any) -> list[str]:
    """Return what has happened in a flow, without what differs from run to run."""
    runner = DrivenRunner(mode=mode, seed=7)
    add_flow(runner, **options)
    async with runner:
        job = await way(runner)
        return normalise([event async for event in job.events()], times=times)


WAYS = [(live, "live"), (drained, "live"), (drained, "paused"), (stepped, "paused"),
        (inline, "inline")]  # fmt: skip


@virtual_time
async def test_a_flow_has_the_same_log_however_it_is_driven() -> None:
    """What a test sees must not depend on how it looks."""
    logs = [await log_of(way, mode, times=True) for way, mode in WAYS]
    assert logs == [logs[0]] * len(WAYS)
    assert len(logs[0]) == 12


async def test_a_flow_in_real_time_has_the_log_that_it_has_in_virtual_time() -> None:
    """The test and the truth must not differ."""
    logs = [await log_of(way, mode, times=False, base=0.0) for way, mode in WAYS]
    assert logs == [logs[0]] * len(WAYS)

    @virtual_time
    async def virtually() -> None:
        assert await log_of(live, "live", times=False) == logs[0]

    await asyncio.to_thread(virtually)


@virtual_time
async def test_a_paused_runner_runs_one_attempt_a_step() -> None:
    """Between two steps a test can look at anything, and nothing moves."""
    async with flow_runner(mode="paused") as runner:
        first, second = await runner.submit("nap"), await runner.submit("nap")
        await asyncio.sleep(100.0)
        assert (first.status, second.status) == ("pending", "pending")
        view = await runner.step()
        assert view is not None and view.job_id == first.id
        await asyncio.sleep(100.0)
        assert (first.status, second.status) == ("completed", "pending")
        await runner.step()
        assert await runner.step() is None


@virtual_time
async def test_a_step_waits_for_the_time_of_what_is_not_due() -> None:
    """A retry in ten minutes is the next thing that happens."""
    async with flow_runner(mode="paused") as runner:
        job = await runner.submit("nap", {"seconds": 0.0}, delay=600.0)
        view = await runner.step()
        assert (view and view.job_id, now()) == (job.id, 600.0)


@virtual_time
async def test_a_step_ends_when_what_it_waits_for_is_gone() -> None:
    """The last job may be cancelled, or expire."""
    async with flow_runner(mode="paused") as runner:
        job = await runner.submit("nap", delay=600.0)
        asyncio.get_running_loop().call_later(5.0, asyncio.ensure_future, job.cancel())
        assert await runner.step() is None
        later = await runner.submit("nap")
        await asyncio.sleep(60.0)
        assert later.status == "pending"  # the step that began nothing is not owed
        await later.cancel()


@virtual_time
async def test_only_a_paused_runner_can_be_stepped() -> None:
    """Where jobs run by themselves, a step would be a race."""
    async with flow_runner() as runner:
        with pytest.raises(InvalidOption, match=r'DrivenRunner\(mode="paused"\)'):
            await runner.step()


@virtual_time
async def test_drain_goes_on_until_nothing_is_due_now_or_later() -> None:
    """Delays and retries are part of a flow, and a test should not have to count them."""
    async with flow_runner() as runner:
        jobs = [await runner.submit("nap", delay=3_600.0), await runner.submit("nap")]
        await runner.drain()
        assert [job.status for job in jobs] == ["completed", "completed"]
        assert now() == 3_610.0


@virtual_time
async def test_drain_until_lets_so_much_time_pass() -> None:
    """What comes due in it happens; what comes later waits."""
    async with flow_runner(mode="paused") as runner:
        soon = await runner.submit("nap", delay=1_800.0)
        late = await runner.submit("nap", delay=7_200.0)
        await runner.drain(until=3_600.0)
        assert (soon.status, late.status, now()) == ("completed", "pending", 3_600.0)
        assert runner.stats().paused
        await late.cancel()


@virtual_time
async def test_drain_gives_up_after_its_timeout() -> None:
    """A flow that never ends has to end its test."""
    async with flow_runner(shutdown_timeout=0.0) as runner:
        await runner.submit("nap", {"seconds": 1_000.0})
        with pytest.raises(TimeoutError, match="still run or wait after 5 s"):
            await runner.drain(timeout=5.0)


@virtual_time
async def test_inline_a_batch_is_carried_out_within_the_submit() -> None:
    """What holds for a job holds for many."""
    async with flow_runner(mode="inline") as runner:
        batch = await runner.submit_batch("nap", [{"seconds": n} for n in range(3)])
        assert batch.view().counts[JobStatus.COMPLETED] == 3
        again = await runner.retry((await batch.results())[0].job_id)
        assert again.status == "completed"


@virtual_time
async def test_a_runner_begins_when_it_is_used() -> None:
    """A fixture may submit before the test has begun."""
    runner = flow_runner()
    job = await runner.submit("nap")
    await runner.drain()
    assert job.status == "completed"
    await runner.stop()


@virtual_time
async def test_a_twin_has_types_options_and_webhooks_of_its_runner() -> None:
    """An application's own runner is what has to be tested, and it must not be changed by it."""
    webhooks = Webhooks(new_secret(), url="https://example.com/jobs")
    app = JobRunner(workers=2, webhooks=webhooks, timeout=5.0)
    add_flow(app)
    twin = DrivenRunner(app, timeout=7.0)
    async with twin:
        job = await twin.submit("nap", {"seconds": 1.0})
        event = await twin.receiver.told("job.completed", job)
        assert event["data"]["job_id"] == job.id
    assert twin.receiver.received[0].url == "https://example.com/jobs"
    assert (twin.stats().workers, job.view().timeout) == (2, 7.0)
    assert app.stats().state == "new"


@virtual_time
async def test_a_runner_without_webhooks_has_none_under_test() -> None:
    """A webhook_url that production would refuse has to be refused here."""
    async with flow_runner() as runner:
        with pytest.raises(InvalidOption, match="no secret"):
            await runner.submit("nap", webhook_url="https://example.com/jobs")
    receiver = WebhookReceiver()
    async with flow_runner(receiver=receiver) as runner:
        job = await runner.submit("nap", webhook_url="https://example.com/mine?a=b")
        await receiver.told("job.completed", job)
    assert [each.url for each in receiver.received] == ["https://example.com/mine?a=b"]


@virtual_time
async def test_the_watchdog_is_off() -> None:
    """On a busy machine it would add to the jobs' events, and no run would be like another."""
    before = set(threading.enumerate())
    async with flow_runner() as runner:
        await (await runner.submit("nap")).wait()
        assert set(threading.enumerate()) <= before


def test_a_mode_that_is_none_is_refused() -> None:
    """A typing error must not mean live."""
    with pytest.raises(InvalidOption, match="live, paused, inline"):
        DrivenRunner(mode="eager")  # type: ignore[arg-type]  # that is what is tested


@virtual_time
async def test_what_nobody_looked_at_is_named() -> None:
    """A job that failed behind the test's back is a bug that the test has met."""
    async with flow_runner() as runner:
        failed, seen = await runner.submit("broken"), await runner.submit("broken")
        fetched, waiting = await runner.submit("broken"), await runner.submit("nap")
        await seen.wait()
        await runner.get(fetched.id)
        assert list(runner.left()) == [
            f"job {waiting.id} (nap) is still running",
            f"job {failed.id} (broken) failed, and nobody looked: ValueError: no",
        ]
        assert failed.status == "failed"
        assert list(runner.left()) == [f"job {waiting.id} (nap) is still running"]
        await runner.drain()


async def by_waiting(runner: DrivenRunner, job: Any) -> object:
    return (await runner.wait([job.id])).done[0].status


async def by_listing(runner: DrivenRunner, job: Any) -> object:
    await runner.drain()
    return (await runner.list(status="failed")).jobs[0].status


async def by_its_events(runner: DrivenRunner, job: Any) -> object:
    return [event async for event in job.events()][-1].data["status"]


async def by_another_handle(runner: DrivenRunner, job: Any) -> object:
    await runner.drain()
    return runner.handle(job.id).view().status


async def by_an_assertion(runner: DrivenRunner, job: Any) -> object:
    await runner.drain()
    return (await assert_submitted(runner, "broken")).status


async def by_a_webhook(runner: DrivenRunner, job: Any) -> object:
    return (await runner.receiver.told("job.failed", job))["data"]["status"]


LOOKS = [by_waiting, by_listing, by_its_events, by_another_handle, by_an_assertion, by_a_webhook]


@pytest.mark.parametrize("look", LOOKS)
@virtual_time
async def test_a_look_is_a_look_however_a_test_takes_it(
    look: Callable[[DrivenRunner, Any], Awaitable[object]],
) -> None:
    """A test that is right must not fail for the way in which it looks."""
    async with flow_runner(receiver=WebhookReceiver()) as runner:
        job = await runner.submit("broken")
        assert await look(runner, job) == "failed"
        assert list(runner.left()) == []


@virtual_time
async def test_who_waits_over_http_has_looked() -> None:
    """The answer goes out when the job has ended; nobody asks the runner again."""
    async with flow_runner() as runner:
        job = await runner.submit("broken", delay=10.0)
        transport = httpx2.ASGITransport(create_app(runner, auth=None))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get(f"/jobs/{job.id}?wait=25")).json()["status"] == "failed"
        batch = await runner.submit_batch("broken", [{}, {}], delay=10.0)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = await client.get(f"/batches/{batch.id}?wait=25")
        assert found.json()["counts"]["failed"] == 2
        assert list(runner.left()) == []


@virtual_time
async def test_who_searches_or_watches_a_job_that_goes_on_has_not_looked_at_its_end() -> None:
    """Else a refutation, or an early look, would excuse every failure."""
    async with flow_runner() as runner:
        job = await runner.submit("broken")
        assert (await runner.list()).jobs[0].status == job.status == "pending"
        assert (await runner.get(job.id)).status == runner.handle(job.id).status == "pending"
        await runner.drain()
        await refute_submitted(runner, "nap")
        assert len(list(runner.left())) == 1


async def by_its_view(batch: Any) -> object:
    return (await batch.wait()).counts[JobStatus.FAILED]


async def by_its_counts(batch: Any) -> object:
    return batch.counts[JobStatus.FAILED]


async def by_its_last_event(batch: Any) -> object:
    return [event async for event in batch.events()][-1].data["counts"]["failed"]


async def by_its_items(batch: Any) -> object:
    return sum([item.status == "failed" async for item in batch.as_completed()])


@pytest.mark.parametrize("look", [by_its_view, by_its_counts, by_its_last_event, by_its_items])
@virtual_time
async def test_what_nobody_looked_at_is_named_of_batches_too(
    look: Callable[[Any], Awaitable[object]],
) -> None:
    """Many jobs that fail are no better than one."""
    async with flow_runner() as runner:
        batch = await runner.submit_batch("broken", [{"text": "a"}, {"text": "b"}])
        await runner.drain()
        assert list(runner.left()) == [
            f"job {batch.job_ids[0]} (broken) failed, and nobody looked: ValueError: a",
            f"job {batch.job_ids[1]} (broken) failed, and nobody looked: ValueError: b",
        ]
        assert await look(batch) == 2
        assert list(runner.left()) == []
