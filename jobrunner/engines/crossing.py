"""What crosses the pipe between the server and a child: frames of JSON, and nothing pickled.

A frame is one byte that says its kind, the length of what follows in four bytes, and JSON.
"""

import importlib
import inspect
import math
import struct
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from ..errors import RetryableError
from ..revealing import revealed
from ..wording import class_name, describe, traceback_text

PARAMS, JOB, STOP = b"P", b"J", b"S"
"""To the child: the params of the next job, the job itself, and that it is to stop."""
BEGUN, EVENT, CLEAN, RESULT, FAILURE, REFUSAL = b"B", b"E", b"C", b"R", b"F", b"X"
"""From the child. CLEAN comes before an end that leaves the child as if it were new; REFUSAL is a
result that can't be one."""
HEAD = struct.Struct("!cI")
MAX_FRAME = 1_048_576
"""Bytes of a frame that isn't a result: over what the longest event can have."""
MAIN = ("__main__", "__mp_main__")
"""What the program's own module is called in the server, and in a child."""

_ANY: TypeAdapter[Any] = TypeAdapter(dict[str, Any])


class BrokenFrame(Exception):
    """What came through the pipe is no frame, or too long a one."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return HEAD.pack(kind, len(payload)) + payload


class Frames:
    """Takes bytes as they come, gives frames.

    Args:
        max_result: Bytes that a result or a failure may have.
    """

    def __init__(self, *, max_result: int) -> None:
        self._buffer = bytearray()
        self._max_result = max_result

    def feed(self, data: bytes) -> None:
        """Add what has been read."""
        self._buffer += data

    def take(self) -> tuple[bytes, bytes] | None:
        """Return the kind and the content of the next frame, or None when it isn't whole yet.

        Raises:
            BrokenFrame: It is longer than a frame of its kind may be.
        """
        if len(self._buffer) < HEAD.size:
            return None
        kind, size = HEAD.unpack_from(self._buffer)
        if size > (self._max_result if kind in (RESULT, FAILURE, REFUSAL) else MAX_FRAME):
            raise BrokenFrame(f"a frame of {size} bytes")
        end = HEAD.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEAD.size : end])
        del self._buffer[:end]
        return kind, payload


class Address(NamedTuple):
    """Where a child finds a function."""

    module: str
    qualname: str
    depth: int = 0
    """How many decorators are to be taken off what stands there."""

    def find(self) -> Any:
        """Import the module and return the function; raises what the import raises."""
        module = sys.modules.get("__main__") if self.module in MAIN else None
        found: Any = module or importlib.import_module(self.module)
        for name in self.qualname.split("."):
            found = getattr(found, name)
        for _ in range(self.depth):
            found = found.__wrapped__
        return found

    def leads_to(self, function: Any) -> int | None:
        """Return under how many decorators `function` stands here, or None if it doesn't."""
        try:
            found = self.find()
        except (AttributeError, ImportError):
            return None
        for depth in range(20):
            if found == function:
                return depth
            found = getattr(found, "__wrapped__", None)
        return None


def address(function: Any) -> Address:
    """Return where `function` says that it stands; raises AttributeError if it doesn't say."""
    if inspect.ismethod(function) and isinstance(function.__self__, type):
        owner = function.__self__
        return Address(owner.__module__, f"{owner.__qualname__}.{function.__name__}")
    return Address(function.__module__, function.__qualname__)


def open_params(raw: bytes, arguments: Mapping[str, Any]) -> bytes:
    """Return params as JSON with what `raw` masks: secrets, and numbers that JSON hasn't got.

    Args:
        raw: The validated params as JSON, as they are kept with the job.
        arguments: The same as the handler takes them, in the same order.
    """
    real = _ANY.dump_python(
        dict(arguments), mode="python", by_alias=True, round_trip=True, warnings=False
    )
    return to_json(revealed(from_json(raw), real), inf_nan_mode="constants")


def pack_error(error: BaseException, text: str | None = None) -> bytes:
    """Return an exception as JSON; a hostile one can't fail it (T13)."""
    kinds = [_names(kind) for kind in type.__dict__["__mro__"].__get__(type(error))]
    said = {
        "name": class_name(error),
        "kinds": kinds,
        "message": describe(error),
        "traceback": traceback_text(error) if text is None else text,
        "status_code": _number(error, "status_code", whole=True),
    }
    if isinstance(error, RetryableError):
        said["retry_after"] = _number(error, "retry_after")
    return to_json(said)


def _names(kind: type) -> tuple[str, str]:
    names = [type.__getattribute__(kind, name) for name in ("__module__", "__qualname__")]
    module, qualname = (name if type(name) is str else "" for name in names)
    return "__main__" if module in MAIN else module, qualname


def _number(error: BaseException, name: str, *, whole: bool = False) -> float | None:
    try:
        value = getattr(error, name, None)
        if whole:
            return value if type(value) is int and abs(value) < 2**53 else None
        number = float(value or 0.0)
        return number if math.isfinite(number) else None
    except BaseException:  # anybody's property
        return None


class ChildTraceback(Exception):
    """Where it was raised in the process of the handler."""


class FromChild:
    """An exception that was raised in a child, as it looks here: class name, message, numbers.

    It is an instance of the nearest of its classes that this process knows, so that policies can
    tell it; of that class nothing has been run, since what was given to it stayed in the child.
    """

    said = ""

    def __str__(self) -> str:
        return self.said


def unpack_error(payload: bytes) -> BaseException:
    """Return the exception that `pack_error` described."""
    said = from_json(payload)
    for known in _known(said["kinds"]):
        try:
            return _rebuilt(known, said)
        except Exception:  # a class of anybody's, or a group, which can't be empty
            continue
    return _rebuilt(Exception, said)


def _known(kinds: list[list[str]]) -> Iterator[type[BaseException]]:
    """Yield those classes that are here already: a child doesn't choose what is imported."""
    for module, qualname in kinds:
        found: Any = sys.modules.get(module)
        for name in qualname.split("."):
            found = getattr(found, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            yield found


def _rebuilt(known: type[BaseException], said: dict[str, Any]) -> BaseException:
    module, qualname = said["kinds"][0]
    names = {"said": said["message"], "__module__": module, "__qualname__": qualname}
    names |= {"__doc__": None} | {k: said[k] for k in ("status_code", "retry_after") if k in said}
    if names.get("status_code", 0) is None:
        del names["status_code"]
    kind = types.new_class(said["name"], (FromChild, known), {}, lambda space: space.update(names))
    builtin: Any = next(each for each in known.__mro__ if each.__module__ == "builtins")
    error: BaseException = builtin.__new__(kind)
    error.args = (said["message"],)
    error.__cause__ = ChildTraceback(f'\n"""\n{said["traceback"].rstrip()}\n"""')
    return error
