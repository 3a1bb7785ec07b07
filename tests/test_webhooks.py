"""Webhooks: what is said, and where."""

from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    InvalidOption,
    JobRunner,
    PermanentError,
    Webhooks,
)
from jobrunner.testing import EPOCH, virtual_time
from tests.receiving import SECRET, Receiver, data_of, runner_with_webhooks, settled

# --- what is said -------------------------------------------------------------------------------


@virtual_time
async def test_the_end_of_a_job_is_posted_signed() -> None:
    """The whole of it: the standard's headers, and the job in the shape that it has everywhere."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        job = await runner.submit("echo", {"value": "x"}, metadata={"for": "ada"})
        await job.wait()
        await settled(runner)
    (request,) = receiver.received
    assert request.headers["webhook-id"] == f"msg_{job.id.removeprefix('job_')}_3"
    assert request.headers["webhook-timestamp"] == str(int(EPOCH))
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["host"], request.url) == ("192.0.2.1", "https://192.0.2.1/hook")
    message = request.message
    assert (message["type"], message["timestamp"]) == ("job.completed", "2023-11-14T22:13:20.000Z")
    wanted = {"job_id": job.id, "type": "echo", "status": "completed", "result": "x",
              "params": {"value": "x", "seconds": 0.0}, "metadata": {"for": "ada"}, "error": None,
              "last_seq": 3}  # fmt: skip
    assert {name: message["data"][name] for name in wanted} == wanted
    assert "omitted" not in message["data"]


@virtual_time
async def test_each_kind_of_end_has_its_name() -> None:
    """A receiver chooses by the type alone."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        await (await runner.submit("echo")).wait()
        await (await runner.submit("fail")).wait()
        waiting = await runner.submit("echo", delay=10.0)
        await waiting.cancel("no")
        await settled(runner)
    said = [(r.message["type"], r.message["data"]["status"]) for r in receiver.received]
    assert said == [("job.completed", "completed"), ("job.failed", "failed"),
                    ("job.cancelled", "cancelled")]  # fmt: skip
    assert data_of(receiver.received[1])["error"]["detail"] == "no"


@virtual_time
async def test_only_ends_are_told_of() -> None:
    """Progress and failed attempts have streams; a webhook is for who wants to hear once."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        job = await runner.submit("fail", {"permanent": False})
        assert (await job.wait()).attempt == 2
        await settled(runner)
    assert [r.message["type"] for r in receiver.received] == ["job.failed"]


@virtual_time
async def test_a_large_result_is_left_out_and_named() -> None:
    """Receivers limit bodies, at 20 kB as the standard says; who wants the result asks for it."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        await (await runner.submit("echo", {"value": "x" * 9_000})).wait()
        await settled(runner)
        large = await runner.submit("echo", {"value": "x" * 30_000})
        await large.wait()
        await settled(runner)
    small, cut = (data_of(request) for request in receiver.received)
    assert len(small["result"]) == 9_000
    assert (cut["result"], cut["params"], cut["metadata"]) == (None, {}, {})
    assert (cut["omitted"], cut["status"]) == (["result", "params", "metadata"], "completed")
    assert len(receiver.received[1].body) < 2_000


@virtual_time
async def test_what_fits_without_the_result_keeps_its_params() -> None:
    """Params often say which job it is, so they go last."""
    receiver = Receiver()
    runner = runner_with_webhooks(receiver)

    @runner.job
    async def repeat(word: str, times: int) -> str:
        return word * times

    async with runner:
        await (await runner.submit(repeat, {"word": "x", "times": 20_000})).wait()
        await settled(runner)
    cut = data_of(receiver.received[0])
    assert (cut["result"], cut["omitted"]) == (None, ["result"])
    assert cut["params"] == {"word": "x", "times": 20_000}


@virtual_time
async def test_secrets_are_masked_in_what_is_sent() -> None:
    """A receiver has as little to do with them as anybody else."""
    receiver = Receiver()
    runner = runner_with_webhooks(receiver)

    @runner.job
    async def log_in(user: str, password: str, pin: SecretStr) -> None:
        pass

    async with runner:
        await runner.submit(log_in, {"user": "ada", "password": "hunter2", "pin": "hunter3"})
        await settled(runner)
    assert b"ada" in receiver.received[0].body
    assert b"hunter" not in receiver.received[0].body


