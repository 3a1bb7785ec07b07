"""What the runner's calls cost when few jobs are there, and when many are: kept, pending, waiting.

Each number of jobs has a process of its own. All calls are made in batches, whose garbage is
collected within their time; the figure is the median of the batches. Jobs are paused meanwhile.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from jobrunner import JobRunner, Limits, Retention

from .peers import echo
from .shape import Figure, Figures, Goal, Part, Sizes, Way

PORTION = 1_000
BATCHES = 5
PAGE = 50
STATES = ("kept", "pending", "waiting")
T = TypeVar("T")


class Grown:
    """A runner with `count` jobs in a state, and room for what the batches end before it prunes.

    Args:
        batch: Calls in a batch.
    """

    def __init__(self, state: str, count: int, batch: int) -> None:
        self.state, self.count, self.batch = state, count, batch
        room = BATCHES * batch
        kept = room + (count if state == "kept" else 0)
        self.runner = JobRunner(
            retention=Retention(max_jobs=kept, max_age=None, max_bytes=None),
            limits=Limits(max_pending=count + room, max_live_bytes=2**40),
        )
        self.runner.job("echo")(echo)
        self.ids: list[str] = []
        self.random = random.Random(1)

    async def fill(self) -> None:
        """Bring the jobs into their state."""
        if self.state != "kept":
            self.runner.pause()
        delay = 86_400.0 if self.state == "waiting" else 0.0
        for n in range(self.count):
            self.ids.append((await self.runner.submit("echo", {"n": n}, delay=delay)).id)
            if self.state == "kept" and n % PORTION == 0:
                await self.runner.drain()
        if self.state == "kept":
            await self.runner.drain()
        self.runner.pause()

    def some(self) -> list[str]:
        """Return ids of jobs from all over the place."""
        return self.random.sample(self.ids, self.batch)

    async def submit(self) -> list[str]:
        """Submit a batch in the state that the others are in; what is kept comes from pending."""
        delay = 86_400.0 if self.state == "waiting" else 0.0
        return [
            (await self.runner.submit("echo", {"n": n}, delay=delay)).id for n in range(self.batch)
        ]

    async def look_up(self, ids: list[str]) -> None:
        for job_id in ids:
            await self.runner.get(job_id)

    async def page(self) -> None:
        """Have as many jobs listed as there are calls in a batch, by their type and in order."""
        for i in range(self.batch // PAGE or 1):
            page = await self.runner.list(limit=PAGE, type="echo" if i % 2 else None)
            assert page.jobs

    async def cancel(self, ids: list[str]) -> None:
        for job_id in ids:
            await self.runner.cancel(job_id)

    def victims(self, new: list[str], *, pruning: bool) -> list[str]:
        """Return what is cancelled in a batch: of what waits any, or else what is new."""
        if self.state == "kept":
            self.ids = self.ids[self.batch if pruning else 0 :] + new
            return new
        self.ids += new
        self.random.shuffle(self.ids)
        chosen, self.ids = self.ids[: self.batch], self.ids[self.batch :]
        return chosen


async def grow(state: str, count: int, batch: int) -> Figures:
    """Measure the calls with `count` jobs in the state."""
    grown = Grown(state, count, min(batch, count))
    await grown.runner.__aenter__()
    await grown.fill()
    taken: dict[str, list[float]] = {}
    for turn in range(2 * BATCHES):
        new = await _timed(taken, "submit", grown.submit)
        await _timed(taken, "look-up", partial(grown.look_up, grown.some()))
        await _timed(taken, "page", grown.page)
        pruning = turn >= BATCHES  # from then on there are as many as are kept
        victims = grown.victims(new, pruning=pruning)
        await _timed(taken, "prune" if pruning else "cancel", partial(grown.cancel, victims))
    await grown.runner.stop()
    per_call = 1e6 / grown.batch
    return {name: per_call * statistics.median(times) for name, times in taken.items()}


async def _timed(taken: dict[str, list[float]], name: str, call: Callable[[], Awaitable[T]]) -> T:
    began = time.perf_counter()
    returned = await call()
    taken.setdefault(name, []).append(time.perf_counter() - began)
    return returned


def _measure(state: str, size: str, sizes: Sizes) -> Figures:
    return asyncio.run(grow(state, sizes[size], sizes["batch"]))


def few(state: str) -> str:
    """Return the name of the way with few jobs."""
    return f"few {state}"


def many(state: str) -> str:
    """Return the name of the way with many jobs."""
    return f"many {state}"


_FIGURES = [
    Figure("submit", "submit, µs", less=True),
    Figure("look-up", "look-up, µs", less=True),
    Figure("page", "a job of a page, µs", less=True),
    Figure("cancel", "cancel, µs", less=True),
    Figure("prune", "cancel that prunes another, µs", less=True),
]
_TITLE = "submit, look-up, page, cancel, prune: with many jobs, of the time with few"
PART = Part(
    name="growth",
    title="Growth",
    figures=_FIGURES,
    ways=[
        Way(name(state), partial(_measure, state, size))
        for state in STATES
        for name, size in ((few, "few"), (many, "many"))
    ],
    sizes={"few": 1_000, "many": 20_000, "batch": 500},
    full={"many": 1_000_000},
    goals=[
        Goal(figure.key, most=1.25, of=few(state), way=many(state), title=_TITLE)
        for state in STATES
        for figure in _FIGURES
    ],
    rounds=3,
)
