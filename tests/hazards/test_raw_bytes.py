"""Bytes at the socket that are nearly HTTP, or nothing like it: no 5xx, and no hang (S6)."""

import asyncio
import os
import re
from random import Random

import pytest

from tests.serving import GONE_ON, Bench, bench

BODY = b'{"type": "echo", "params": {"value": [1, "a", null]}}'
HEADERS = [
    b"Content-Type: application/json", b"Content-Length: 53", b"Content-Length: -1",
    b"Content-Length: 99999999999999999999", b"Content-Length: 5", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b"Connection: close",
    b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Upgrade: h2c", b"Host: evil.example",
    b"Cookie: a=\xff", b"Origin: null", b"Prefer: wait=0", b"If-None-Match: W/\"",
    b"Range: bytes=0-",
    b"Accept-Encoding: gzip;q=", b"Idempotency-Key: \"", b"Last-Event-ID: 99999999999999999999",
    b"traceparent: 00-", b": empty", b"no colon", b" folded", b"X: \x00", b"X: " + b"y" * 70_000,
]  # fmt: skip
METHODS = [b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"BREW", b"\xff"]
PATHS = [
    b"/jobs", b"/jobs/job_0", b"/jobs/job_0/stream", b"/jobs/job_0/ws", b"/ws/s", b"/types",
    b"/batches", b"/retry", b"/static/page.js", b"/static/../app.py", b"*", b"//", b"/%", b"/%ff",
    b"http://localhost/jobs", b"/jobs?limit=%00&cursor=%ff", b"/" + b"a" * 70_000, b"", b"\x00",
]  # fmt: skip
"""No stream that has no end: with a request behind it the server reads nothing, not even an end."""
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]
CHUNKS = [b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"5;x=y\r\nhi"]


def request(draw: Random, token: str) -> bytes:
    """Return a request, mostly a broken one."""
    end = draw.choice(ENDS)
    version = draw.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 x", b""])
    lines = [b" ".join((draw.choice(METHODS), draw.choice(PATHS), version))]
    lines += [b"Host: localhost", f"Authorization: Bearer {token}".encode()]
    lines += draw.sample(HEADERS, draw.randrange(6))
    body = draw.choice([b"", BODY, BODY[:20], b"".join(draw.choices(CHUNKS, k=3))])
    return end.join(lines) + end * 2 + body


def bytes_of(draw: Random, token: str) -> bytes:
    """Return what is sent on one connection: requests, some with bytes changed, or noise."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.randrange(1, 2_000))
    raw = bytearray(b"".join(request(draw, token) for _ in range(draw.choice([1, 1, 2, 5]))))
    for _ in range(draw.choice([0, 0, 1, 5])):
        at = draw.randrange(len(raw))
        raw[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
    return bytes(raw)


async def answers(served: Bench, sent: bytes) -> list[int]:
    """Send bytes and nothing more, and return the statuses of all that comes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(GONE_ON):  # no end is a hang
            writer.write(sent)
            writer.write_eof()
            got = await reader.read()
    except TimeoutError:
        raise AssertionError(f"no end after {sent!r}") from None
    except ConnectionError:
        return []  # the server has had enough of it
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"(?m)^HTTP/1\.1 (\d{3}) ", got)]


async def bombard(served: Bench, draw: Random, seconds: float) -> int:
    """Keep ten connections busy for a time; return how many answers there were."""
    loop, count = asyncio.get_running_loop(), 0
    end = loop.time() + seconds

    async def one() -> None:
        nonlocal count
        while loop.time() < end:
            sent = bytes_of(draw, served.token)
            statuses = await answers(served, sent)
            count += len(statuses)
            assert [status for status in statuses if status >= 500] == [], sent

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(one())
    return count


async def campaign(seconds: float, seed: int | None = None) -> None:
    async with bench() as served:
        count = await bombard(served, Random(seed), seconds)
        assert count > 10 * seconds  # it was answered, and not only hung up on
        assert (await served.client.get("/readyz")).status_code == 200
        job_id = await served.finished("echo", value=1)
        assert (await served.client.get(f"/jobs/{job_id}/result")).json() == 1


SECONDS = float(os.environ.get("JOBRUNNER_RAW_SECONDS", "2"))
"""A minute in .ci/run, and ten by hand when the server changes."""


@pytest.mark.slow  # as long as it is asked to take
async def test_s6_raw_bytes_are_no_error_of_the_server() -> None:
    """Scanners and broken clients send anything; the server answers or hangs up, and goes on."""
    await campaign(SECONDS)


async def test_s6_a_second_of_raw_bytes_is_no_error_of_the_server() -> None:
    """The same in short, with each run of the tests."""
    await campaign(0.2, seed=1)
