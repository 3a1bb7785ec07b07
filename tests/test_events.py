"""The log: what is kept, what a reader gets, and who is woken."""

import asyncio
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from jobrunner.events import Event, EventLog, EventType, Reading, gap
from jobrunner.testing import virtual_time


def event(seq: int, kind: EventType = "status", **data: Any) -> Event:
    return Event(seq, "job_1", kind, 1_000.0 + seq, data)


def filled(count: int, **bounds: int) -> EventLog:
    log = EventLog(**bounds)
    for seq in range(1, count + 1):
        log.append(event(seq))
    return log


def numbers(reading: Reading) -> tuple[list[int], int, int]:
    return [e.seq for e in reading.events], reading.last, reading.missed


@pytest.mark.parametrize(("kind", "data", "weight"), [
    ("output", {"stream": "stdout", "text": "äbc"}, 3),
    ("log", {"text": "four", "fields": {"k": 1}}, 12),
    ("progress", {"progress": 5}, 0),
    ("status", {"status": "running"}, 0),
])  # fmt: skip
def test_weighs_the_text_of_an_event(kind: EventType, data: Mapping[str, Any], weight: int) -> None:
    """Text is what a handler can produce without end."""
    assert Event(1, "job_1", kind, 0.0, data).weight == weight


def test_starts_empty_and_open() -> None:
    """A reader may come before the first event."""
    log = EventLog()
    assert (len(log), log.first, log.last, log.closed) == (0, 1, 0, False)
    assert log.read() == Reading([], 0, 0)


@pytest.mark.parametrize(("after", "limit", "expected"), [
    (0, None, ([1, 2, 3, 4, 5], 5, 0)),
    (2, None, ([3, 4, 5], 5, 0)),
    (4, None, ([5], 5, 0)),
    (5, None, ([], 5, 0)),
    (9, None, ([], 9, 0)),
    (-7, None, ([1, 2, 3, 4, 5], 5, 0)),
    (0, 2, ([1, 2], 2, 0)),
    (2, 2, ([3, 4], 4, 0)),
    (4, 2, ([5], 5, 0)),
])  # fmt: skip
def test_read_returns_what_is_newer(
    after: int, limit: int | None, expected: tuple[list[int], int, int]
) -> None:
    """Reading on from `last` loses nothing and repeats nothing, from wherever one starts."""
    assert numbers(filled(5).read(after, limit=limit)) == expected


@pytest.mark.parametrize(("after", "limit", "expected"), [
    (0, None, ([8, 9, 10], 10, 7)),
    (3, 2, ([8, 9], 9, 4)),
    (7, None, ([8, 9, 10], 10, 0)),
    (10, None, ([], 10, 0)),
    (-1, 1, ([8], 8, 7)),
])  # fmt: skip
def test_read_tells_how_many_are_no_longer_kept(
    after: int, limit: int | None, expected: tuple[list[int], int, int]
) -> None:
    """A gap that is told can be shown; one that isn't is a lie."""
    assert numbers(filled(10, max_events=3).read(after, limit=limit)) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 50, 51])
def test_q10_keeps_the_newest_up_to_its_number(count: int) -> None:
    """Bounded whatever comes (Q10), and right wherever the list is tidied up."""
    log = filled(count, max_events=3)
    kept = list(range(max(1, count - 2), count + 1))
    assert (numbers(log.read())[0], len(log), log.first) == (kept, len(kept), kept[0])


def test_q10_keeps_text_up_to_its_bound() -> None:
    """Few events with much text are bounded too (Q10)."""
    log = EventLog(max_bytes=10)
    for seq, text in enumerate(["aaaa", "bbbb", "cccc", "d"], 1):
        log.append(event(seq, "output", stream="text", text=text))
    assert [e.data["text"] for e in log.read().events] == ["bbbb", "cccc", "d"]
    log.append(event(5, "output", stream="text", text="eeeeee"))
    assert numbers(log.read()) == ([4, 5], 5, 3)


def test_keeps_the_newest_event_though_it_is_over_the_bound() -> None:
    """The end of a job is never dropped for being large."""
    log = EventLog(max_events=0, max_bytes=10)
    log.append(event(1, "output", stream="text", text="x" * 100))
    assert numbers(log.read()) == ([1], 1, 0)
    log.append(event(2))
    assert numbers(log.read()) == ([2], 2, 1)


def test_q10_lets_go_of_an_event_when_it_drops_it() -> None:
    """Text that isn't kept for readers must not be kept by accident (Q10)."""

    class Data(dict[str, Any]):
        pass

    log, alive = EventLog(max_events=50), []
    for seq in range(1, 81):
        data = Data(text="a line")
        alive.append(weakref.ref(data))
        log.append(Event(seq, "job_1", "log", 0.0, data))
    del data
    assert [seq for seq, one in enumerate(alive, 1) if one() is not None] == list(range(31, 81))


def test_q10_lets_go_of_events_that_have_no_text_soon() -> None:
    """They are small, and swept out together, since that costs less."""

    class Data(dict[str, Any]):
        pass

    log, alive = EventLog(max_events=100), []
    for seq in range(1, 1_001):
        alive.append(weakref.ref(data := Data(progress=seq)))
        log.append(Event(seq, "job_1", "progress", 0.0, data))
        assert len(log) == min(seq, 100)
    del data
    assert 100 <= sum(one() is not None for one in alive) <= 125
    assert [event.seq for event in log.read().events] == list(range(901, 1_001))


def test_a_gap_stands_for_what_was_missed() -> None:
    """Its number is the last missed one, so that a reader resumes at the first that is kept."""
    reading = filled(10, max_events=3).read(2, limit=2)
    assert gap("job_1", 5.0, reading) == Event(7, "job_1", "gap", 5.0, {"from": 3, "to": 7})


