"""Values that raise when somebody reads them: results, errors, metadata, texts.

Each takes what to call instead of an answer, which counts the hit and raises.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from jobrunner import RetryableError

from .faults import Faults

Strike = Callable[[], NoReturn]


class Text:
    """Something that is no text, and can't be made one."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike

    def __str__(self) -> str:
        self._strike()

    def __repr__(self) -> str:
        self._strike()


class Table(Mapping[str, Any]):
    """A mapping without a way in."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike

    def __getitem__(self, key: str) -> Any:
        self._strike()

    def __iter__(self) -> Iterator[str]:
        self._strike()

    def __len__(self) -> int:
        return 1


class Unspeakable(Exception):
    """An error without a message."""

    def __init__(self, strike: Strike) -> None:
        super().__init__()
        self._strike = strike

    def __str__(self) -> str:
        self._strike()


class Statusless(Exception):
    """An error whose status can't be read."""

    def __init__(self, strike: Strike) -> None:
        super().__init__("hostile")
        self._strike = strike

    @property
    def status_code(self) -> int:
        self._strike()


class Seconds:
    """A duration that can't be made a number."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        self._strike()


class Refused(Exception):
    """What a client of an HTTP API raises."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = {"Retry-After": f"{retry_after:g}"}


def result(faults: Faults) -> object:
    """Return a result that can't be JSON, hostile where this scenario has it so."""
    if faults.wants("result.repr"):
        return {Text(faults.arm("result.repr")): object()}
    if faults.wants("result.items"):
        return Table(faults.arm("result.items"))
    return object()


def error(faults: Faults) -> Exception:
    """Return an error, hostile where this scenario has it so."""
    if faults.wants("error.retry_after"):
        told: Any = Seconds(faults.arm("error.retry_after"))
        return RetryableError("hostile", retry_after=told)
    if faults.wants("error.status"):
        return Statusless(faults.arm("error.status"))
    if faults.wants("error.str"):
        return Unspeakable(faults.arm("error.str"))
    return RuntimeError("as planned")
