"""Older output, joined: nothing of the text is lost, and every number still leads on."""

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from jobrunner.events import FEW, Event, EventLog, EventType
from jobrunner.joining import MAX_JOINED

KINDS: list[EventType] = ["output", "output", "output", "output", "progress", "log", "status"]


def put(log: EventLog, kind: EventType, **data: Any) -> Event:
    """Append an event, and return it."""
    event = Event(log.last + 1, "job_1", kind, 1_000.0 + log.last, data)
    log.append(event)
    return event


def say(log: EventLog, *texts: str, stream: str = "text") -> None:
    for text in texts:
        put(log, "output", stream=stream, text=text)


def drawn(seed: int, count: int, **bounds: int) -> tuple[EventLog, list[Event]]:
    """Return a log of all kinds of events, and what was put into it."""
    draw = Random(seed)
    log, put_in = EventLog(**bounds), list[Event]()
    for number in range(1, count + 1):
        kind = draw.choice(KINDS)
        if kind == "output" and draw.random() < 0.05:
            data = {"stream": "text", "text": f'{{"n":{number}}}', "json": True}
        elif kind == "output":
            data = {"stream": draw.choice(("text", "text", "why")), "text": f"{number} "}
        elif kind == "log":
            data = {"text": f"line {number}", "fields": {}}
        else:
            data = {"n": number}
        put_in.append(put(log, kind, **data))
    return log, put_in


