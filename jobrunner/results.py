"""A handler's value becomes JSON once, when the handler returns, or fails there and says where."""

from collections.abc import Awaitable, Coroutine, Iterator, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from .errors import InvalidResult, PayloadTooLarge
from .wording import describe

SAFE_JSON = 300
"""Bytes below which JSON can't be too deep, or hold a number too long, to be read again."""
_PLAIN = {type(None), bool, int, float, str, list, dict}
"""Classes of most results, which need no closer look."""
ROOM = 50
"""Levels that what is kept leaves for what it will be put into: a view, a list, an envelope."""


class Refused:
    """In place of a result: an engine elsewhere has found that it can't be one.

    Args:
        error: Why, an InvalidResult or a PayloadTooLarge.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error


def dump_result(value: Any, *, limit: int) -> bytes:
    """Return a handler's value as JSON that every reader can read again (Q9).

    NaN and the infinities become null, as in JavaScript; sets become arrays.

    Raises:
        InvalidResult: Part of it can't be JSON; says which.
        PayloadTooLarge: It is over `limit` bytes.
    """
    if type(value) not in _PLAIN:
        if type(value) is Refused:
            raise value.error
        _refuse_unfinished(value)
    try:
        raw = to_json(value, inf_nan_mode="null")
        check_readable(raw)
    except BaseException as error:  # a serialiser of the user's may raise anything
        place = _place(value)
        raise InvalidResult(f"{place} can't be JSON: {describe(error)}") from None
    if len(raw) > limit:
        raise PayloadTooLarge(f"the result is {len(raw)} bytes of JSON; the limit is {limit}")
    return raw


def _refuse_unfinished(value: Any) -> None:
    """Refuse what hasn't run yet: reading it would run it in the event loop, past all limits."""
    if issubclass(type(value), Iterator | Awaitable):  # its `__class__` may lie (T13)
        if issubclass(type(value), Coroutine):
            value.close()
        raise InvalidResult(
            f"the handler returned a {type(value).__name__}, which has not run yet: write the "
            "handler as `async def` and await it, or return a list"
        )


def check_readable(raw: bytes) -> None:
    """Raise ValueError for JSON that a reader would refuse: too deep, or with too long a number."""
    if len(raw) > SAFE_JSON:
        from_json(b"[" * ROOM + raw + b"]" * ROOM)


def _place(value: Any) -> str:
    try:
        return _first_bad(value, "result", 0)
    except BaseException:  # keys and containers may be hostile too (T13)
        return "result"


def _first_bad(value: Any, place: str, depth: int) -> str:
    """Return where in `value` the first part is that can't be JSON."""
    if depth > 100:
        return f"{place[:40]}..., nested deeper than 100 levels or in a circle,"
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    for key, item in items:
        try:
            from_json(to_json(item, inf_nan_mode="null"))
        except BaseException:
            return _first_bad(item, f"{place}[{key!r:.60}]", depth + 1)
    return f"{place} ({type(value).__name__})"
