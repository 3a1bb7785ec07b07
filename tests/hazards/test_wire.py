"""Whatever comes over the wire has an answer, and none is an error of the server (S6)."""

from random import Random
from typing import Any

import pytest

from jobrunner.web import create_app
from tests.serving import Bench, in_process

BODY = b'{"type": "echo", "params": {"value": [1, "a", null, {"b": 1.5}]}, "priority": 1}'
PIECES = [
    b"NaN", b"1e999", b"9" * 5_000, rb'"\ud800"', b"\xff\xfe", b"[" * 1_000, b"{" * 1_000, b"\x00",
    b'"', b"\\", b"}", b"]", b",", b":", b"-", b"true", b" " * 100, "ä€😀".encode(),
    b"\xed\xa0\x80",
]  # fmt: skip
PATHS = ["/jobs", "/jobs/{}", "/jobs/{}/cancel", "/jobs/{}/retry", "/jobs/{}/result", "/retry",
         "/types", "/openapi.json", "/healthz", "/jobs/{}/stream"]  # fmt: skip


def fuzzed(draw: Random, body: bytes) -> bytes:
    """Return the body with some of its bytes lost, changed, or gone before something odd."""
    raw = bytearray(body)
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(raw) + 1)
        change = draw.randrange(4)
        if change == 0:
            raw[at:at] = draw.choice(PIECES)
        elif change == 1:
            del raw[at : at + draw.randrange(1, 20)]
        elif change == 2:
            raw[at : at + 1] = draw.randbytes(draw.randrange(1, 5))
        else:
            raw[at : at + draw.randrange(10)] = draw.choice(PIECES)
    return bytes(raw)


async def statuses(served: Bench, draw: Random, cases: int) -> list[tuple[int, str, bytes]]:
    """Send odd requests, and return those whose answers are no answers."""
    bad = []
    for _ in range(cases):
        ids = ["job_0", "%00", "..", "%ff", "é", "a" * 3_000, draw.randbytes(3).hex()]
        path = draw.choice(PATHS).format(draw.choice(ids))
        query = draw.choice(
            ["", "?", "?limit=x", "?cursor=%ff", "?wait=1e999", "?after=" + "9" * 99]
        )
        method = draw.choice(["POST", "POST", "POST", "GET", "DELETE", "PUT", "HEAD"])
        kind = draw.choice(["application/json", "text/plain", "", "application/json; charset=x"])
        headers = {"content-type": kind, "prefer": draw.choice(["wait=0", "wait=x", ""])}
        headers["idempotency-key"] = draw.choice(["k", '"q"', "x" * 300, ""])
        body = fuzzed(draw, draw.choice([BODY, b'{"reason": "x"}', b"", b"[]", b"null"]))
        request = served.client.build_request(method, path + query, content=body, headers=headers)
        answer = await served.client.send(request)
        if answer.status_code >= 500:
            bad.append((answer.status_code, f"{method} {path[:80]}{query}", body))
    return bad


@pytest.mark.parametrize("seed", range(5))
async def test_s6_no_request_is_an_error_of_the_server(seed: int) -> None:
    """Bodies torn and stuffed, on all paths, with headers as odd: 4xx, and never a 5xx."""
    async with in_process() as served:
        assert await statuses(served, Random(seed), 60) == []


@pytest.mark.soak
async def test_s6_ten_thousand_requests_are_no_error_of_the_server() -> None:
    """The same for longer, other ones each time."""
    async with in_process() as served:
        assert await statuses(served, Random(), 10_000) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"type": "echo", "params": {"value": "\xff"}}', 400),
        (b'{"type": "echo", "params": {"value": ' + b"9" * 5_000 + b"}}", 400),
        (b'{"type": "echo", "params": {"value": ' + b"9" * 21 + b"}}", 400),
        (b'{"type": "echo", "params": {"value": NaN}}', 400),
        (rb'{"type": "echo", "params": {"value": "\ud800"}}', 400),
        (b"", 422),
        (b" \n", 422),
    ],
    ids=["depth", "UTF-8", "5,000 digits", "21 digits", "NaN", "surrogate", "empty", "blank"],
)
async def test_s6_what_once_was_a_500_is_answered(body: bytes, status: int) -> None:
    """The list that broke the servers we looked at."""
    headers = {"content-type": "application/json"}
    async with in_process() as served:
        answer = await served.client.post("/jobs", content=body, headers=headers)
        assert answer.status_code == status
        assert sum(served.runner.stats().jobs.values()) == 0


async def test_s6_a_body_of_200_megabytes_is_refused_before_it_is_read() -> None:
    """It is counted while it comes; what would be too much is never in memory together."""
    read, answers = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 1_048_576, "more_body": read < 200}

    async def send(message: Any) -> None:
        answers.append(message.get("status"))

    async with in_process() as served:
        scope = {
            "type": "http", "method": "POST", "path": "/jobs", "root_path": "", "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }  # fmt: skip
        await create_app(served.runner, auth=None)(scope, receive, send)
    assert (answers[0], read <= 3) == (413, True)
