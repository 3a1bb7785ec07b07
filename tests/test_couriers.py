"""When webhooks are tried, again and again, until they are delivered or dead."""

import asyncio

import httpx2
import pytest

from jobrunner import JobView
from jobrunner.testing import virtual_time
from tests.receiving import Receiver, only, run, runner_telling

SCHEDULE = (0.0, 5.0, 30.0, 120.0, 600.0, 3_600.0)


@virtual_time
async def test_a_delivery_is_tried_on_schedule_and_then_dead() -> None:
    """An hour and more for a receiver to come back, and then an end that can be seen."""
    receiver = Receiver(400)
    async with runner_telling(receiver) as runner:
        job = await run(runner)
        before = await only(runner, job)
        await asyncio.sleep(5_000.0)
        after = await only(runner, job)
        counts = runner.stats().webhooks
    waits = [b - a for a, b in zip([0.0, *receiver.times], receiver.times, strict=False)]
    assert len(waits) == len(SCHEDULE)
    assert all(0 <= wait <= most for wait, most in zip(waits, SCHEDULE, strict=True))
    assert (before.status, before.attempts) == ("sending", 0)
    assert (after.status, after.attempts, after.status_code) == ("dead", 6, 400)
    assert (after.error, after.next_attempt_at) == ("HTTP 400", None)
    assert counts == {"failed": 6, "dead": 1}


@virtual_time
async def test_every_try_of_an_event_has_its_id_and_its_own_time() -> None:
    """The receiver tells a repetition by the id, and an old message by the time."""
    receiver = Receiver(500, 500, 204)
    async with runner_telling(receiver) as runner:
        await run(runner)
        await asyncio.sleep(5_000.0)
    assert len(receiver.received) == 3
    assert len({r.headers["webhook-id"] for r in receiver.received}) == 1
    assert len({r.body for r in receiver.received}) == 1
    stamps = [int(r.headers["webhook-timestamp"]) for r in receiver.received]
    assert stamps == [int(1_700_000_000 + r.at) for r in receiver.received]
    assert [r.message["type"] for r in receiver.received] == ["job.completed"] * 3


@virtual_time
async def test_delays_are_spread_over_the_whole_time() -> None:
    """Those that failed together must not come back together (Q5)."""
    receiver = Receiver(400)
    async with runner_telling(receiver, schedule=(0.0, 100.0)) as runner:
        for _ in range(100):
            await run(runner)
        await asyncio.sleep(200.0)
    again = sorted(receiver.times)[100:]
    tenths = [sum(10 * n <= at < 10 * n + 10 for at in again) for n in range(10)]
    assert len(again) == 100
    assert min(tenths) >= 3 and max(tenths) <= 20


def test_a_seed_repeats_the_delays() -> None:
    """A simulation that found something has to find it again."""
    times: list[list[float]] = []

    @virtual_time
    async def once() -> None:
        receiver = Receiver(400)
        async with runner_telling(receiver) as runner:
            await run(runner)
            await asyncio.sleep(5_000.0)
        times.append(receiver.times)

    once()
    once()
    assert times[0] == times[1]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@virtual_time
