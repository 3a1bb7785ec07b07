"""What everybody outside sees of a job: one shape, as a model and as JSON."""

import ast
import gc
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from jobrunner import Event, JobStatus, JobView
from jobrunner.jobs import Job, JobError, Step
from jobrunner.views import (
    ErrorView,
    Frozen,
    StepView,
    error_fields,
    event_json,
    iso,
    view,
    view_json,
)
from tests.records import make_job

ERROR = JobError("error", "ValueError", "no", "no\nluck", 2, True, "Traceback ...")
ERROR_FIELDS = {
    "reason": "error", "type": "ValueError", "title": "no", "detail": "no\nluck", "attempt": 2,
    "retryable": True,
}  # fmt: skip
LINKS = {"self": "/jobs/job_1"}


def new_job() -> Job:
    return make_job(id="job_1", updated_at=1_000.0)


def full_job() -> Job:
    """Return a job in which every field has a value that is no other field's."""
    job = make_job(
        id="job_1", type="build", params=b'{"path":"\\u00e4","n":1}', created_at=1_000.123,
        priority=5, timeout=60.0, max_attempts=4, run_at=1_001.0, expires_at=1_008.0,
        deadline_at=1_009.0, session_id="s", batch_id="b",
        parent_id="p", retry_of="r", metadata={"user": "u"}, status=JobStatus.RETRYING, attempt=2,
        progress=42.5, progress_message="3 of 7", step=Step(3, 7), updated_at=1_005.0,
        started_at=1_002.0, finished_at=1_006.0, next_attempt_at=1_007.0,
        cancel_requested_at=1_004.0, cancel_reason="user", cancel_note="enough",
        result=b'{"pages":[1,2]}', error=ERROR,
    )  # fmt: skip
    for seq in (1, 2, 3):
        job.log.append(Event(seq, job.id, "status", 1_000.0, {}))
    return job


FULL: dict[str, Any] = {
    "job_id": "job_1", "type": "build", "status": "retrying", "progress": 42.5,
    "progress_message": "3 of 7", "step": {"current": 3, "total": 7}, "attempt": 2,
    "max_attempts": 4, "created_at": "1970-01-01T00:16:40.123Z",
    "started_at": "1970-01-01T00:16:42.000Z", "updated_at": "1970-01-01T00:16:45.000Z",
    "finished_at": "1970-01-01T00:16:46.000Z", "next_attempt_at": "1970-01-01T00:16:47.000Z",
    "run_at": "1970-01-01T00:16:41.000Z", "expires_at": "1970-01-01T00:16:48.000Z",
    "deadline_at": "1970-01-01T00:16:49.000Z", "cancel_requested_at": "1970-01-01T00:16:44.000Z",
    "cancel_reason": "user", "cancel_note": "enough", "timeout": 60.0, "priority": 5,
    "session_id": "s", "batch_id": "b", "parent_id": "p", "retry_of": "r",
    "metadata": {"user": "u"}, "last_seq": 3, "error": ERROR_FIELDS, "links": LINKS,
    "question": None, "questions": [],
    "params": {"path": "ä", "n": 1}, "result": {"pages": [1, 2]}, "partial": None,
}  # fmt: skip
NEW: dict[str, Any] = dict.fromkeys(FULL) | {
    "job_id": "job_1", "type": "work", "status": "pending", "progress": 0, "attempt": 0,
    "max_attempts": 1, "created_at": "1970-01-01T00:16:40.000Z",
    "updated_at": "1970-01-01T00:16:40.000Z", "priority": 0, "metadata": {}, "last_seq": 0,
    "links": {}, "params": {}, "questions": [],
}  # fmt: skip


def test_json_has_every_field_of_a_job() -> None:
    """The wire shape is the same behind every surface."""
    assert json.loads(view_json(full_job(), links=LINKS)) == FULL


def test_json_of_a_new_job_says_null_for_what_has_not_happened() -> None:
    """Every member is always there, so that a client needn't ask whether it is."""
    assert json.loads(view_json(new_job(), links={})) == NEW


def test_json_puts_params_and_result_in_as_they_are() -> None:
    """A large result costs a copy, not a parse."""
    job = make_job(params=b'{ "as": "sent" }', result=b"[1,  2]")
    assert view_json(job, links={}).endswith(b',"params":{ "as": "sent" },"result":[1,  2]}')


def test_json_shows_a_traceback_only_for_debugging() -> None:
    """A traceback tells a stranger about the server."""
    shown = json.loads(view_json(full_job(), links={}, debug=True))["error"]
    assert shown == ERROR_FIELDS | {"traceback": "Traceback ..."}


