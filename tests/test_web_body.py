"""Request bodies: whatever comes over the wire is answered, and the server goes on."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Message

from jobrunner.web import create_app
from tests.serving import Answer, Bench, bench, in_process, raw_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1_048_576
PROBLEM = "application/problem+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: what one body does to it, the next one would notice."""
    async with bench() as served:
        yield served


def body_of(params: str) -> bytes:
    return b'{"type":"echo","params":{"value":%b}}' % params.encode()


async def post(
    served: Bench, body: bytes, *lines: str, length: int | None = None, path: str = "/jobs"
) -> Answer:
    """Post bytes as they are."""
    size = len(body) if length is None else length
    sent = head(served, *lines, f"Content-Length: {size}", path=path)
    return await raw_request(served.url, sent, body)


def head(served: Bench, *lines: str, path: str = "/jobs") -> bytes:
    kind = () if any(x.lower().startswith("content-type") for x in lines) else (
        "Content-Type: application/json",)  # fmt: skip
    all_lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {served.url.removeprefix('http://')}",
        f"Authorization: Bearer {served.token}",
        "Connection: close",
        *kind,
        *lines,
    ]
    return "".join(f"{line}\r\n" for line in all_lines).encode() + b"\r\n"


NOT_JSON = {
    "half an object": b'{"type": "echo"',
    "a word": b"hello",
    "a form": b"type=echo&value=1",
    "two values": b"{} {}",
    "a trailing comma": b'{"type": "echo",}',
    "a comment": b'{"type": "echo" /* now */}',
    "a byte order mark": b'\xef\xbb\xbf{"type": "echo"}',
    "no UTF-8": b'{"type": "\xff\xfe"}',
    "UTF-16": '{"type": "echo"}'.encode("utf-16"),
    "a surrogate in UTF-8": b'{"type": "\xed\xa0\x80"}',
    "a lone surrogate": body_of(r'"\ud800"'),
    "a lone surrogate as a name": body_of(r'{"\udfff": 1}'),
    "a null byte": b'{"type": "echo"}\x00',
    "a line end in a text": b'{"type": "ec\nho"}',
    "NaN": body_of("NaN"),
    "Infinity": body_of("Infinity"),
    "minus Infinity": body_of("-Infinity"),
    "a number that is infinite": body_of("1e999"),
    "a negative number that is infinite": body_of("-1e999"),
    "an integer of 21 digits": body_of("1" * 21),
    "an integer of 5,000 digits": body_of("1" * 5_000),
    "a name twice": b'{"type": "echo", "type": "fail"}',
    "a name twice inside": body_of('{"a": {"b": 1, "b": 1}}'),
    "65 levels of arrays": body_of("[" * 63 + "]" * 63),
    "100,000 levels of arrays": b"[" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000,
    "levels behind a broken end": b"]" * 1_000 + b"[" * 100_000,
    "levels behind an escaped quote": body_of(r'"\""')[:-2] + b"," + b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
async def test_a_body_that_is_no_clean_json_is_a_400(served: Bench, body: bytes) -> None:
    """What two parsers could read in two ways is refused by the first one, and is never a 500."""
    answer = await post(served, body)
    assert answer.problem == (400, PROBLEM, "invalid-json")


GOOD = {
    "64 levels": ("[" * 62 + "]" * 62),
    "brackets in a text": json.dumps("[" * 1_000),
    "brackets behind an escaped quote": r'"\"' + "[" * 1_000 + '"',
    "an escaped backslash at the end of a text": r'["\\", "["]',
    "an integer of 20 digits": "1" * 20,
    "a negative integer of 20 digits": "-" + "1" * 20,
    "a surrogate pair": r'"\ud83d\ude00"',
    "a null byte as an escape": r'"\u0000"',
    "U+2028": '"\u2028"',
    "a very small number": "1e-999",
    "one name in two objects": '[{"a": 1}, {"a": 1}]',
    "all kinds": '[null, true, false, 0, -1.5, "", {}, []]',
}


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD)
async def test_clean_json_comes_to_the_handler_as_it_is(served: Bench, value: str) -> None:
    """A cap that refused what is harmless would be a bug of ours in somebody's data."""
    answer = await post(served, body_of(value), "Prefer: wait=30")
    assert (answer.status, json.loads(answer.body)["result"]) == (200, json.loads(value))


WRONG: dict[str, tuple[Any, list[str]]] = {
    "an array": ([], ["#"]),
    "a text": ("echo", ["#"]),
    "null": (None, ["#"]),
    "a number": (0, ["#"]),
    "nothing in it": ({}, ["#/type"]),
    "a type that is a number": ({"type": 1}, ["#/type"]),
    "a type that is null": ({"type": None}, ["#/type"]),
    "params that are an array": ({"type": "echo", "params": []}, ["#/params"]),
    "params that are null": ({"type": "echo", "params": None}, ["#/params"]),
    "a priority that is a text": ({"type": "echo", "priority": "1"}, ["#/priority"]),
    "a priority with a fraction": ({"type": "echo", "priority": 1.5}, ["#/priority"]),
    "a priority that is true": ({"type": "echo", "priority": True}, ["#/priority"]),
    "a delay below 0": ({"type": "echo", "delay": -1}, ["#/delay"]),
    "a timeout of 0": ({"type": "echo", "timeout": 0}, ["#/timeout"]),
    "a session that is a number": ({"type": "echo", "session_id": 1}, ["#/session_id"]),
    "metadata that is an array": ({"type": "echo", "metadata": []}, ["#/metadata"]),
    "an unknown name": ({"type": "echo", "color": 1}, ["#/color"]),
    "a name to be escaped": ({"type": "echo", "a/b~c d%": 1}, ["#/a~1b~0c%20d%25"]),
    "two faults": ({"type": 1, "delay": "soon"}, ["#/type", "#/delay"]),
}


