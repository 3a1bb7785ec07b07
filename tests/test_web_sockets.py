"""WebSockets: what one is told of a job, what one may ask for, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_now

from jobrunner import JobRunner, Limits
from jobrunner.web import create_app
from jobrunner.web.sockets import BURST, MAX_FRAME
from tests.serving import Bench, bench, connect, listening, make_runner, read_all
from tests.sockets import heard, socket, told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test watches jobs of its own."""
    async with bench() as served:
        yield served


# What is told


async def test_a_finished_job_is_told_from_the_start(served: Bench) -> None:
    """As an event stream: a snapshot, everything from 1, and the end, which closes it."""
    job_id = await served.finished("say", texts=["a", "b"])
    frames, code = await heard(served, f"/jobs/{job_id}/ws")
    assert told(frames) == [
        ("snapshot", 5), ("status", 1), ("status", 2), ("output", 3), ("output", 4),
        ("job_complete", 5),
    ]  # fmt: skip
    assert {frame["job_id"] for frame in frames} == {job_id}
    assert code == 1000


async def test_the_frames_are_those_of_the_event_stream(served: Bench) -> None:
    """One story, whichever way it is heard."""
    job_id = await served.finished("say", texts=["a"])
    frames, _ = await heard(served, f"/jobs/{job_id}/ws?after=0")
    events = await read_all(served.client, f"/jobs/{job_id}/stream?after=0")
    kinds = {"done": "job_complete"}
    assert frames == [{"type": kinds.get(e.event, e.event), **e.data} for e in events]


@pytest.mark.parametrize(
    ("type", "params", "end"),
    [
        ("echo", {"value": {"a": 1}}, ("completed", {"a": 1}, None)),
        ("fail", {"message": "x"}, ("failed", None, "x")),
    ],
)
async def test_the_end_names_the_job_and_its_result(
    served: Bench, type: str, params: dict[str, Any], end: tuple[str, Any, str | None]
) -> None:
    """Nobody has to ask again for what the job was started for."""
    job_id = await served.finished(type, **params)
    last = (await heard(served, f"/jobs/{job_id}/ws"))[0][-1]
    assert last.keys() == {"type", "seq", "job_id", "at", "status", "result", "error"}
    error = last["error"] and last["error"]["detail"]
    assert (last["type"], last["job_id"]) == ("job_complete", job_id)
    assert (last["status"], last["result"], error) == end


async def test_the_snapshot_is_the_job_as_it_stands(served: Bench) -> None:
    """The job's own `type` and the frame's don't meet: the job is an object of its own."""
    job_id = await served.held("ws snapshot", say=["a"])
    job = (await served.client.get(f"/jobs/{job_id}")).json()
    async with socket(served.url, f"/jobs/{job_id}/ws", served.token) as opened:
        first = await opened.hear()
    assert first == {"type": "snapshot", "seq": 3, "job_id": job_id, "job": job}
    served.gates["ws snapshot"].set()


async def test_frames_come_while_the_job_runs(served: Bench) -> None:
    """Live is the point: the socket is read before the job has an end."""
    job_id = await served.held("ws live", say=["a"])
    async with socket(served.url, f"/jobs/{job_id}/ws", served.token) as opened:
        before = await opened.hear_until("output")
        assert served.runner.handle(job_id).status == "running"
        served.gates["ws live"].set()
        after, code = await opened.rest()
    assert (before[-1]["text"], told(after), code) == ("a", [("job_complete", 4)], 1000)


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 999])
async def test_a_socket_goes_on_after_the_last_number(served: Bench, after: int) -> None:
    """Nothing twice and nothing lost; who has read the end is closed with 1000 at once."""
    job_id = await served.finished("say", texts=["a", "b"])
    frames, code = await heard(served, f"/jobs/{job_id}/ws?after={after}")
    assert [frame["seq"] for frame in frames] == list(range(after + 1, 6))
    assert code == 1000


async def test_a_number_from_the_future_still_gets_the_end(served: Bench) -> None:
    """A cursor of another server's job: whatever it was, the socket ends with the job."""
    job_id = await served.held("ws future")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=999", served.token) as opened:
        served.gates["ws future"].set()
        frames, code = await opened.rest()
    assert (told(frames)[-1:], code) == ([("job_complete", 3)], 1000)


