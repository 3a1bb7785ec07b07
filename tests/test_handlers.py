"""A function becomes a job type, its signature the schema of the params."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr
from pydantic_core import from_json

from jobrunner import (
    DuplicateJobType,
    InvalidParams,
    InvalidResult,
    JobContext,
    UnknownJobType,
)
from jobrunner.context import Desk
from jobrunner.handlers import Function, Handlers
from jobrunner.signatures import make_handler
from jobrunner.testing import virtual_time
from tests.records import make_job


class Colour(Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    numbers: list[int] = []


@dataclass
class Point:
    x: int
    y: int = field(default=0)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def function(x: int) -> int:
    return x


async def coroutine(x: int) -> int:
    return x


async def generator(x: int) -> AsyncIterator[str]:
    yield str(x)


def context_for(max_attempts: int = 1) -> JobContext:
    job = make_job(max_attempts=max_attempts)
    desk = Desk(asyncio.get_running_loop(), record=lambda *_: None, extend=lambda *_: None)
    return JobContext(job, desk)


def problems(function: Function, params: Any) -> list[tuple[str, str]]:
    """Return pointer and detail of each thing that is wrong with the params."""
    with pytest.raises(InvalidParams) as refused:
        make_handler(function).validate(params)
    return [(p["pointer"], p["detail"]) for p in refused.value.errors]


def test_validates_against_the_annotations() -> None:
    """A handler gets values of the types that it asks for."""

    def handle(
        when: datetime, place: Path, colour: Colour, mode: Literal["a", "b"], address: Address,
        point: Point, matrix: list[tuple[int, float]], anything: Any, old: date | None = None,
    ) -> None: ...  # fmt: skip

    params = {
        "when": "2026-11-22T03:00:00Z", "place": "/tmp", "colour": "red", "mode": "a",
        "address": {"street": "s", "numbers": ["1"]}, "point": {"x": 1}, "matrix": [[1, 2]],
        "anything": {"k": [None]},
    }  # fmt: skip
    arguments, raw = make_handler(handle).validate(params)
    assert arguments == {
        "when": datetime(2026, 11, 22, 3, tzinfo=UTC), "place": Path("/tmp"),
        "colour": Colour.RED, "mode": "a", "address": Address(street="s", numbers=[1]),
        "point": Point(1), "matrix": [(1, 2.0)], "anything": {"k": [None]}, "old": None,
    }  # fmt: skip
    assert from_json(raw) == params | {
        "address": {"street": "s", "numbers": [1]}, "point": {"x": 1, "y": 0},
        "matrix": [[1, 2.0]], "old": None,
    }  # fmt: skip


def test_kept_params_can_be_given_again() -> None:
    """A job is run again from what is kept, so aliases are kept as they were sent."""

    def handle(source: Annotated[str, Field(alias="from")], at: datetime) -> None: ...

    handler = make_handler(handle)
    arguments, raw = handler.validate({"from": "here", "at": datetime(2026, 1, 1, tzinfo=UTC)})
    assert raw == b'{"from":"here","at":"2026-01-01T00:00:00Z"}'
    assert handler.validate(from_json(raw)) == (arguments, raw)


def test_kept_numbers_that_json_has_not_can_be_given_again() -> None:
    """As null they would be other params, or none at all."""

    def handle(ratios: list[float], most: float | None = math.inf) -> None: ...

    handler = make_handler(handle)
    arguments, raw = handler.validate({"ratios": [-math.inf, 1.0]})
    assert raw == b'{"ratios":["-Infinity",1.0],"most":"Infinity"}'
    assert handler.validate(handler.given(raw)) == (arguments, raw)


def test_defaults_that_json_has_not_are_text_in_a_schema() -> None:
    """One bare Infinity, and no client can read the list of all job types."""

    class Bounds(BaseModel):
        most: float = math.inf
        least: float = -math.inf

    def handle(most: float = math.inf) -> Bounds: ...  # type: ignore[empty-body]  # never called

    handler = make_handler(handle)
    assert handler.params_schema()["properties"]["most"]["default"] == "Infinity"
    found = handler.result_schema()["properties"]
    assert (found["most"]["default"], found["least"]["default"]) == ("Infinity", "-Infinity")


@pytest.mark.parametrize("params", [{"x": 1}, MappingProxyType({"x": 1})])
def test_takes_any_mapping(params: Mapping[str, Any]) -> None:
    """`submit` says it takes a mapping."""
    assert make_handler(function).validate(params) == ({"x": 1}, b'{"x":1}')


def test_fills_in_defaults() -> None:
    """Also those that are values of a class, or can be changed."""

    def handle(
        a: int = 1, b: Colour = Colour.RED, c: str | None = None, d: list[int] = [1],  # noqa: B006  # as people write
        e: Address = Address(street="s"), f: int = Field(3, ge=1),  # noqa: B008  # likewise
    ) -> None: ...  # fmt: skip

    arguments, raw = make_handler(handle).validate({})
    assert arguments == {"a": 1, "b": Colour.RED, "c": None, "d": [1], "e": Address(street="s"),
                         "f": 3}  # fmt: skip
    assert from_json(raw)["e"] == {"street": "s", "numbers": []}
    assert problems(handle, {"f": 0}) == [("#/f", "Input should be greater than or equal to 1")]


def test_a_default_that_can_be_changed_is_new_for_each_job() -> None:
    """A list as default would be shared by all jobs."""

    def handle(items: list[int] = []) -> None: ...  # noqa: B006  # as is tested

    handler = make_handler(handle)
    first = handler.validate({})[0]["items"]
    first.append(1)
    assert handler.validate({})[0] == {"items": []}


def test_obeys_constraints_in_annotated() -> None:
    """Limits that stand in the signature are limits of the job type, and in its schema."""

    def handle(n: Annotated[int, Field(ge=1, description="How many.")]) -> None: ...

    assert problems(handle, {"n": 0}) == [("#/n", "Input should be greater than or equal to 1")]
    assert make_handler(handle).params_schema() == {
        "additionalProperties": False, "title": "handle", "type": "object", "required": ["n"],
        "properties": {"n": {"description": "How many.", "minimum": 1, "title": "N",
                             "type": "integer"}},
    }  # fmt: skip


def test_a_secret_reaches_the_handler_and_is_kept_masked() -> None:
    """Secrets never appear in what can be looked at."""

    def handle(token: SecretStr, tokens: dict[str, SecretStr]) -> None: ...

    given = {"token": "one-secret", "tokens": {"a": "other-secret"}}
    arguments, raw = make_handler(handle).validate(given)
    assert arguments["token"].get_secret_value() == "one-secret"
    assert raw == b'{"token":"**********","tokens":{"a":"**********"}}'


def handle_union(x: int | list[int] | Address) -> None: ...


def test_a_union_s_mistakes_point_into_the_params() -> None:
    """A client follows the pointer; which member of the union was tried isn't in its body."""
    assert {pointer for pointer, _ in problems(handle_union, {"x": "text"})} == {"#/x"}
    assert {pointer for pointer, _ in problems(handle_union, {"x": [1, "text"]})} == {
        "#/x", "#/x/1"
    }  # fmt: skip
    assert {pointer for pointer, _ in problems(handle_union, {"x": {}})} == {"#/x", "#/x/street"}


