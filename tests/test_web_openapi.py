"""The OpenAPI document: sound, complete, and true of what the server answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel
from starlette.routing import Route

from jobrunner import JobRunner, Question
from jobrunner.web import create_app
from tests.asked import SCHEMAS, add_ask
from tests.serving import Bench, bench, connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OUTSIDE = {"/openapi.json", "/"}
"""The document itself and the page aren't part of what it describes."""


class Colour(StrEnum):
    RED = "red"


class Options(BaseModel):
    """Of one job type; another one has a model of the same name."""

    colour: Colour = Colour.RED
    inner: "Options | None" = None


@dataclass
class Report:
    text: str


def make_other_options() -> type[BaseModel]:
    """Return another model that is named like one we have."""

    class Options(BaseModel):
        size: int

    return Options


Other = make_other_options()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file, with job types of every kind."""
    async with bench() as served:
        runner = served.runner

        @runner.job
        async def paint(options: Options, many: list[Options] | None = None) -> Report:
            """Paint it."""
            return Report("red")

        @runner.job("pa int/1")
        async def spaced(options: Other) -> None:  # type: ignore[valid-type]  # made above
            pass

        @runner.job("pa-int-1")
        async def dashed(value: int) -> None:
            pass

        @runner.job
        async def nothing() -> None:
            pass

        yield served


async def document_of(served: Bench) -> dict[str, Any]:
    document: dict[str, Any] = (await served.client.get("/openapi.json")).json()
    return document


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield method, path, item[method]


def bodies_of(schemas: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the bodies by job type; each is a schema of its own, as generators want it."""
    mapping = schemas[name]["discriminator"]["mapping"]
    assert [{"$ref": ref} for ref in mapping.values()] == schemas[name]["oneOf"]
    return {kind: schemas[ref.rpartition("/")[2]] for kind, ref in mapping.items()}


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


async def test_the_document_has_what_openapi_3_1_asks_for(served: Bench) -> None:
    """Generators refuse a document in which one of these is missing or stands elsewhere."""
    document = await document_of(served)
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    assert document.keys() == {"openapi", "info", "servers", "security", "paths", "components"}
    for name in document["components"]["schemas"]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


async def test_every_operation_is_sound(served: Bench) -> None:
    """Responses with descriptions, parameters that are declared, ids that are unique."""
    document = await document_of(served)
    ids = [operation["operationId"] for *_, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 0
    for _, path, operation in operations(document):
        given = [*document["paths"][path].get("parameters", []), *operation.get("parameters", [])]
        assert all({"name", "in", "schema"} <= parameter.keys() for parameter in given)
        in_path = {p["name"] for p in given if p["in"] == "path" and p["required"] is True}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(re.fullmatch(r"[2-5]\d\d", status) for status in operation["responses"])
        assert all("description" in response for response in operation["responses"].values())


async def test_every_reference_leads_somewhere(served: Bench) -> None:
    """Models inside params refer to others, and to themselves."""
    document = await document_of(served)
    references = [node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)]
    schemas = document["components"]["schemas"]
    assert len(references) > 10
    assert [r for r in references if r.removeprefix("#/components/schemas/") not in schemas] == []


async def test_every_route_is_in_the_document(served: Bench) -> None:
    """A route that is added tomorrow fails here until it is described."""
    document = await document_of(served)
    there = {(method, path) for method, path, _ in operations(document)}
    routes = [
        route
        for route in create_app(JobRunner(), auth=None).routes
        if isinstance(route, Route) and route.path not in OUTSIDE
    ]
    assert there == {(m.lower(), r.path) for r in routes for m in (r.methods or ()) if m != "HEAD"}


async def test_each_job_type_has_its_own_body(served: Bench) -> None:
    """A generated client checks params before it sends them, also of types named alike."""
    document = await document_of(served)
    schemas = document["components"]["schemas"]
    bodies = bodies_of(schemas, "Submit")
    params = {
        name: schemas[body["properties"]["params"]["$ref"].rpartition("/")[2]]["properties"]
        for name, body in bodies.items()
    }
    assert list(params["fail"]) == ["message"]
    assert list(params["pa int/1"]) == ["options"]
    assert list(params["pa-int-1"]) == ["value"]
    assert bodies["nothing"]["required"] == ["type"]
    assert bodies["paint"]["required"] == ["type", "params"]
    assert bodies["paint"]["properties"]["type"] == {"type": "string", "const": "paint"}


