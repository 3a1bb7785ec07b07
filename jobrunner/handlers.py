"""Handlers: a function becomes a job type, its signature the schema of the params.

The params of a type are a pydantic dataclass made from the signature, since its fields, unlike a
model's, may have every name that Python allows (S8).
"""

import copy
import dataclasses
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, cast
from urllib.parse import quote, unquote

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic import dataclasses as pydantic_dataclasses
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json

from .context import JobContext
from .errors import (
    DuplicateJobType,
    InvalidHandler,
    InvalidParams,
    InvalidResult,
    ParamProblem,
    UnknownJobType,
    describe,
)
from .results import SAFE_JSON
from .retry import RetryPolicy

Function = Callable[..., Any]
MAX_NAME = 128
"""Characters of a job type's name."""
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
    positional: tuple[str, ...]
    """Parameters that can't be given by keyword."""
    timeout: float | types.EllipsisType | None
    """Limit of an attempt in seconds; None for none, Ellipsis for the runner's."""
    retry: RetryPolicy | None
    """None for the runner's."""

    def validate(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the arguments for the function and the same as JSON, secrets masked.

        Raises:
            InvalidParams: They don't fit the signature; says where.
        """
        if self.params is None:
            if params:
                raise InvalidParams(_listing(self.name, [_unknown(name) for name in params]),
                                    [_unknown(name) for name in params])  # fmt: skip
            return {}, b"{}"
        try:
            given = dict(params) if isinstance(params, Mapping) else params
            arguments = self.params.validate_python(given)
            raw = self.params.dump_json(arguments, by_alias=True)
            if len(raw) > SAFE_JSON:
                from_json(raw)
            return dict(vars(arguments)), raw
        except ValidationError as error:
            problems = [_problem(line) for line in error.errors(include_url=False)]
            raise InvalidParams(_listing(self.name, problems), problems) from None
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidParams(f"the params of {self.name!r} can't be kept: {error}") from None

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

    def load_result(self, raw: bytes) -> Any:
        """Return the result as the return annotation says, or as plain JSON values without one.

        Raises:
            InvalidResult: The handler returned something else than it is annotated with.
        """
        if self.result is None:
            return from_json(raw)
        try:
            return self.result.validate_json(raw)
        except ValidationError as error:
            raise InvalidResult(
                f"the result of {self.name!r} is not what its handler is annotated to return: "
                f"{_problem(error.errors(include_url=False)[0])['detail']}"
            ) from None

    def params_schema(self, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return the JSON schema of the params."""
        if self.params is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return self.params.json_schema(ref_template=ref_template)

    def result_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the result; `{}` says anything."""
        return {} if self.result is None else self.result.json_schema(mode="serialization")


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


def make_handler(
    function: Function,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | types.EllipsisType | None = ...,
    retry: RetryPolicy | None = None,
    namespace: Mapping[str, Any] | None = None,
) -> Handler:
    """Make a handler of a function; `namespace` helps to resolve string annotations.

    Raises:
        InvalidHandler: The function can't be one; says which parameter, and what to write.
    """
    if not callable(function):
        raise InvalidHandler(f"{function!r} is not a function")
    whole = _whole(function)
    name = name or str(getattr(whole, "__name__", type(whole).__name__))
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidHandler(
            f"{name!r:.60} can't name a job type; take 1 to {MAX_NAME} printable characters"
        )
    annotations = _annotations(function, name, namespace)
    parameters = list(_signature(function, name).parameters.values())
    context_name = _context_parameter(parameters, annotations)
    own = [p for p in parameters if p.name != context_name]
    for parameter in own:
        _check_parameter(parameter, annotations, name)
    return Handler(
        name=name,
        function=function,
        kind=_kind(function),
        description=description or (inspect.getdoc(whole) or "").partition("\n\n")[0],
        params=_params_adapter(name, own, annotations) if own else None,
        result=_result_adapter(function, annotations, name),
        context_name=context_name,
        positional=tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
        timeout=timeout,
        retry=retry,
    )


def _whole(function: Function) -> Function:
    """Return the function that a partial is of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _called(function: Function) -> Function:
    """Return what has the annotations: of an object that can be called, its `__call__`."""
    function = _whole(function)
    return function if inspect.isroutine(function) else type(function).__call__


def _signature(function: Function, name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:
        raise InvalidHandler(f"handler {name!r} has no signature to read: {error}") from None


def _annotations(
    function: Function, name: str, namespace: Mapping[str, Any] | None
) -> dict[str, Any]:
    target = inspect.unwrap(_called(function))
    if getattr(target, "__qualname__", "") == getattr(target, "__name__", ""):
        namespace = None  # a function of a module means its module's names, whoever registers it
    try:
        return typing.get_type_hints(target, localns=dict(namespace or {}), include_extras=True)
    except Exception as error:
        raise InvalidHandler(
            f"an annotation of handler {name!r} can't be resolved: {describe(error)}; define the "
            "type at module level, above the handler"
        ) from None


def _context_parameter(
    parameters: list[inspect.Parameter], annotations: Mapping[str, Any]
) -> str | None:
    for parameter in parameters:
        hint = annotations.get(parameter.name)
        single = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if single and isinstance(hint, type) and issubclass(hint, JobContext):
            return parameter.name
    return None


def _check_parameter(
    parameter: inspect.Parameter, annotations: Mapping[str, Any], name: str
) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InvalidHandler(
            f"handler {name!r} takes {parameter}; params are validated one by one, "
            "so write each of them out, or take one dict: dict[str, Any]"
        )
    if parameter.name.startswith("__") and parameter.name.endswith("__"):
        raise InvalidHandler(
            f"parameter {parameter.name!r} of handler {name!r} has a name that belongs to Python"
        )
    if parameter.name not in annotations:
        raise InvalidHandler(
            f"parameter {parameter.name!r} of handler {name!r} has no annotation; "
            f"write its type, as in `{parameter.name}: str`, or `{parameter.name}: Any`"
        )


def _kind(function: Function) -> Kind:
    called = _called(function)
    if inspect.isasyncgenfunction(called):
        return Kind.GENERATOR
    return Kind.COROUTINE if inspect.iscoroutinefunction(called) else Kind.THREAD


def _params_adapter(
    name: str, parameters: list[inspect.Parameter], annotations: Mapping[str, Any]
) -> TypeAdapter[Any]:
    fields = [(p.name, annotations[p.name], _field(p)) for p in parameters]
    try:
        record = dataclasses.make_dataclass("Params", fields, kw_only=True)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False, title=name)
        adapter: TypeAdapter[Any] = TypeAdapter(
            pydantic_dataclasses.dataclass(record, config=config)
        )
        adapter.json_schema()  # what has none would fail later, for whoever lists the types
        return adapter
    except (PydanticUserError, TypeError, ValueError) as error:
        raise InvalidHandler(
            f"the params of handler {name!r} can't be validated: {describe(error)}"
        ) from None


def _field(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return dataclasses.field()
    if isinstance(parameter.default, (*IMMUTABLE, FieldInfo)):
        return dataclasses.field(default=parameter.default)
    return dataclasses.field(default_factory=lambda: copy.deepcopy(parameter.default))


def _result_adapter(
    function: Function, annotations: Mapping[str, Any], name: str
) -> TypeAdapter[Any] | None:
    hint = annotations.get("return", Any)
    if hint is Any or _kind(function) is Kind.GENERATOR:
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema(mode="serialization")
        return adapter
    except (PydanticUserError, TypeError) as error:
        raise InvalidHandler(
            f"handler {name!r} returns {hint!r}, which can't be JSON: {describe(error)}; "
            "annotate what is kept, or Any"
        ) from None


def _own(value: Any) -> Any:
    return value if isinstance(value, IMMUTABLE) else copy.deepcopy(value)


def _unknown(name: str) -> ParamProblem:
    return {"detail": "this param is unknown", "pointer": json_pointer([name])}


def _problem(line: Any) -> ParamProblem:
    location, kind = cast("tuple[str | int, ...]", line["loc"]), line["type"]
    if kind == "unexpected_keyword_argument":
        return _unknown(str(location[-1]))
    detail = "this param is missing" if kind == "missing" else str(line["msg"])
    return {"detail": detail, "pointer": json_pointer(location)}


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