def handle_many(path: str, count: int, address: Address, tags: dict[str, int]) -> None: ...


@pytest.mark.parametrize(("params", "expected"), [
    ({}, [(f"#/{n}", "this param is missing") for n in ("path", "count", "address", "tags")]),
    ({"path": 1, "count": "x", "address": {}, "tags": {}}, [
        ("#/path", "Input should be a valid string"),
        ("#/count", "Input should be a valid integer, unable to parse string as an integer"),
        ("#/address/street", "this param is missing"),
    ]),
    ({"path": "", "count": 1, "address": {"street": "", "numbers": [1, "x"]}, "tags": {}}, [
        ("#/address/numbers/1",
         "Input should be a valid integer, unable to parse string as an integer"),
    ]),
    ({"path": "", "count": 1, "address": {"street": ""}, "tags": {}, "pth": 1},
     [("#/pth", "this param is unknown")]),
    ({"path": "", "count": 1, "address": {"street": ""}, "tags": {"a b/~ä%": None}},
     [("#/tags/a%20b~1~0%C3%A4%25", "Input should be a valid integer")]),
    ([1], [("#", "Input should be a dictionary or an instance of Params")]),
    ({1: 2, "path": "", "count": 1, "address": {"street": ""}, "tags": {}},
     [("#/1", "Keys should be strings")]),
])  # fmt: skip
def test_says_where_params_are_wrong(params: Any, expected: list[tuple[str, str]]) -> None:
    """Each mistake by a JSON pointer (RFC 6901), so that a client can show it beside its field."""
    assert problems(handle_many, params) == expected