async def test_models_of_one_name_stay_apart(served: Bench) -> None:
    """Two job types may each have their `Options`."""
    schemas = (await document_of(served))["components"]["schemas"]
    options = [s["properties"].keys() for name, s in schemas.items() if name.endswith(".Options")]
    assert sorted(map(sorted, options)) == [["colour", "inner"], ["size"]]


async def test_each_schema_of_params_has_a_title_of_its_own(served: Bench) -> None:
    """Generators name classes after titles, without what isn't a letter or a digit."""
    schemas = (await document_of(served))["components"]["schemas"]
    titles = [s["title"] for name, s in schemas.items() if name.startswith(("params", "Submit-"))]
    plain = {re.sub("[^a-z0-9]", "", title.lower()) for title in titles}
    assert len(plain) == len(titles) > 10


async def test_a_runner_without_job_types_has_a_document_too() -> None:
    """Types are registered by import, and somebody may ask before."""
    app = create_app(JobRunner(), auth=None)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        document = (await client.get("/openapi.json")).json()
    submit = document["components"]["schemas"]["Submit"]
    assert (submit["required"], document["servers"]) == (["type"], [{"url": "/"}])


async def test_the_batch_schema_names_what_a_batch_has(served: Bench) -> None:
    """Each member that is answered is described, and the other way round."""
    document = await document_of(served)
    batch = await served.runner.submit_batch("echo", [{}])
    answered = (await served.client.get(f"/batches/{batch.id}")).json()
    schema = document["components"]["schemas"]["Batch"]
    assert schema["properties"].keys() == set(schema["required"]) == answered.keys()


async def test_each_job_type_has_its_own_body_for_many(served: Bench) -> None:
    """The params of a batch are a list of what one job takes."""
    schemas = (await document_of(served))["components"]["schemas"]
    one, many = bodies_of(schemas, "Submit"), bodies_of(schemas, "SubmitBatch")
    assert one.keys() == many.keys()
    assert many["paint"]["properties"]["params"] == {
        "type": "array",
        "items": one["paint"]["properties"]["params"],
    }
    assert many["nothing"]["required"] == ["type", "params"]
    assert many["paint"]["properties"].keys() - one["paint"]["properties"] == {"max_in_flight"}


async def test_the_job_schema_names_what_a_job_has(served: Bench) -> None:
    """Each member that is answered is described, and the other way round."""
    document = await document_of(served)
    job_id = await served.finished("echo")
    job = (await served.client.get(f"/jobs/{job_id}")).json()
    schema = document["components"]["schemas"]["Job"]
    assert schema["properties"].keys() == job.keys() | {"omitted"}  # of brief ones only
    assert set(schema["required"]) == job.keys()
    assert all("description" in member or "$ref" in member or "allOf" in member
               for member in schema["properties"].values())  # fmt: skip


