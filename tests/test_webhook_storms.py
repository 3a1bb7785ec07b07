"""Seeded storms: receivers that fail in every way, and a runner that stops and starts.

Whatever happens, each end of a job arrives, no host gets more than its share, no event is on its
way twice at once, and nothing is left.
"""

import asyncio
from collections import Counter
from random import Random

import httpx2
import pytest

from jobrunner import JobRunner, Limits
from jobrunner.submit_options import SubmitOptions
from jobrunner.testing import simulate, unix_now
from tests.receiving import Received, Receiver, data_of

HOSTS = ["https://192.0.2.1/a", "https://192.0.2.1/b", "https://192.0.2.2:8443/"]


class Stormy(Receiver):
    """Answers at random, until the storm is over."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.over = False
        self.wrong: list[str] = []
        self.at_host: Counter[str] = Counter()
        self.on_the_way: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host, message = request.url.netloc.decode(), request.headers["webhook-id"]
        self.at_host[host] += 1
        self.on_the_way[message] += 1
        if self.at_host[host] > 4 or self.on_the_way[message] > 1:
            self.wrong.append(f"{host} {message}")  # raised here, it would fail a try
        try:
            await asyncio.sleep(self.random.choice([0.0, 0.0, 1.0, 9.0, 50.0]))
            status = 204 if self.over else self.random.choice([200, 204, 302, 404, 410, 429, 500])
            if not self.over and self.random.random() < 0.2:
                raise httpx2.ReadError("the wind has it")
            if status < 300:
                body = await request.aread()
                came = Received(0.0, "", dict(request.headers), body, {})
                self.accepted[data_of(came)["job_id"]] += 1
            return httpx2.Response(status, headers={"retry-after": "7"})
        finally:
            self.at_host[host] -= 1
            self.on_the_way[message] -= 1


async def storm(seed: int) -> None:
    random = Random(seed)
    receiver = Stormy(random)
    hooks = receiver.webhooks(url=HOSTS[0], schedule=(0.0, 5.0, 60.0))
    runner = JobRunner(
        now=unix_now, seed=seed, webhooks=hooks, workers=3, cancel_grace=2.0,
        shutdown_timeout=5.0, limits=Limits(max_feed=random.choice([3, 1_000])),
    )  # fmt: skip

    @runner.job
    async def some(seconds: float) -> None:
        await asyncio.sleep(seconds)

    ids: list[str] = []
    for _ in range(random.randint(1, 3)):
        async with runner:
            for _ in range(random.randint(1, 12)):
                seconds, url = random.choice([0.0, 1.0, 30.0]), random.choice([None, *HOSTS])
                options = SubmitOptions() if url is None else SubmitOptions(webhook_url=url)
                job = await runner.submit(some, {"seconds": seconds}, **options)
                ids.append(job.id)
                await asyncio.sleep(random.choice([0.0, 0.0, 5.0]))
                if random.random() < 0.2:
                    await job.cancel()
            await asyncio.sleep(random.choice([0.0, 10.0, 200.0]))
    receiver.over = True
    async with runner:
        for _ in range(20):
            await asyncio.sleep(500.0)
            for job_id in ids:
                (delivery,) = await runner.deliveries(job_id)
                if delivery.status == "dead":
                    await runner.resend(job_id, delivery.delivery_id)
        states = {(await runner.deliveries(job_id))[0].status for job_id in ids}
        counts = runner.stats().webhooks
    assert (states, receiver.wrong) == ({"delivered"}, []) and "pending" not in counts
    assert all(receiver.accepted[job_id] >= 1 for job_id in ids)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", range(25))
def test_every_end_arrives_in_the_end(seed: int) -> None:
    """The one promise that is left when nothing else can be relied on."""
    simulate(lambda: storm(seed), seed=seed)


@pytest.mark.soak
def test_every_end_arrives_in_many_storms() -> None:
    """The same for as many seeds as one has time for."""
    for seed in range(25, 3_000):
        simulate(lambda seed=seed: storm(seed), seed=seed)  # type: ignore[misc]  # bound
