"""What can be decided for a single job, and how it is checked."""

import re
from collections.abc import Mapping
from datetime import datetime
from types import EllipsisType
from typing import Any, NamedTuple, TypedDict

from pydantic_core import PydanticSerializationError, from_json, to_json

from .errors import InvalidOption, PayloadTooLarge
from .limits import LONGEST, Limits, check_seconds
from .options import OnDuplicate, TypeOptions, check_choice
from .queue import MAX_PRIORITY

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)
MAX_NAME = 256
"""Characters of a session id or a key."""


class SubmitOptions(TypedDict, total=False):
    """What `JobRunner.submit` takes beside the type and the params; durations are seconds."""

    priority: int
    """-100 to 100, 0 if not given; one point is worth a minute of waiting."""
    delay: float
    """Seconds to wait before the job may start."""
    run_at: datetime
    """Moment before which the job may not start, with a time zone; instead of `delay`."""
    timeout: float | None
    """Limit of each attempt in seconds; None for none; the type's or the runner's if not given."""
    deadline: float | None
    """Limit of the whole job in seconds, over waiting and retries, from when it may start."""
    expires: float | None
    """Seconds for which the job may wait for its first start; then it fails as `expired`."""
    stall_timeout: float | None
    """Seconds that an attempt may go on without progress, a step, a log line or output."""
    owner: str
    """Whose job it is: reads, lists, keys and duplicates are kept apart by owner."""
    session_id: str
    """Session to list and watch the job by."""
    batch_id: str
    """Batch to list the job by."""
    idempotency_key: str
    """A second submit with the same key gets the first one's job, for as long as that is kept."""
    concurrency_key: str
    """Jobs of the type with the same key are limited together; instead of the type's own."""
    on_duplicate: OnDuplicate
    """What to do while a job with the same concurrency key is live; instead of the type's own."""
    max_wait: float | None
    """Seconds to wait for room in a full queue; None for ever; 0, the default, not at all."""
    webhook_url: str | None
    """Where to post that the job has ended; None for nowhere; the type's or the runner's URL if not
    given."""
    metadata: Mapping[str, Any]
    """JSON values to keep with the job."""
    traceparent: str
    """Where in a trace the job was submitted (W3C Trace Context)."""


class Fields(TypedDict, total=False):
    """The options that are fields of the job's record; those left out are at their default."""

    priority: int
    timeout: float | None
    deadline: float | None
    stall_timeout: float | None
    run_at: float | None
    expires_at: float | None
    deadline_at: float | None
    owner: str | None
    session_id: str | None
    batch_id: str | None
    parent_id: str | None
    idempotency_key: str | None
    concurrency_key: str | None
    webhook_url: str | None
    metadata: Mapping[str, Any] | None
    traceparent: str | None


class Checked(NamedTuple):
    """The options of a submit, checked."""

    fields: Fields
    delay: float
    """Seconds before the job may start."""
    expires: float | None
    """Seconds from then in which it has to start."""
    on_duplicate: OnDuplicate


def check_submit(
    given: SubmitOptions, of_type: TypeOptions, timeout: float | None, limits: Limits, now: float
) -> Checked:
    """Return the options of a job, with what its type says where nothing is given.

    Args:
        given: What the submitter said.
        of_type: What was decided for the type.
        timeout: The runner's limit of an attempt.
        limits: Bounds.
        now: Unix seconds.

    Raises:
        InvalidOption: One is unknown, or has a value that it can't have.
        PayloadTooLarge: The metadata is.
    """
    if not given and of_type.is_plain:
        usual: Fields = {"timeout": _timeout(..., of_type, timeout)}
        return Checked(usual, 0.0, None, of_type.on_duplicate)
    if unknown := given.keys() - SubmitOptions.__annotations__.keys():
        raise InvalidOption(
            f"submit has no option {min(unknown)!r}; params are its second argument, a dict",
            option=min(unknown),
        )
    delay = _delay(given, now)
    deadline, expires = _seconds(given, of_type, "deadline"), _seconds(given, of_type, "expires")
    fields: Fields = {
        "priority": _priority(given.get("priority", 0)),
        "timeout": _timeout(given.get("timeout", ...), of_type, timeout),
        "deadline": deadline,
        "stall_timeout": _seconds(given, of_type, "stall_timeout"),
        "run_at": now + delay if delay else None,
        "expires_at": None if expires is None else now + delay + expires,
        "deadline_at": None if deadline is None else now + delay + deadline,
        "owner": check_name("owner", given.get("owner")),
        "session_id": check_name("session_id", given.get("session_id")),
        "batch_id": check_name("batch_id", given.get("batch_id")),
        "idempotency_key": check_name("idempotency_key", given.get("idempotency_key")),
        "concurrency_key": check_name("concurrency_key", given.get("concurrency_key")),
        "webhook_url": _webhook_url(given.get("webhook_url", of_type.webhook_url)),
        "metadata": _metadata(given.get("metadata"), limits),
        "traceparent": _traceparent(given.get("traceparent")),
    }
    on_duplicate = given.get("on_duplicate", of_type.on_duplicate)
    check_choice("on_duplicate", on_duplicate, OnDuplicate)
    return Checked(fields, delay, expires, on_duplicate)


