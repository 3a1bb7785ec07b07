"""What handlers say, made fit to be kept: bounded, and JSON whatever it was."""

import math
from typing import Any

from pydantic_core import from_json, to_json

from .errors import InvalidOption
from .redaction import redact
from .results import check_readable
from .wording import clip, describe

MAX_TEXT = 16_384
"""Characters of one log line, message or piece of output; the middle of a longer one is cut."""


def as_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a log line as JSON values, secrets masked; too many are left out."""
    try:
        raw = to_json(fields, fallback=repr, inf_nan_mode="strings")
        kept: dict[str, Any] = from_json(raw) if len(raw) <= MAX_TEXT else {}
        return redact(kept) or {"left_out": f"{len(raw)} bytes of fields"}
    except Exception as error:  # their `__repr__` is anybody's code, and a log line fails no job
        return {"left_out": f"fields that can't be JSON: {describe(error)}"}


def as_json(value: Any) -> str:
    """Return a value as JSON text, or how long that would be when it is too long."""
    try:
        raw = to_json(value, fallback=repr, inf_nan_mode="null")
        if len(raw) > MAX_TEXT:
            return _left_out(f"{len(raw)} bytes")
        check_readable(raw)
        return raw.decode()
    except Exception as error:  # its `__repr__` is anybody's code, and output fails no job
        return _left_out(f"a value that can't be JSON: {describe(error)}")


def _left_out(what: str) -> str:
    return to_json({"left_out": what}).decode()


def as_percent(value: float) -> float:
    """Return a progress within 0 and 100, with two places at most.

    Raises:
        InvalidOption: It is no number.
    """
    if not isinstance(value, int | float) or math.isnan(value):
        raise InvalidOption(f"progress is {value!r}; it must be a number from 0 to 100")
    exact = round(min(100.0, max(0.0, value)), 2)
    return int(exact) if exact == int(exact) else exact


def as_message(message: str | None) -> str | None:
    """Return a message that isn't too long; None stays None."""
    return None if message is None else clip(str(message), MAX_TEXT)
