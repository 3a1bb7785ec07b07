"""Handlers: what is known of a job type, how its params are checked, and how it is called."""

import copy
import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from .context import JobContext
from .errors import (
    DuplicateJobType,
    InvalidParams,
    InvalidResult,
    ParamProblem,
    UnknownJobType,
)
from .fingerprints import secrets_in
from .options import TypeOptions
from .redaction import MASK, Redaction, mark_secrets
from .results import check_readable, dump_result
from .schemas import schema_of
from .wording import class_name, describe

Function = Callable[..., Any]
_MASKED = to_json(MASK)
IMMUTABLE = (str, int, float, bool, bytes, type(None), Enum)


class Kind(Enum):
    """How a handler runs."""

    COROUTINE = "coroutine"
    THREAD = "thread"
    GENERATOR = "generator"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A job type: the function behind it, and what is known of it before it runs."""

    name: str
    function: Function
    kind: Kind
    description: str
    """First paragraph of the function's docstring."""
    params: TypeAdapter[Any] | None
    """Validates and describes the params; None when there are none."""
    result: TypeAdapter[Any] | None
    """What the return annotation says; None when it says nothing."""
    context_name: str | None
    """Parameter that takes the context."""
    defaults: Mapping[str, Any]
    """Values of parameters that need not be given."""
    positional: tuple[str, ...]
    """Parameters that can't be given by keyword."""
    options: TypeOptions
    """What was decided for the type."""
    redaction: Redaction | None = None
    """What masks secrets in the params; None when there can't be any."""

    def validate(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the arguments for the function and the same as JSON, secrets masked.

        Raises:
            InvalidParams: They don't fit the signature; says where.
        """
        return self.examine(params)[:2]

    def examine(
        self, params: Mapping[str, Any], *, keyed: bool = False
    ) -> tuple[dict[str, Any], bytes, bytes]:
        """Return what `validate` does, and what to know the params by if they come again.

        Args:
            keyed: Whether the latter will be asked for; it has all secrets in it, so it is for a
                fingerprint and not to be kept. Where there are none, it is the JSON.

        Raises:
            InvalidParams: They don't fit the signature; says where.
        """
        if self.params is None:
            if params:
                raise InvalidParams(_listing(self.name, [_unknown(name) for name in params]),
                                    [_unknown(name) for name in params])  # fmt: skip
            return {}, b"{}", b"{}"
        try:
            given = dict(params) if isinstance(params, Mapping) else params
            arguments = self.params.validator.validate_python(given)
            raw = self.params.serializer.to_json(arguments, by_alias=True, round_trip=True)
            check_readable(raw)
            shown = raw if self.redaction is None else self.redaction.in_json(raw)
            secret = keyed and (self.redaction is not None or _MASKED in raw)
            return vars(arguments), shown, self._whole(arguments, raw) if secret else shown
        except ValidationError as error:
            problems = [_problem(line, params) for line in error.errors(include_url=False)]
            raise InvalidParams(_listing(self.name, problems), problems) from None
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidParams(f"the params of {self.name!r} can't be kept: {error}") from None

    def _whole(self, arguments: Any, raw: bytes) -> bytes:
        assert self.params is not None, "there are params to look into"
        hidden = secrets_in(self.params.serializer.to_python(arguments))
        return b"\0".join([raw, *hidden])

    def given(self, raw: bytes) -> dict[str, Any]:
        """Return kept params as they can be given again: without defaults, which may not fit."""
        params: dict[str, Any] = from_json(raw)
        for name, default in self.defaults.items():
            if name in params and to_json(params[name]) == to_json(default, fallback=repr):
                del params[name]
        return params

    def call(self, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Call the function; each attempt gets values of its own."""
        if context.max_attempts > 1:
            arguments = {name: _own(value) for name, value in arguments.items()}
        if self.context_name is not None:
            arguments = {self.context_name: context, **arguments}
        if not self.positional:
            return self.function(**arguments)
        keywords = {k: v for k, v in arguments.items() if k not in self.positional}
        return self.function(*(arguments[name] for name in self.positional), **keywords)

    def dump_result(self, value: Any, *, limit: int) -> bytes:
        """Return the function's value as JSON that `load_result` can load.

        Raises:
            InvalidResult: It can't be JSON, or isn't what the function is annotated to return.
            PayloadTooLarge: It is over `limit` bytes.
        """
        raw = dump_result(value, limit=limit)
        self.load_result(raw)  # or the job would be completed, and its result an error
        return raw

    def load_result(self, raw: bytes) -> Any:
        """Return the result as the return annotation says, or as plain JSON values without one.

        Raises:
            InvalidResult: The handler returned something else than it is annotated with.
        """
        if self.result is None:
            return from_json(raw)
        try:
            return self.result.validator.validate_json(raw)
        except ValidationError as error:
            raise InvalidResult(
                f"the result of {self.name!r} is not what its handler is annotated to return: "
                f"{_problem(error.errors(include_url=False)[0])['detail']}"
            ) from None
        except Exception as error:  # a validator may be anybody's
            raise InvalidResult(
                f"the result of {self.name!r} could not be checked: "
                f"{class_name(error)}: {describe(error)}"
            ) from error

    def params_schema(self, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return the JSON schema of the params; what the docstring says of each is in it."""
        if self.params is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        schema = schema_of(self.params, ref_template=ref_template)
        from .docstrings import docstring, param_texts  # to submit jobs it isn't needed

        for name, text in param_texts(docstring(self.function)).items():
            if name in schema["properties"]:
                schema["properties"][name].setdefault("description", text)
        return mark_secrets(schema, self.redaction)

    def result_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the result; `{}` says anything."""
        return {} if self.result is None else schema_of(self.result, mode="serialization")


class Handlers:
    """The job types of a runner, by name and by function."""

    def __init__(self) -> None:
        self._by_name: dict[str, Handler] = {}
        self._by_function: dict[Function, Handler] = {}

    def __iter__(self) -> typing.Iterator[Handler]:
        return iter(self._by_name.values())

    def add(self, handler: Handler) -> None:
        """Register `handler`.

        Raises:
            DuplicateJobType: Its name is taken.
        """
        if handler.name in self._by_name:
            raise DuplicateJobType(
                f"there is a job type {handler.name!r} already; give this one another name, as in "
                '@runner.job("another")'
            )
        self._by_name[handler.name] = handler
        self._by_function[handler.function] = handler

    def find(self, type: str | Function) -> Handler:
        """Return the handler with that name, or made from that function.

        Raises:
            UnknownJobType: There is none; names what comes near.
        """
        if isinstance(type, str):
            handler = self._by_name.get(type)
        else:
            handler = self._by_function.get(type) if callable(type) else None
        if handler is None:
            raise UnknownJobType(self._unknown(type))
        return handler

    def _unknown(self, type: str | Function) -> str:
        if not isinstance(type, str):
            name = getattr(type, "__qualname__", repr(type))
            return f"{name} is not registered as a handler; decorate it with @runner.job"
        if not self._by_name:
            return f"there is no job type {type[:100]!r}; none is registered yet"
        near = difflib.get_close_matches(type, self._by_name, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self._by_name)}"
        return f"there is no job type {type[:100]!r}; {hint}"


def _own(value: Any) -> Any:
    return value if isinstance(value, IMMUTABLE) else copy.deepcopy(value)


def _unknown(name: str) -> ParamProblem:
    return {"detail": "this param is unknown", "pointer": json_pointer([name])}


def _problem(line: Any, params: Any = None) -> ParamProblem:
    location, kind = line["loc"], line["type"]
    if kind == "missing":
        place = [*place_in(location[:-1], params), location[-1]]
        return {"detail": "this param is missing", "pointer": json_pointer(place)}
    unknown = kind == "unexpected_keyword_argument"
    detail = "this param is unknown" if unknown else str(line["msg"])
    return {"detail": detail, "pointer": json_pointer(place_in(location, params))}


def place_in(location: tuple[str | int, ...], value: Any) -> list[str | int]:
    """Return the location without what isn't in the params: the members of a union that failed."""
    place: list[str | int] = []
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        place.append(part)
    return place


_IN_FRAGMENT = "~!$&'()*+,;=:@?"
"""What stands in a URI fragment as it is (RFC 3986, 3.5), beside letters and digits."""


def json_pointer(location: typing.Iterable[str | int]) -> str:
    """Return a JSON pointer (RFC 6901) as a URI fragment."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join(f"/{quote(part, safe=_IN_FRAGMENT, errors='replace')}" for part in parts)


def _listing(name: str, problems: list[ParamProblem]) -> str:
    shown = "; ".join(
        f"{unquote(p['pointer'][2:]) or 'params'}: {p['detail']}" for p in problems[:5]
    )
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"the params don't fit job type {name!r}: {shown}{more}"