def _seconds(given: SubmitOptions, of_type: TypeOptions, name: str) -> float | None:
    if name in given:
        return check_seconds(name, given[name])  # type: ignore[literal-required]  # one of three
    value: float | None = getattr(of_type, name)
    return value


def _priority(value: int) -> int:
    if not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise InvalidOption(
            f"priority is {value!r}; it must be an integer, -{MAX_PRIORITY} to {MAX_PRIORITY}",
            option="priority",
        )
    return value


def _timeout(
    value: float | EllipsisType | None, of_type: TypeOptions, default: float | None
) -> float | None:
    if value is ...:
        return default if of_type.timeout is ... else of_type.timeout
    return check_seconds("timeout", value)


def _webhook_url(value: str | EllipsisType | None) -> str | None:
    """Return the URL as a job's record has it; the runner has looked at it before."""
    return None if value is ... else value or ""


def _delay(options: SubmitOptions, now: float) -> float:
    delay, run_at = options.get("delay"), options.get("run_at")
    if run_at is None:
        return check_seconds("delay", delay, zero=True) or 0.0
    if delay is not None:
        raise InvalidOption("delay and run_at are both given; one of them says when")
    if not isinstance(run_at, datetime) or run_at.tzinfo is None:
        raise InvalidOption(f"run_at is {run_at!r}; it must be a datetime with a time zone")
    if run_at.timestamp() - now > LONGEST:
        raise InvalidOption(f"run_at is {run_at.isoformat()}; it must be within a hundred years")
    return max(0.0, run_at.timestamp() - now)


def check_name(option: str, value: str | None) -> str | None:
    """Return `value` when it can be a name or a key, or None.

    Raises:
        InvalidOption: It is empty, too long, or has characters that can't be printed.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise InvalidOption(
            f"{option} is {value!r:.60}; it must be a text of 1 to {MAX_NAME} printable characters",
            option=option,
        )
    return value


def is_traceparent(value: str) -> bool:
    """Return whether it is a `traceparent` (https://www.w3.org/TR/trace-context-2/, 3.2.2).

    A version to come may say more after a dash; what is before it must be as today.
    """
    found = _TRACEPARENT.fullmatch(value) if len(value) <= MAX_NAME else None
    return found is not None and (found[1] != "00" or found[2] is None)


def _traceparent(value: str | None) -> str | None:
    if value is not None and not (isinstance(value, str) and is_traceparent(value)):
        raise InvalidOption(
            f"traceparent is {value!r:.100}; it must be like "
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            option="traceparent",
        )
    return value


def _metadata(value: Mapping[str, Any] | None, limits: Limits) -> Mapping[str, Any] | None:
    if not value:
        return None
    try:
        raw = to_json(dict(value), inf_nan_mode="null")
        kept: dict[str, Any] = from_json(raw)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise InvalidOption(f"the metadata can't be JSON: {error}", option="metadata") from None
    if len(raw) > limits.max_metadata:
        raise PayloadTooLarge(
            f"the metadata is {len(raw)} bytes of JSON; the limit is {limits.max_metadata}"
        )
    return kept