async def test_every_2xx_is_success(status: int) -> None:
    """The standard leaves it to the receiver which."""
    receiver = Receiver(status)
    async with runner_telling(receiver) as runner:
        job = await run(runner)
        await asyncio.sleep(5_000.0)
        seen = await only(runner, job)
    assert (seen.status, seen.status_code, seen.error) == ("delivered", status, None)
    assert (seen.attempts, len(receiver.received)) == (1, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@virtual_time
async def test_a_redirect_is_a_failure(status: int) -> None:
    """It would lead past every check of the address, and is followed nowhere."""
    receiver = Receiver((status, {"location": "http://127.0.0.1/"}))
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        job = await run(runner)
        await asyncio.sleep(100.0)
        seen = await only(runner, job)
    assert (seen.status, seen.error) == ("dead", f"HTTP {status}: redirects are not followed")
    assert [r.url for r in receiver.received] == ["https://192.0.2.1/hook"]


@pytest.mark.parametrize(
    ("status", "told", "waits"),
    [(429, "100", 100.0), (502, "100", 100.0), (503, "100", 100.0), (504, "100", 100.0),
     (503, "Tue, 14 Nov 2023 22:15:20 GMT", 120.0), (500, "100", 0.0), (400, "100", 0.0),
     (503, "soon", 0.0), (503, "0", 0.0), (503, "9" * 50, 86_400.0)],
)  # fmt: skip
@virtual_time
async def test_retry_after_is_obeyed_where_it_means_something(
    status: int, told: str, waits: float
) -> None:
    """Who says when to come back is asked then; nobody can say never."""
    receiver = Receiver((status, {"retry-after": told}), 204)
    async with runner_telling(receiver, schedule=(0.0, 0.0)) as runner:
        await run(runner)
        await asyncio.sleep(100_000.0)
    assert receiver.times == [0.0, waits]


@virtual_time
async def test_gone_ends_the_subscription() -> None:
    """A receiver that is told to stop being told shouldn't be told a thousand times more."""
    receiver = Receiver(400, 410, 204)
    async with runner_telling(receiver, schedule=(0.0, 1.0)) as runner:
        waits = await run(runner)
        first = await run(runner)
        await asyncio.sleep(100.0)
        later = await run(runner)
        other = await run(runner, webhook_url="https://192.0.2.1/other")
        await asyncio.sleep(100.0)
        seen = [await only(runner, job) for job in (waits, first, later, other)]
        assert len(receiver.received) == 3
        await runner.resend(first.id, seen[1].delivery_id)
        again = await run(runner)
        await asyncio.sleep(100.0)
        seen += [await only(runner, job) for job in (first, again)]
    ended = "HTTP 410: the receiver has ended the subscription to this URL"
    assert [(d.status, d.error, d.attempts) for d in seen] == [
        ("dead", ended, 1), ("dead", ended, 1), ("dead", ended, 0), ("delivered", None, 1),
        ("delivered", None, 2), ("delivered", None, 1),
    ]  # fmt: skip


@virtual_time
async def test_a_receiver_that_hangs_holds_no_shutdown_up() -> None:
    """The grace that a runner's stop has anyway, and not a second more."""
    loop = asyncio.get_running_loop()
    receiver = Receiver(seconds=1e9)
    async with runner_telling(receiver, timeout=60.0) as runner:
        job = await run(runner)
        await asyncio.sleep(1.0)
        began = loop.time()
    assert loop.time() - began == 5.0
    assert receiver.sending == 0
    assert ((await only(runner, job)).status, (await only(runner, job)).attempts) == ("pending", 0)


@virtual_time
async def test_who_else_is_told_shares_the_time_of_a_shutdown() -> None:
    """The graces of two kinds of messages don't add up, and nothing of either is left."""
    loop = asyncio.get_running_loop()

    async def on_failure(job: JobView) -> None:
        await asyncio.sleep(3.0)

    runner = runner_telling(Receiver(seconds=1e9), runner={"on_failure": on_failure})
    async with runner:
        await runner.submit("quick", delay=100.0)
        began = loop.time()
    assert loop.time() - began == 5.0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_even_one_that_won_t_be_cut_off_holds_no_shutdown_up() -> None:
    """A transport of somebody's own may swallow every cancellation (T3)."""

    class Stubborn(Receiver):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            while True:
                try:
                    await asyncio.sleep(1e6)
                except asyncio.CancelledError:
                    continue

    loop = asyncio.get_running_loop()
    async with runner_telling(Stubborn()) as runner:
        await run(runner)
        await asyncio.sleep(1.0)
        began = loop.time()
    assert loop.time() - began == 6.0


@virtual_time
async def test_nothing_is_tried_any_more_while_the_last_tries_are_cut_off() -> None:
    """It would begin when nobody waits for it, and be cut off in turn."""

    class Both(Receiver):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.path == "/stubborn":
                try:
                    await asyncio.sleep(1e6)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.8)
            return await super().handle_async_request(request)

    receiver = Both((503, {"retry-after": "5.5"}))
    async with runner_telling(receiver, timeout=60.0) as runner:
        await run(runner)
        await run(runner, webhook_url="https://192.0.2.1/stubborn")
    assert receiver.times == [0.0, 5.8]


@virtual_time
async def test_what_ends_with_the_runner_is_told_of_before_it_stops() -> None:
    """Whoever waits for a job wants to hear of a shutdown most of all."""
    receiver = Receiver(seconds=1.0)
    async with runner_telling(receiver) as runner:
        job = await runner.submit("quick", delay=100.0)
    assert [r.message["data"]["error"]["reason"] for r in receiver.received] == ["shutdown"]
    assert (await only(runner, job)).status == "delivered"


@virtual_time
async def test_what_is_left_is_delivered_when_the_runner_starts_again() -> None:
    """Neither what waits, nor what was cut off, nor what nobody had a look at."""
    receiver = Receiver(400, 204, seconds=3.0)
    runner = runner_telling(receiver, schedule=(0.0, 1_000.0), runner={"cancel_grace": 1.0})
    async with runner:
        waits = await run(runner)
        await asyncio.sleep(4.0)
        cut_off = await run(runner)
        await asyncio.sleep(0.1)
    left = [await only(runner, job) for job in (waits, cut_off)]
    async with runner:
        await asyncio.sleep(2_000.0)
        seen = [await only(runner, job) for job in (waits, cut_off)]
    assert [(d.status, d.attempts) for d in left] == [("pending", 1), ("pending", 0)]
    assert [(d.status, d.attempts) for d in seen] == [("delivered", 2), ("delivered", 1)]


@virtual_time
async def test_a_stop_that_is_cancelled_keeps_what_is_left() -> None:
    """Even then the next start finds everything."""
    receiver = Receiver(seconds=10.0)
    runner = runner_telling(receiver, timeout=20.0)
    await runner.__aenter__()
    job = await run(runner)
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(1.0)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert (await only(runner, job)).status == "pending"
    async with runner:
        await asyncio.sleep(20.0)
        assert (await only(runner, job)).status == "delivered"


@virtual_time
async def test_what_ends_as_a_stop_is_cut_off_is_told_of_at_the_next_start() -> None:
    """Nobody waits for a try by then; nothing is lost all the same."""
    receiver = Receiver()
    runner = runner_telling(receiver, runner={"shutdown_timeout": 50.0})

    @runner.job
    async def slow() -> None:
        await asyncio.sleep(100.0)

    await runner.__aenter__()
    job = await runner.submit(slow)
    await asyncio.sleep(1.0)
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(1.0)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert ((await only(runner, job)).status, receiver.received) == ("pending", [])
    async with runner:
        await asyncio.sleep(20.0)
    assert [r.message["type"] for r in receiver.received] == ["job.failed"]
