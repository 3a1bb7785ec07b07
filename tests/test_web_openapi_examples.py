"""Examples in the OpenAPI document: there for each operation, and accepted by the server."""

from collections.abc import AsyncIterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
import pytest_asyncio
from pydantic import AfterValidator, BaseModel, Field, SecretStr, WithJsonSchema

from jobrunner.batch_views import BatchView
from jobrunner.deliveries import DeliveryView
from jobrunner.views import JobView
from tests.serving import Bench, in_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"
HIDDEN = SecretStr("hidden")


class Colour(StrEnum):
    RED = "red"


class Node(BaseModel):
    """Holds others of itself, and may hold none."""

    colour: Colour
    next: "Node | None" = None
    others: list["Node"] = []


class Endless(BaseModel):
    """Can't be made at all."""

    inner: "Endless"


def odd(value: int) -> int:
    if value % 2 == 0:
        raise ZeroDivisionError(value)
    return value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    async with in_process() as served:
        runner = served.runner

        @runner.job
        async def numbers(
            low: Annotated[int, Field(ge=7)],
            over: Annotated[float, Field(gt=7)],
            under: Annotated[int, Field(lt=-7)],
            third: Annotated[int, Field(multiple_of=3)],
            free: float,
            sure: bool,
        ) -> None:
            pass

        @runner.job
        async def texts(
            day: date,
            long: Annotated[str, Field(min_length=9)],
            short: Annotated[str, Field(max_length=2)],
            one: Literal["one", "two"],
            only: Literal["only"],
            said: Annotated[str, Field(examples=["said"])],
            kept: str = "kept",
            none: str | None = None,
        ) -> None:
            pass

        @runner.job
        async def models(
            node: Node,
            many: Annotated[list[Node], Field(min_length=2)],
            pair: tuple[int, str],
            either: int | str,
            anything: Any,
            nothing: None,
            listed: Annotated[Any, WithJsonSchema({"type": ["null", "integer"]})],
            open: Annotated[Any, WithJsonSchema({"allOf": [True]})],
            later: Annotated[
                Any, WithJsonSchema({"anyOf": [{"type": "null"}, {"type": "integer"}]})
            ],
            password: SecretStr = HIDDEN,
            token: str = "hidden",
        ) -> None:
            pass

        @runner.job
        async def patterned(text: Annotated[str, Field(pattern="^[A-Z]{3}$")]) -> None:
            pass

        @runner.job
        async def checked(value: Annotated[int, Field(ge=2), AfterValidator(odd)]) -> None:
            pass

        @runner.job
        async def endless(value: Endless) -> None:
            pass

        yield served


async def operations(served: Bench) -> list[dict[str, Any]]:
    paths = (await served.client.get("/openapi.json")).json()["paths"]
    return [
        operation
        for path in paths.values()
        for operation in path.values()
        if isinstance(operation, dict)
    ]


async def bodies(served: Bench, name: str) -> dict[str, Any]:
    """Return the examples of an operation's body by their names."""
    found = next(each for each in await operations(served) if each["operationId"] == name)
    examples = found["requestBody"]["content"][JSON]["examples"]
    return {key: example["value"] for key, example in examples.items()}


async def test_each_body_has_an_example(served: Bench) -> None:
    """Whoever reads the document sees what to send, and what comes back."""
    contents = [
        content
        for operation in await operations(served)
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in part.get("content", {}).values()
    ]
    assert len(contents) > 50
    assert [each for each in contents if not each.get("examples")] == []


async def test_every_example_of_a_job_is_accepted(served: Bench) -> None:
    """An example that is refused is worse than none."""
    answers = {}
    for name, body in (await bodies(served, "submit")).items():
        answers[name] = (await served.client.post("/jobs", json=body)).status_code
    assert answers.keys() >= {"echo", "numbers", "texts", "models"}
    assert set(answers.values()) == {202}


async def test_every_example_of_a_batch_is_accepted(served: Bench) -> None:
    """Job types without params have a list of empty ones."""
    answers = {}
    for name, body in (await bodies(served, "submitBatch")).items():
        answers[name] = (await served.client.post("/batches", json=body)).status_code
    assert answers.keys() == (await bodies(served, "submit")).keys()
    assert set(answers.values()) == {202}


async def test_examples_show_what_a_schema_says(served: Bench) -> None:
    """Bounds, defaults, enums and examples of the user's come before anything made up."""
    found = await bodies(served, "submit")
    assert found["numbers"]["params"] == {
        "low": 7, "over": 7.5, "under": -8, "third": 3, "free": 1, "sure": True,
    }  # fmt: skip
    assert found["texts"]["params"] == {
        "day": "2026-11-22", "long": "textxxxxx", "short": "te", "one": "one", "only": "only",
        "said": "said", "kept": "kept",
    }  # fmt: skip
    node = {"colour": "red", "others": []}
    assert found["models"]["params"] == {
        "node": node, "many": [node, node], "pair": [1, "text"], "either": 1, "anything": None,
        "nothing": None,
        "listed": 1, "open": None, "later": 1,
    }  # fmt: skip


async def test_what_no_schema_tells_has_no_example(served: Bench) -> None:
    """Patterns, own validators that break, models without an end: the document is there anyway."""
    found = await bodies(served, "submit")
    assert found.keys() & {"patterned", "checked", "endless"} == set()


async def test_examples_of_answers_have_the_shape_of_answers(served: Bench) -> None:
    """They are written by hand, and a member that is added tomorrow is missing here."""
    views: dict[str, type[BaseModel]] = {
        "Job": JobView,
        "Batch": BatchView,
        "Delivery": DeliveryView,
    }
    checked = set()
    for operation in await operations(served):
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get(JSON, {})
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in views:
                value = content["examples"]["one"]["value"]
                links = {"links"} & value.keys()
                assert value.keys() - links == views[name].model_fields.keys()
                views[name].model_validate({k: v for k, v in value.items() if k != "links"})
                checked.add(name)
    assert checked == views.keys()


async def test_request_headers_stand_where_they_count(served: Bench) -> None:
    """A generated client offers what is in the document, and nothing else."""
    told = {
        operation["operationId"]: {
            each["name"] for each in operation.get("parameters", []) if each["in"] == "header"
        }
        for operation in await operations(served)
    }
    assert {name: headers for name, headers in told.items() if headers} == {
        "submit": {"Idempotency-Key", "Prefer", "traceparent"},
        "submitBatch": {"Idempotency-Key", "traceparent"},
        "getJob": {"If-None-Match", "Prefer"},
        "streamJob": {"Last-Event-ID"},
        "streamBatch": {"Last-Event-ID"},
        "streamJobs": {"Last-Event-ID"},
    }


async def test_no_example_of_an_idempotency_key(served: Bench) -> None:
    """Tools send the examples that they find, and the second request would be refused."""
    keys = [
        each
        for operation in await operations(served)
        for each in operation.get("parameters", [])
        if each["name"] == "Idempotency-Key"
    ]
    assert len(keys) == 2
    assert [each for each in keys if {"example", "examples"} & each.keys()] == []
