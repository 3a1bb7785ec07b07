"""Final jobs as bytes."""

import dataclasses
import gc
import math
import sys
import tracemalloc
from collections.abc import Mapping
from contextvars import copy_context
from enum import StrEnum
from types import MappingProxyType
from typing import Any, cast

import pytest

from jobrunner.events import Event, EventLog, EventType
from jobrunner.jobs import Job, JobError, JobStatus, Step
from jobrunner.packing import OVERHEAD, Archive, heading, pack, unpack
from jobrunner.pages import Ids
from jobrunner.timers import Timer
from jobrunner.views import error_fields, view, view_json
from tests.records import make_job, state_of
from tests.tabled import each_of

ERROR = JobError("error", "ValueError", "no", "no\nway", 2, True, "Traceback: ä\ud800")
QUEUED = {"status": "pending", "attempt": 0}
STARTED = {"status": "running", "attempt": 1}


class Name(StrEnum):
    """Names that are more than texts."""

    WORK = "work"


def happen(job: Job, kind: EventType, data: Mapping[str, Any]) -> None:
    job.updated_at = 1_000.0 + job.log.last / 3
    job.log.append(Event(job.log.last + 1, job.id, kind, job.updated_at, data))


def ended(status: JobStatus = JobStatus.COMPLETED, **fields: Any) -> Job:
    """Return a final job with the usual three events."""
    given = {"status": status, "listed_as": status, "finished_at": 1_000.0 + 2 / 3,
             "started_at": 1_000.0 + 1 / 3, "attempt": 1, "progress": 100, "result": b"1",
             "timeout": 600.0}  # fmt: skip
    job = make_job(**(given | fields))
    happen(job, "status", QUEUED)
    happen(job, "status", STARTED)
    happen(job, "done", {"status": status.value, "error": error_fields(job.error)})
    job.log.close()
    return job


def again(job: Job) -> Job:
    return unpack(job.id, pack(job))


def same(job: Job) -> bool:
    """Whether everything that can be seen of the job is as before, to the letter."""
    other = again(job)
    one, two = ({**state_of(it), "log": _log(it.log)} for it in (job, other))
    return (one, view_json(job, links={})) == (two, view_json(other, links={}))


def _log(log: EventLog) -> Any:
    return (log.first, log.last, log.closed, log.read(), log.read(2), log.read(limit=1))


def example(field: "dataclasses.Field[Any]") -> Any:
    """Return a value that the field could have and that isn't its default."""
    values: list[tuple[str, Any]] = [
        ("JobError", ERROR), ("Step", Step(1, 3)), ("Mapping", {"a": [1, None, {"b": 0.5}]}),
        ("bytes", b'{"n": 2}'), ("bool", True), ("float", 12.75), ("int", 7),
        ("str", "text"), ("Literal", "user"),
    ]  # fmt: skip
    return next(value for part, value in values if part in str(field.type))


LIVE_ONLY = {
    "arguments", "batch", "context", "questions", "timer", "alarms", "begun", "due", "due_by"
}  # fmt: skip
OTHERS = {"id", "log", "status", "listed_as", "updated_at", *LIVE_ONLY}
FIELDS = [field for field in dataclasses.fields(Job) if field.name not in OTHERS]


@each_of({field.name: field for field in FIELDS})
def test_every_field_comes_back(field: "dataclasses.Field[Any]") -> None:
    """Whoever adds a field to the job needn't know how ended ones are kept."""
    given = {field.name: example(field)}
    job = ended(**given)
    assert same(job)
    assert state_of(again(job))[field.name] == given[field.name]


def test_all_fields_come_back_together() -> None:
    """A job with everything that a job can have."""
    job = ended(JobStatus.FAILED, **{field.name: example(field) for field in FIELDS})
    assert same(job)
    assert view(again(job)) == view(job)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_each_end_comes_back(status: JobStatus) -> None:
    """With the error, its traceback too, and with the very status; its events have its text."""
    job = ended(status, error=None if status is JobStatus.COMPLETED else ERROR)
    assert same(job)
    back = again(job)
    assert back.status is back.listed_as is status
    assert back.is_final
    assert [type(event.data["status"]) for event in back.log.read().events] == [str] * 3


def test_what_only_a_live_job_has_is_let_go() -> None:
    """A timer or the submitter's context would keep alive whatever they refer to (Q7)."""
    timer, new = Timer(lambda: None), state_of(make_job())
    job = ended(timer=timer, context=copy_context(), arguments={"a": object()}, begun=1.0,
                due_by=2.0, alarms=(timer, timer))  # fmt: skip
    assert [state_of(again(job))[name] for name in LIVE_ONLY] == [new[name] for name in LIVE_ONLY]


