"""What an exception says of an HTTP response: its status, and how long to wait.

No client library is imported; whatever carries these attributes counts, be it from httpx, requests,
aiohttp, urllib, starlette, openai or anthropic:

    status     `status_code`, `response.status_code`, `status`: an int from 400 to 599
    headers    `response.headers`, `headers`: whatever has `items()`
    cause      `code`, `type`, `error_code` on the exception, and in its `body` or `error`

    408, 409, 425, 429, 5xx     may pass by itself
    other 4xx                   won't: the same request is refused again
    429 for lack of money       won't: it asks for a person, and not for time
    none, or another            says nothing: a connection error, a timeout, a bug

The response's body is not read: where the exception hasn't parsed it, a 429 is a rate limit.
`x-ratelimit-reset` and its like are not read either: they tell when a window is whole again, come
with successes too, and each vendor means another thing by them.

All of it belongs to somebody else, and is asked inside the guard of a job: a property that raises,
a mock that answers everything and an int that lies say nothing, and nothing here raises (T1, T13).
"""

import re
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

LONGEST_WAIT = 86_400.0
"""Seconds that a header can make a job wait: the limits of a day pass in one, and a typo too."""
PASSING = frozenset({408, 409, 425, 429})
UNPAID = frozenset({
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
    "billing_hard_limit_reached", "billing_not_active",
    "contract_spend_limit_reached", "enforced_spend_limit_reached",
})  # fmt: skip
"""Causes of a 429 that no waiting helps against; the first seven are OpenAI's, then Anthropic's."""
_SECONDS = re.compile(r"\d+\.?\d*|\.\d+", re.ASCII)
_MAX_HEADERS = 1_000
_MAX_VALUE = 100


def status_of(error: BaseException) -> int | None:
    """Return the status of the response that failed, 400 to 599; None if there is none."""
    candidates: tuple[Any, ...] = (
        _member(error, "status_code"),
        _member(_member(error, "response"), "status_code"),
        _member(error, "status"),
    )
    for value in candidates:
        if issubclass(type(value), int):
            status = int.__int__(value)  # a subclass may say anything about itself
            if 400 <= status <= 599:
                return status
    return None


def may_pass(error: BaseException) -> bool:
    """Return whether the same request could succeed later; True where no status says otherwise."""
    status = status_of(error)
    if status is None or status >= 500:
        return True
    return status in PASSING and not (status == 429 and _unpaid(error))


def wait_of(error: BaseException, now: float | None) -> float:
    """Return the seconds that a failed response says to wait, 0 to a day; 0 if it doesn't say.

    `retry-after-ms` (OpenAI) is read before `Retry-After` (RFC 9110, section 10.2.3). A date is
    taken relative to the response's own `Date`, whatever the clocks of both sides say.

    Args:
        now: Unix seconds; None if unknown, and then a date without a `Date` says nothing.
    """
    if status_of(error) is None:
        return 0.0
    millis = _seconds(_header(error, "retry-after-ms"))
    if millis is not None:
        return min(LONGEST_WAIT, millis / 1_000)
    told = _header(error, "retry-after")
    wait = _seconds(told)
    if wait is None:
        until, since = _unix(told), _unix(_header(error, "date"))
        since = now if since is None else since
        wait = 0.0 if until is None or since is None else until - since
    return max(0.0, min(LONGEST_WAIT, wait))


def _unpaid(error: BaseException) -> bool:
    body = _member(error, "body")
    inner = _member(body, "error")
    places = (error, body, inner, _member(inner, "details"), _member(error, "error"))
    names = ("code", "type", "error_code")
    return any(_text(_member(place, name)) in UNPAID for place in places for name in names)


def _member(thing: Any, name: str) -> object:
    """Return an attribute, or an entry of a dict; None if there is none, or it can't be had."""
    try:
        if issubclass(type(thing), dict):
            return thing.get(name)
        return getattr(thing, name, None)
    except BaseException:  # anybody's property: not even SystemExit may leave the guard (T1, T13)
        return None


def _header(error: BaseException, name: str) -> str:
    """Return a header of the response, whatever case it is written in; "" if it isn't there."""
    for holder in (_member(error, "response"), error):
        try:
            for key, value in _pairs(_member(holder, "headers")):
                if _text(key).lower() == name:
                    return _text(value).strip()
        except BaseException:  # anybody's mapping (T1, T13)
            continue
    return ""


def _pairs(headers: Any) -> Iterator[tuple[object, object]]:
    items = headers.items() if headers is not None else ()
    return islice(items, _MAX_HEADERS)


def _text(value: object) -> str:
    """Return a string or a number as plain text, and "" for anything else."""
    if type(value) is float or (type(value) is int and abs(value) < 10**15):
        return str(value)  # of an int with 5,000 digits it would raise
    return str.__str__(value) if issubclass(type(value), str) else ""


def _seconds(text: str) -> float | None:
    return float(text) if len(text) <= _MAX_VALUE and _SECONDS.fullmatch(text) else None


def _unix(text: str) -> float | None:
    """Return an HTTP date in any of its three formats (RFC 9110, section 5.6.7) as unix seconds."""
    if len(text) > _MAX_VALUE:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except Exception:  # ValueError and OverflowError, and what else a lenient parser trips over
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
