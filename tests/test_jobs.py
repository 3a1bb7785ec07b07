"""The record of a job, and the functions that are the only ones to change its status."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from jobrunner import IllegalTransition, JobStatus
from jobrunner.jobs import (
    FINAL,
    TRANSITIONS,
    Job,
    JobError,
    cancel,
    complete,
    fail,
    interrupt,
    new_id_source,
    request_cancel,
    retry,
    start,
)
from tests.records import make_job, state_of
from tests.tabled import each_of

ERROR = JobError.from_limit("timeout", "timed out after 5 s", attempt=1)
WAYS: list[tuple[Callable[[Job], None], JobStatus]] = [
    (lambda job: start(job, 1.0, 0.0), JobStatus.RUNNING),
    (lambda job: complete(job, 1.0, b"1"), JobStatus.COMPLETED),
    (lambda job: fail(job, 1.0, ERROR), JobStatus.FAILED),
    (lambda job: cancel(job, 1.0), JobStatus.CANCELLED),
    (lambda job: retry(job, ERROR, 9.0), JobStatus.RETRYING),
    (lambda job: interrupt(job), JobStatus.PENDING),
]


def changes(job: Job, change: Callable[[], object]) -> dict[str, Any]:
    """Return what the change has changed."""
    before = state_of(job)
    change()
    return {name: value for name, value in state_of(job).items() if value != before[name]}


def running(**fields: Any) -> Job:
    job = make_job(arguments={"x": 1}, context=copy_context(), **fields)
    start(job, 1_001.0, 1.0)
    return job


def test_a_new_job_waits() -> None:
    """Nothing has happened to it."""
    job = make_job()
    assert (job.status, job.attempt, job.is_final) == (JobStatus.PENDING, 0, False)


def test_a_first_attempt_begins() -> None:
    """The time of the first start is kept, the attempt is counted from 1."""
    job = make_job()
    assert changes(job, lambda: start(job, 1_001.0, 1.0)) == {
        "status": JobStatus.RUNNING, "attempt": 1, "started_at": 1_001.0, "begun": 1.0,
    }  # fmt: skip


def test_a_failed_attempt_waits_for_the_next() -> None:
    """The error is kept and shown meanwhile, with the time of the next attempt (row 12)."""
    job = running()
    assert changes(job, lambda: retry(job, ERROR, 1_010.0)) == {
        "status": JobStatus.RETRYING, "error": ERROR, "next_attempt_at": 1_010.0,
    }  # fmt: skip


def test_a_second_attempt_begins() -> None:
    """It keeps the first start, so that durations say how long a user waited."""
    job = running()
    retry(job, ERROR, 1_010.0)
    assert changes(job, lambda: start(job, 1_011.0, 11.0)) == {
        "status": JobStatus.RUNNING, "attempt": 2, "next_attempt_at": None,
    }  # fmt: skip


def test_a_handler_returns() -> None:
    """A completed job has its value and no error, and holds nothing of its submitter (Q7)."""
    job = running(progress=40)
    job.error = ERROR
    assert changes(job, lambda: complete(job, 1_002.0, b"[1]")) == {
        "status": JobStatus.COMPLETED, "result": b"[1]", "error": None, "progress": 100,
        "finished_at": 1_002.0, "arguments": None, "context": None,
    }  # fmt: skip
    assert job.is_final


def test_all_is_lost() -> None:
    """A failed job keeps its last error and how far it was, and no arguments (Q7)."""
    job = running(progress=40)
    assert changes(job, lambda: fail(job, 1_002.0, ERROR)) == {
        "status": JobStatus.FAILED, "error": ERROR, "finished_at": 1_002.0,
        "arguments": None, "context": None,
    }  # fmt: skip


def test_a_waiting_job_is_cancelled() -> None:
    """Nobody having asked before, it was the user, now."""
    job = make_job()
    assert changes(job, lambda: cancel(job, 1_002.0)) == {
        "status": JobStatus.CANCELLED, "finished_at": 1_002.0,
        "cancel_requested_at": 1_002.0, "cancel_reason": "user",
    }  # fmt: skip


def test_a_cancelled_retry_has_no_next_attempt() -> None:
    """What is final has no future."""
    job = running()
    retry(job, ERROR, 1_010.0)
    cancel(job, 1_002.0)
    assert (job.next_attempt_at, job.error) == (None, ERROR)


def test_the_first_to_ask_for_a_stop_is_remembered() -> None:
    """State tells who stopped a job, and not who came too late."""
    job = running()
    assert changes(job, lambda: request_cancel(job, 1_002.0, "shutdown", "going down")) == {
        "cancel_requested_at": 1_002.0, "cancel_reason": "shutdown", "cancel_note": "going down",
    }  # fmt: skip
    assert changes(job, lambda: request_cancel(job, 1_003.0, "user", "me too")) == {}
    assert changes(job, lambda: cancel(job, 1_004.0)) == {
        "status": JobStatus.CANCELLED, "finished_at": 1_004.0, "arguments": None, "context": None,
    }  # fmt: skip


def test_an_interruption_gives_the_attempt_back() -> None:
    """A shutdown is no fault of the job."""
    job = running()
    assert changes(job, lambda: interrupt(job)) == {"status": JobStatus.PENDING, "attempt": 0}


@each_of((status, *way) for status in JobStatus for way in WAYS)
def test_goes_only_where_the_table_says(
    status: JobStatus, change: Callable[[Job], None], target: JobStatus
) -> None:
    """A refused way changes nothing: whoever comes second finds the job final and loses."""
    job = make_job(status=status)
    if target in TRANSITIONS[status]:
        change(job)
        assert job.status is target
    else:
        before = state_of(job)
        with pytest.raises(IllegalTransition, match=f"can't go from {status} to {target}"):
            change(job)
        assert state_of(job) == before


def test_the_table_knows_every_status_and_final_is_final() -> None:
    """A status without a row would be a KeyError in the worst moment."""
    assert set(TRANSITIONS) == set(JobStatus)
    assert {status for status in FINAL if TRANSITIONS[status]} == set()


def test_an_error_is_kept_as_text() -> None:
    """Reason, class, one line, the whole message, and where it came from."""
    error = JobError.from_exception(ValueError("no\nluck"), attempt=2, retryable=True)
    assert error == JobError("error", "ValueError", "no", "no\nluck", 2, True,
                             "ValueError: no\nluck\n")  # fmt: skip


@pytest.mark.parametrize(("message", "title"), [
    ("", "ValueError"), ("\n\nlater", "ValueError"), ("x" * 300, "x" * 200), ("a\rb", "a"),
])  # fmt: skip
def test_an_error_has_a_title_of_one_line(message: str, title: str) -> None:
    """Lists show one line each."""
    assert JobError.from_exception(ValueError(message), attempt=1).title == title


@pytest.mark.parametrize(("reason", "retryable"), [("shutdown", True), ("too_large", False)])
def test_a_limit_is_an_error_too(reason: Any, retryable: bool) -> None:
    """What was stopped could succeed another time; what is too large stays too large."""
    error = JobError.from_limit(reason, "a limit", attempt=1)
    assert error == JobError(reason, reason, "a limit", "a limit", 1, retryable)


def test_ids_are_unguessable_and_never_repeat() -> None:
    """128 random bits, safe in a URL, over more than one draw from the system's source."""
    new_id = new_id_source()
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(len(id) == 36 and id[:4] == "job_" and int(id[4:], 16) >= 0 for id in ids)
    assert new_id_source()() not in ids


def test_a_seed_makes_ids_repeatable() -> None:
    """Simulations repeat to the letter."""
    first, again, other = new_id_source(1), new_id_source(1), new_id_source(2)
    drawn = [first() for _ in range(300)]
    assert [again() for _ in range(300)] == drawn
    assert other() not in drawn