async def test_what_is_no_longer_kept_is_a_gap_and_a_snapshot() -> None:
    """Better a hole with a sign at it than a story without a beginning."""
    runner, _ = make_runner(limits=Limits(max_events=5))
    async with listening(create_app(runner, auth=None)) as url:
        job = await runner.submit("say", {"texts": ["t"] * 10})
        await job.wait()
        async with socket(url, f"/jobs/{job.id}/ws") as opened:
            first, _ = await opened.rest()
        async with socket(url, f"/jobs/{job.id}/ws?after=2") as opened:
            resumed, _ = await opened.rest()
    assert told(first)[:3] == [("snapshot", 13), ("gap", 8), ("output", 9)]
    assert told(resumed)[:3] == [("gap", 8), ("snapshot", 13), ("output", 9)]
    assert [(f["from"], f["to"]) for f in (first[1], resumed[0])] == [(1, 8), (3, 8)]
    assert told(resumed)[-1] == ("job_complete", 13)


async def test_many_events_come_in_order(served: Bench) -> None:
    """More than are read at once, in number and in bytes."""
    job_id = await served.finished("say", texts=["x" * 5_000] * 50 + ["y"] * 400)
    frames, _ = await heard(served, f"/jobs/{job_id}/ws?after=0")
    assert [frame["seq"] for frame in frames] == list(range(1, 454))


# What may be asked for


async def test_subscribe_goes_on_after_a_number_beginning_with_a_snapshot(served: Bench) -> None:
    """The snapshot says where the old story ends and the new one begins."""
    job_id = await served.held("ws subscribe", say=["a", "b"])
    async with socket(served.url, f"/jobs/{job_id}/ws", served.token) as opened:
        await opened.hear_until("output")
        await opened.say(op="subscribe", after=3)
        again = [(await opened.hear_until("snapshot"))[-1], await opened.hear()]
        served.gates["ws subscribe"].set()
        rest, _ = await opened.rest()
    assert told([*again, *rest]) == [("snapshot", 4), ("output", 4), ("job_complete", 5)]


async def test_subscribe_without_a_number_tells_everything_again(served: Bench) -> None:
    """A page that has lost its place begins anew, on the connection that it has."""
    job_id = await served.held("ws again", say=["a"])
    async with socket(served.url, f"/jobs/{job_id}/ws?after=3", served.token) as opened:
        await opened.say(op="subscribe", job_id=job_id)
        again = await opened.hear_until("output")
    served.gates["ws again"].set()
    assert told(again) == [("snapshot", 3), ("status", 1), ("status", 2), ("output", 3)]


async def test_cancel_stops_the_job_with_a_reason(served: Bench) -> None:
    """The button beside the output needs no second connection."""
    job_id = await served.held("ws cancel")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        await opened.say(op="cancel", reason="changed my mind")
        frames, code = await opened.rest()
    assert [(f["type"], f["status"], f.get("cancel_note")) for f in frames] == [
        ("status", "running", "changed my mind"),
        ("job_complete", "cancelled", None),
    ]
    assert code == 1000


async def test_input_that_nobody_waits_for_is_an_error(served: Bench) -> None:
    """An answer that came too late is told so, and the socket goes on."""
    job_id = await served.held("ws input")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        await opened.say(op="input", question_id="q1", value={"yes": True})
        error = await opened.hear()
        served.gates["ws input"].set()
        rest, _ = await opened.rest()
    assert error == {
        "type": "error",
        "code": "question-not-found",
        "detail": f"job {job_id} has no question 'q1'",
    }
    assert told(rest) == [("job_complete", 3)]


