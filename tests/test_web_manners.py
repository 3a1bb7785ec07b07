"""Headers that spare a client work: validators, rate limits, compression, trace context, logs."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from starlette.types import Message

from jobrunner import InvalidOption, JobContext, JobRunner, Limits, RetryPolicy
from jobrunner.server import serving
from jobrunner.testing import unix_now, virtual_time
from jobrunner.web import create_app
from tests.serving import Bench, bench, client_of, in_process, make_runner, problem, read_all

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def asked(served: Bench, job_id: str, tag: str) -> httpx2.Response:
    return await served.client.get(f"/jobs/{job_id}", headers={"if-none-match": tag})


async def test_what_is_known_already_isn_t_sent_again() -> None:
    """RFC 9110, 13.1.2: whoever polls a job that hasn't changed gets headers only."""
    async with in_process() as served:
        job_id = await served.held("k")
        first = await served.client.get(f"/jobs/{job_id}")
        tag = first.headers["etag"]
        same = await asked(served, job_id, tag)
        served.gates["k"].set()
        await served.runner.handle(job_id).wait()
        changed = await asked(served, job_id, tag)
    assert (tag, first.json()["last_seq"]) == ('W/"2"', 2)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (same.headers["vary"], same.headers["cache-control"]) == ("Prefer", "no-store")
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"3"')


async def test_also_that_nothing_has_changed_says_when_to_ask_again() -> None:
    """Who polls is told the pace by each answer, and that its preference was heard."""
    async with in_process() as served:
        job_id = await served.held("k")
        headers = {"if-none-match": "*", "prefer": "wait=0"}
        same = await served.client.get(f"/jobs/{job_id}", headers=headers)
        served.gates["k"].set()
        await served.runner.handle(job_id).wait()
        ended = await asked(served, job_id, "*")
    assert (same.status_code, ended.status_code) == (304, 304)
    assert (same.headers["retry-after"], same.headers["preference-applied"]) == ("1", "wait=0")
    assert not {"retry-after", "preference-applied"} & {*ended.headers}


TAGS = {
    'W/"3"': 304,
    '"3"': 304,
    "*": 304,
    'W/"1", W/"3"': 304,
    '"a,b" , "3"': 304,
    'W/"1"': 200,
    '"33"': 200,
    "3": 200,
    "": 200,
    'W/"3': 200,
    '"\xff"': 200,
}


@pytest.mark.parametrize(("tag", "status"), TAGS.items())
async def test_a_tag_is_compared_as_a_weak_one(tag: str, status: int) -> None:
    """RFC 9110, 8.8.3.2: for what isn't sent again, W/ makes no difference."""
    async with in_process() as served:
        job_id = await served.finished("echo")
        headers = [(b"if-none-match", tag.encode("latin-1"))]
        answer = await served.client.get(f"/jobs/{job_id}", headers=headers)
        head = await served.client.head(f"/jobs/{job_id}", headers=headers)
    assert (answer.status_code, head.status_code) == (status, status)


@virtual_time
async def test_a_long_poll_says_that_nothing_has_changed() -> None:
    """Waiting comes first, and then the comparison: else a poll would never wait."""
    async with in_process(now=unix_now) as served:
        job_id = await served.held("k")
        tag = (await served.client.get(f"/jobs/{job_id}")).headers["etag"]
        began = asyncio.get_running_loop().time()
        path = f"/jobs/{job_id}?wait=5"
        answer = await served.client.get(path, headers={"if-none-match": tag})
        took = asyncio.get_running_loop().time() - began
    assert (answer.status_code, round(took, 3)) == (304, 5.0)


async def test_a_queue_that_is_full_of_bytes_has_no_places() -> None:
    """Params have a bound of their own, and who comes next would be refused."""
    async with in_process(limits=Limits(max_live_bytes=10)) as served:
        answer = await served.client.post(
            "/jobs", json={"type": "hold", "params": {"key": "k"}, "delay": 60}
        )
    assert answer.headers["ratelimit"] == '"queue";r=0;t=1'


