"""Webhooks: which events are told of, where, and what is said."""

import asyncio
from random import Random
from typing import Any

import pytest

from jobrunner import (
    DeliveryNotFound,
    InvalidOption,
    JobNotFound,
    JobRunner,
    JobStatus,
    Limits,
    PermanentError,
    Retention,
    RetryPolicy,
    Webhooks,
)
from jobrunner.store import JobStore
from jobrunner.timers import Timers
from jobrunner.webhooks import Announcer
from tests.receiving import SECRET, Receiver, data_of
from tests.records import make_job
from tests.simulation.loop import EPOCH, unix_now, virtual_time


def new_runner(receiver: Receiver, *, hooks: Any = None, **options: Any) -> JobRunner:
    """Return a runner whose jobs' events go to the receiver."""
    webhooks = receiver.webhooks(**(hooks or {}))
    runner = JobRunner(**{"now": unix_now, "seed": 1, "webhooks": webhooks, **options})

    @runner.job
    async def echo(value: Any = None, seconds: float = 0.0) -> Any:
        await asyncio.sleep(seconds)
        return value

    @runner.job(retry=RetryPolicy(max_attempts=2))
    async def fail(permanent: bool = True) -> None:
        raise PermanentError("no") if permanent else OSError("down")

    return runner


async def settled(runner: JobRunner) -> None:
    """Let the time of the whole schedule pass."""
    await asyncio.sleep(5_000.0)
    assert "pending" not in runner.stats().webhooks


# --- what is said -------------------------------------------------------------------------------


@virtual_time
async def test_the_end_of_a_job_is_posted_signed() -> None:
    """The whole of it: the standard's headers, and the job in the shape that it has everywhere."""
    receiver = Receiver()
    async with new_runner(receiver) as runner:
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
    async with new_runner(receiver) as runner:
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
    async with new_runner(receiver) as runner:
        job = await runner.submit("fail", {"permanent": False})
        assert (await job.wait()).attempt == 2
        await settled(runner)
    assert [r.message["type"] for r in receiver.received] == ["job.failed"]


@virtual_time
async def test_a_large_result_is_left_out_and_named() -> None:
    """Receivers limit bodies, at 20 kB as the standard says; who wants the result asks for it."""
    receiver = Receiver()
    async with new_runner(receiver) as runner:
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
    runner = new_runner(receiver)

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
async def test_what_can_t_be_cut_down_is_sent_all_the_same() -> None:
    """A long error message is what the receiver needs most."""
    receiver = Receiver()
    runner = new_runner(receiver)

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
    async with new_runner(receiver) as runner:
        await runner.submit("echo", traceparent=trace)
        await settled(runner)
        await runner.submit("echo")
        await settled(runner)
    assert [r.headers.get("traceparent") for r in receiver.received] == [trace, None]


# --- where it goes ------------------------------------------------------------------------------


@virtual_time
async def test_a_job_s_url_wins_over_its_type_s_and_the_runner_s() -> None:
    """Each event goes to one place, the nearest."""
    receiver = Receiver()
    runner = new_runner(receiver)
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


async def typed() -> None:
    """Have a URL of the type's own."""


async def quiet() -> None:
    """Have none, whatever the runner says."""


@virtual_time
async def test_a_job_that_is_run_again_tells_the_same_receiver() -> None:
    """Whoever waits for the job waits for its second run too, and whoever doesn't, doesn't."""
    receiver = Receiver()
    async with new_runner(receiver) as runner:
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
        ({"url": "http://127.0.0.1/"}, "isn't public"),
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


# --- one reader, for all jobs -------------------------------------------------------------------


@virtual_time
async def test_a_job_that_is_pruned_at_once_is_told_of() -> None:
    """What is kept afterwards has nothing to do with who was promised a call."""
    receiver = Receiver()
    async with new_runner(receiver, retention=Retention(max_jobs=0)) as runner:
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
    async with new_runner(receiver, limits=Limits(max_feed=5), workers=1) as runner:
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
async def test_a_job_that_nobody_could_see_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Come, ended and pruned in one step: the one case that isn't told of, and it is said."""
    receiver = Receiver()
    async with new_runner(receiver, retention=Retention(max_jobs=0)) as runner:
        job = await runner.submit("echo", delay=100.0)
        await job.cancel()
        await settled(runner)
    said = f"job {job.id} is not told of: it was pruned before anybody saw it"
    assert (receiver.received, caplog.messages) == ([], [said])


@virtual_time
async def test_what_happens_while_the_runner_stops_is_not_forgotten() -> None:
    """The second start tells of it, without having seen it happen."""
    receiver = Receiver(seconds=1.0)
    runner = new_runner(receiver, cancel_grace=0.0, shutdown_timeout=0.0)
    async with runner:
        jobs = [await runner.submit("echo", delay=100.0) for _ in range(9)]
    assert receiver.sending == 0
    async with runner:
        await settled(runner)
    told = {r.message["data"]["job_id"] for r in receiver.received[-9:]}
    assert told == {job.id for job in jobs}


@virtual_time
async def test_a_job_that_waits_for_a_person_is_told_of() -> None:
    """Whoever is to answer has to hear of the question."""
    receiver = Receiver()
    timers = Timers()
    timers.open(asyncio.get_running_loop())
    store = JobStore(retention=Retention(), max_feed=2, now=unix_now, timers=timers)
    options = receiver.webhooks()
    hooks = Announcer(options, store=store, timers=timers, now=unix_now, random=Random(1))
    hooks.open()
    job = make_job()
    store.add(job, {"status": job.status, "attempt": 0})
    await asyncio.sleep(1.0)
    store.save(job, "progress", {"percent": 1})
    store.save(job, "status", {"status": JobStatus.INPUT_REQUIRED})
    await asyncio.sleep(1.0)
    for percent in range(5):  # more than the feed keeps: all of the job is read again
        store.save(job, "progress", {"percent": percent})
    await asyncio.sleep(1.0)
    await hooks.stop(1.0)
    hooks.close()
    timers.close()
    (request,) = receiver.received
    assert request.message["type"] == "job.input_required"
    assert request.headers["webhook-id"].endswith("_3")


@virtual_time
async def test_a_fault_over_one_job_ends_nobody_else_s_webhooks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One reader reads for all (T17)."""
    receiver = Receiver()
    async with new_runner(receiver) as runner:
        broken = await runner.submit("echo", delay=100.0)
        record = runner.record(broken.id)
        record.metadata = {"no JSON": object()}
        await broken.wait()
        well = await runner.submit("echo")
        await settled(runner)
    assert [data_of(r)["job_id"] for r in receiver.received] == [well.id]
    assert caplog.messages == [f"job {broken.id} is not told of"]


# --- nothing for who has none -------------------------------------------------------------------


@virtual_time
async def test_a_job_without_a_url_costs_no_delivery() -> None:
    """Most jobs have somebody who waits for them."""
    receiver = Receiver()
    async with new_runner(receiver, hooks={"url": None}) as runner:
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
