"""Deliveries: seen on the job, and sent again."""

import asyncio
import logging
from contextvars import ContextVar

import pytest

from jobrunner import DeliveryNotFound
from jobrunner.addresses import parse_url
from jobrunner.deliveries import Delivery, Ledger
from jobrunner.testing import virtual_time
from tests.receiving import Receiver, only, run, runner_telling

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@virtual_time
async def test_a_dead_delivery_is_logged_and_can_be_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was lost while a receiver was broken isn't lost for good."""
    receiver = Receiver(400, 400, 204)
    async with runner_telling(receiver, schedule=(0.0, 1.0)) as runner:
        job = await run(runner)
        await asyncio.sleep(10.0)
        dead = await only(runner, job)
        sent = await runner.resend(job.id, dead.delivery_id)
        await asyncio.sleep(10.0)
        seen = await only(runner, job)
    assert (dead.status, sent.status, seen.status) == ("dead", "sending", "delivered")
    assert (seen.attempts, seen.delivery_id, seen.error) == (3, dead.delivery_id, None)
    assert len({r.headers["webhook-id"] for r in receiver.received}) == 1
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [f"webhook {dead.delivery_id} of job {job.id} is dead after 2 tries: HTTP 400"]


@virtual_time
async def test_a_delivered_one_can_be_sent_again_too() -> None:
    """The receiver may have lost it after it said thanks."""
    receiver = Receiver()
    async with runner_telling(receiver) as runner:
        job = await run(runner)
        await asyncio.sleep(1.0)
        await runner.resend(job.id, (await only(runner, job)).delivery_id)
        await asyncio.sleep(1.0)
        assert (await only(runner, job)).attempts == 2
    assert receiver.received[0].body == receiver.received[1].body


@virtual_time
async def test_one_that_waits_is_tried_now_and_one_that_is_sent_only_once() -> None:
    """Whoever has just repaired the receiver doesn't want to wait for an hour."""
    receiver = Receiver(400, 400, 204, seconds=1.0)
    async with runner_telling(receiver, schedule=(0.0, 3_600.0)) as runner:
        job = await run(runner)
        delivery_id = (await only(runner, job)).delivery_id
        assert (await runner.resend(job.id, delivery_id)).status == "sending"
        await asyncio.sleep(2.0)
        assert len(receiver.received) == 1
        assert (await runner.resend(job.id, delivery_id)).status == "sending"
        await asyncio.sleep(8_000.0)
        assert ((await only(runner, job)).status, (await only(runner, job)).attempts) == (
            "delivered",
            3,
        )
    assert receiver.times[:2] == [0.0, 2.0]


@virtual_time
async def test_a_try_sees_nothing_of_who_asked_for_it() -> None:
    """Context variables hold tokens and tenants, and would be anybody's by then (T14)."""
    seen: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        seen.append(tenant.get())
        return ["192.0.2.1"]

    async with runner_telling(Receiver(), resolve=resolve, url="https://a.test/") as runner:
        tenant.set("ada")
        job = await run(runner)
        await asyncio.sleep(1.0)
        await runner.resend(job.id, (await only(runner, job)).delivery_id)
        await asyncio.sleep(1.0)
    assert seen == ["nobody", "nobody"]


@virtual_time
async def test_what_isn_t_there_can_t_be_sent_again() -> None:
    """Another job's delivery is as unknown as none."""
    async with runner_telling(Receiver()) as runner:
        one, other = await run(runner), await run(runner)
        await asyncio.sleep(1.0)
        delivery_id = (await only(runner, other)).delivery_id
        for job_id, asked in (one.id, delivery_id), (one.id, "msg_0"):
            with pytest.raises(DeliveryNotFound, match="has no webhook delivery"):
                await runner.resend(job_id, asked)


@virtual_time
async def test_only_so_many_that_have_ended_are_remembered() -> None:
    """A runner lives for months."""
    async with runner_telling(Receiver(), max_kept=3) as runner:
        jobs = []
        for _ in range(5):
            jobs.append(await run(runner))
            await asyncio.sleep(1.0)
        kept = [len(await runner.deliveries(job.id)) for job in jobs]
        await runner.resend(jobs[2].id, (await only(runner, jobs[2])).delivery_id)
        await asyncio.sleep(1.0)
        await run(runner)
        await asyncio.sleep(1.0)
        then = [len(await runner.deliveries(job.id)) for job in jobs]
    assert (kept, then) == ([0, 0, 1, 1, 1], [0, 0, 1, 0, 1])


@virtual_time
async def test_a_url_s_query_is_not_shown() -> None:
    """Many a receiver has its token there, and whoever sees a job sees its deliveries."""
    async with runner_telling(Receiver()) as runner:
        job = await run(runner, webhook_url="https://192.0.2.9:8443/a/b?token=hunter2")
        await asyncio.sleep(1.0)
        seen = await only(runner, job)
    assert seen.url == "https://192.0.2.9:8443/a/b"


def test_a_job_s_deliveries_are_forgotten_one_by_one() -> None:
    """A job that asked a question has two; the first to end goes first."""
    ledger = Ledger(1)
    url = "https://192.0.2.1/"
    made = [Delivery(f"msg_{n}", "job_1", "job.failed", url, parse_url(url), 0.0) for n in (1, 2)]
    assert [ledger.add(delivery) for delivery in [*made, made[0]]] == [True, True, False]
    ledger.end(made[0])
    ledger.end(made[1])
    assert ledger.of("job_1") == [made[1]]
