"""A receiver of webhooks that records, verifies, and fails as it is told."""

import httpx2
import pytest

from jobrunner import Webhooks
from jobrunner.testing import DrivenRunner, WebhookReceiver, virtual_time
from jobrunner.webhooks import new_secret
from tests.kit.flows import flow_runner


@virtual_time
async def test_failures_come_as_told_and_then_it_is_taken() -> None:
    """So the sender's schedule can be seen."""
    receiver = WebhookReceiver()
    receiver.fail(2, status=500)
    receiver.fail(retry_after=900)
    async with flow_runner(receiver=receiver) as runner:
        job = await runner.submit("nap")
        event = await receiver.told("job.completed", job)
        assert event["data"]["result"] == 10.0
    assert [each.status for each in receiver.received] == [500, 500, 503, 204]
    assert receiver.received[3].at - receiver.received[2].at >= 900.0
    assert len(receiver.delivered) == 1


@virtual_time
async def test_a_webhook_that_never_came_says_what_did() -> None:
    """Another job's, another event, or one that was refused."""
    receiver = WebhookReceiver()
    with pytest.raises(AssertionError) as caught:
        await receiver.told("job.failed", within=5.0)
    assert str(caught.value) == "no webhook job.failed was taken within 5 s; none came"
    receiver.fail()
    receiver.lose()
    async with flow_runner(receiver=receiver) as runner:
        job = await runner.submit("nap")
        await receiver.told("job.completed", job.id)
        with pytest.raises(AssertionError) as caught:
            await receiver.told("job.failed", job, within=60.0)
    assert str(caught.value) == (
        f"no webhook job.failed of job {job.id} was taken within 60 s; these came:\n"
        f"  job.completed of job {job.id}: answered 503\n"
        f"  job.completed of job {job.id}: the answer was lost\n"
        f"  job.completed of job {job.id}: answered 204"
    )


@virtual_time
async def test_what_is_not_signed_well_is_refused() -> None:
    """A sender with another secret has to show in the test."""
    secrets = {"https://example.com/a": new_secret()}
    receiver = WebhookReceiver()
    webhooks = Webhooks(lambda url: secrets[url], url="https://example.com/a", schedule=(0.0, 5.0))
    async with DrivenRunner(webhooks=webhooks, receiver=receiver) as runner:

        @runner.job
        async def quick() -> None: ...

        await receiver.told("job.completed", await runner.submit(quick))
        receiver.secret = new_secret()
        job = await runner.submit(quick)
        with pytest.raises(AssertionError, match="answered 401"):
            await receiver.told("job.completed", job)


@pytest.mark.parametrize(
    "url",
    ["https://Hooks.test", "https://hooks.test:443/x", "https://[2606:4700:4700::1111]:8443/x?a"],
)
@virtual_time
async def test_a_url_is_received_as_it_was_given(url: str) -> None:
    """Its secret may be chosen by it, and a test compares it with what was submitted."""
    secrets, receiver = {url: new_secret()}, WebhookReceiver()
    webhooks = Webhooks(lambda given: secrets[given])
    async with flow_runner(webhooks=webhooks, receiver=receiver) as runner:
        job = await runner.submit("nap", webhook_url=url)
        await receiver.told("job.completed", job)
    assert [(each.url, each.status) for each in receiver.received] == [(url, 204)]


@virtual_time
async def test_it_is_a_transport_like_any_other() -> None:
    """Who sends by hand gets the answers too."""
    receiver = WebhookReceiver()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
    async with httpx2.AsyncClient(transport=receiver) as client:
        answer = await client.post(receiver.url, json={"type": "x"}, headers=headers)
    assert (answer.status_code, receiver.received[0].url) == (401, receiver.url)
