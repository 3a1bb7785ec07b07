"""Lines, circuits and bounds: what one host's trouble can't do to others, or to us."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import httpx2
import pytest

from jobrunner.addresses import parse_url
from jobrunner.couriers import MAX_BYTES, MAX_ENDED_URLS, MAX_UNDER_WAY, Couriers
from jobrunner.deliveries import Delivery, Ledger
from jobrunner.posting import Answer
from jobrunner.testing import unix_now, virtual_time
from jobrunner.timers import Timers
from tests.receiving import Receiver, only, run, runner_telling


class ByHost(Receiver):
    """Answers as each host's own receiver does."""

    def __init__(self, **hosts: Receiver) -> None:
        super().__init__()
        self.hosts = hosts

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        name = request.headers["host"].partition(".")[0]
        return await self.hosts[name].handle_async_request(request)

    async def resolve(self, host: str, port: int) -> list[str]:
        return ["192.0.2.1"]


@virtual_time
async def test_a_host_gets_a_few_at_once_and_all_in_turn() -> None:
    """Ten thousand jobs that end together are no attack on who wants to know."""
    receiver = Receiver(seconds=2.0)
    async with runner_telling(receiver) as runner:
        for _ in range(10):
            await run(runner)
        await asyncio.sleep(100.0)
    assert receiver.most == 4
    assert receiver.times == [0.0] * 4 + [2.0] * 4 + [4.0] * 2


@virtual_time
async def test_hosts_share_the_places_and_take_turns() -> None:
    """However many hosts there are, we have so many sockets; none of them waits for all others."""
    names = [f"h{number}" for number in range(20)]
    receivers = {name: Receiver(seconds=2.0) for name in names}
    both = ByHost(**receivers)
    most: list[int] = []
    async with runner_telling(both, resolve=both.resolve) as runner:
        for name in names * 4:
            await run(runner, webhook_url=f"https://{name}.test/")
            most.append(sum(receiver.sending for receiver in receivers.values()))
        await asyncio.sleep(100.0)
    assert max(most) == 32
    assert {len(receiver.received) for receiver in receivers.values()} == {4}
    assert all(receiver.times[0] <= 2.0 for receiver in receivers.values())


@virtual_time
async def test_a_host_that_hangs_holds_up_no_other() -> None:
    """Somebody's dead receiver is nobody else's concern."""
    both = ByHost(slow=Receiver(seconds=1e9), well=Receiver())
    async with runner_telling(both, resolve=both.resolve) as runner:
        for _ in range(50):
            await run(runner, webhook_url="https://slow.test/")
        job = await run(runner, webhook_url="https://well.test/")
        await asyncio.sleep(0.1)
        assert (await only(runner, job)).status == "delivered"
        await asyncio.sleep(9_000.0)
        assert runner.stats().webhooks["dead"] == 50
    assert both.hosts["slow"].most == 4


@virtual_time
async def test_a_host_that_fails_is_left_alone_for_a_while() -> None:
    """It needs the time to come back; then one try finds out for all."""
    receiver = Receiver(*[500] * 8, 204, seconds=1.0)
    async with runner_telling(receiver, schedule=(0.0, 0.0, 100.0, 200.0)) as runner:
        for _ in range(20):
            await run(runner)
        await asyncio.sleep(20.0)
        skipped = await run(runner)
        await asyncio.sleep(0.5)
        seen = await only(runner, skipped)
        tried = len(receiver.received)
        await asyncio.sleep(5_000.0)
        assert runner.stats().webhooks["delivered"] == 21
    assert tried == 8
    assert (seen.status, seen.attempts) == ("pending", 0)
    assert seen.error == "not tried: 192.0.2.1:443 failed 8 times in a row"
    assert min(at for at in receiver.times if at > 2.0) > 31.0