@virtual_time
async def test_a_job_that_waits_for_its_retry_takes_a_place() -> None:
    """The queue is full of whatever waits, for the first time or again."""
    async with in_process(now=unix_now, limits=Limits(max_pending=10)) as served:

        @served.runner.job(retry=RetryPolicy(max_attempts=2, base=60.0))
        async def flaky() -> None:
            raise OSError("down")

        job = await served.runner.submit(flaky)
        async for event in job.events():
            if event.data.get("status") == "retrying":
                break
        assert (job.status, served.runner.room("flaky").free) == ("retrying", 9)
        await job.cancel()


async def test_the_server_takes_as_many_streams_as_it_is_told() -> None:
    """Who has less memory sets less, where the server is made."""
    runner, _ = make_runner()
    async with serving(runner, max_streams=0) as server, client_of(server) as client:
        job = await runner.submit("echo")
        assert problem(await client.get(f"/jobs/{job.id}/stream")) == (503, "too-many-streams")


async def test_a_submit_says_how_many_places_the_queue_has() -> None:
    """Who submits a thousand can slow down before they are refused."""
    async with in_process() as served:

        @served.runner.job(max_pending=1)
        async def narrow() -> None: ...

        body = {"type": "hold", "params": {"key": "k"}, "delay": 60}
        wide = await served.client.post("/jobs", json=body)
        last = await served.client.post("/jobs", json={"type": "narrow", "delay": 60})
        full = await served.client.post("/jobs", json={"type": "narrow", "delay": 60})
    policy, limit = wide.headers["ratelimit-policy"], wide.headers["ratelimit"]
    assert (policy, limit) == ('"queue";q=100000', '"queue";r=99999')
    assert last.headers["ratelimit-policy"] == '"queue";q=1'
    assert last.headers["ratelimit"] == '"queue";r=0;t=1'
    assert problem(full) == (503, "queue-full")
    assert (full.headers["ratelimit"], full.headers["retry-after"]) == ('"queue";r=0;t=1', "1")


LARGE = "a long text, " * 200


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip", True),
        ("x-gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("identity, *;q=0.1", True),
        ("GZIP ; Q=1", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzippy", False),
        ("gzip;q=2", False),
    ],
)
async def test_a_long_answer_is_compressed_for_who_takes_it(accepts: str, packed: bool) -> None:
    """RFC 9110, 12.5.3: a weight of 0 is a no, and a cache must know what it depends on."""
    async with in_process() as served:
        job_id = await served.finished("echo", value=LARGE)
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/result", "/jobs"):
            answer = await served.client.get(path, headers={"accept-encoding": accepts})
            assert LARGE in answer.text
            assert ("content-encoding" in answer.headers) == packed
            assert "Accept-Encoding" in answer.headers["vary"]
            assert (int(answer.headers["content-length"]) < len(LARGE)) == packed


async def test_a_very_long_answer_is_compressed_beside_the_loop() -> None:
    """A megabyte takes ten milliseconds, in which nobody else would be answered."""
    async with in_process() as served:
        job_id = await served.finished("echo", value=LARGE * 50)
        answer = await served.client.get(
            f"/jobs/{job_id}/result", headers={"accept-encoding": "gzip"}
        )
    assert (answer.json(), answer.headers["content-encoding"]) == (LARGE * 50, "gzip")