BAD: list[tuple[str | bytes, str, str]] = [
    ("", "invalid-json", "Expecting value"),
    ("{", "invalid-json", "not JSON"),
    ("[" * 100_000, "invalid-json", "nested"),
    ('{"op":"cancel","op":"cancel"}', "invalid-json", "twice"),
    ('{"op":"input","question_id":"q","value":"\\ud800"}', "invalid-json", "surrogate"),
    ('{"op":"input","question_id":"q","value":NaN}', "invalid-json", "NaN"),
    ("[]", "invalid-frame", "dictionary"),
    ("7", "invalid-frame", "dictionary"),
    ("{}", "invalid-frame", "op"),
    ('{"op":null}', "invalid-frame", "op"),
    ('{"op":"explode"}', "invalid-frame", "'subscribe', 'cancel', 'input'"),
    ('{"op":"subscribe","after":-1}', "invalid-frame", "after: "),
    ('{"op":"subscribe","after":"1"}', "invalid-frame", "after: "),
    ('{"op":"subscribe","until":1}', "invalid-frame", "until: "),
    ('{"op":"cancel","reason":7}', "invalid-frame", "reason: "),
    ('{"op":"input","question_id":7,"value":7}', "invalid-frame", "question_id: "),
    ('{"op":"input","question_id":"q1"}', "invalid-frame", "value: "),
    ('{"op":"cancel","job_id":"job_other"}', "job-not-found", "and no other"),
    (b'{"op":"cancel"}', "invalid-frame", "binary"),
    (b"\xff\xfe", "invalid-frame", "binary"),
]


async def test_a_bad_frame_is_told_so_and_ends_nothing(served: Bench) -> None:
    """A typo in a client under work costs a message, not the connection."""
    job_id = await served.held("ws bad")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        for bad, code, detail in BAD:
            await opened.connection.send(bad)
            error = await opened.hear()
            assert (error["type"], error["code"]) == ("error", code), bad
            assert detail in error["detail"], error
            assert len(error["detail"]) < 1_000
        assert served.runner.handle(job_id).view().cancel_requested_at is None
        served.gates["ws bad"].set()
        assert told((await opened.rest())[0]) == [("job_complete", 3)]


async def test_a_session_s_socket_has_to_be_told_which_job_is_meant(served: Bench) -> None:
    """It has many: a cancel that names none stops none of them."""
    async with socket(served.url, "/ws/of-many", served.token) as opened:
        for op in ({"op": "cancel"}, {"op": "input", "question_id": "q", "value": 1}):
            await opened.say(**op)
            [*_, error] = await opened.hear_until("error")
            assert (error["code"], op["op"] in error["detail"]) == ("invalid-frame", True)
            assert "job_id" in error["detail"]


async def test_a_session_can_be_subscribed_to_anew(served: Bench) -> None:
    """A page that has lost its state asks for all of it again, over the socket that it has."""
    await served.runner.submit("hold", {"key": "anew"}, session_id="anew")
    await served.gates["anew reached"].wait()
    async with socket(served.url, "/ws/anew", served.token) as opened:
        first = await opened.hear()
        await opened.say(op="subscribe")
        assert (await opened.hear_until("snapshot"))[-1]["job"] == first["job"]
    served.gates["anew"].set()


