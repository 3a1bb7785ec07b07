"""Recordings: a job's events as text that is the same in every run, to be kept and compared.

Ids become `job_1`, `q1` stays, times become seconds since the job was submitted. One event a line,
as JSON, so that a difference is a line of a diff.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import unified_diff
from pathlib import Path
from typing import Any

from ..events import Event
from ..handles import JobHandle

_JOB = re.compile(r"(job|batch|msg)_[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def label(event: Event) -> str:
    """Return what an event is called: a status by itself, everything else by its type."""
    if event.type in ("status", "done"):
        return str(event.data.get("status", event.type))
    return event.type


def normalise(events: Iterable[Event], *, times: bool = True) -> list[str]:
    """Return the events as lines of JSON without anything that differs from run to run.

    Args:
        events: A job's events, the first one first.
        times: Whether to keep how many seconds after the first each came; without, times that
            stand in an event are left out too.
    """
    names: dict[str, str] = {}
    lines: list[str] = []
    began: float | None = None
    for event in events:
        began = event.at if began is None else began
        head = {"after": round(event.at - began, 3)} if times else {}
        data = _normal(json.loads(json.dumps(event.data)), names, began if times else None)
        if data.get("status") == label(event):
            del data["status"]
        lines.append(json.dumps({**head, "event": label(event), **data}, ensure_ascii=False))
    return lines


def _normal(value: Any, names: dict[str, str], began: float | None) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _normal(each, names, began)
            for key, each in value.items()
            if not (began is None and _is_time(key, each))
        }
    if isinstance(value, list):
        return [_normal(each, names, began) for each in value]
    if isinstance(value, str):
        if began is not None and _TIME.fullmatch(value):
            return _since(began, value)
        return _JOB.sub(lambda found: _named(found[0], names), value)
    return value


def _since(began: float, time: str) -> str:
    try:
        return f"+{datetime.fromisoformat(time).timestamp() - began:.3f} s"
    except ValueError:  # it only looks like a time, as databases' null dates do
        return time


def _is_time(key: str, value: Any) -> bool:
    return key.endswith("_at") and isinstance(value, str)


def _named(id: str, names: dict[str, str]) -> str:
    kind = id.partition("_")[0]
    count = sum(name.startswith(f"{kind}_") for name in names.values())
    return names.setdefault(id, f"{kind}_{count + 1}")


def assert_recorded(
    job: JobHandle[Any], path: Path | str, *, record: bool = False, times: bool = True
) -> None:
    """Assert that a job's events are those that were recorded; without a file, record them.

    Args:
        job: The job, at its end as a rule.
        path: The file; one event a line.
        record: Write the file anew. With pytest `--jobrunner-record` does it for all.
        times: Whether times are part of it, in seconds since the submit.

    Raises:
        AssertionError: They differ; shows how, as a diff of the file.
    """
    path = Path(path)
    job.view()
    lines = normalise(job._job.log.read().events, times=times)
    if record or recording() or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, ""]), "utf-8")
        return
    kept = path.read_text("utf-8").removesuffix("\n").split("\n")
    if kept != lines:
        diff = "\n".join(unified_diff(kept, lines, str(path), f"job {job.id}", lineterm="", n=2))
        raise AssertionError(
            f"job {job.id} ({job._job.type}) has other events than {path} has recorded; if they "
            f"are right, delete the file or run pytest with --jobrunner-record\n{diff}"
        )


_recording = [False]


def recording(wanted: bool | None = None) -> bool:
    """Return whether recordings are written anew, after setting it to `wanted` if given."""
    if wanted is not None:
        _recording[0] = wanted
    return _recording[0]