async def test_a_short_answer_stays_as_it_is() -> None:
    """Below a packet there is nothing to win."""
    async with in_process() as served:
        answer = await served.client.get("/healthz", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers


async def test_head_says_what_get_would() -> None:
    """RFC 9110, 9.3.2, over a real server: the same headers, compressed or not, and no body."""
    async with bench() as served:
        job_id = await served.finished("echo", value=LARGE)
        for accepts in ("gzip", "identity"):
            headers = {"accept-encoding": accepts}
            got = await served.client.get(f"/jobs/{job_id}", headers=headers)
            head = await served.client.head(f"/jobs/{job_id}", headers=headers)
            assert head.content == b""
            assert {k: v for k, v in head.headers.items() if k != "date"} == {
                k: v for k, v in got.headers.items() if k != "date"
            }


async def test_a_stream_is_never_compressed() -> None:
    """An event that waits to be compressed with others comes too late."""
    async with bench() as served:
        job_id = await served.finished("say", texts=[LARGE])
        async with served.client.stream(
            "GET", f"/jobs/{job_id}/stream", headers={"accept-encoding": "gzip"}
        ) as response:
            raw = b"".join([piece async for piece in response.aiter_raw()])
        frames = await read_all(served.client, f"/jobs/{job_id}/stream", accept_encoding="gzip")
    assert "content-encoding" not in response.headers
    assert LARGE.encode() in raw
    assert [f.data["text"] for f in frames if f.event == "output"] == [LARGE]


async def submitted(served: Bench, *traces: str) -> str | None:
    headers = [("traceparent", trace) for trace in traces]
    answer = await served.client.post("/jobs", json={"type": "echo"}, headers=headers)
    assert answer.status_code == 202
    return served.runner.record(answer.json()["job_id"]).traceparent


@pytest.mark.parametrize("trace", [TRACE, TRACE.replace("00-", "01-", 1) + "-more"])
async def test_the_caller_s_place_in_a_trace_is_kept(trace: str) -> None:
    """So that the job's spans, and its webhooks, can be found from the request that began it."""
    async with in_process() as served:
        assert await submitted(served, trace) == trace


BROKEN = {
    "another case": TRACE.upper(),
    "version ff": "ff" + TRACE[2:],
    "more in version 00": f"{TRACE}-more",
    "no trace": TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
    "no parent": TRACE.replace("b7ad6b7169203331", "0" * 16),
    "too short": TRACE[:-1],
    "a space": f"{TRACE} ",
    "a word": "none",
    "too long": TRACE.replace("00-", "01-", 1) + "-" + "x" * 1_000,
}


@pytest.mark.parametrize("trace", BROKEN.values(), ids=BROKEN)
async def test_a_broken_trace_is_no_trace(trace: str) -> None:
    """W3C Trace Context, 3.2.2.3: it is ignored, and the request is not; in process it is said."""
    async with in_process() as served:
        assert await submitted(served, trace.rstrip()) == (TRACE if trace == f"{TRACE} " else None)
        with pytest.raises(InvalidOption, match="traceparent is"):
            await served.runner.submit("echo", traceparent=trace)
        with pytest.raises(InvalidOption, match="traceparent is"):
            odd: Any = 1
            await served.runner.submit("echo", traceparent=odd)


async def test_two_traces_are_none() -> None:
    """Nobody knows which of them the request is part of."""
    async with in_process() as served:
        assert await submitted(served, TRACE, TRACE) is None


@virtual_time
async def test_the_log_of_a_job_can_be_kept_as_a_file() -> None:
    """Lines with their time, output as it came; text and never markup, whatever is in it."""
    async with in_process(now=unix_now) as served:

        @served.runner.job
        async def build(ctx: JobContext) -> None:
            ctx.emit("begin")
            ctx.log("compiled", path="a.c", n=1)
            ctx.emit({"n": 1})
            ctx.emit("<script>\n")
            ctx.log("done \ud800")

        job_id = await served.finished("build")
        answer = await served.client.get(f"/jobs/{job_id}/logs")
    lines = answer.text.split("\n")
    assert [lines[0], *lines[2:4], lines[5:]] == ["begin", '{"n":1}', "<script>", [""]]
    assert lines[1].endswith('Z compiled {"path": "a.c", "n": 1}')
    assert lines[4].endswith("Z done ?")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}.log"'
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_log_says_what_is_no_longer_kept() -> None:
    """The newest lines are there, and it is told how many were before them."""
    async with in_process(limits=Limits(max_events=10)) as served:
        job_id = await served.finished("say", texts=["x"] * 20)
        text = (await served.client.get(f"/jobs/{job_id}/logs")).text
    assert text.startswith("... 13 events are no longer kept\n")
    assert text.removesuffix("\n").endswith("\n" + "x" * 9)


@virtual_time
async def test_a_body_that_doesn_t_come_is_a_408() -> None:
    """A client that sends half a body and waits would hold its connection for ever."""
    runner = JobRunner(now=unix_now)
    app = create_app(runner, auth=None)
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": b'{"type":', "more_body": True}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/jobs", "root_path": "", "headers": headers,
             "query_string": b"", "scheme": "http"}  # fmt: skip
    async with runner:
        began = asyncio.get_running_loop().time()
        await app(scope, receive, send)
        took = asyncio.get_running_loop().time() - began
    told = dict(sent[0]["headers"])
    assert (sent[0]["status"], round(took, 3), told[b"connection"]) == (408, 30.0, b"close")
    assert json.loads(sent[1]["body"])["type"] == "/problems/request-timeout"