def test_nobody_can_change_what_is_kept() -> None:
    """What a reader does to an event is seen by that reader alone."""
    job = ended()
    for event in again(job).log.read().events:
        cast(dict[str, Any], event.data)["status"] = "mine"
    assert same(job)


def test_all_kinds_of_events_come_back() -> None:
    """Streams replay the log of a job that has ended as if it had just happened."""
    job = make_job(status=JobStatus.FAILED, listed_as=JobStatus.FAILED, finished_at=1_003.0,
                   started_at=1_000.5, attempt=2, error=ERROR)  # fmt: skip
    happen(job, "status", QUEUED)
    happen(job, "status", STARTED)
    happen(job, "progress", {"progress": 50, "message": "half", "step": {"current": 1, "total": 2}})
    happen(job, "log", {"level": "info", "text": "ä\ud800", "fields": {"n": 10**30, "x": math.inf}})
    happen(job, "output", {"stream": "stdout", "text": "line\n"})
    happen(job, "status", {"status": "retrying", "attempt": 1, "error": {"detail": "no"}})
    happen(job, "status", {"status": "running", "attempt": 2})
    happen(job, "gap", {"from": 1, "to": 2})
    happen(job, "done", {"status": "failed", "error": {"not": "the job's"}})
    job.log.close()
    assert same(job)


@pytest.mark.parametrize(("max_events", "max_bytes", "first"), [
    (4, 5_000_000, 9), (1_000, 30, 9), (1, 5_000_000, 12), (1_000, 1, 12), (0, 0, 12),
])  # fmt: skip
def test_q8_a_log_that_lost_events_has_the_same_numbers(
    max_events: int, max_bytes: int, first: int
) -> None:
    """Whoever resumes a stream after the end is told of the same gap as before."""
    log = EventLog(max_events=max_events, max_bytes=max_bytes)
    job = make_job(log=log, status=JobStatus.COMPLETED, listed_as=JobStatus.COMPLETED,
                   finished_at=1.0, result=b"1")  # fmt: skip
    for _ in range(11):
        happen(job, "output", {"stream": "stdout", "text": "0123456789"})
    happen(job, "done", {"status": job.status.value, "error": None})
    job.log.close()
    assert job.log.first == first
    assert same(job)


@pytest.mark.parametrize("kind", ["output", "progress"])
def test_q8_a_log_with_older_output_goes_on_from_every_number(kind: EventType) -> None:
    """Whoever lost the connection in the middle of an answer reads on after the job's end."""
    job = make_job(log=EventLog(max_events=40), status=JobStatus.FAILED,
                   listed_as=JobStatus.FAILED, finished_at=1.0, error=ERROR)  # fmt: skip
    for number in range(200):
        happen(job, "output", {"stream": "text", "text": f"{number} "})
        if number % 50 == 0:
            happen(job, "status", {"status": "running", "attempt": number})
    for _ in range(39):
        happen(job, kind, {"stream": "text", "text": "x"})
    job.log.close()
    log, other = job.log, again(job).log
    assert log.older is not None
    assert same(job)
    assert [other.read(after) for after in range(250)] == [log.read(after) for after in range(250)]
    assert (len(other), other.has_text) == (len(log), True)