HUGE = b" " * 1_048_577
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("get", "/jobs", {}),
    ("get", "/jobs?limit=x", {}),
    ("get", "/jobs?status=x", {}),
    ("get", "/jobs?cursor=x", {}),
    ("post", "/jobs", {"json": {"type": "echo"}}),
    ("post", "/jobs", {"json": {"type": "echo"}, "headers": {"prefer": "wait=30"}}),
    ("post", "/jobs", {"json": {"type": "unknown"}}),
    ("post", "/jobs", {"content": b"{", "headers": {"content-type": "application/json"}}),
    ("post", "/jobs", {"content": HUGE, "headers": {"content-type": "application/json"}}),
    ("post", "/jobs", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("post", "/jobs", {"json": {}, "headers": {"origin": "null"}}),
    ("post", "/jobs", {"json": {"type": "echo"}, "headers": {"idempotency-key": "openapi"}}),
    ("post", "/jobs", {"json": {"type": "echo"}, "headers": {"idempotency-key": "openapi"}}),
    ("get", "/jobs?limit=1", {}),
    ("get", "/jobs/{done}", {"headers": {"prefer": "wait=1"}}),
    ("get", "/jobs/{done}", {"headers": {"if-none-match": "*"}}),
    ("get", "/jobs/{held}", {}),
    ("get", "/jobs/{done}/logs", {}),
    ("get", "/jobs/{done}/deliveries", {}),
    ("post", "/jobs/{done}/retry", {}),
    ("post", "/retry", {}),
    ("get", "/jobs/{done}", {}),
    ("get", "/jobs/{done}?wait=x", {}),
    ("get", "/jobs/{done}?x=x", {}),
    ("get", "/jobs/{unknown}", {}),
    ("get", "/jobs/{gone}", {}),
    ("get", "/jobs/{done}/result", {}),
    ("get", "/jobs/{held}/result", {}),
    ("get", "/jobs/{failed}/result", {}),
    ("get", "/jobs/{unknown}/result", {}),
    ("get", "/jobs/{gone}/result", {}),
    ("get", "/jobs/{done}/stream", {}),
    ("get", "/jobs/{done}/stream?after=99", {}),
    ("get", "/jobs/{done}/stream?after=x", {}),
    ("get", "/jobs/{unknown}/stream", {}),
    ("get", "/jobs/{gone}/stream", {}),
    ("post", "/jobs/{asking}/input", {"json": {"value": "x"}}),
    ("post", "/jobs/{asking}/input", {"json": {"question_id": "q9", "value": 1}}),
    ("post", "/jobs/{asking}/input", {"json": {"question_id": "q1", "value": 1}}),
    ("post", "/jobs/{done}/input", {"json": {"value": 1}}),
    ("post", "/jobs/{done}/input", {"json": {}}),
    ("post", "/jobs/{unknown}/input", {"json": {"value": 1}}),
    ("post", "/jobs/{gone}/input", {"json": {"value": 1}}),
    ("get", "/answers/{token}", {}),
    ("get", "/answers/wrong", {}),
    ("post", "/answers/wrong", {"json": {"value": 1}}),
    ("post", "/answers/wrong", {"data": {"json": "1"}}),
    ("post", "/answers/{token}", {"json": {"value": "x"}}),
    ("post", "/answers/{token}", {"json": {}}),
    ("post", "/answers/{token}", {"data": {"json": "x"}}),
    ("post", "/answers/{token}", {"content": b"x", "headers": {"content-type": "text/plain"}}),
    ("post", "/answers/{token}",
     {"content": b"{", "headers": {"content-type": "application/json"}}),
    ("post", "/answers/{token}",
     {"content": HUGE, "headers": {"content-type": "application/json"}}),
    ("post", "/answers/{token}", {"data": {"json": "1"}}),
    ("post", "/answers/{other}", {"json": {"value": 1}}),
    ("post", "/jobs/{done}/cancel", {}),
    ("post", "/jobs/{unknown}/cancel", {}),
    ("post", "/jobs/{gone}/cancel", {}),
    ("post", "/jobs/{done}/cancel", {"json": {"reason": 1}}),
    ("post", "/jobs/{done}/cancel",
     {"content": b"{", "headers": {"content-type": "application/json"}}),
    ("post", "/jobs/{done}/cancel",
     {"content": HUGE, "headers": {"content-type": "application/json"}}),
    ("post", "/jobs/{failed}/retry", {}),
    ("post", "/jobs/{held}/retry", {}),
    ("post", "/jobs/{unknown}/retry", {}),
    ("post", "/jobs/{gone}/retry", {}),
    ("delete", "/jobs/{held}", {}),
    ("delete", "/jobs/{unknown}", {}),
    ("delete", "/jobs/{gone}", {}),
    ("delete", "/jobs/{deleted}", {}),
    ("post", "/batches", {"json": {"type": "echo", "params": [{}]}}),
    ("post", "/batches", {"json": {"type": "fail", "params": [{}]}}),
    ("post", "/batches", {"json": {"type": "echo"}}),
    ("post", "/batches", {"content": HUGE, "headers": {"content-type": "application/json"}}),
    ("get", "/batches/{batch}", {}),
    ("get", "/batches/{batch}?wait=x", {}),
    ("get", "/batches/{unknown}", {}),
    ("get", "/batches/{batch}/stream", {}),
    ("get", "/batches/{batch}/stream?after=99", {}),
    ("get", "/batches/{unknown}/stream", {}),
    ("post", "/batches/{batch}/cancel", {}),
    ("post", "/batches/{open}/cancel", {}),
    ("post", "/batches/{batch}/cancel", {"json": {"reason": 1}}),
    ("post", "/batches/{unknown}/cancel", {}),
    ("get", "/types", {}),
    ("get", "/stats", {}),
    ("get", "/metrics", {}),
    ("get", "/healthz", {}),
    ("get", "/readyz", {}),
]  # fmt: skip
HOSTILE: list[dict[str, Any]] = [
    {"headers": {"authorization": ""}},
    {"headers": {"host": "evil.example"}},
    {"headers": {"x-large": "x" * 16_400}},
]


