"""An event: something that happened to a job."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic_core import from_json

EventType: TypeAlias = Literal[
    "status", "progress", "log", "output", "question", "answer", "item", "gap", "done"
]
TEXTUAL = frozenset({"log", "output"})
"""Types of events that have a text, which a handler can produce without end."""


class Event(NamedTuple):
    """Something that happened to a job: what `data` has depends on `type`.

    status            `status`, `attempt`, and `error` and `next_attempt_at` while retrying
    progress          `progress` (0 to 100), `progress_message`, `step`
    log               `text`, `fields`
    output            `stream`, `text`; `json` when the text is a JSON value: see `value`
    question, answer  `question_id`, and what is asked, or `value` and who said it, `by`
    gap               `from`, `to`: numbers that are no longer kept
    done              `status`, `error`: the job has ended, and nothing follows
    """

    seq: int
    """Number of the event in its job's log, from 1."""
    job_id: str
    """The job it happened to."""
    type: EventType
    """What happened; `done` is the last event of every job, `item` a job's end in its batch."""
    at: float
    """When, in unix seconds."""
    data: Mapping[str, Any]
    """What goes with the type; JSON values only."""

    @property
    def weight(self) -> int:
        """What the event's text weighs against a log's `max_bytes`, in characters."""
        if self.type not in TEXTUAL:
            return 0
        fields = self.data.get("fields")
        return len(self.data["text"]) + (len(str(fields)) if fields else 0)

    @property
    def value(self) -> Any:
        """What was emitted, of an `output` event: the text, or the JSON value; None of others."""
        if self.type != "output":
            return None
        return from_json(self.data["text"]) if "json" in self.data else self.data["text"]


make_event: Callable[[tuple[int, str, EventType, float, Mapping[str, Any]]], Event]
make_event = partial(tuple.__new__, Event)
"""Make an event of its fields; costs a third of `Event(...)`."""