async def test_who_sends_too_much_is_cut_off(
    served: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame costs work here; a thousand at once is more than any page has to say."""
    monkeypatch.setattr("jobrunner.web.sockets.RATE", 0.0)  # however long a thousand take here
    job_id = await served.held("ws flood")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        for _ in range(BURST + 1):
            await opened.connection.send("{}")
        frames, code = await opened.rest()
    served.gates["ws flood"].set()
    assert {frame["code"] for frame in frames} == {"invalid-frame"}
    assert (len(frames), code) == (BURST, 1008)


async def test_a_frame_that_is_too_large_ends_the_socket(served: Bench) -> None:
    """Our server refuses it while it comes; under another one it is refused when it is there."""
    job_id = await served.held("ws large")
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        await opened.connection.send("x" * (MAX_FRAME + 1))
        assert (await opened.rest())[1] == 1009
    with TestClient(create_app(JobRunner(), auth=None)) as client:
        with client.websocket_connect("/ws/s1") as other, pytest.raises(WebSocketDisconnect) as end:
            other.send_text("\u00e4" * (MAX_FRAME // 2 + 1))
            other.receive_json()
    served.gates["ws large"].set()
    assert end.value.code == 1009


async def test_the_largest_frame_is_read(served: Bench) -> None:
    """What is just allowed is allowed: an answer may be a whole document."""
    job_id = await served.held("ws just")
    head, tail = '{"op":"input","question_id":"q","value":"', '"}'
    async with socket(served.url, f"/jobs/{job_id}/ws?after=2", served.token) as opened:
        await opened.connection.send(head + "x" * (MAX_FRAME - len(head + tail)) + tail)
        assert (await opened.hear())["code"] == "question-not-found"
    served.gates["ws just"].set()


# Who comes in, and how it ends


async def test_no_token_is_a_code_that_a_page_can_see(served: Bench) -> None:
    """A browser says nothing of a handshake that failed; a page has to know that it must log in."""
    job_id = await served.finished("echo")
    for path in (f"/jobs/{job_id}/ws", "/ws/s1", "/jobs/job_unknown/ws", "/nothing"):
        async with socket(served.url, path) as opened:
            assert await opened.rest() == ([], 4401)


async def test_another_origin_has_no_handshake(
    served: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A page of others hears nothing, and can't fill the log either."""
    job_id = await served.finished("echo")
    for headers in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}):
        with pytest.raises(InvalidStatus) as refused:
            async with socket(served.url, f"/jobs/{job_id}/ws", served.token, **headers):
                pass
        assert refused.value.response.status_code == 403
    assert [record.getMessage() for record in caplog.records] == []


async def test_the_cookie_of_the_page_opens_it(served: Bench) -> None:
    """A browser can set no headers on a WebSocket; the page's own origin and cookie are enough."""
    job_id = await served.finished("echo")
    async with connect(served.url) as client:
        login = await client.get("/", params={"token": served.token})
    cookie = login.headers["set-cookie"].partition(";")[0]
    async with socket(served.url, f"/jobs/{job_id}/ws", cookie=cookie, origin=served.url) as opened:
        assert (await opened.rest())[1] == 1000


async def test_an_unknown_job_and_one_that_is_gone_have_codes(served: Bench) -> None:
    """As 404 and 410: the one is a mistake, the other was there."""
    job_id = await served.finished("echo")
    await served.runner.forget(job_id)
    assert await heard(served, f"/jobs/{job_id}/ws") == ([], 4410)
    assert await heard(served, "/jobs/job_unknown/ws") == ([], 4404)


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=1.5", "afer=1", f"after={10**15}"])
async def test_a_query_that_means_nothing_is_refused(served: Bench, query: str) -> None:
    """A typo that is ignored is a socket that repeats everything."""
    job_id = await served.finished("echo")
    assert await heard(served, f"/jobs/{job_id}/ws?{query}") == ([], 1008)
    assert await heard(served, f"/ws/s1?{query}") == ([], 1008)


async def test_sockets_and_streams_share_their_places() -> None:
    """Each costs memory, whatever it speaks; a place comes free when its client leaves."""
    runner, gates = make_runner()
    async with listening(create_app(runner, auth=None, max_streams=1)) as url, connect(url) as c:
        job = await runner.submit("hold", {"key": "k"})
        async with socket(url, f"/jobs/{job.id}/ws") as first:
            await first.hear()
            assert (await c.get(f"/jobs/{job.id}/stream")).status_code == 503
            async with socket(url, f"/jobs/{job.id}/ws") as second:
                assert await second.rest() == ([], 1013)
            gates["k"].set()
            assert (await first.rest())[1] == 1000
        async with socket(url, f"/jobs/{job.id}/ws") as third:
            assert (await third.rest())[1] == 1000


async def test_a_synchronous_client_hears_the_same(served: Bench) -> None:
    """A script has no loop."""
    job_id = await served.finished("say", texts=["a"])
    address = f"ws{served.url.removeprefix('http')}/jobs/{job_id}/ws?after=0"

    def hear() -> list[Any]:
        headers = {"Authorization": f"Bearer {served.token}"}
        with connect_now(address, additional_headers=headers, proxy=None) as opened:
            return [json.loads(frame) for frame in opened]

    frames = await asyncio.to_thread(hear)
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4]