def test_a_handler_without_params_takes_none() -> None:
    """A misspelt param isn't dropped in silence."""
    handler = make_handler(lambda: None, name="nothing")
    assert handler.validate({}) == ({}, b"{}")
    assert handler.params_schema() == {
        "type": "object", "properties": {}, "additionalProperties": False,
    }  # fmt: skip
    assert problems(lambda: None, {"x": 1, "\ud800": 2}) == [
        ("#/x", "this param is unknown"), ("#/?", "this param is unknown"),
    ]  # fmt: skip


def test_the_message_lists_the_first_mistakes() -> None:
    """A model that reads only the message can act on it; a hundred lines would help nobody."""
    with pytest.raises(InvalidParams) as refused:
        make_handler(lambda: None, name="job").validate({f"ö{i}": 1 for i in range(7)})
    shown = "; ".join(f"ö{i}: this param is unknown" for i in range(5))
    assert str(refused.value) == f"the params don't fit job type 'job': {shown}; and 2 more"
    assert len(refused.value.errors) == 7
    with pytest.raises(InvalidParams, match="job type 'function': params: Input should be"):
        make_handler(function).validate([])  # type: ignore[arg-type]  # refused, as is tested


def keep_anything(value: Any) -> None: ...


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [
    "half \ud800", b"\xff", object(), circle(), 10**5_000, nested(200), nested(250),
    nested(1_000), nested(100_000), {"\ud800": 1}, print,
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_refuses_params_that_can_not_be_kept(value: Any) -> None:
    """What could be run and not shown would break every list that the job is in (Q9)."""
    with pytest.raises(InvalidParams, match="the params of 'keep_anything' can't be kept"):
        make_handler(keep_anything).validate({"value": value})


@pytest.mark.parametrize(("value", "kept"), [
    (math.nan, "NaN"), ({3}, [3]), (b"text", "text"), (nested(140), nested(140)),
    (10**4_000, 10**4_000), ((1, 2), [1, 2]), (Point(1), {"x": 1, "y": 0}),
])  # fmt: skip
def test_keeps_what_can_be_json(value: Any, kept: Any) -> None:
    """The handler gets the value as it was given; what is kept is JSON."""
    arguments, raw = make_handler(keep_anything).validate({"value": value})
    assert arguments["value"] is value
    assert from_json(raw) == {"value": kept}


# String annotations


# Calling


@virtual_time
async def test_calls_with_context_and_arguments_as_declared() -> None:
    """Positional-only, keyword-only, the context in between: as the signature says."""

    def handle(a: int, ctx: JobContext, /, b: int, *, c: int = 3) -> tuple[Any, ...]:
        return (a, ctx, b, c)

    handler, context = make_handler(handle), context_for()
    arguments, _ = handler.validate({"a": 1, "b": 2})
    assert handler.call(context, arguments) == (1, context, 2, 3)


@pytest.mark.parametrize(("max_attempts", "shared"), [(1, True), (2, False)])
def test_each_attempt_gets_values_of_its_own(max_attempts: int, shared: bool) -> None:
    """A second attempt must not find what the first one made of its arguments."""

    @virtual_time
    async def scenario() -> None:
        def handle(items: list[int], name: str) -> list[int]:
            items.append(9)
            return items

        handler, arguments = make_handler(handle), {"items": [1], "name": "n"}
        assert handler.call(context_for(max_attempts), arguments) == [1, 9]
        assert arguments["items"] == ([1, 9] if shared else [1])

    scenario()


# Results


def test_loads_a_result_as_annotated() -> None:
    """`await job.result()` gives what the handler returned, and not only its JSON."""

    def points() -> dict[str, Point]: ...  # type: ignore[empty-body]  # never called

    handler = make_handler(points)
    assert handler.load_result(b'{"a":{"x":1,"y":2}}') == {"a": Point(1, 2)}
    assert handler.result_schema()["additionalProperties"] == {"$ref": "#/$defs/Point"}


@pytest.mark.parametrize("made_of", [lambda: None, generator])
def test_loads_plain_json_when_nothing_is_annotated(made_of: Function) -> None:
    """Any, no annotation, and a generator's yields say nothing of the result."""
    handler = make_handler(made_of)
    assert (handler.load_result(b'{"a":[1]}'), handler.result_schema()) == ({"a": [1]}, {})


def test_a_result_may_be_annotated_with_any() -> None:
    """Any is what it is without an annotation."""

    def handle() -> Any: ...

    assert make_handler(handle).result is None


def test_says_when_a_result_is_not_what_is_annotated() -> None:
    """A handler that lies is found by the first who reads its result."""
    with pytest.raises(InvalidResult, match="the result of 'function' is not what its handler is"):
        make_handler(function).load_result(b'"text"')


# The registry


def test_finds_handlers_by_name_and_by_function() -> None:
    """Both ways to name a job type, in the order in which they came."""
    handlers = Handlers()
    first, second = make_handler(function), make_handler(coroutine)
    handlers.add(first)
    handlers.add(second)
    assert list(handlers) == [first, second]
    assert [handlers.find(x) for x in ("function", function, "coroutine", coroutine)] == [
        first, first, second, second,
    ]  # fmt: skip


def test_refuses_a_second_handler_of_one_name() -> None:
    """The second import of a module must not replace what runs already."""
    handlers = Handlers()
    handlers.add(make_handler(function))
    with pytest.raises(DuplicateJobType, match=r"a job type 'function' already; give this one"):
        handlers.add(make_handler(coroutine, name="function"))
    assert handlers.find("function").function is function


@pytest.mark.parametrize(("asked", "said"), [
    ("functoin", "there is no job type 'functoin'; did you mean 'function'?"),
    ("zzz", "there is no job type 'zzz'; there are: function, coroutine"),
    ("y" * 5_000, f"there is no job type '{'y' * 100}'; there are: function, coroutine"),
    (generator, "generator is not registered as a handler; decorate it with @runner.job"),
    (5, "5 is not registered as a handler"),
    ([], "[] is not registered as a handler"),
])  # fmt: skip
def test_says_what_comes_near_an_unknown_type(asked: Any, said: str) -> None:
    """An unknown type is a clear error (row 1), also for a model that misspelt it."""
    handlers = Handlers()
    handlers.add(make_handler(function))
    handlers.add(make_handler(coroutine))
    with pytest.raises(UnknownJobType) as refused:
        handlers.find(asked)
    assert str(refused.value).startswith(said)


def test_says_when_no_type_is_registered() -> None:
    """Often a module wasn't imported."""
    with pytest.raises(UnknownJobType, match="no job type 'x'; none is registered yet"):
        Handlers().find("x")
