"""How final jobs are kept: each as one run of bytes, which costs the garbage collector nothing.

Packed is everything of the record and of the events that its log still has. What nearly every job
has in common is left out: what events say that the record says too. The bytes never leave the
process, so they are `marshal`'s, the fastest of all formats.
"""

import marshal
import math
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic_core import from_json, to_json

from .event import TEXTUAL
from .events import Event, EventLog, EventType
from .jobs import Job, JobError, JobStatus, Step
from .joining import Joint, Older
from .pages import Ids
from .views import error_fields

_FORMAT = 2
"""Of `marshal`: the last one that looks for no object that comes twice, which costs a third."""
OVERHEAD = 200
"""Bytes that a final job costs beside its packed record: its id, and its place in each table."""

_LIVE_ONLY = {
    "arguments", "batch", "context", "questions", "timer", "alarms", "begun", "due", "due_by"
}  # fmt: skip
"""Fields of no use once a job has ended; unpacked, they are at their defaults."""
_DERIVED = {"id", "log", "status", "listed_as", "updated_at"}
_ALWAYS = (
    "number", "type", "params", "created_at", "started_at", "finished_at", "timeout", "result"
)  # fmt: skip
"""What differs from one job to the next."""
_DONE_AT_ONCE = {"attempt": 1, "progress": 100}
"""What a job that was completed at once has otherwise than one that is new."""
_OFTEN = {
    field.name: field.default
    for field in fields(Job)
    if field.name not in {*_DERIVED, *_LIVE_ONLY, *_ALWAYS}
} | _DONE_AT_ONCE
"""What most jobs have in common, as a job has it that was completed at once; packed of others."""
_AS_OFTEN = tuple(_OFTEN.values())
_always_of, _others_of = attrgetter(*_ALWAYS), attrgetter(*_OFTEN)
_error_of = attrgetter(*(field.name for field in fields(JobError)))

_CODES: Final[dict[JobStatus, str]] = {
    JobStatus.COMPLETED: "c", JobStatus.FAILED: "f", JobStatus.CANCELLED: "x"
}  # fmt: skip
_STATUSES = {code: status for status, code in _CODES.items()}
_TYPES: Final[dict[EventType, str]] = {
    "status": "S", "progress": "P", "log": "L", "output": "O", "gap": "G", "done": "D",
    "question": "Q", "answer": "A",
}  # fmt: skip
_EVENTS = {code: type for type, code in _TYPES.items()}
_QUEUED = {"status": JobStatus.PENDING.value, "attempt": 0}
_STARTED = {"status": JobStatus.RUNNING.value, "attempt": 1}
_COMPLETED = {"status": JobStatus.COMPLETED.value, "error": None}
_USUAL = ("cqrd", None, 3, None)
"""What events say of a job that came, was begun once, and was completed; packed as None."""


class Heading(NamedTuple):
    """What of a packed job other tables know it by."""

    number: int
    type: str
    status: JobStatus
    session_id: str | None = None
    batch_id: str | None = None
    parent_id: str | None = None
    idempotency_key: str | None = None
    retry_of: str | None = None
    owner: str | None = None


_SHORT = 1 + len(_ALWAYS)
"""How many values are packed of a job with nothing unusual: its events first."""
_known_by = itemgetter(*(_SHORT + list(_OFTEN).index(name) for name in Heading._fields[3:]))


def pack(job: Job) -> bytes:
    """Return everything of a final job but its id. Its last event must be in its log."""
    events = job.log.single()
    told = None if _is_usual(job, events) else _pack_events(job, events)
    others = _others_of(job)
    if others == _AS_OFTEN:
        return dump((told, *_always_of(job)))
    return dump((told, *_always_of(job), *others))


def _is_usual(job: Job, events: list[Event]) -> bool:
    """Whether nothing happened but that the job came, was begun once, and was completed."""
    if job.status is not JobStatus.COMPLETED or len(events) != 3 or job.log.last != 3:
        return False
    came, began, ended = events
    return (
        (came.at, began.at, ended.at) == (job.created_at, job.started_at, job.finished_at)
        and (came.type, began.type, ended.type) == ("status", "status", "done")
        and came.data == _QUEUED
        and began.data == _STARTED
        and ended.data == _COMPLETED
    )