def test_q8_a_log_that_lost_older_output_has_the_same_numbers() -> None:
    """What went before a joined piece stays a gap, and is not taken for a part of it."""
    job = make_job(log=EventLog(max_events=40, max_bytes=1_000), status=JobStatus.FAILED,
                   listed_as=JobStatus.FAILED, finished_at=1.0, error=ERROR)  # fmt: skip
    for number in range(500):
        happen(job, "output", {"stream": ("text", "why")[number // 20 % 2], "text": "1234567"})
    job.log.close()
    assert job.log.older is not None
    assert (job.log.first > 100, same(job)) == (True, True)


async def test_an_unpacked_log_is_closed() -> None:
    """A stream on it ends, and a wait for its end is over at once."""
    log = again(ended()).log
    await log.wait_closed()
    assert [reading.last async for reading in log.follow(limit=2)] == [2, 3]


def test_what_is_more_than_text_becomes_text() -> None:
    """Names may come from an enum, and metadata in any mapping; the same is seen of them."""

    class Level(int):
        pass

    class Ratio(float):
        pass

    data: dict[str, Any] = {Name.WORK: MappingProxyType({"a": (Level(3), Ratio(0.5), b"\xff")}),
                            "set": {1}, "nan": math.nan}  # fmt: skip
    job = ended(type=Name.WORK, session_id=Name.WORK, metadata=data)
    back = again(job)
    assert (type(back.type), type(back.session_id)) == (str, str)
    assert (back.type, back.session_id) == ("work", "work")
    metadata = cast(dict[str, Any], back.metadata)
    assert metadata["work"] == {"a": (3, 0.5, b"\xff")}
    assert metadata["set"] == [1]
    assert math.isnan(metadata["nan"])


def test_whatever_it_is_it_can_be_packed() -> None:
    """An end that can't be kept would be no end, and its worker would die of it."""
    job = ended(metadata={"object": object(), "date": dataclasses})
    assert set(again(job).metadata or {}) == {"object", "date"}


def test_the_heading_says_where_it_is_listed() -> None:
    """Removing a job must not make a record of it, with its thousand events."""
    names = {"session_id": "s", "batch_id": "b", "idempotency_key": "k", "retry_of": "r",
             "owner": "ada", "parent_id": "p"}  # fmt: skip
    found = heading(pack(ended(JobStatus.FAILED, number=7, **names)))
    assert found._asdict() == {"number": 7, "status": JobStatus.FAILED, "type": "work", **names}
    assert heading(pack(ended()))._asdict() == {
        "number": 1, "status": JobStatus.COMPLETED, "type": "work", **dict.fromkeys(names)
    }  # fmt: skip


def test_q7_a_small_job_is_small() -> None:
    """400 bytes for each finished job, of which this is the larger part."""
    assert sys.getsizeof(pack(ended(params=b'{"n": 100000}', result=b"100000"))) <= 176


def archive(count: int, **fields: Any) -> tuple[Archive, Ids, list[Job]]:
    ids = Ids()
    made, jobs = Archive(ids, lambda: None), []
    for number in range(1, count + 1):
        job = ended(id=f"job_{number}", number=number, **fields)
        ids.add(number, job.id)
        made.add(job, float(number))
        jobs.append(job)
    return made, ids, jobs


def remove(made: Archive, ids: Ids, job_id: str) -> None:
    ids.remove(made.remove(job_id).number)


def test_an_archive_gives_back_what_it_was_given() -> None:
    """A new record each time: nobody can change what is kept."""
    made, _, jobs = archive(3)
    found = made.get("job_2")
    assert found is not None
    assert (view(found), found is made.get("job_2")) == (view(jobs[1]), False)
    assert (len(made), "job_3" in made, "job_4" in made, made.get("job_4")) == (
        3,
        True,
        False,
        None,
    )


def test_a_log_whose_events_are_made_later_has_no_other_names() -> None:
    """Only what is missing until then is made when it is asked for."""
    log = unpack("job_1", pack(ended(id="job_1"))).log
    with pytest.raises(AttributeError, match="a log has no 'nothing'"):
        log.nothing  # type: ignore[attr-defined]  # noqa: B018  # to look is enough
    assert (log.last, len(log.read(0).events)) == (3, 3)


def test_an_archive_counts_its_bytes() -> None:
    """What a budget is kept by: each job's bytes and what it costs in tables (Q10)."""
    made, ids, jobs = archive(2)
    assert made.size == sum(len(pack(job)) + OVERHEAD for job in jobs)
    remove(made, ids, "job_1")
    remove(made, ids, "job_2")
    assert (made.size, len(made), made.oldest()) == (0, 0, None)


@pytest.mark.parametrize("step", [0, -1, 7])
def test_the_oldest_is_what_ended_first_of_those_left(step: int) -> None:
    """In whatever order they are removed, and however many are: the sweeps lose nobody."""
    made, ids, jobs = archive(500)
    left = {job.id: float(job.number) for job in jobs}
    while left:
        assert made.oldest() == next(iter(left.items()))
        victim = list(left)[step % len(left)]
        remove(made, ids, victim)
        del left[victim]
    assert made.oldest() is None


def test_q10_what_is_removed_leaves_nothing() -> None:
    """Not even its place in the order, though the oldest of all stays for ever."""
    made, ids, jobs = archive(1)
    tracemalloc.start()
    for number in range(2, 1_500):
        job = ended(id=f"job_{number}", number=number)
        ids.add(number, job.id)
        made.add(job, 1.0)
        remove(made, ids, job.id)
    gc.collect()  # empties the interpreter's lists of spare tuples too
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (made.oldest(), len(made)) == ((jobs[0].id, 1.0), 1)
    assert grown < 16_000


def test_q7_the_collector_sees_nothing_of_a_packed_job() -> None:
    """A full collection walks over what it follows: 250 ms at 200,000 records."""
    made, _, jobs = archive(300)
    del jobs
    gc.collect()
    before = len(gc.get_objects())
    more, _, jobs = archive(3_000)
    del jobs
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert (len(made), len(more)) == (300, 3_000)


def test_a_record_that_is_held_is_not_touched() -> None:
    """Readers hold the record; that it is packed is no business of theirs (Q8)."""
    job = ended()
    before = {**state_of(job)}
    pack(job)
    assert state_of(job) == before
