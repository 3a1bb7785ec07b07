"""Jobs per second, from the first submit until every result can be read."""

import asyncio
import time
from functools import partial

from .peers import AIOJOBS, BARE, PEERS, TASK, TASKIQ, TUNED, Peer, echo
from .shape import Figure, Figures, Goal, Part, Sizes, Way


async def throughput(peer: Peer, jobs: int) -> Figures:
    """Time one burst of jobs, after a smaller one that warms up."""
    pool = peer.make(echo)
    await pool.start()
    for n in range(max(1, jobs // 10)):
        await pool.submit(n)
    await pool.drain()
    began = time.perf_counter()
    keys = [await pool.submit(n) for n in range(jobs)]
    await pool.drain()
    took = time.perf_counter() - began
    assert [await pool.result(key) for key in keys] == list(range(jobs))
    await pool.stop()
    return {"rate": jobs / took}


def _measure(peer: Peer, sizes: Sizes) -> Figures:
    return asyncio.run(throughput(peer, max(1, sizes["jobs"] // peer.slower)))


_OLD = (3, 12)
PART = Part(
    name="throughput",
    title="Throughput",
    figures=[Figure("rate", "jobs per second, submit to all results readable")],
    ways=[Way(peer.name, partial(_measure, peer), peer.needs) for peer in PEERS],
    sizes={"jobs": 10_000},
    base=BARE,
    goals=[
        Goal("rate", least=0.45, of=BARE, until=_OLD),
        Goal("rate", least=0.9, of=TASK, until=_OLD),
        Goal("rate", least=1.1, of=AIOJOBS, until=_OLD),
        Goal("rate", least=4.0, of=TASKIQ, until=_OLD),
        Goal("rate", least=100.0, of=TUNED, until=_OLD),
        Goal("rate", least=0.7, of=BARE, since=(3, 13)),
    ],
)