@virtual_time
async def test_what_can_t_be_cut_down_is_sent_all_the_same() -> None:
    """A long error message is what the receiver needs most."""
    receiver = Receiver()
    runner = runner_with_webhooks(receiver)

    @runner.job
    async def burst() -> None:
        raise PermanentError("\0" * 8_000)

    async with runner:
        await (await runner.submit(burst)).wait()
        await settled(runner)
    assert len(data_of(receiver.received[0])["error"]["detail"]) == 8_000


@virtual_time
async def test_the_trace_of_a_job_goes_on_at_its_receiver() -> None:
    """Who looks for where the time went follows one id through all services (W3C)."""
    receiver = Receiver()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with runner_with_webhooks(receiver) as runner:
        await runner.submit("echo", traceparent=trace)
        await settled(runner)
        await runner.submit("echo")
        await settled(runner)
    assert [r.headers.get("traceparent") for r in receiver.received] == [trace, None]


# --- where it goes ------------------------------------------------------------------------------


@virtual_time
async def test_a_job_s_url_wins_over_its_type_s_and_the_runner_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each event goes to one place, the nearest."""
    receiver = Receiver()
    runner = runner_with_webhooks(receiver)
    runner.job("typed", webhook_url="https://192.0.2.2/type")(typed)
    runner.job("quiet", webhook_url=None)(quiet)
    async with runner:
        for name in ("echo", "typed", "quiet"):
            await (await runner.submit(name)).wait()
            url = f"https://192.0.2.3/{name}"
            await (await runner.submit(name, webhook_url=url)).wait()
            await (await runner.submit(name, webhook_url=None)).wait()
        await settled(runner)
    assert [request.url.removeprefix("https://192.0.2.") for request in receiver.received] == [
        "1/hook", "3/echo", "2/type", "3/typed", "3/quiet"
    ]  # fmt: skip
    assert caplog.messages == []


async def typed() -> None:
    """Have a URL of the type's own."""


async def quiet() -> None:
    """Have none, whatever the runner says."""


@virtual_time
async def test_a_job_that_is_run_again_tells_the_same_receiver() -> None:
    """Whoever waits for the job waits for its second run too, and whoever doesn't, doesn't."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        job = await runner.submit("echo", webhook_url="https://192.0.2.3/")
        silent = await runner.submit("echo", webhook_url=None)
        for one in (job, silent):
            await one.wait()
            await (await runner.retry(one.id)).wait()
        await settled(runner)
    assert [request.url for request in receiver.received] == ["https://192.0.2.3/"] * 2


async def test_a_url_without_a_secret_is_refused() -> None:
    """Nobody could tell our messages from anybody's; the error says how to make a secret."""
    runner = JobRunner()
    with pytest.raises(InvalidOption, match=r"new_secret\(\)"):
        runner.job(webhook_url="https://example.com/")(typed)
    runner.job(webhook_url=None)(quiet)
    async with runner:
        with pytest.raises(InvalidOption, match=r"new_secret\(\)") as caught:
            await runner.submit("quiet", webhook_url="https://example.com/")
        await runner.submit("quiet", webhook_url=None)
    assert caught.value.option == "webhook_url"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"secret": "hunter2"}, "a webhook secret is none"),
        ({"secret": []}, "there is no webhook secret"),
        ({"url": "ftp://example.com/"}, "url is 'ftp://example.com/'"),
        ({"url": "http://127.0.0.1/"}, "url leads to an address that isn't public"),
        ({"timeout": 0}, "timeout is 0"),
        ({"max_kept": 0}, "max_kept is 0"),
        ({"schedule": ()}, "schedule is ()"),
        ({"schedule": (0, -1)}, "schedule is (0, -1)"),
        ({"schedule": ("now",)}, "schedule is ('now',)"),
    ],
)  # fmt: skip
def test_an_option_that_can_t_be_is_refused(options: Any, text: str) -> None:
    """At the start, and not when the first webhook is lost."""
    with pytest.raises(InvalidOption) as caught:
        Webhooks(**{"secret": SECRET, **options})
    assert text in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """Options end up in logs."""
    assert SECRET not in repr(Webhooks(SECRET))


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://user:pass@example.com/", 7, "x"])
async def test_a_type_s_url_is_looked_at_when_the_type_is_made(url: Any) -> None:
    """Whoever writes the type is still there to read the error."""
    runner = JobRunner(webhooks=Webhooks(SECRET))
    with pytest.raises(InvalidOption):
        runner.job(webhook_url=url)(typed)
