"""Assertions that wait, and that say what was expected, what there was instead, and where.

They need no pytest: they raise AssertionError.
"""

import asyncio
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, TypeAlias

from ..events import Event
from ..handles import JobHandle
from ..jobs import Job, JobStatus
from ..runner import JobRunner
from ..views import JobView, view
from .recording import label

Pattern: TypeAlias = str | tuple[str, Mapping[str, Any]] | EllipsisType
"""An event's label, the label and some of its data, or `...` for any number of events."""
MAX_SHOWN = 20
"""Jobs that a message names at most."""


async def assert_submitted(
    runner: JobRunner,
    type: Any,
    *,
    params: Mapping[str, Any] | None = None,
    within: float = 0.0,
) -> JobView:
    """Assert that a job was submitted, or is within some seconds, and return the newest such.

    Args:
        runner: The runner.
        type: The job type, by name or by its function.
        params: Some of its params, as JSON values; of nested objects some of their members.
        within: Seconds to wait for it, on the loop's clock.

    Raises:
        AssertionError: There is none; names those that there are, and where they differ.
        UnknownJobType: The runner has no such job type.
    """
    name, wanted = _name(runner, type), params or {}
    try:
        async with asyncio.timeout(within):
            while (found := _find(runner, name, wanted)) is None:
                await _more(runner, within)
    except TimeoutError:
        raise AssertionError(_none(runner, name, wanted, within)) from None
    return await runner.get(found.job_id)


async def refute_submitted(
    runner: JobRunner,
    type: Any,
    *,
    params: Mapping[str, Any] | None = None,
    within: float = 0.0,
) -> None:
    """Assert that no such job was submitted, nor is within some seconds; see `assert_submitted`.

    Raises:
        AssertionError: There is one; shows it.
        UnknownJobType: The runner has no such job type.
    """
    name, wanted = _name(runner, type), params or {}
    try:
        async with asyncio.timeout(within):
            while (found := _find(runner, name, wanted)) is None:
                await _more(runner, within)
    except TimeoutError:
        return
    what = f"{name!r} with {_shown(wanted)}" if wanted else repr(name)
    raise AssertionError(f"expected no {what} to be submitted, but there is\n{_line(found)}")


async def assert_status(
    job: JobHandle[Any], status: str, *, within: float | None = None
) -> JobView:
    """Assert that a job has a status, or comes to it within some seconds, and return it then.

    Args:
        job: The job.
        status: The status: `completed`, `input_required`, ...
        within: Seconds to wait for it; None for as long as the job goes on.

    Raises:
        AssertionError: It hasn't; says which one it has, why, and how it came there.
        ValueError: There is no such status.
    """
    wanted = JobStatus(status)
    try:
        async with asyncio.timeout(within):
            while (record := job._job).status is not wanted and not record.is_final:
                await record.log.wait(record.log.last)
    except TimeoutError:
        pass
    found = job.view()
    if found.status is not wanted:
        raise AssertionError(_another_status(job, found, wanted, within))
    return found


async def assert_events(
    job: JobHandle[Any], expected: Sequence[Pattern], *, within: float | None = None
) -> list[Event]:
    """Assert what has happened to a job, in order, once it has ended or waits; return its events.

    A status is named by itself (`pending`, `retrying`, `completed`), every other event by its type
    (`progress`, `log`, `output`, `question`, ...): `["pending", ..., ("log", {"text": "x"}), ...]`.

    Args:
        job: The job.
        expected: All its events; `...` stands for any number, also for none.
        within: Seconds to wait for its end or its question; None for as long as it goes on.

    Raises:
        AssertionError: Something else has happened; shows both, side by side.
    """
    try:
        async with asyncio.timeout(within):
            while not job._job.is_final and job._job.status is not JobStatus.INPUT_REQUIRED:
                await job._job.log.wait(job._job.log.last)
    except TimeoutError:
        pass
    found = job.view()
    events = job._job.log.read().events
    if not _matches(list(expected), events):
        raise AssertionError(_other_events(found, expected, events))
    return events


