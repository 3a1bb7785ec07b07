"""Resident memory for each finished job that is kept, and what of it the collector sees."""

import asyncio
import gc
from functools import partial

from .peers import BARE, PEERS, Ours, Peer, Pool, echo
from .processes import resident
from .shape import OURS, Figure, Figures, Goal, Part, Sizes, Way

PORTION = 500
"""Jobs in flight together: few, so that what they need while they run isn't counted."""


async def memory(peer: Peer, jobs: int) -> Figures:
    """Run jobs to their end and take the growth, after half as many that fill what is bounded.

    The runner's log of all jobs is of that kind; with as many jobs as it keeps by default there
    would be none left to take the growth of.
    """
    pool = Ours(echo, kept=2 * jobs) if peer.name == OURS else peer.make(echo)
    await pool.start()
    await _run(pool, max(1, jobs // 2))
    before, seen = resident(), _seen()
    await _run(pool, jobs)
    seen, grown = _seen() - seen, resident() - before
    await pool.stop()
    return {"bytes": grown / jobs, "seen": seen / jobs}


async def _run(pool: Pool, jobs: int) -> None:
    for first in range(0, jobs, PORTION):
        for n in range(first, min(first + PORTION, jobs)):
            await pool.submit(n)
        await pool.drain()


def _seen() -> int:
    gc.collect()
    return len(gc.get_objects())


def _measure(peer: Peer, sizes: Sizes) -> Figures:
    return asyncio.run(memory(peer, max(1, sizes["jobs"] // peer.slower)))


PART = Part(
    name="memory",
    title="Memory",
    figures=[
        Figure("bytes", "resident bytes per finished job", less=True),
        Figure("seen", "objects per finished job that the garbage collector sees", less=True),
    ],
    ways=[Way(peer.name, partial(_measure, peer), peer.needs) for peer in PEERS],
    sizes={"jobs": 20_000},
    base=BARE,
    goals=[Goal("bytes", most=400.0), Goal("seen", most=0.01)],
    rounds=3,
)