@virtual_time
async def test_one_try_at_a_time_goes_to_a_host_that_has_failed() -> None:
    """While nobody knows whether it is back, four at once would be three too many."""
    receiver = Receiver(*[500] * 5, 204, seconds=1.0)
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        for _ in range(5):
            await run(runner)
            await asyncio.sleep(1.5)
        await asyncio.sleep(40.0)
        receiver.most = 0
        for _ in range(4):
            await run(runner)
        await asyncio.sleep(0.5)
        probing = receiver.most
        await asyncio.sleep(10.0)
    assert (probing, receiver.most) == (1, 3)
    assert len(receiver.received) == 9


@virtual_time
async def test_a_probe_that_fails_opens_the_circuit_again() -> None:
    """And who waited behind it fails without being tried."""
    receiver = Receiver(500, seconds=1.0)
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        for _ in range(5):
            await run(runner)
            await asyncio.sleep(1.5)
        await asyncio.sleep(40.0)
        jobs = [await run(runner) for _ in range(3)]
        await asyncio.sleep(2.0)
        seen = [(await only(runner, job)).attempts for job in jobs]
    assert (seen, len(receiver.received)) == ([1, 0, 0], 6)


@pytest.mark.parametrize(
    ("status", "opens"), [(404, False), (302, False), (429, True), (503, True)]
)
@virtual_time
async def test_only_trouble_of_the_host_s_opens_its_circuit(status: int, opens: bool) -> None:
    """Who refuses what we send is well, and others' URLs there may be right."""
    receiver = Receiver(status)
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        for _ in range(10):
            await run(runner)
            await asyncio.sleep(0.1)
    assert len(receiver.received) == (5 if opens else 10)


@virtual_time
async def test_a_connection_that_fails_says_why() -> None:
    """Who looks at a dead delivery has to find the cause there."""
    receiver = Receiver(httpx2.ConnectError("refused by the wall"))
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        job = await run(runner)
        await asyncio.sleep(1.0)
        seen = await only(runner, job)
    assert (seen.status_code, seen.error) == (None, "ConnectError: refused by the wall")


@virtual_time
async def test_what_a_failure_says_is_cut() -> None:
    """It comes from a stranger, and is kept for each delivery."""
    receiver = Receiver(httpx2.ReadError("x" * 5_000))
    async with runner_telling(receiver, schedule=(0.0,)) as runner:
        job = await run(runner)
        await asyncio.sleep(1.0)
        seen = await only(runner, job)
    assert seen.error is not None and 500 < len(seen.error) < 600


@asynccontextmanager
async def couriers(
    answer: Answer | None = None, *, seconds: float = 0.0
) -> AsyncIterator[Couriers]:
    """Yield couriers whose tries all have this answer, or hang."""

    async def post(delivery: Delivery, body: bytes) -> Answer:
        await asyncio.sleep(seconds if answer else 1e9)
        assert answer is not None, "nobody waits for ever"
        return answer

    timers = Timers()
    timers.open(asyncio.get_running_loop())
    made = Couriers(
        post=post, schedule=(0.0,), ledger=Ledger(20_000), timers=timers, now=unix_now,
        random=Random(1),
    )  # fmt: skip
    made.open()
    try:
        yield made
    finally:
        await made.stop(0.0)
        timers.close()


def delivery_to(url: str, number: int = 0) -> Delivery:
    return Delivery(f"msg_{number}", "job_1", "job.completed", url, parse_url(url), 0.0)


def taken(post: Couriers, count: int, url: str, body: bytes = b"{}") -> int:
    """Return how many of so many deliveries there was room for."""
    made = [delivery_to(url) for _ in range(count)]
    for number, delivery in enumerate(made):
        delivery.id = f"{url} {number}"
        post.take(delivery, body)
    return sum(not delivery.has_ended for delivery in made)