Last: TypeAlias = int | tuple[int, bytes]
"""The number of a log's last event; with older ones, what is packed of them beside it."""


def _pack_events(
    job: Job, events: list[Event]
) -> tuple[str, tuple[float, ...], Last, bytes | None]:
    """Return letters for the status and for each event, when, the last number, and what else.

    That is bytes in bytes, so that who wants a heading needn't make a thousand events.
    """
    codes, others = _CODES[job.status], []
    done = {"status": job.status.value, "error": error_fields(job.error)}
    for event in events:
        if event.type == "status" and event.data == _QUEUED:
            codes += "q"
        elif event.type == "status" and event.data == _STARTED:
            codes += "r"
        elif event.type == "done" and event.data == done:
            codes += "d"
        else:
            codes += _TYPES[event.type]
            others.append(event.data)
    times = tuple(event.at for event in events)
    log = job.log
    last = log.last if log.older is None else (log.last, _pack_older(log.older))
    return codes, times, last, dump(others) if others else None


def _pack_older(older: Older) -> bytes:
    joints = [
        (event.seq, event.type, event.at, event.data, ends and ends.tobytes())
        for event, ends in older.joints
    ]
    return dump((older.first, joints))


def _unpack_older(job_id: str, packed: bytes) -> Older:
    first, joints = marshal.loads(packed)
    return Older(
        first,
        [
            Joint(Event(seq, job_id, kind, at, data), ends and array("H", ends))
            for seq, kind, at, data, ends in joints
        ],
    )


def dump(value: Any, format: int = _FORMAT) -> bytes:
    """Return a value as `marshal` keeps it; what isn't made of JSON values is made so."""
    try:
        return marshal.dumps(value, format)
    except ValueError:  # an error, a step, a text of a class of its own, or no JSON value
        return marshal.dumps(_plain(value), format)


