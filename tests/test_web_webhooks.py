"""Webhooks over HTTP: given with a job, looked at, sent again."""

import asyncio
from typing import Any

import pytest

from jobrunner.testing import unix_now, virtual_time
from tests.receiving import Receiver
from tests.serving import Bench, in_process, problem


def served(receiver: Receiver, **hooks: Any) -> Any:
    """Serve a runner whose webhooks the receiver gets, where a job names a URL."""
    given = receiver.webhooks(url=None, schedule=(0.0,), allow_private=False, **hooks)
    return in_process(webhooks=given, now=unix_now, seed=1)


async def ended(bench: Bench, url: str | None) -> str:
    """Return the id of a job that has ended, its webhook posted."""
    body = {"type": "echo", "params": {"value": 1}, "webhook_url": url}
    answer = await bench.client.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    await asyncio.sleep(10.0)
    job_id: str = answer.json()["job_id"]
    return job_id


@virtual_time
async def test_a_delivery_is_seen_and_sent_again() -> None:
    """Whoever sees the job sees what became of its webhooks, and can repeat them."""
    async with served(Receiver(400, 204)) as bench:
        job_id = await ended(bench, "https://1.1.1.1/hook?token=hunter2")
        path = f"/jobs/{job_id}/deliveries"
        (dead,) = (await bench.client.get(path)).json()["deliveries"]
        sent = await bench.client.post(f"{path}/{dead['delivery_id']}/resend")
        await asyncio.sleep(10.0)
        (delivered,) = (await bench.client.get(path)).json()["deliveries"]
    assert dead == {
        "delivery_id": f"msg_{job_id.removeprefix('job_')}_3",
        "job_id": job_id,
        "event": "job.completed",
        "url": "https://1.1.1.1/hook",
        "status": "dead",
        "attempts": 1,
        "event_at": "2023-11-14T22:13:20.000Z",
        "last_attempt_at": "2023-11-14T22:13:20.000Z",
        "next_attempt_at": None,
        "status_code": 400,
        "error": "HTTP 400",
    }
    assert (sent.status_code, sent.json()["status"]) == (202, "sending")
    changed = {"status": "delivered", "attempts": 2, "status_code": 204, "error": None,
               "last_attempt_at": "2023-11-14T22:13:30.000Z"}  # fmt: skip
    assert delivered == dead | changed


@virtual_time
async def test_a_job_without_a_url_has_no_deliveries() -> None:
    """An empty list, and not an error: there is nothing wrong with it."""
    receiver = Receiver()
    async with served(receiver) as bench:
        job_id = await ended(bench, None)
        answer = await bench.client.get(f"/jobs/{job_id}/deliveries")
    assert (answer.status_code, answer.json(), receiver.received) == (200, {"deliveries": []}, [])


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://2130706433/", "https://[64:ff9b::7f00:1]/", "ftp://a.b/",
            "https://user:pass@example.com/", "", "https://inside.test/"],
)  # fmt: skip
@virtual_time
async def test_a_url_that_may_not_be_posted_to_is_a_fault_of_the_body(url: str) -> None:
    """The client is told which field it is, and not where the name leads."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["10.1.2.3"]

    async with served(Receiver(), resolve=resolve) as bench:
        body = {"type": "echo", "webhook_url": url}
        answer = await bench.client.post("/jobs", json=body)
        listed = (await bench.client.get("/jobs")).json()["jobs"]
    assert problem(answer) == (422, "invalid-option")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["#/webhook_url"]
    assert "10.1.2.3" not in answer.text and "pass@" not in answer.text
    assert listed == []


@virtual_time
async def test_a_server_without_webhooks_says_so() -> None:
    """A URL that is taken and never used would be worse."""
    async with in_process(now=unix_now) as bench:
        body = {"type": "echo", "webhook_url": "https://example.com/"}
        answer = await bench.client.post("/jobs", json=body)
    assert problem(answer) == (422, "invalid-option")
    assert "no secret to sign webhooks with" in answer.json()["detail"]


@virtual_time
async def test_what_isn_t_there_is_a_404() -> None:
    """An unknown job, and an unknown delivery of a known one."""
    async with served(Receiver()) as bench:
        job_id = await ended(bench, "https://1.1.1.1/")
        unknown = await bench.client.post(f"/jobs/{job_id}/deliveries/msg_0/resend")
        nowhere = await bench.client.get("/jobs/job_0/deliveries")
        neither = await bench.client.post("/jobs/job_0/deliveries/msg_0/resend")
    assert problem(unknown) == (404, "delivery-not-found")
    assert (problem(nowhere), problem(neither)) == ((404, "job-not-found"), (404, "job-not-found"))
