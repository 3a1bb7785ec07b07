"""Requests per second: uvicorn with uvloop and httptools, raw connections that are kept alive."""

import json
from collections.abc import Iterator
from functools import partial

from . import client
from .apps import TOKEN
from .latency import percentile
from .servers import NEEDS, run, served
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way

BARE, BY_HAND = "bare Starlette", "hand-written FastAPI"
CONNECTIONS = (1, 10, 100)
POST, GET = "POST /jobs", "GET /jobs/{id}"
JOBS = 100
"""How many jobs are asked for, in turn."""
BODY = b'{"type": "echo", "params": {"n": 1}}'
WARM_UP = 0.2
"""Seconds, at most."""


async def load(port: int, seconds: float) -> Figures:
    """Send both kinds of requests on one, ten and a hundred connections."""
    post = client.request("POST", "/jobs", token=TOKEN, body=BODY)
    caller = await client.caller(port)
    ids = [json.loads(await caller.call(post))["job_id"] for _ in range(JOBS)]
    caller.writer.close()
    gets = [client.request("GET", f"/jobs/{job_id}", token=TOKEN) for job_id in ids]
    figures: Figures = {}
    for call, requests in ((GET, gets), (POST, [post])):  # a POST may have the jobs pruned
        await client.send_all(port, requests, connections=10, seconds=min(WARM_UP, seconds))
        for count in CONNECTIONS:
            sent = await client.send_all(port, requests, connections=count, seconds=seconds)
            figures[_rate(call, count)] = sent.rate
            figures[_late(call, count)] = 1e3 * percentile(sent.times, 99)
    return figures


def _measure(app: str, sizes: Sizes) -> Figures:
    with served(f"tests.benchmarks.apps:{app}") as server:
        return run(load(server.port, sizes["milliseconds"] / 1e3))


def _rate(call: str, count: int) -> str:
    return f"{call} {count}"


def _late(call: str, count: int) -> str:
    return f"{call} {count} p99"


def _figures() -> Iterator[Figure]:
    for call in (POST, GET):
        for count in CONNECTIONS:
            on = f"{count} connection{'s' if count > 1 else ''}"
            yield Figure(_rate(call, count), f"{call} per second, {on}")
            yield Figure(_late(call, count), f"{call} p99, ms, {on}", less=True)


def _goals() -> Iterator[Goal]:
    for call, least in ((POST, 0.8), (GET, 0.9)):
        for count in CONNECTIONS:
            rate, late = f"{call} per second", f"{call} p99"
            yield Goal(_rate(call, count), least=least, of=BARE, title=rate)
            yield Goal(_rate(call, count), least=1.7, of=BY_HAND, title=rate)
            yield Goal(_late(call, count), most=1.5, of=BARE, title=late)


PART = Part(
    name="http",
    title="HTTP",
    figures=list(_figures()),
    ways=[
        Way(BARE, partial(_measure, "bare"), NEEDS),
        Way(OURS, partial(_measure, "ours"), NEEDS),
        Way(BY_HAND, partial(_measure, "by_hand"), [*NEEDS, "fastapi"]),
    ],
    sizes={"milliseconds": 1_000},
    base=BARE,
    goals=list(_goals()),
    rounds=3,
)
