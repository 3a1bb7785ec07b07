"""Signatures: what is read from a function, and what can't be a handler."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Never, NoReturn, Optional

import pytest
from pydantic import BaseModel, Field

from jobrunner import (
    InvalidHandler,
    JobContext,
    RetryPolicy,
)
from jobrunner.handlers import Function, Kind
from jobrunner.options import TypeOptions
from jobrunner.signatures import MAX_NAME, make_handler
from tests import string_annotations

NAMES = [
    "self", "cls", "_x", "__y", "args", "kwargs", "schema", "json", "copy", "dict", "model_config",
    "model_fields", "params", "config", "title", "root", "type", "print", "field", "context",
    "Params", "function", "name", "größe", "x" * 200, "_",
]  # fmt: skip


class Plain:
    pass


def function_of(source: str, **names: Any) -> Function:
    """Return the function `f` that the source defines."""
    exec(source, names)
    found: Function = names["f"]
    return found


# What is read from a function


def test_reads_name_and_description_from_the_function() -> None:
    """A job type needs no more than its function (row 2)."""

    async def analyse(path: str) -> None:
        """Analyse one document.

        The rest is for programmers.
        """

    handler = make_handler(analyse, options=TypeOptions(timeout=5.0, retry=RetryPolicy()))
    assert (handler.name, handler.description) == ("analyse", "Analyse one document.")
    assert (handler.options.timeout, handler.options.retry, handler.function) == (
        5.0,
        RetryPolicy(),
        analyse,
    )


def test_takes_name_and_description_that_are_given() -> None:
    """A function may be called otherwise than its type."""
    handler = make_handler(lambda: None, name="other", description="Something else.")
    assert (handler.name, handler.description) == ("other", "Something else.")
    assert (handler.options.timeout, handler.options.retry, handler.context_name) == (
        ...,
        None,
        None,
    )


async def coroutine(x: int) -> int:
    return x


def function(x: int) -> int:
    return x


async def generator(x: int) -> AsyncIterator[str]:
    yield str(x)


class Callables:
    """Objects of this class can be called."""

    async def __call__(self, x: int) -> int:
        return x

    async def method(self, ctx: JobContext, x: int) -> int:
        return x

    @staticmethod
    def static(x: int) -> int:
        return x

    @classmethod
    async def of_class(cls, x: int) -> int:
        return x


@functools.wraps(coroutine)
async def wrapped(*args: Any, **kwargs: Any) -> int:
    return await coroutine(*args, **kwargs)


@pytest.mark.parametrize(("made_of", "name", "kind"), [
    (coroutine, "coroutine", Kind.COROUTINE), (function, "function", Kind.THREAD),
    (generator, "generator", Kind.GENERATOR), (wrapped, "coroutine", Kind.COROUTINE),
    (Callables(), "Callables", Kind.COROUTINE), (Callables().method, "method", Kind.COROUTINE),
    (Callables.static, "static", Kind.THREAD), (Callables.of_class, "of_class", Kind.COROUTINE),
    (functools.partial(coroutine), "coroutine", Kind.COROUTINE),
    (functools.partial(Callables(), x=1), "Callables", Kind.COROUTINE),
])  # fmt: skip
def test_knows_how_each_kind_runs(made_of: Function, name: str, kind: Kind) -> None:
    """Whatever can be called can be a handler, and none blocks the event loop by mistake."""
    handler = make_handler(made_of)
    assert (handler.name, handler.kind) == (name, kind)
    assert handler.validate({"x": "3"}) == ({"x": 3}, b'{"x":3}')


def test_knows_the_context_by_its_annotation() -> None:
    """The context may have any name and place; it is no param."""

    class Own(JobContext):
        pass

    def last(x: int, job: JobContext) -> None: ...
    def own(context: Own) -> None: ...

    assert (make_handler(last).context_name, make_handler(own).context_name) == ("job", "context")
    assert make_handler(last).validate({"x": 1}) == ({"x": 1}, b'{"x":1}')
    assert make_handler(own).params is None


# What can't be a handler


def missing(x) -> None: ...  # type: ignore[no-untyped-def]  # refused
def variadic(*args: int) -> None: ...
def keywords(**kwargs: int) -> None: ...
def contexts(**contexts: JobContext) -> None: ...
def two_contexts(a: JobContext, b: JobContext) -> None: ...
def sync_generator(n: int) -> Iterator[int]:
    yield n


def bare_context(ctx, n: int) -> None: ...  # type: ignore[no-untyped-def]  # refused
def unresolved(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # refused
def arbitrary(x: Plain) -> None: ...
def not_described(x: Callable[[], int]) -> None: ...
def returns_arbitrary() -> Plain: ...  # type: ignore[empty-body]  # refused
def returns_callable() -> Callable[[], int]: ...  # type: ignore[empty-body]  # refused
def reserved(__class__: int = 1) -> None: ...
def half_a_character(x: str = "\ud83d") -> None: ...
def returns_half_a_character() -> Annotated[str, Field(description="\ud83d")]: ...  # type: ignore[empty-body]  # refused


@pytest.mark.parametrize(("made_of", "said"), [
    (missing, "parameter 'x' of handler 'missing' has no annotation; write its type, as in"),
    (lambda x: x, "parameter 'x' of handler '<lambda>' has no annotation"),
    (variadic, "handler 'variadic' takes *args: int; params are validated one by one"),
    (keywords, "handler 'keywords' takes **kwargs: int; params are"),
    (contexts, "handler 'contexts' takes **contexts: jobrunner.context.JobContext; params are"),
    (two_contexts, "the params of handler 'two_contexts' can't be validated"),
    (sync_generator, "handler 'sync_generator' is a generator; write `async def` to stream"),
    (bare_context, "parameter 'ctx' of handler 'bare_context' has no annotation; write its type, "
                   "as in `ctx: JobContext`"),
    (unresolved, "an annotation of handler 'unresolved' can't be resolved: name 'Nowhere' is not"),
    (arbitrary, "the params of handler 'arbitrary' can't be validated"),
    (not_described, "the params of handler 'not_described' can't be validated"),
    (returns_arbitrary, "handler 'returns_arbitrary' returns <class 'tests."),
    (returns_callable, "handler 'returns_callable' returns"),
    (half_a_character, "the params of handler 'half_a_character' can't be validated"),
    (returns_half_a_character, "handler 'returns_half_a_character' returns"),
    (reserved, "parameter '__class__' of handler 'reserved' has a name that belongs to Python"),
    (dict, "handler 'dict' has no signature to read"),
    (len, "parameter 'obj' of handler 'len' has no annotation"),
    (5, "5 is not a function"),
    (string_annotations.make_shipper(), "an annotation of handler 'take' can't be resolved"),
])  # fmt: skip
def test_refuses_what_can_not_be_a_handler(made_of: Any, said: str) -> None:
    """Found where it is written, with what to write instead."""
    with pytest.raises(InvalidHandler) as refused:
        make_handler(made_of)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("name", ["line\nbreak", "\ud800", "\x00", "x" * (MAX_NAME + 1)])
def test_refuses_a_name_that_can_not_be_shown(name: str) -> None:
    """A type's name stands in URLs, logs and metrics, and in JSON."""
    with pytest.raises(InvalidHandler, match="can't name a job type; take 1 to 128"):
        make_handler(lambda: None, name=name)