async def question_of(served: Bench, sent: "asyncio.Queue[Question]") -> Question:
    """Have a job ask for a number."""
    SCHEMAS.append(int)
    await served.runner.submit("ask", {"prompt": "How many?", "schema": len(SCHEMAS) - 1})
    return await sent.get()


async def test_every_answer_is_in_the_document(served: Bench) -> None:
    """A status or a content type that nobody was told of is a surprise in somebody's night."""
    document = await document_of(served)
    held = await served.held("openapi")
    questions = add_ask(served.runner)
    asked = [await question_of(served, questions) for _ in range(3)]
    ids = {
        "done": await served.finished("echo"), "failed": await served.finished("fail", message=""),
        "held": held, "deleted": await served.finished("echo"),
        "asking": asked[0].job_id, "token": asked[1].token, "other": asked[2].token,
        "gone": await served.finished("echo"), "unknown": "job_unknown",
        "batch": (await served.runner.submit_batch("echo", [{}])).id,
        "open": (await served.runner.submit_batch("hold", [{"key": "openapi"}])).id,
    }  # fmt: skip
    await served.runner.batch(ids["batch"]).wait()
    await served.client.delete(f"/jobs/{ids['gone']}")
    undocumented: list[Any] = []
    paths = {path: template(path) for _, path, _ in REQUESTS}
    hostile = [(m, p, more) for m, p, _ in REQUESTS for more in HOSTILE]
    auth = {"authorization": f"Bearer {served.token}"}
    async with connect(served.url) as client:
        for method, path, options in REQUESTS + hostile:
            sent = {**options, "headers": auth | options.get("headers", {})}
            response = await client.request(method, path.format(**ids), **sent)
            described = document["paths"][paths[path]][method]["responses"]
            kind = response.headers.get("content-type", "").partition(";")[0]
            answer = described.get(str(response.status_code))
            if answer is None or (kind and kind not in answer.get("content", {})):
                undocumented.append((method, path, response.status_code, kind))
            else:
                undocumented += wrong_headers(answer, response)
    served.gates["openapi"].set()
    assert undocumented == []


HEADERS = {
    "content-disposition", "etag", "idempotency-replayed", "job-outcome", "link", "location",
    "preference-applied", "ratelimit", "ratelimit-policy", "retry-after", "www-authenticate",
}  # fmt: skip
"""What is described; other headers say what they say everywhere."""


def wrong_headers(answer: Mapping[str, Any], response: httpx2.Response) -> list[Any]:
    """Return the headers that came and aren't described, and those that were promised."""
    described = {name.lower(): header for name, header in answer.get("headers", {}).items()}
    came = HEADERS & {name.lower() for name in response.headers}
    promised = {name for name, header in described.items() if header.get("required")}
    wrong = (came - described.keys()) | (promised - came)
    return [(str(response.request.url), response.status_code, name) for name in wrong]


def template(path: str) -> str:
    if path.startswith("/answers"):
        return "/answers/{token}"
    kind = "batch" if path.startswith("/batches") else "job"
    return re.sub(r"\{\w+\}", f"{{{kind}_id}}", path.partition("?")[0])


@pytest.mark.slow  # of a document that long it takes half a second to read every schema
async def test_the_document_is_sound_to_a_validator_of_others(served: Bench) -> None:
    """What makes clients of it reads it by the specification, and not by our tests."""
    validator = pytest.importorskip("openapi_spec_validator", reason="it comes with extra `dev`")
    validator.validate((await served.client.get("/openapi.json")).json())
