"""Seconds from submit to the handler's first line: on an idle pool, and in a burst."""

import asyncio
import time
from functools import partial

from .peers import BARE, PEERS, Peer, Pool
from .shape import Figure, Figures, Goal, Part, Sizes, Way

REST = 0.001
"""Seconds between two jobs of an idle pool, in which the loop goes to sleep."""


async def latency(peer: Peer, jobs: int, burst: int) -> Figures:
    """Take both, after a small burst that warms up."""
    started = [0.0] * max(jobs, burst)

    async def mark(n: int) -> int:
        started[n] = time.perf_counter()
        return n

    pool = peer.make(mark)
    await pool.start()
    await _burst(pool, started, max(1, burst // 10))
    idle = await _idle(pool, started, jobs)
    crowded = await _burst(pool, started, burst)
    await pool.stop()
    return {
        "idle p50": percentile(idle, 50),
        "idle p99": percentile(idle, 99),
        "burst p50": percentile(crowded, 50),
        "burst p99": percentile(crowded, 99),
    }


async def _idle(pool: Pool, started: list[float], jobs: int) -> list[float]:
    submitted = []
    for n in range(jobs):
        submitted.append(time.perf_counter())
        await pool.submit(n)
        await pool.drain()
        await asyncio.sleep(REST)
    return _waits(submitted, started)


async def _burst(pool: Pool, started: list[float], jobs: int) -> list[float]:
    submitted = []
    for n in range(jobs):
        submitted.append(time.perf_counter())
        await pool.submit(n)
    await pool.drain()
    return _waits(submitted, started)


def _waits(submitted: list[float], started: list[float]) -> list[float]:
    return [1e6 * (end - begin) for begin, end in zip(submitted, started, strict=False)]


def percentile(values: list[float], percent: int) -> float:
    """Return the value that `percent` of them are below."""
    return sorted(values)[len(values) * percent // 100]


def _measure(peer: Peer, sizes: Sizes) -> Figures:
    jobs, burst = (max(1, sizes[name] // peer.slower) for name in ("jobs", "burst"))
    return asyncio.run(latency(peer, jobs, burst))


PART = Part(
    name="latency",
    title="Submit to start",
    figures=[
        Figure("idle p50", "submit to start, idle pool, p50, µs", less=True),
        Figure("idle p99", "submit to start, idle pool, p99, µs", less=True),
        Figure("burst p50", "submit to start, burst, p50, µs", less=True),
        Figure("burst p99", "submit to start, burst, p99, µs", less=True),
    ],
    ways=[Way(peer.name, partial(_measure, peer), peer.needs) for peer in PEERS],
    sizes={"jobs": 500, "burst": 1_000},
    base=BARE,
    goals=[Goal("idle p50", most=1.5, of=BARE), Goal("idle p99", most=2.0, of=BARE)],
)
