"""The log of all jobs: whatever of it stands in blocks is read as if it didn't."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner, PermanentError, RetryableError, RetryPolicy
from jobrunner.events import Event, Reading
from jobrunner.feed import BLOCK, Feed


def event(number: int) -> Event:
    data = {"status": "running", "attempt": number} if number % 5 else {"step": {"current": number}}
    return Event(number % 4, f"job_{number % 7}", "status", 1_000.0 + number, data)


def filled(count: int, max_events: int, last: int = 0) -> tuple[Feed, list[Event]]:
    """Return a feed, and all events that it was given."""
    feed, given = Feed(max_events=max_events, last=last), [event(n) for n in range(count)]
    for one in given:
        feed.append(one)
    return feed, given


@pytest.mark.parametrize("count", [0, 1, 2, 11, BLOCK, 2 * BLOCK + 1, 1_500])
@pytest.mark.parametrize("max_events", [0, 1, 2, 3, 10, BLOCK, 1_100, 5_000])
def test_is_read_as_a_list_of_the_newest_would_be(count: int, max_events: int) -> None:
    """What is asked for after any number, with any limit; and what is no longer there is told."""
    feed, given = filled(count, max_events)
    kept = min(count, max(max_events, 1))
    assert (len(feed), feed.first, feed.last) == (kept, count - kept + 1, count)
    for after in {-1, 0, 1, count - kept, *range(0, count, 97), count - 1, count, count + 1}:
        gone = max(0, count - kept - max(after, 0))
        newer = given[max(after, count - kept, 0) :]
        for limit in (None, 1, 2, BLOCK, BLOCK + 1, 2_000):
            wanted = newer if limit is None else newer[:limit]
            last = max(after, 0) + gone + len(wanted)
            assert feed.read(after, limit=limit) == Reading(wanted, last, gone)
    assert feed.kept() == given[count - kept :]


def test_goes_on_from_the_number_of_another() -> None:
    """A runner that is started again has a feed whose numbers nobody has seen before."""
    feed, given = filled(700, 600, last=50)
    assert (feed.first, feed.last, len(feed)) == (151, 750, 600)
    assert feed.read(200, limit=300) == Reading(given[150:450], 500, 0)
    assert feed.read(10).missed == 140


def test_keeps_values_that_are_no_json() -> None:
    """A text of a class of its own isn't what a block is made of, and is no reason to fail."""

    class Text(str):
        __slots__ = ()

    feed = Feed(max_events=1_000)
    for n in range(1_000):
        feed.append(event(n)._replace(data={"text": Text("a"), "n": (1, 2)}))
    data = feed.read(limit=1).events[0].data
    assert (data, type(data["text"])) == ({"text": "a", "n": (1, 2)}, str)


async def test_who_waits_is_woken_whatever_is_put_into_blocks() -> None:
    """Readers at the end of the feed are the usual ones."""
    feed, seen = Feed(max_events=1_000), list[Event]()

    async def follow() -> None:
        async for reading in feed.follow():
            assert reading.missed == 0
            seen.extend(reading.events)

    reader = asyncio.create_task(follow())
    given = [event(n) for n in range(3_000)]
    for n, one in enumerate(given):
        feed.append(one)
        if n % 300 == 0:
            await asyncio.sleep(0)
    feed.close()
    await reader
    assert seen == given


def _types(value: Any) -> set[type]:
    if type(value) is dict:
        return {kind for pair in value.items() for item in pair for kind in _types(item)}
    if type(value) is list:
        return {kind for item in value for kind in _types(item)}
    return {type(value)}


async def test_events_say_everything_in_plain_json_values() -> None:
    """A text that only looks like one costs every event a detour when it is kept or sent."""
    async with JobRunner(workers=2, shutdown_timeout=0.0) as runner:

        @runner.job(retry=RetryPolicy(base=0.001))
        async def speak(ctx: JobContext, end: str) -> None:
            ctx.step(1, 2, "begun")
            ctx.log("told", n=1)
            ctx.emit({"a": [1]})
            if end == "asks":
                await ctx.ask("Go on?", schema=bool, default=True, timeout=0.001)
            if end == "again" and ctx.attempt == 1:
                raise RetryableError("again")
            if end == "fails":
                raise PermanentError("no")

        started = [await runner.submit(speak, {"end": end}) for end in ("asks", "again", "fails")]
        held = await runner.submit(speak, {"end": "held"}, delay=60)
        await held.cancel()
        batch = await runner.submit_batch(speak, [{"end": ""}, {"end": "fails"}])
        for job in started:
            await job.wait()
        await batch.wait()
        feed = runner.feed().read().events
        events = [e for job in (*started, held) for e in [e async for e in job.events()]]
    kinds = {event.type for event in (*feed, *events)}
    assert kinds >= {"status", "progress", "log", "output", "question", "answer", "done"}
    found = set[type]().union(*(_types(event.data) for event in (*feed, *events)))
    assert found <= {str, int, float, bool, type(None)}