def test_view_is_the_same_job_in_python() -> None:
    """Whoever embeds the runner sees what a client sees, with times as datetimes."""
    expected = {k: v for k, v in FULL.items() if k != "links"} | {
        "status": JobStatus.RETRYING, "error": ERROR_FIELDS, "questions": (),
        "created_at": datetime(1970, 1, 1, 0, 16, 40, 123_000, tzinfo=UTC),
    }  # fmt: skip
    times = ("started_at", "updated_at", "finished_at", "next_attempt_at", "run_at", "expires_at",
             "deadline_at", "cancel_requested_at")  # fmt: skip
    expected |= {name: datetime.fromisoformat(FULL[name]) for name in times}
    assert view(full_job()).model_dump() == expected


def test_a_traceback_is_there_and_is_not_dumped() -> None:
    """An app that answers with the view must not show a client its files."""
    error = view(full_job()).error
    assert error is not None
    assert error.traceback == "Traceback ..."
    assert "Traceback" not in view(full_job()).model_dump_json()


@pytest.mark.parametrize("make", [new_job, full_job])
def test_view_can_be_made_from_the_json(make: Any) -> None:
    """A client has the runner's own type; what it doesn't know, as links, is ignored."""
    raw = view_json(make(), links=LINKS, debug=True)
    assert JobView.model_validate_json(raw) == view(make())


def test_view_does_not_change() -> None:
    """It is the job as it stood, whatever happens to it afterwards."""
    job = new_job()
    before = view(job)
    job.progress = 50
    assert before.progress == 0
    with pytest.raises(ValidationError, match="frozen"):
        before.progress = 50


@pytest.mark.parametrize("model", [JobView, ErrorView, StepView])
def test_every_field_is_described_in_the_schema(model: Any) -> None:
    """The text under a field is its documentation over HTTP too."""
    properties = model.model_json_schema()["properties"]
    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_an_event_is_one_line_of_json() -> None:
    """No output can forge an event: line breaks are escaped, a bare CR too."""
    event = Event(7, "job_1", "output", 1_000.5, {"stream": "text", "text": "a\r\ndata: b\u2028"})
    raw = event_json(event)
    assert json.loads(raw) == {
        "seq": 7, "job_id": "job_1", "at": "1970-01-01T00:16:40.500Z", "stream": "text",
        "text": "a\r\ndata: b\u2028",
    }  # fmt: skip
    assert not {b"\r", b"\n"} & {raw[i : i + 1] for i in range(len(raw))}


@pytest.mark.parametrize(("result", "shown"), [(b"[1]", [1]), (None, None)])
def test_the_last_event_brings_the_result(result: bytes | None, shown: Any) -> None:
    """The message that says a job is done also says what came of it (row 9)."""
    done = Event(2, "job_1", "done", 1_000.0, {"status": "completed", "error": None})
    assert json.loads(event_json(done, job=make_job(result=result))) == {
        "seq": 2, "job_id": "job_1", "at": "1970-01-01T00:16:40.000Z", "status": "completed",
        "error": None, "result": shown,
    }  # fmt: skip


def test_other_events_bring_no_result() -> None:
    """A result once, at the end, is enough."""
    status = Event(1, "job_1", "status", 1_000.0, {"status": "running"})
    done = Event(2, "job_1", "done", 1_000.0, {"status": "completed"})
    job = make_job(result=b"[1]")
    texts = [event_json(status, job=job), event_json(status), event_json(done)]
    assert ["result" in json.loads(text) for text in texts] == [False, False, False]


@pytest.mark.parametrize(("at", "text"), [
    (None, None),
    (0.0, "1970-01-01T00:00:00.000Z"),
    (1_700_000_000.9999, "2023-11-14T22:13:20.999Z"),
    (0.0005, "1970-01-01T00:00:00.000Z"),
    (0.9999999, "1970-01-01T00:00:01.000Z"),
    (-0.25, "1969-12-31T23:59:59.750Z"),
    (4_102_444_800, "2100-01-01T00:00:00.000Z"),
])  # fmt: skip
def test_times_are_utc_with_milliseconds(at: float | None, text: str | None) -> None:
    """RFC 3339 with a `Z`, as every client can read it."""
    assert iso(at) == text


def test_no_error_is_null() -> None:
    """A job without an error says so."""
    assert error_fields(None) is None


def test_a_model_without_source_has_a_schema_without_texts() -> None:
    """An app that is packed without its sources still has its document."""
    made: dict[str, type[Frozen]] = {}
    exec("class Made(Frozen):\n    n: int\n    'A number.'", {"Frozen": Frozen}, made)
    schema = made["Made"].model_json_schema()
    assert schema["properties"] == {"n": {"title": "N", "type": "integer"}}


def test_a_source_that_is_parsed_within_another_parse_costs_no_more_than_its_texts() -> None:
    """The collector may run in the midst of it, and print a traceback, for which 3.11 parses."""

    def parse(phase: str, info: dict[str, int]) -> None:
        ast.parse("a = [b(c) for d in e if f]")

    class Made(Frozen):
        n: int
        """A number."""

    often = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(1)
    try:
        schema = Made.model_json_schema()
    finally:
        gc.set_threshold(*often)
        gc.callbacks.remove(parse)
    assert schema["properties"]["n"]["title"] == "N"
