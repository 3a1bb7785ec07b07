"""Request bodies: read up to a limit, parsed so that nothing in them can surprise later (S6)."""

import asyncio
import json
import math
import re
from collections import Counter
from typing import Any

from starlette.requests import Request

from .headers import RequestHeaders, headers_of
from .problems import Problem

MAX_BODY = 1_048_576
"""Bytes of a body, counted while it is read."""
MAX_READ = 30.0
"""Seconds in which a body has to be there: no server gives up a client that sends half of one."""
MAX_DEPTH = 64
"""Levels of arrays and objects."""
MAX_DIGITS = 20
"""Digits of an integer."""

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""Texts; one that has no end goes to the end, or each quote in it would be tried as a beginning."""
_BRACKETS = re.compile(rb"[\[\]{}]")


def media_type(headers: RequestHeaders) -> str:
    """Return what the body is said to be, in lower case and without parameters; maybe nothing."""
    return headers.get("content-type").partition(";")[0].strip().lower()


async def read_json(request: Request) -> Any:
    """Return the body as JSON values; an empty one is an empty object.

    Raises:
        Problem: 413 when it is too large, 408 when it doesn't come, 415 when it isn't said to be
            JSON, 400 when it isn't JSON as RFC 8259 and RFC 7493 want it.
    """
    raw = await read_body(request)
    if not raw.strip():
        return {}
    if not media_type(headers_of(request.scope)):  # HTTP/2 announces a body by no header
        detail = "the body has no content type; send application/json"
        raise Problem(415, "unsupported-media-type", detail)
    return parse_json(raw, what="the body")


def parse_json(raw: bytes, *, what: str) -> Any:
    """Return JSON values; `what` they are is said when they are none.

    Raises:
        Problem: 400 when it isn't JSON as RFC 8259 and RFC 7493 want it.
    """
    _check_depth(raw, what)
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate fails here
    except ValueError as error:
        raise Problem(400, "invalid-json", f"{what} is not JSON: {_reason(error)}") from None
    return value


async def read_body(request: Request) -> bytes:
    """Return the body as it is.

    Raises:
        Problem: 413 when it is too large, 408 when it doesn't come, 400 when the client leaves.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(MAX_READ):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "invalid-json", "the client left before its body had ended")
                chunks.append(message.get("body", b""))
                size, more = size + len(chunks[-1]), message.get("more_body", False)
                if size > MAX_BODY:
                    raise Problem(413, "payload-too-large", f"the body is over {MAX_BODY} bytes")
    except TimeoutError:
        detail = f"the body had not ended after {MAX_READ:g} s"
        raise Problem(408, "request-timeout", detail, headers={"Connection": "close"}) from None
    return b"".join(chunks)


def _check_depth(raw: bytes, what: str) -> None:
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return  # most bodies: however they stand, they can't be too deep
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Problem(400, "invalid-json", f"{what} is nested over {MAX_DEPTH} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name in counts if counts[name] > 1)
        raise ValueError(f"the name {twice[:100]!r} stands twice in one object")
    return found


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"an integer has over {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if isinstance(error, UnicodeEncodeError):
        return "a lone surrogate in a text"
    return str(error)