def test_a_name_may_be_as_long_as_it_says() -> None:
    """The bound itself is within."""
    assert make_handler(lambda: None, name="x" * MAX_NAME).name == "x" * MAX_NAME


# Params


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("default", ["", " = 4"])
def test_s8_takes_a_param_of_every_name(name: str, default: str) -> None:
    """A handler isn't written around the names that a model would drop or refuse (S8)."""
    handler = make_handler(function_of(f"def f({name}: int{default}) -> None: ..."))
    assert handler.validate({name: "4"}) == ({name: 4}, f'{{"{name}":4}}'.encode())
    assert list(handler.params_schema()["properties"]) == [name]
    if default:
        assert handler.validate({}) == ({name: 4}, f'{{"{name}":4}}'.encode())


def test_resolves_postponed_annotations() -> None:
    """`from __future__ import annotations` makes strings of all of them."""
    handler = make_handler(string_annotations.ship)
    assert handler.context_name == "ctx"
    assert handler.validate({"order": {"number": 1}})[0] == {
        "order": string_annotations.Order(number=1)
    }


def test_a_function_of_a_module_means_the_names_of_its_module() -> None:
    """Whoever registers it may have other things of the same name (`Order` here is an int)."""
    handler = make_handler(string_annotations.ship, namespace={"Order": int})
    assert handler.load_result(b'{"number":1}') == string_annotations.Order(number=1)


def test_a_local_function_may_mean_local_types() -> None:
    """Tests and factories define types beside their handlers."""

    class Local(BaseModel):
        n: int

    def handle(value: "Local") -> None: ...

    handler = make_handler(handle, namespace=locals())
    assert handler.validate({"value": {"n": 1}})[0] == {"value": Local(n=1)}


@pytest.mark.parametrize(
    "annotation",
    [JobContext | None, Optional[JobContext], Annotated[JobContext, "who runs"]],  # noqa: UP045  # as people write
)
def test_a_context_may_be_optional_or_described(annotation: Any) -> None:
    """A handler that is called by hand as well says so with a default."""

    def handle(a: Any) -> None: ...

    handle.__annotations__["a"] = annotation
    assert make_handler(handle).context_name == "a"


@pytest.mark.parametrize("annotation", [NoReturn, Never])
def test_a_handler_may_say_that_it_never_returns(annotation: Any) -> None:
    """One that runs until it is stopped, or only ever fails, has no result to check."""

    def handle() -> None: ...

    handle.__annotations__["return"] = annotation
    assert make_handler(handle).result_schema() == {}