@pytest.mark.parametrize(("body", "pointers"), WRONG.values(), ids=WRONG)
async def test_a_body_of_the_wrong_shape_is_a_422_that_points(
    served: Bench, body: Any, pointers: list[str]
) -> None:
    """A program mends its request from the pointer (RFC 6901, as a URI fragment), not the text."""
    answer = await post(served, json.dumps(body).encode())
    assert answer.problem == (422, PROBLEM, "invalid-request")
    assert [fault["pointer"] for fault in json.loads(answer.body)["errors"]] == pointers


async def test_params_that_do_not_fit_are_pointed_at_inside_the_body(served: Bench) -> None:
    """The pointer is into the whole body: a client shouldn't have to know where params begin."""
    answer = await post(served, b'{"type": "fail", "params": {"mesage": "x"}}')
    assert answer.problem == (422, PROBLEM, "invalid-params")
    assert sorted(json.loads(answer.body)["errors"], key=str) == [
        {"detail": "this param is missing", "pointer": "#/params/message"},
        {"detail": "this param is unknown", "pointer": "#/params/mesage"},
    ]


@pytest.mark.parametrize("priority", ["1.0", "1e2", "-0.0"])
async def test_an_integer_may_be_written_as_json_schema_lets_it(
    served: Bench, priority: str
) -> None:
    """To JSON Schema 1.0 is an integer, and the document says no more than integer."""
    answer = await post(served, b'{"type": "echo", "priority": %b}' % priority.encode())
    taken = json.loads(answer.body)["priority"]
    assert (answer.status, taken, type(taken)) == (202, float(priority), int)
    batch = b'{"type": "echo", "params": [], "max_in_flight": %b}' % priority.encode()
    path, wanted = "/batches", 422 if float(priority) == 0 else 202
    assert (await post(served, batch, path=path)).status == wanted


BAD_OPTIONS: dict[str, dict[str, Any]] = {
    "a priority above 100": {"priority": 101},
    "a priority of 20 digits": {"priority": int("9" * 20)},
    "a delay above a hundred years": {"delay": 1e300},
    "a timeout above a hundred years": {"timeout": 1e300},
    "an empty session": {"session_id": ""},
    "a session of 257 characters": {"session_id": "s" * 257},
    "a session with a line end": {"session_id": "s\r\nid: 7"},
}


