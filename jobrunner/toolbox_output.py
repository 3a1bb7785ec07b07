"""What a job has to show, as one text that can be read in parts."""

import re
from typing import Any

from pydantic_core import from_json

from .event import Event
from .jobs import Job
from .partial import MAIN
from .partial import output_text as readable
from .toolbox_text import clean

_COMMAND = {"exit_code", "stdout", "stderr"}
_EXIT = re.compile(rb'\{"exit_code":(-?\d{1,9}),"stdout":')
_SURE = 1_000
"""Characters at both ends by which a command's output is known among a job's events."""


def result_text(job: Job) -> str:
    """Return the result of a completed job: texts as they are, commands readable, else JSON."""
    assert job.result is not None, "a completed job has its result"
    if job.result[:1] == b'"':
        return clean(from_json(job.result))
    value = from_json(job.result) if exit_code(job) is not None else {}
    return _command_text(job, value) if value.keys() >= _COMMAND else job.result.decode()


def exit_code(job: Job) -> int | None:
    """Return the exit code of a completed job that was a command; None of any other."""
    found = _EXIT.match(job.result or b"")
    return None if found is None else int(found[1])


def output_text(job: Job) -> str:
    """Return what the job's last attempt has written, as far as its log still has it."""
    return clean("".join(readable(event) for event in _outputs(job)))


def _outputs(job: Job) -> list[Event]:
    if not job.log.has_text:
        return []
    events = job.log.kept()
    begins = [event.type == "status" and event.data.get("attempt") == job.attempt
              for event in events]  # fmt: skip
    begin = begins.index(True) if True in begins else 0
    return [event for event in events[begin:] if event.type == "output"
            and event.data.get("stream") in MAIN]  # fmt: skip


def _command_text(job: Job, value: dict[str, Any]) -> str:
    parts = [f"exit code {value['exit_code']} after {value.get('duration', 0)} s"]
    for name in ("stdout", "stderr"):
        if said := _stream(job, name, str(value[name]), cut=bool(value.get("truncated"))):
            parts.append(f"{name}:\n{said.rstrip()}")
    return clean("\n\n".join(parts))


def _stream(job: Job, name: str, kept: str, *, cut: bool) -> str:
    """Return a command's output: from the log, where the result has only its head and tail."""
    if not cut or job.log.first > 1:
        return kept
    pieces = [event.data for event in _outputs(job) if event.data.get("stream") == name]
    whole = "".join(data["text"] for data in pieces)
    same = whole.startswith(kept[:_SURE]) and whole.endswith(kept[-_SURE:])
    return whole if same and len(whole) >= len(kept) else kept


def is_cut(job: Job) -> bool:
    """Whether the beginning of what the job has written is no longer kept."""
    return job.log.first > 1