def _matches(expected: list[Pattern], events: list[Event]) -> bool:
    """Match from the front, as a glob does; each `...` takes as little as it can."""
    reached = {0}
    for pattern in expected:
        if pattern is ...:
            reached = set(range(min(reached), len(events) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(events) and _fits(pattern, events[n])}
    return len(events) in reached


def _fits(pattern: Pattern, event: Event) -> bool:
    if isinstance(pattern, str):
        return pattern == label(event)
    assert isinstance(pattern, tuple), f"{pattern!r} is no pattern of an event"
    return pattern[0] == label(event) and not list(_differences(pattern[1], _plain(event.data)))


def _other_events(found: JobView, expected: Sequence[Pattern], events: list[Event]) -> str:
    wanted = [_pattern_text(pattern) for pattern in expected]
    detailed = {pattern[0] for pattern in expected if isinstance(pattern, tuple)}
    there = [
        f"{label(event)} {_shown(event.data)}" if label(event) in detailed else label(event)
        for event in events
    ]
    return (
        f"job {found.job_id} ({found.type}) has other events than expected: - expected, + there\n"
        + "\n".join(f"  {line}" for line in _side_by_side(wanted, there))
    )


def _side_by_side(wanted: list[str], there: list[str]) -> Iterator[str]:
    for kind, a, b, c, d in difflib.SequenceMatcher(None, wanted, there, False).get_opcodes():
        if kind == "equal":
            yield from (f"  {line}" for line in wanted[a:b])
        else:
            yield from (f"- {line}" for line in wanted[a:b])
            yield from (f"+ {line}" for line in there[c:d])


def _pattern_text(pattern: Pattern) -> str:
    if isinstance(pattern, tuple):
        return f"{pattern[0]} {_shown(pattern[1])}"
    return "..." if pattern is ... else str(pattern)


def _another_status(
    job: JobHandle[Any], found: JobView, wanted: JobStatus, within: float | None
) -> str:
    when = "" if within is None or found.finished_at else f" after {within:g} s"
    why = "" if found.error is None else f"\n  error: {found.error.type}: {found.error.title}"
    path = " > ".join(
        label(event) for event in job._job.log.read().events if event.type in ("status", "done")
    )
    return (
        f"job {found.job_id} ({found.type}) is {found.status}{when}, expected {wanted}; attempt "
        f"{found.attempt} of {found.max_attempts}{why}\n  so far: {path}"
    )


def _find(runner: JobRunner, name: str, wanted: Mapping[str, Any]) -> JobView | None:
    for job in _jobs(runner):
        if job.type == name and not list(_differences(wanted, view(job).params)):
            return view(job)
    return None


def _jobs(runner: JobRunner) -> list[Job]:
    """Return the records of all jobs, the newest first; to search them is no look at them."""
    jobs: list[Job] = []
    cursor: str | None = None
    while True:
        page = JobRunner.page(runner, limit=200, cursor=cursor)
        jobs += page.jobs
        if (cursor := page.next_cursor) is None:
            return jobs


async def _more(runner: JobRunner, within: float) -> None:
    """Wait until anything has happened."""
    if within <= 0.0:
        raise TimeoutError
    feed = runner.feed()
    await feed.wait(feed.last)


def _none(runner: JobRunner, name: str, wanted: Mapping[str, Any], within: float) -> str:
    what = f"{name!r} with {_shown(wanted)}" if wanted else repr(name)
    when = f" within {within:g} s" if within else ""
    jobs = _jobs(runner)
    lines = [_line(view(job), _why_not(view(job), name, wanted)) for job in jobs[:MAX_SHOWN]]
    if len(jobs) > MAX_SHOWN:
        lines.append(f"  and {len(jobs) - MAX_SHOWN} more")
    there = "there are:\n" + "\n".join(lines) if lines else "there is no job at all"
    return f"expected {what} to be submitted{when}; {there}"


def _line(job: JobView, note: str = "") -> str:
    return f"  {job.job_id} {job.type} {_shown(job.params)} {job.status}{note}"


def _why_not(job: JobView, name: str, wanted: Mapping[str, Any]) -> str:
    if job.type != name:
        return ": another type"
    return ": " + "; ".join(_differences(wanted, job.params))


def _differences(wanted: Any, there: Any, place: str = "") -> Sequence[str]:
    """Say where `there` isn't what is wanted; objects may have more members."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        found: list[str] = []
        for key, value in wanted.items():
            path = f"{place}.{key}" if place else str(key)
            if key not in there:
                found.append(f"{path} is missing, expected {value!r}")
            else:
                found += _differences(value, there[key], path)
        return found
    return [] if wanted == there else [f"{place} is {there!r}, expected {wanted!r}"]


def _plain(data: Mapping[str, Any]) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = json.loads(json.dumps(data))
    return plain


def _shown(value: Any) -> str:
    return json.dumps(value, default=repr, ensure_ascii=False)


def _name(runner: JobRunner, type: Any) -> str:
    return runner._handlers.find(type).name