@pytest.mark.parametrize("options", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
async def test_an_option_that_a_job_cannot_have_is_a_422(
    served: Bench, options: dict[str, Any]
) -> None:
    """The runner's own limits hold over HTTP too, and say so instead of failing."""
    answer = await post(served, json.dumps({"type": "echo", **options}).encode())
    assert answer.problem == (422, PROBLEM, "invalid-option")


async def test_an_unknown_type_is_a_422_of_bounded_length(served: Bench) -> None:
    """The answer to a request isn't larger because the request was silly."""
    answer = await post(served, json.dumps({"type": "x" * 500_000}).encode())
    assert answer.problem == (422, PROBLEM, "unknown-job-type")
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("names", [2, 5_000])
async def test_a_body_of_many_faults_has_an_answer_of_bounded_length(
    served: Bench, names: int
) -> None:
    """Five thousand faults of a hundred bytes each would come back as megabytes."""
    body = {"type": "echo"} | {f"unknown_{n}": n for n in range(names)}
    answer = await post(served, json.dumps(body).encode())
    assert answer.problem == (422, PROBLEM, "invalid-request")
    assert len(json.loads(answer.body)["errors"]) == min(names, 100)
    assert len(answer.body) < 50_000


async def test_many_params_that_do_not_fit_have_an_answer_of_bounded_length(served: Bench) -> None:
    """The same inside the params, whose faults the runner finds."""
    body = {"type": "echo", "params": {f"unknown_{n}": n for n in range(5_000)}}
    answer = await post(served, json.dumps(body).encode())
    assert answer.problem == (422, PROBLEM, "invalid-params")
    assert len(json.loads(answer.body)["errors"]) == 100


async def test_params_above_their_limit_are_a_413(served: Bench) -> None:
    """A body may be fine and its params still be more than a job may keep."""
    answer = await post(served, body_of(json.dumps("x" * 300_000)))
    assert answer.problem == (413, PROBLEM, "payload-too-large")


async def test_a_body_of_a_mebibyte_is_read(served: Bench) -> None:
    """The limit is what is allowed, not what is refused."""
    answer = await post(served, b'{"type": "nobody"}'.ljust(MIB))
    assert answer.problem == (422, PROBLEM, "unknown-job-type")


async def test_a_body_above_a_mebibyte_is_a_413(served: Bench) -> None:
    """The answer comes though the client meant to send two hundred times as much."""
    answer = await post(served, b" " * (MIB + 1), length=200 * MIB)
    assert answer.problem == (413, PROBLEM, "payload-too-large")


async def test_a_chunked_body_is_counted_while_it_is_read(served: Bench) -> None:
    """No header says how long it will be, so that only counting helps."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    answer = await raw_request(
        served.url, head(served, "Transfer-Encoding: chunked"), *[chunk] * 16, b"1\r\n \r\n"
    )  # no more than has to be read: what is left unread has a system reset the connection
    assert answer.problem == (413, PROBLEM, "payload-too-large")


async def test_a_chunked_body_is_read(served: Bench) -> None:
    """Clients that stream their JSON send chunks, cut anywhere."""
    body = body_of('"\u00e4"')
    chunks = [b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body))]
    lines = ("Transfer-Encoding: chunked", "Prefer: wait=30")
    answer = await raw_request(served.url, head(served, *lines), *chunks, b"0\r\n\r\n")
    assert json.loads(answer.body)["result"] == "\u00e4"


@pytest.mark.parametrize("body", [b"", b"  \r\n\t"], ids=["empty", "blank"])
async def test_an_empty_body_is_an_empty_object(served: Bench, body: bytes) -> None:
    """`curl -X POST .../cancel` sends none, and means what it says."""
    job_id = await served.finished("echo")
    cancel = head(served, f"Content-Length: {len(body)}", path=f"/jobs/{job_id}/cancel")
    answer = await raw_request(served.url, cancel, body)
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "completed")


KINDS = {
    "text": "text/plain",
    "a form": "application/x-www-form-urlencoded",
    "a form with files": "multipart/form-data; boundary=x",
    "json as a parameter": "text/plain; application/json",
    "json as a prefix": "application/json-seq",
    "nothing": "",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_body_that_does_not_say_it_is_json_is_a_415(served: Bench, kind: str) -> None:
    """A form can send these from any page without asking; JSON it can't."""
    answer = await post(served, body_of("1"), f"Content-Type: {kind}")
    assert answer.problem == (415, PROBLEM, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_a_content_type_may_have_parameters_and_capitals(served: Bench, kind: str) -> None:
    """Half of all clients send a charset with it."""
    answer = await post(served, body_of("1"), f"Content-Type: {kind}")
    assert answer.status == 202


SLOW = {
    "an open text full of escaped quotes": b'"' + b'\\"' * 100_000,
    "a name twice behind a hundred thousand": json.dumps(
        {f"{n}": 0 for n in range(80_000)}
    ).encode()[:-1] + b', "x": 0, "x": 0}',
    "a number of a million digits": b"0." + b"1" * 1_000_000,
    "two hundred thousand brackets": b"[]" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW)
async def test_no_body_stops_the_server_for_long(served: Bench, body: bytes) -> None:
    """One request of a mebibyte mustn't freeze every job and stream beside it."""
    began = time.process_time()
    answer = await post(served, body)
    assert time.process_time() - began < 2.0
    assert answer.status in (400, 422)


async def test_a_client_that_leaves_inside_its_body_does_no_harm() -> None:
    """Connections break; nobody is left to answer, and no half of a request is a job."""
    async with in_process() as served:
        app = create_app(served.runner, auth=None)
        started: list[int] = []

        async def left() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            started.extend([message["status"]] if "status" in message else [])

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        await app(
            {"type": "http", "method": "POST", "path": "/jobs", "headers": headers,
             "query_string": b"", "root_path": ""},
            left, send,
        )  # fmt: skip
        assert (started, sum(served.runner.stats().jobs.values())) == ([400], 0)


async def test_a_body_that_no_header_announces_has_to_say_what_it_is() -> None:
    """HTTP/2 needs neither a length nor a transfer encoding (RFC 9113, 8.1), so only it shows."""
    async with in_process() as served:
        app = create_app(served.runner, auth=None)
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b'{"type":"echo"}', "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost")]
        await app(
            {"type": "http", "method": "POST", "path": "/jobs", "headers": headers,
             "query_string": b"", "root_path": ""},
            receive, send,
        )  # fmt: skip
        assert sum(served.runner.stats().jobs.values()) == 0
    assert sent[0]["status"] == 415
    assert json.loads(sent[1]["body"])["type"] == "/problems/unsupported-media-type"


async def test_nothing_broken_makes_a_job(served: Bench) -> None:
    """A refused request has left nothing behind, and the server takes the next one."""
    before = len((await served.client.get("/jobs?type=fail")).json()["jobs"])
    for body in NOT_JSON.values():
        await post(served, body.replace(b"echo", b"fail"))
    after = len((await served.client.get("/jobs?type=fail")).json()["jobs"])
    assert (await post(served, body_of("1"))).status == 202
    assert after == before
