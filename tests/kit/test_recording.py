"""Recordings: what has happened to a job, as a file that is the same in every run."""

from pathlib import Path

import pytest

from jobrunner import Event
from jobrunner.testing import assert_recorded, normalise, virtual_time
from tests.kit.flows import flow_runner

JOB = "job_" + "0" * 32
OTHER = "job_" + "1" * 32


def event(seq: int, at: float, **data: object) -> Event:
    return Event(seq, JOB, "log", at, data)


def test_ids_and_times_are_normalised() -> None:
    """They differ in every run, and say which is which all the same."""
    events = [
        event(1, 1_700_000_000.0, a=JOB, b=f"see {OTHER} and {JOB}", c=[f"msg_{'0' * 32}_4"]),
        event(2, 1_700_000_001.25, due_at="2023-11-14T22:13:25.000Z", n=1),
    ]
    assert normalise(events) == [
        '{"after": 0.0, "event": "log", "a": "job_1", "b": "see job_2 and job_1", '
        '"c": ["msg_1_4"]}',
        '{"after": 1.25, "event": "log", "due_at": "+5.000 s", "n": 1}',
    ]
    assert normalise(events, times=False)[1] == '{"event": "log", "n": 1}'
    assert normalise([]) == []


def test_what_only_looks_like_a_time_is_left_as_it_is() -> None:
    """Null dates and leap seconds stand in people's texts, and are no times of Python's."""
    said = event(1, 0.0, text="0000-00-00T00:00:00Z", leap="2016-12-31T23:59:60Z")
    assert normalise([said]) == [
        '{"after": 0.0, "event": "log", "text": "0000-00-00T00:00:00Z", '
        '"leap": "2016-12-31T23:59:60Z"}'
    ]


def test_a_status_of_ones_own_is_recorded() -> None:
    """Only the job's is left out, as the event is called by it."""
    said = event(1, 0.0, text="fetched", fields={"status": 500})
    ended = Event(2, JOB, "done", 0.0, {"status": "failed", "error": {"status": 500}})
    assert normalise([said, ended], times=False) == [
        '{"event": "log", "text": "fetched", "fields": {"status": 500}}',
        '{"event": "failed", "error": {"status": 500}}',
    ]


@virtual_time
async def test_a_recording_is_made_once_and_then_compared(tmp_path: Path) -> None:
    """A flow that has changed shows as a diff."""
    path = tmp_path / "recordings" / "research.jsonl"
    async with flow_runner() as runner:
        job = await runner.submit("research", {"topic": "bees"})
        await job.wait()
        assert_recorded(job, path)
        assert len(path.read_text("utf-8").splitlines()) == 12
        again = await runner.submit("research", {"topic": "bees"})
        await again.wait()
        assert_recorded(again, tmp_path / "without.jsonl", times=False)
        assert_recorded(job, tmp_path / "without.jsonl", times=False)


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b"])
@virtual_time
async def test_a_recording_is_the_same_whatever_was_said(tmp_path: Path, text: str) -> None:
    """Unicode has more ends of lines than JSON escapes."""
    async with flow_runner() as runner:
        job = await runner.submit("broken", {"text": text})
        await job.wait()
        assert_recorded(job, tmp_path / "broken.jsonl")
        assert_recorded(job, tmp_path / "broken.jsonl")


@virtual_time
async def test_a_difference_is_shown_as_a_diff_of_the_file(tmp_path: Path) -> None:
    """The message names both sides, the line, and what to do if the new one is right."""
    path = tmp_path / "broken.jsonl"
    async with flow_runner() as runner:
        first, second = await runner.submit("broken"), await runner.submit("nap")
        await runner.drain()
        assert_recorded(first, path)
        with pytest.raises(AssertionError) as caught:
            assert_recorded(second, path)
        lines = str(caught.value).splitlines()
        assert lines[:4] == [
            f"job {second.id} (nap) has other events than {path} has recorded; if they are right, "
            "delete the file or run pytest with --jobrunner-record",
            f"--- {path}",
            f"+++ job {second.id}",
            "@@ -1,3 +1,3 @@",
        ]
        assert lines[-1] == '+{"after": 10.0, "event": "completed", "error": null}'
        assert_recorded(second, path, record=True)
        assert_recorded(second, path)