def _plain(value: Any) -> Any:
    """Return the value made of what `marshal` takes."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, JobError):
        return _error_of(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    return from_json(to_json(value, fallback=str))


def unpack(job_id: str, packed: bytes) -> Job:
    """Return a record like the one that was packed, with a log that is closed."""
    found = marshal.loads(packed)
    codes, times, last, others = found[0] or _USUAL
    given = dict(zip(_ALWAYS, found[1:_SHORT], strict=True))
    given |= _DONE_AT_ONCE if len(found) == _SHORT else _others_in(found)
    if times is None:
        times = (given["created_at"], given["started_at"], given["finished_at"])
    status = _STATUSES[codes[0]]
    given |= {"status": status, "listed_as": status, "updated_at": times[-1]}
    last, older = last if isinstance(last, tuple) else (last, None)
    told = _Told(job_id, status, given.get("error"), codes[1:], times, others)
    log = _PackedLog(told, last)
    log.older = None if older is None else _unpack_older(job_id, older)
    return Job(id=job_id, log=log, **given)


def _others_in(found: tuple[Any, ...]) -> dict[str, Any]:
    """Return the rest of the fields of a job with something unusual."""
    given = dict(zip(_OFTEN, found[_SHORT:], strict=True))
    if given["error"] is not None:
        given["error"] = JobError(*given["error"])
    if given["step"] is not None:
        given["step"] = Step(*given["step"])
    return given


class _Told(NamedTuple):
    """What the events of a packed job are made of."""

    job_id: str
    status: JobStatus
    error: JobError | None
    codes: str
    times: tuple[float, ...]
    others: bytes | None

    def events(self, first: int) -> Iterator[Event]:
        """Make them, the oldest with the number `first`."""
        rest = iter(marshal.loads(self.others) if self.others else ())
        for seq, (code, at) in enumerate(zip(self.codes, self.times, strict=True), first):
            if code == "q":
                yield Event(seq, self.job_id, "status", at, dict(_QUEUED))
            elif code == "r":
                yield Event(seq, self.job_id, "status", at, dict(_STARTED))
            elif code == "d":
                end = {"status": self.status.value, "error": error_fields(self.error)}
                yield Event(seq, self.job_id, "done", at, end)
            else:
                yield Event(seq, self.job_id, _EVENTS[code], at, next(rest))


class _PackedLog(EventLog):
    """A closed log, whose events are made when somebody asks for one: who looks at a job doesn't.

    What depends on them is missing until then, so that `__getattr__` is asked for it.
    """

    __slots__ = ("_told",)

    def __init__(self, told: _Told, last: int) -> None:
        super().__init__(max_events=len(told.times), max_bytes=sys.maxsize, last=last)
        self.closed = True
        self._told = told
        del self._events
        if told.others is not None:
            del self._bytes

    def __getattr__(self, name: str) -> Any:
        if name not in ("_events", "_bytes"):
            raise AttributeError(f"a log has no {name!r}", name=name, obj=self)
        made = list(self._told.events(self.last - len(self._told.times) + 1))
        self._events = [*made]
        self._bytes = sum(event.weight for event in made if event.type in TEXTUAL)
        return getattr(self, name)


def heading(packed: bytes) -> Heading:
    """Return what other tables know the job by."""
    found = marshal.loads(packed)
    status = _STATUSES[(found[0] or _USUAL)[0][0]]
    if len(found) == _SHORT:
        return Heading(found[1], found[2], status)
    return Heading(found[1], found[2], status, *_known_by(found))


class Archive:
    """Final jobs, packed, in the order in which they ended.

    There is no object for each job but its id and its bytes, in tables that the garbage collector
    doesn't follow.

    Args:
        ids: Ids by number; who removes a job here removes it there too.
        update: Brings `ids` up to date.
    """

    def __init__(self, ids: Ids, update: Callable[[], None]) -> None:
        self.size = 0
        """Bytes of all jobs, `OVERHEAD` of each included."""
        self._ids = ids
        self._update = update
        self._packed: dict[str, bytes] = {}
        self._order = array("q")  # numbers, those that ended first in front
        self._ended = array("d")
        self._gone = 0  # how many at the front of both are removed

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._packed

    def add(self, job: Job, ended: float) -> None:
        """Keep a job that has ended, at `ended` on the loop's clock."""
        packed = self._packed[job.id] = pack(job)
        self.size += len(packed) + OVERHEAD
        self._order.append(job.number)
        self._ended.append(ended)

    def get(self, job_id: str) -> Job | None:
        """Return a new record of the job, None when it isn't here."""
        packed = self._packed.get(job_id)
        return None if packed is None else unpack(job_id, packed)

    def owner_of(self, job_id: str) -> str | None:
        """Return whose job it is that is here."""
        return heading(self._packed[job_id]).owner

    def remove(self, job_id: str) -> Heading:
        """Let go of a job that is here."""
        packed = self._packed.pop(job_id)
        self.size -= len(packed) + OVERHEAD
        self._tidy()
        return heading(packed)

    @property
    def since(self) -> float:
        """A time before which none of the jobs here ended, and often when the first one did."""
        return self._ended[self._gone] if self._gone < len(self._ended) else math.inf

    def oldest(self) -> tuple[str, float] | None:
        """Return the id of the job that ended first, and when; None when there is none. O(1)."""
        for place in range(self._gone, len(self._order)):
            if job_id := self._ids.get(self._order[place]):
                self._gone = place
                return job_id, self._ended[place]
        self._gone = len(self._order)
        return None

    def _tidy(self) -> None:
        """Sweep out what is removed once it is more than what is there, which is seldom."""
        if self._gone > 64 and self._gone * 2 > len(self._order):
            del self._order[: self._gone], self._ended[: self._gone]
            self._gone = 0
        if len(self._order) - self._gone > 2 * len(self._packed) + 64:
            self._update()
            kept = [i for i, number in enumerate(self._order) if number in self._ids.numbers]
            self._ended = array("d", [self._ended[i] for i in kept])
            self._order = array("q", [self._order[i] for i in kept])
            self._gone = 0