@virtual_time
async def test_the_backlog_is_bounded_and_no_host_takes_it_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What doesn't fit is dead at once, to be seen and sent again; memory is for the jobs."""
    assert MAX_UNDER_WAY == 10_000
    monkeypatch.setattr("jobrunner.couriers.MAX_UNDER_WAY", 10)
    async with couriers() as post:
        assert taken(post, 7, "https://192.0.2.1/") == 5
        assert taken(post, 7, "https://192.0.2.2/") == 5
        assert taken(post, 1, "https://192.0.2.3/") == 0
        assert (len(post), post.outcomes) == (10, {"dead": 5})


@virtual_time
async def test_the_bounds_hold_after_a_new_start_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left is still under way."""
    monkeypatch.setattr("jobrunner.couriers.MAX_UNDER_WAY", 10)
    async with couriers() as post:
        assert taken(post, 5, "https://192.0.2.1/a") == 5
        await post.stop(0.0)
        post.open()
        assert taken(post, 1, "https://192.0.2.1/b") == 0


@virtual_time
async def test_what_waited_for_a_place_is_tried_once_after_a_new_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines are made anew; what stood in an old one must not stand in two."""
    monkeypatch.setattr("jobrunner.couriers.AT_ONCE", 1)
    async with couriers(Answer(204, None), seconds=1.0) as post:
        for host in range(1, 6):
            assert taken(post, 2, f"https://192.0.2.{host}/") == 2
        await post.stop(0.0)
        post.open()
        await asyncio.sleep(100.0)
        assert (len(post), post.outcomes) == (0, {"delivered": 10})


@virtual_time
async def test_what_comes_while_nothing_is_sent_waits() -> None:
    """A runner that has stopped may still see how its last jobs ended."""
    async with couriers(Answer(204, None)) as post:
        await post.stop(0.0)
        assert (taken(post, 3, "https://192.0.2.1/"), len(post)) == (3, 3)
        post.open()
        await asyncio.sleep(1.0)
        assert (len(post), post.outcomes) == (0, {"delivered": 3})


@virtual_time
async def test_bodies_are_bounded_together() -> None:
    """Ten thousand of 20 kB each would be 200 MB."""
    half = bytes(MAX_BYTES // 2)
    async with couriers() as post:
        assert taken(post, 3, "https://192.0.2.1/", half) == 2
    async with couriers(Answer(204, None)) as post:
        for number in range(5):
            assert taken(post, 2, f"https://192.0.2.1/{number}", half) == 2
            await asyncio.sleep(1.0)
        assert (len(post), post.outcomes) == (0, {"delivered": 10})


@virtual_time
async def test_failures_are_remembered_of_so_many_hosts_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wildcard name has more hosts than we have memory."""
    monkeypatch.setattr("jobrunner.couriers.MAX_HOSTS", 2)
    async with couriers(Answer(500, "HTTP 500")) as post:
        attempts = []
        for host in [1] * 6 + [2] * 6 + [3] * 6 + [1]:
            delivery = delivery_to(f"https://192.0.2.{host}/")
            post.take(delivery, b"{}")
            await asyncio.sleep(1.0)
            attempts.append(delivery.attempts)
    assert attempts == [1] * 5 + [0] + [1] * 5 + [0] + [1] * 6 + [0]


@virtual_time
async def test_ended_urls_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever chooses URLs could choose a new one for each job."""
    assert MAX_ENDED_URLS == 10_000
    monkeypatch.setattr("jobrunner.couriers.MAX_ENDED_URLS", 2)
    async with couriers(Answer(410, "HTTP 410")) as post:
        for path in "abca":
            assert taken(post, 1, f"https://192.0.2.1/{path}") == 1
            await asyncio.sleep(1.0)
        again = [delivery_to(f"https://192.0.2.1/{path}") for path in "cab"]
        for delivery in again:
            delivery.id = delivery.url
            post.take(delivery, b"{}")
            await asyncio.sleep(1.0)
    assert [delivery.attempts for delivery in again] == [0, 0, 1]
