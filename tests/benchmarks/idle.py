"""What a pool costs that has nothing to do: CPU time, and wake-ups of its loop and its threads."""

import asyncio
import selectors
import time
from functools import partial

from .peers import BARE, PEERS, Peer, echo
from .processes import sleeps
from .shape import Figure, Figures, Goal, Part, Sizes, Way


class Counting(selectors.DefaultSelector):
    """A selector that counts how often the loop came to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += timeout is None or timeout > 0  # else it only looks, between two callbacks
        found: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        return found


async def idle(peer: Peer, selector: Counting, settle: float, seconds: float) -> Figures:
    """Have some jobs run, let everything come to rest, and look for a while."""
    pool = peer.make(echo)
    await pool.start()
    for n in range(10):
        await pool.submit(n)
    await pool.drain()
    await asyncio.sleep(settle)  # whoever watches may take a while to see it
    waits, slept, cpu = selector.count, sleeps(), time.process_time()
    await asyncio.sleep(seconds)
    waits, slept, cpu = selector.count - waits, sleeps() - slept, time.process_time() - cpu
    await pool.stop()
    # The end of this sleep is one wake-up of the loop and of a thread, and nobody's fault.
    return {"loop": waits - 1, "threads": slept - 1, "cpu": 1e3 * cpu}


def _measure(peer: Peer, sizes: Sizes) -> Figures:
    selector = Counting()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(idle(peer, selector, sizes["settle"] / 1e3, sizes["milliseconds"] / 1e3))


PART = Part(
    name="idle",
    title="Idle",
    figures=[
        Figure("loop", "wake-ups of the loop in 2 s of nothing to do", less=True),
        Figure("threads", "wake-ups of all threads", less=True),
        Figure("cpu", "CPU time, ms", less=True),
    ],
    ways=[Way(peer.name, partial(_measure, peer), peer.needs) for peer in PEERS],
    sizes={"settle": 1_500, "milliseconds": 2_000},
    base=BARE,
    goals=[Goal("loop", most=0.0), Goal("threads", most=0.0)],
    rounds=2,
)
