"""What a crowd of watchers has left goes back to the system, and nobody waits long for it."""

import asyncio
import ctypes
import gc
import os
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import crowd
from jobrunner.crowd import FROZEN, MANY, Crowd, give_back
from jobrunner.server import serving
from tests.serving import GONE_ON, make_runner, request_for

FEW = MANY // 10
"""How many are enough once many have left."""
PAGES = Path("/proc/self/statm")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """Yield a list that has an item for each time that memory was given back."""
    times = list[None]()
    monkeypatch.setattr(crowd, "give_back", lambda: times.append(None))
    yield times


@pytest.mark.parametrize(
    "counts, times",
    [
        ([0, MANY - 1, 0], 0),
        ([0, MANY, 0], 1),
        ([0, MANY, MANY, MANY // 2, 0], 1),
        ([2 * MANY, MANY, FEW, FEW, FEW], 2),
        ([2 * MANY, MANY, MANY - FEW, MANY - FEW], 2),
        ([2 * MANY, MANY, MANY - FEW + 1, FEW], 1),
        ([2 * MANY, MANY, MANY, FEW, FEW], 1),
        ([3 * MANY, MANY, 3 * MANY, 0, 0, 0], 2),
        ([MANY // 2] * 10, 0),
    ],
    ids="few|many|little by little|two parts|few more|too few more|later|again|all stay".split("|"),
)
def test_memory_is_given_back_while_many_leave(
    given: list[None], counts: list[int], times: int
) -> None:
    """Until the last of them has left: what is left of them all lies side by side."""
    watched = Crowd()
    for there in counts:
        watched.count(there)
    assert len(given) == times


@pytest.fixture
def thawed() -> Iterator[None]:
    """Let nothing be frozen, as the tests are otherwise, and nothing be collected by itself."""
    gc.unfreeze()
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.mark.usefixtures("thawed")
def test_spare_objects_are_given_back_and_nothing_is_looked_through() -> None:
    """A collection of a large program takes a tenth of a second, in which nothing else happens."""
    give_back()
    tracemalloc.start()
    try:
        cycle = Cycle()
        cycle.itself, known = cycle, weakref.ref(cycle)
        spare = [(number % 100, 0) for number in range(1_000)]
        del spare[:], cycle
        freed, _ = tracemalloc.get_traced_memory()
        give_back()
        given_back, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert freed - given_back > 40_000
    assert gc.get_freeze_count() < FROZEN
    not_found = known()
    assert not_found is not None
    del not_found.itself


class Cycle:
    """What only a collection that looks finds."""

    itself: "Cycle"


def test_what_somebody_else_has_frozen_stays_so() -> None:
    """A program may have frozen what it began with, so that no collection looks at it again."""
    gc.freeze()
    frozen = gc.get_freeze_count()
    give_back()
    assert gc.get_freeze_count() >= frozen - 10 > FROZEN  # some may have ended by themselves


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_the_c_library_gives_back_what_lies_beneath_the_last() -> None:
    """It gives back by itself what lies at the top of its heap, and no more."""
    blocks = [bytes(1_000) for _ in range(30_000)]
    height = resident()
    del blocks[:-1]
    give_back()
    assert height - resident() > 20_000_000


@pytest.mark.slow  # a server looks once in a second
async def test_a_server_counts_its_connections_and_what_serves_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tasks of watchers go on a little longer than their connections, and have their memory."""
    counts = asyncio.Queue[int]()
    monkeypatch.setattr(Crowd, "count", lambda self, there: counts.put_nowait(there))
    runner, gates = make_runner()
    async with serving(runner) as server, asyncio.timeout(GONE_ON):
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        port = int(server.url.rpartition(":")[2])
        writers = []
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_for(f"/jobs/{job.id}/stream", server.token))
            await reader.readuntil(b"event: snapshot")
            writers.append(writer)
        while await counts.get() != 5 + 5:
            pass
        for writer in writers:
            writer.close()
        while await counts.get() != 0:
            pass


def resident() -> int:
    """Return how much memory this process has, in bytes."""
    return int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