def heard(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """Return what a reader makes of events: text, however it is cut, and all but old progress."""
    said: list[tuple[Any, ...]] = []
    for event in events:
        if event.type == "output" and "json" not in event.data:
            stream, text = event.data["stream"], event.data["text"]
            if said and said[-1][:2] == ("output", stream):
                text = said.pop()[2] + text
            said.append(("output", stream, text))
        elif event.type != "progress":
            said.append((event.type, event.seq, event.data))
    return said


def read_on(log: EventLog, after: int, limit: int | None) -> list[Event]:
    """Read to the end as a stream does, and see that numbers rise and nothing is missed."""
    events: list[Event] = []
    while (reading := log.read(after, limit=limit)).events:
        assert (reading.missed, reading.begin) == (0, after)
        for number, event in reading.numbered():
            assert after < number == event.seq <= reading.last
            assert after < event.data.get("from", number) <= number
            after = number
        assert after == reading.last
        events += reading.events
    assert after == log.last
    return events


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_gets_the_same_wherever_it_goes_on(seed: int) -> None:
    """Row 21: from any number that is kept, in portions of any size, it is the same story."""
    draw = Random(seed)
    bound = draw.choice((FEW, 40, 100))
    log, events = drawn(seed, draw.randrange(bound, 6 * bound), max_events=bound)
    assert len(log) <= bound
    for after in {log.first - 1, log.last, *draw.sample(range(log.first, log.last), 10)}:
        expected = heard(event for event in events if event.seq > after)
        for limit in (1, 3, None):
            assert heard(read_on(log, after, limit)) == expected


def test_the_newest_progress_is_kept() -> None:
    """An older one says nothing any more; the newest may have been said long ago."""
    log = EventLog(max_events=40)
    for percent in range(10):
        say(log, "a ")
        put(log, "progress", progress=percent)
    say(log, *"x" * 1_000)
    kept = [event for event in log.read().events if event.type == "progress"]
    assert [event.data for event in kept] == [{"progress": 9}]


def test_an_answer_of_twenty_thousand_tokens_is_read_whole_by_who_comes_late() -> None:
    """Row 21, with the default bounds: what is usual must not need any setting."""
    log = EventLog()
    tokens = [f"{number:05}" for number in range(20_000)]
    put(log, "status")
    say(log, *tokens)
    reading = log.read()
    assert "".join(event.data["text"] for event in reading.events[1:]) == "".join(tokens)
    assert (reading.missed, reading.last, log.first) == (0, 20_001, 1)
    assert len(reading.events) == len(log) <= 1_000
    joined = reading.events[1]
    assert (joined.data["from"], joined.seq) == (2, 1 + len(joined.data["text"]) // 5)
    assert joined.at == 1_000.0 + joined.seq - 1


def test_who_has_read_half_of_a_joined_piece_gets_the_rest() -> None:
    """Numbers never repeat: what was read as tokens isn't read again as a part of a piece."""
    log = EventLog(max_events=FEW)
    say(log, *(f"{number} " for number in range(1, 2 * FEW + 1)))
    whole, rest = log.read(0).events[0], log.read(5).events[0]
    assert (whole.data["text"][:6], whole.data["from"]) == ("1 2 3 ", 1)
    assert (rest.data["text"][:6], rest.data["from"]) == ("6 7 8 ", 6)
    assert rest.seq == whole.seq
    assert rest._replace(data={}) == whole._replace(data={})


def test_a_piece_does_not_change_for_who_has_it() -> None:
    """What comes after is joined to it later: a reader's event is a value."""
    log = EventLog(max_events=FEW)
    say(log, *"a" * 20)
    before = log.read().events[0]
    text = before.data["text"]
    say(log, *"b" * 100)
    after = log.read().events[0]
    assert (before.data["text"], after.seq > before.seq) == (text, True)
    assert after.data["text"].startswith(text)


@pytest.mark.parametrize(("other", "data"), [
    ("output", {"stream": "why", "text": "x"}),
    ("output", {"stream": "text", "text": "{}", "json": True}),
    ("log", {"text": "x", "fields": {}}),
    ("status", {"status": "running", "attempt": 2}),
])  # fmt: skip
def test_text_is_not_joined_over_something_else(other: EventType, data: dict[str, Any]) -> None:
    """What stood between stays between: another channel, a value, a line, the next attempt."""
    log = EventLog(max_events=FEW)
    say(log, *"a" * 5)
    put(log, other, **data)
    say(log, *"b" * 3 * FEW)
    first, between, last = log.read().events[:3]
    assert (first.data["text"], between.type, between.data) == ("a" * 5, other, data)
    assert set(last.data["text"]) == {"b"}


def test_a_joined_piece_is_bounded() -> None:
    """S4: a reader that stands still holds one piece; and one that is kept is copied seldom."""
    log = EventLog(max_events=100)
    say(log, *("x" * 1_000 for _ in range(300)))
    lengths = [len(event.data["text"]) for event in log.read().events]
    assert (max(lengths), sum(lengths)) == (16_000, 300_000)


def test_q10_older_text_is_bounded_by_bytes() -> None:
    """The oldest goes, and who asks for it is told how much that was."""
    log = EventLog(max_events=FEW, max_bytes=40_000)
    say(log, *("x" * 100 for _ in range(1_000)))
    reading = log.read()
    kept = sum(len(event.data["text"]) for event in reading.events)
    assert 40_000 - MAX_JOINED <= kept <= 40_000
    assert (reading.missed, log.first) == (1_000 - kept // 100, 1_001 - kept // 100)
    assert log.read(log.first - 1).missed == 0
    say(log, "y" * 50_000)
    assert (log.first, len(log)) == (1_001, 1)


def test_q10_what_can_not_be_joined_is_bounded_by_number() -> None:
    """Two channels that take turns: the limit of events holds, and its loss is told."""
    log = EventLog(max_events=FEW)
    for number in range(100):
        say(log, f"{number}", stream=("text", "why")[number % 2])
        assert len(log) == min(number + 1, FEW)
    reading = log.read()
    assert [event.data["text"] for event in reading.events] == [str(n) for n in range(84, 100)]
    assert (reading.missed, log.first) == (84, 85)


def test_progress_between_tokens_does_not_cut_them() -> None:
    """A handler that counts its tokens is watched like any other."""
    log = EventLog()
    for number in range(4_000):
        say(log, f"{number} ")
        put(log, "progress", progress=number)
    text = "".join(e.data["text"] for e in log.read().events if e.type == "output")
    assert text == "".join(f"{number} " for number in range(4_000))
    assert log.read(1_000).events[0].data["text"].startswith("500 501 ")


def test_a_log_that_said_nothing_before_joins_from_there() -> None:
    """Events without a text are swept seldom; those past the bound are gone all the same."""
    log = EventLog(max_events=100)
    for number in range(120):
        put(log, "progress", n=number)
    assert log.first == 21
    say(log, "x")
    assert (log.first, log.read().missed) == (21, 20)
    assert log.read().events[-1].data["text"] == "x"
    assert len(log) <= 100


def test_a_log_with_a_small_bound_joins_nothing() -> None:
    """Who keeps ten events wants ten events."""
    log = EventLog(max_events=FEW - 1)
    say(log, *"x" * 100)
    assert (log.older, log.first, len(log)) == (None, 100 - FEW + 2, FEW - 1)


def test_all_that_is_kept_is_what_a_reader_gets() -> None:
    """Whoever needs no numbers asks for no reading."""
    log, _ = drawn(7, 200, max_events=40)
    assert log.kept() == log.read().events


def test_a_reading_of_nothing_is_at_its_start() -> None:
    """A limit of 0 is no use, and no error."""
    log, _ = drawn(7, 200, max_events=40)
    reading = log.read(log.first + 3, limit=0)
    assert (reading.events, reading.last, reading.missed) == ([], log.first + 3, 0)
