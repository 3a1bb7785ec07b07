"""What a request says in its query: each name once, none that is unknown, and all of it short."""

import re

from starlette.requests import Request

from .headers import headers_of
from .problems import Problem


def query(request: Request, known: set[str]) -> dict[str, str]:
    """Return what is given, by name; what is given as nothing isn't.

    Raises:
        Problem: 400 for a name that isn't `known`, or that is given twice.
    """
    if not request.scope["query_string"]:
        return {}
    given = [name for name, _ in request.query_params.multi_items()]
    found = dict(request.query_params)
    if unknown := found.keys() - known:
        names = ", ".join(sorted(known))
        raise Problem(
            400, "invalid-query", f"{min(unknown)[:100]!r} is unknown; there are: {names}"
        )
    if len(found) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise Problem(400, "invalid-query", f"{twice!r} is given twice; give it once")
    return {name: value for name, value in found.items() if value}


def integer(text: str, name: str) -> int:
    """Return a whole number of up to nine digits."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Problem(400, "invalid-query", f"{name} is {text[:100]!r}; it must be a whole number")
    return int(text)


def flag(text: str, name: str) -> bool:
    """Return whether it is `true`."""
    if text not in ("true", "false"):
        raise Problem(400, "invalid-query", f"{name} is {text[:100]!r}; it must be true or false")
    return text == "true"


def cursor(request: Request) -> int | None:
    """Return the number to go on after; the header of a reconnecting browser wins."""
    header = headers_of(request.scope).get("last-event-id")
    if re.fullmatch(r"[0-9]{1,15}", header):
        return int(header)
    after = query(request, {"after"}).get("after")
    return None if after is None else integer(after, "after")
