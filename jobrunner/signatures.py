"""From a function to a handler: its signature becomes the schema of a job type's params.

The params are a pydantic dataclass, since its fields, unlike a model's, may have every name that
Python allows (S8).
"""

import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic import dataclasses as pydantic_dataclasses
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from .context import JobContext
from .errors import InvalidHandler
from .handlers import IMMUTABLE, Function, Handler, Kind
from .options import DEFAULT_OPTIONS, TypeOptions
from .redaction import redaction_for
from .schemas import schema_of
from .wording import describe

MAX_NAME = 128
"""Characters of a job type's name."""
_ANYTHING = frozenset({"default", "expected", "metadata", "config"})
"""What in a core schema of pydantic may be anybody's values."""


def make_handler(
    function: Function,
    *,
    name: str | None = None,
    description: str | None = None,
    options: TypeOptions = DEFAULT_OPTIONS,
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
    params, schema = _params_adapter(name, own, annotations) if own else (None, {})
    return Handler(
        name=name,
        function=function,
        kind=_kind(function),
        description=description or (inspect.getdoc(whole) or "").partition("\n\n")[0],
        params=params,
        result=_result_adapter(function, annotations, name),
        context_name=context_name,
        defaults={p.name: p.default for p in own if p.default is not p.empty},
        positional=tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
        options=options,
        redaction=None
        if params is None
        else redaction_for(schema, _kept_names(params.core_schema)),
    )


def _whole(function: Function) -> Function:
    """Return the function that a partial is of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def called_function(function: Function) -> Function:
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
    target = inspect.unwrap(called_function(function))
    if getattr(target, "__qualname__", "") == getattr(target, "__name__", ""):
        namespace = None  # a function of a module means its module's names, whoever registers it
    try:
        return typing.get_type_hints(target, localns=dict(namespace or {}), include_extras=True)
    except Exception as error:  # a string annotation is evaluated: it is anybody's code
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
        several = typing.get_origin(hint) in (UnionType, typing.Union, typing.Annotated)
        hints = typing.get_args(hint) if several else (hint,)
        if single and any(isinstance(h, type) and issubclass(h, JobContext) for h in hints):
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
        wanted = "JobContext" if parameter.name in ("ctx", "context") else "str"
        raise InvalidHandler(
            f"parameter {parameter.name!r} of handler {name!r} has no annotation; "
            f"write its type, as in `{parameter.name}: {wanted}`, or `{parameter.name}: Any`"
        )


def _kind(function: Function) -> Kind:
    called = called_function(function)
    if inspect.isgeneratorfunction(called):
        raise InvalidHandler(
            f"handler {called.__name__!r} is a generator; write `async def` to stream what it "
            "yields, or return a list"
        )
    if inspect.isasyncgenfunction(called):
        return Kind.GENERATOR
    return Kind.COROUTINE if inspect.iscoroutinefunction(called) else Kind.THREAD


def _params_adapter(
    name: str, parameters: list[inspect.Parameter], annotations: Mapping[str, Any]
) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    """Return what validates the params, and their JSON schema."""
    fields = [(p.name, annotations[p.name], _field(p)) for p in parameters]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(_record(name, fields))
        # What has none would fail later, for whoever lists the types.
        return adapter, schema_of(adapter)
    except (PydanticUserError, TypeError, ValueError) as error:
        raise InvalidHandler(
            f"the params of handler {name!r} can't be validated: {describe(error)}"
        ) from None


def _record(name: str, fields: list[tuple[str, Any, Any]]) -> type:
    """Make a dataclass of the params; of all that one may have, nothing that nobody asks for.

    To write each method, and a signature as a docstring, would take twice the time.
    """
    record = dataclasses.make_dataclass(
        "Params", fields, namespace={"__doc__": "Params of a job."},
        init=False, repr=False, eq=False, kw_only=True,
    )  # fmt: skip
    config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=False, title=name, ser_json_inf_nan="strings"
    )
    return pydantic_dataclasses.dataclass(record, config=config, repr=False, eq=False)


def _kept_names(node: Any) -> Iterator[str]:
    """Yield what parts of values may be called when they are JSON, by a core schema of pydantic.

    Its JSON schema has only the names by which they are read.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield value if key in ("name", "serialization_alias") and type(value) is str else key
            if key not in _ANYTHING:
                yield from _kept_names(value)
    elif isinstance(node, list | tuple):
        for each in node:
            yield from _kept_names(each)


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
    if hint in (Any, typing.NoReturn, typing.Never) or _kind(function) is Kind.GENERATOR:
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        schema_of(adapter, mode="serialization")
        return adapter
    except (PydanticUserError, TypeError, ValueError) as error:
        raise InvalidHandler(
            f"handler {name!r} returns {hint!r}, which can't be JSON: {describe(error)}; "
            "annotate what is kept, or Any"
        ) from None
