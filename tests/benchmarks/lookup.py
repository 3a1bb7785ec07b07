"""Time in which the result of a finished job is read by its id."""

import asyncio
import time
from functools import partial

from .peers import AIOJOBS, BACKGROUND, BARE, DOCKET, PEERS, Peer, echo
from .shape import Figure, Figures, Part, Sizes, Way

WITHOUT = (AIOJOBS, BACKGROUND, DOCKET)
"""Those that keep nothing that could be looked up; docket is the same tuned or not."""


async def look_up(peer: Peer, jobs: int, times: int) -> Figures:
    """Read results again and again, of all jobs in turn."""
    pool = peer.make(echo)
    await pool.start()
    keys = [await pool.submit(n) for n in range(jobs)]
    await pool.drain()
    began = time.perf_counter()
    for i in range(times):
        await pool.result(keys[i % jobs])
    took = time.perf_counter() - began
    await pool.stop()
    return {"time": 1e6 * took / times}


def _measure(peer: Peer, sizes: Sizes) -> Figures:
    jobs, times = (max(1, sizes[name] // peer.slower) for name in ("jobs", "times"))
    return asyncio.run(look_up(peer, jobs, times))


PART = Part(
    name="lookup",
    title="Look-up",
    figures=[Figure("time", "result of a finished job by its id, µs", less=True)],
    ways=[
        Way(peer.name, partial(_measure, peer), peer.needs)
        for peer in PEERS
        if peer.name not in WITHOUT
    ],
    sizes={"jobs": 1_000, "times": 5_000},
    base=BARE,
    rounds=3,
)
