"""The headers of a request, looked through once: a dozen of them are asked for."""

from collections.abc import Iterable
from itertools import chain

from starlette.types import Scope

_KEY = "jobrunner.headers"


class RequestHeaders:
    """Headers by name; several of one name are one, as if a comma stood between them.

    That is what they mean (RFC 9110, 5.3), but for cookies, which HTTP/2 may split at semicolons.

    Args:
        raw: As ASGI has them: names in lower case.
    """

    __slots__ = ("_raw", "_values")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)
        self._values = dict(self._raw)
        if len(self._values) < len(self._raw):
            for name in self._values:
                comma = b"; " if name == b"cookie" else b","
                values = [value for each, value in self._raw if each == name]
                self._values[name] = comma.join(values)

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a header, whose name is given in lower case."""
        value = self._values.get(name.encode())
        return default if value is None else value.decode("latin-1")

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._values

    def count(self, name: str) -> int:
        """Return how often the header was sent."""
        if len(self._values) == len(self._raw):
            return int(name in self)
        return sum(each == name.encode() for each, _ in self._raw)

    @property
    def size(self) -> int:
        """How many bytes all names and values have."""
        return sum(map(len, chain.from_iterable(self._raw)))


def read_headers(scope: Scope) -> RequestHeaders:
    """Return the headers of a request that has just come."""
    found = scope[_KEY] = RequestHeaders(scope["headers"])
    return found


def forget_headers(scope: Scope) -> None:
    """Let go of the headers of a request that is served for long."""
    scope.pop(_KEY, None)


def headers_of(scope: Scope) -> RequestHeaders:
    """Return the headers of a request that the guard has let pass."""
    found: RequestHeaders = scope[_KEY]
    return found