@virtual_time
async def test_q3_wait_returns_at_once_when_there_is_more() -> None:
    """No wake-up can be missed between reading and waiting (Q3)."""
    await filled(3).wait(2)


@virtual_time
async def test_wait_wakes_for_the_first_newer_event_only() -> None:
    """A reader that is up to date isn't woken for what it has."""
    log = filled(1)
    waiting = asyncio.create_task(log.wait(2), name="reader")
    await asyncio.sleep(0)
    log.append(event(2))
    await asyncio.sleep(1)
    assert not waiting.done()
    log.append(event(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done()


@virtual_time
async def test_close_wakes_everybody() -> None:
    """Each open stream ends."""
    log = filled(1)
    readers = [asyncio.create_task(log.wait(after), name="r") for after in (1, 5, 10**9)]
    readers.append(asyncio.create_task(log.wait_closed(), name="end"))
    await asyncio.sleep(0)
    log.append(event(2))
    await asyncio.sleep(1)
    assert [r.done() for r in readers] == [True, False, False, False]
    log.close()
    await asyncio.wait(readers)
    assert log.closed


@virtual_time
async def test_t6_a_cancelled_reader_takes_nobody_along() -> None:
    """Each waiter has a future of its own; a shared one would be cancelled for all (T6)."""
    log = EventLog()
    first, second = (asyncio.create_task(log.wait(0), name="reader") for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    log.append(event(1))
    await second
    assert first.cancelled()


class CountingLog(EventLog):
    """Knows who waits."""

    waiting = 0

    def add_waiter(self, waiter: "asyncio.Future[None]", after: int) -> None:
        self.waiting += 1
        super().add_waiter(waiter, after)

    def remove_waiter(self, waiter: "asyncio.Future[None]") -> None:
        self.waiting -= 1
        super().remove_waiter(waiter)


@virtual_time
async def test_nobody_is_kept_after_a_wait() -> None:
    """A thousand clients that came and went must leave nothing in the log (S4)."""
    log = CountingLog()
    served, cancelled = (asyncio.create_task(log.wait(0), name="reader") for _ in range(2))
    await asyncio.sleep(0)
    assert log.waiting == 2
    cancelled.cancel()
    log.append(event(1))
    await asyncio.wait([served, cancelled])
    assert log.waiting == 0


@virtual_time
async def test_a_waiter_already_done_is_not_set_again() -> None:
    """One future may wait for several logs, as `wait(mode="any")` has it do."""
    logs = [EventLog(), EventLog()]
    waiter = asyncio.get_running_loop().create_future()
    for log in logs:
        log.add_waiter(waiter, 0)
    for log in logs:
        log.append(event(1))
    assert waiter.done()


@virtual_time
async def test_a_waiter_is_set_by_a_newer_event_and_by_no_other() -> None:
    """Ten thousand readers that are up to date must not be woken for nothing."""
    log, waiter = EventLog(), asyncio.get_running_loop().create_future()
    log.add_waiter(waiter, 2)
    done = []
    for seq in (1, 2, 3):
        log.append(event(seq))
        done.append(waiter.done())
    assert done == [False, False, True]


@virtual_time
async def test_a_removed_waiter_is_not_woken() -> None:
    """Who gave up leaves nothing behind; giving up twice, or without having waited, is no error."""
    log, waiter = EventLog(), asyncio.get_running_loop().create_future()
    log.remove_waiter(waiter)
    log.add_waiter(waiter, 0)
    log.remove_waiter(waiter)
    log.remove_waiter(waiter)
    log.append(event(1))
    assert not waiter.done()


@virtual_time
async def test_follow_gives_what_is_kept_and_then_what_comes() -> None:
    """A late reader sees everything that an early one saw (row 21)."""
    log, seen = filled(3), []

    async def read() -> None:
        async for reading in log.follow(limit=2):
            seen.append(numbers(reading))

    reader = asyncio.create_task(read(), name="reader")
    await asyncio.sleep(1)
    log.append(event(4))
    log.close()
    await reader
    assert seen == [([1, 2], 2, 0), ([3], 3, 0), ([4], 4, 0)]


@virtual_time
async def test_follow_tells_of_a_gap_and_goes_on() -> None:
    """A slow reader loses the oldest events, and knows it."""
    log = filled(10, max_events=3)
    log.close()
    assert [numbers(r) async for r in log.follow(2, limit=2)] == [([8, 9], 9, 5), ([10], 10, 0)]


@virtual_time
async def test_follow_of_a_closed_and_empty_log_ends() -> None:
    """Whoever comes after the end isn't left waiting."""
    log = EventLog()
    log.close()
    assert [reading async for reading in log.follow()] == []


async def test_a_log_that_goes_on_from_another_says_what_it_has_not() -> None:
    """A runner that is started again has a new log with the old numbers; nobody spins on them."""
    log = EventLog(last=9)
    readings = [log.read(4), log.read(9), log.read(12)]
    assert readings == [Reading([], 9, 5), Reading([], 9, 0), Reading([], 12, 0)]
    log.append(Event(1, "job_1", "status", 0.0, {}))
    log.close()
    readings = [reading async for reading in log.follow(4)]
    assert [(len(r.events), r.last, r.missed) for r in readings] == [(1, 10, 5)]


@pytest.mark.parametrize("after", [0, 4, 8])
@virtual_time
async def test_who_asks_for_what_is_gone_waits_for_what_comes(after: int) -> None:
    """A follower of an empty log that goes on from another one sleeps until there is something."""
    log = EventLog(last=9)
    following = log.follow(after)
    assert await anext(following) == Reading([], 9, 9 - after)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60.0):
            await anext(following)
