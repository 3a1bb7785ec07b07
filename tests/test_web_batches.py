"""Batches over HTTP: many jobs in one request, one stream for all of them, one way to stop them."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from jobrunner import JobStatus, Limits, Retention
from tests.served import process
from tests.serving import Bench, Frame, bench, in_process, problem, read_all, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has batches of its own."""
    async with bench() as served:
        yield served


async def post(served: Bench, type: str, params: list[Any], **options: Any) -> httpx2.Response:
    headers = options.pop("headers", {})
    body = {"type": type, "params": params, **options}
    return await served.client.post("/batches", json=body, headers=headers)


async def submitted(served: Bench, type: str, params: list[Any], **options: Any) -> Any:
    """Submit a batch and return it as it was answered."""
    response = await post(served, type, params, **options)
    assert response.status_code == 202, response.text
    return response.json()


async def finished(served: Bench, type: str, params: list[Any]) -> str:
    """Submit a batch, wait for its end, and return its id."""
    batch_id: str = (await submitted(served, type, params))["batch_id"]
    await served.runner.batch(batch_id).wait()
    return batch_id


def values(count: int) -> list[dict[str, Any]]:
    return [{"value": n} for n in range(count)]


def told(frames: list[Frame]) -> list[tuple[str | None, str]]:
    return [(frame.id, frame.event) for frame in frames]


async def test_it_is_answered_at_once(served: Bench) -> None:
    """An id, the jobs' ids in the order of their params, and where to look."""
    response = await post(served, "hold", [{"key": "a"}, {"key": "b"}], max_in_flight=1)
    batch, root = response.json(), "/batches/"
    own = f"{root}{batch['batch_id']}"
    assert (response.status_code, response.headers["location"]) == (202, own)
    assert response.headers["retry-after"] == "1"
    assert "ratelimit" in response.headers
    assert batch["links"] == {
        "self": own, "stream": f"{own}/stream", "cancel": f"{own}/cancel",
        "jobs": f"/jobs?batch_id={batch['batch_id']}",
    }  # fmt: skip
    assert (batch["total"], batch["progress"], batch["step"]) == (2, 0, {"current": 0, "total": 2})
    assert (batch["type"], batch["max_in_flight"], batch["finished_at"]) == ("hold", 1, None)
    jobs = (await served.client.get(batch["links"]["jobs"])).json()["jobs"]
    assert [job["job_id"] for job in jobs] == batch["job_ids"][::-1]
    for gate in "ab":
        served.gates[gate].set()
    ended = (await served.client.get(f"{own}?wait=30")).json()
    assert (ended["counts"]["completed"], ended["progress_message"]) == (2, "2 of 2")
    assert "cancel" not in ended["links"]


@pytest.mark.slow  # the shortest wait is a second
async def test_a_look_waits_no_longer_than_it_is_asked_to(served: Bench) -> None:
    """A batch that goes on is answered as it stands, with when to look again."""
    batch = await submitted(served, "hold", [{"key": "look"}])
    path = batch["links"]["self"]
    looks = [await served.client.get(path), await served.client.get(f"{path}?wait=1")]
    assert [(r.status_code, r.json()["progress"], r.headers["retry-after"]) for r in looks] == [
        (200, 0, "1")
    ] * 2
    served.gates["look"].set()
    await served.runner.batch(batch["batch_id"]).wait()
    ended = await served.client.get(path)
    assert (ended.status_code, "retry-after" in ended.headers) == (200, False)


async def test_options_hold_for_each_job(served: Bench) -> None:
    """They are those of `POST /jobs`."""
    options = {"priority": 3, "session_id": "of many", "timeout": 9.0, "metadata": {"a": 1}}
    batch = await submitted(served, "echo", values(3), delay=0.01, **options)
    jobs = (await served.client.get("/jobs?session_id=of+many")).json()["jobs"]
    assert len(jobs) == 3
    assert [{name: job[name] for name in options} for job in jobs] == [options] * 3
    assert batch["session_id"] == "of many"


BAD: list[tuple[dict[str, Any], int, str, list[str]]] = [
    ({"type": "fail", "params": [{"message": "m"}, {}, {"message": 1}]}, 422, "invalid-params",
     ["#/params/1/message", "#/params/2/message"]),
    ({"type": "echo", "params": [{}, 5]}, 422, "invalid-request", ["#/params/1"]),
    ({"type": "echo", "params": {}}, 422, "invalid-request", ["#/params"]),
    ({"type": "echo"}, 422, "invalid-request", ["#/params"]),
    ({"type": "unknown", "params": []}, 422, "unknown-job-type", ["#/type"]),
    ({"type": "echo", "params": [], "max_in_flight": 0}, 422, "invalid-request",
     ["#/max_in_flight"]),
    ({"type": "echo", "params": [], "batch_id": "b"}, 422, "invalid-request", ["#/batch_id"]),
    ({"type": "echo", "params": [], "priority": 101}, 422, "invalid-option", ["#/priority"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "pointers"), BAD)
async def test_what_is_wrong_is_pointed_at(
    body: dict[str, Any], status: int, code: str, pointers: list[str]
) -> None:
    """Which params, and where in them; and none of the others has been taken."""
    async with in_process() as own:
        response = await own.client.post("/batches", json=body)
        assert problem(response) == (status, code)
        assert [fault["pointer"] for fault in response.json()["errors"]] == pointers
        assert sum(own.runner.stats().jobs.values()) == 0


async def test_a_queue_without_room_for_all_is_a_503() -> None:
    """With when to come back, and nothing taken."""
    async with in_process(limits=Limits(max_pending=3, max_batch=5)) as own:
        own.runner.pause()
        await submitted(own, "echo", values(2))
        full = await post(own, "echo", values(2))
        assert (problem(full), "retry-after" in full.headers) == ((503, "queue-full"), True)
        assert problem(await post(own, "echo", values(4))) == (413, "payload-too-large")
        assert problem(await post(own, "echo", values(6))) == (413, "payload-too-large")
        assert sum(own.runner.stats().jobs.values()) == 2


async def test_the_body_of_a_batch_has_the_limit_of_all_bodies(served: Bench) -> None:
    """A megabyte holds ten thousand small ones; who has more sends several."""
    response = await post(served, "echo", [{"value": "x" * 1_000}] * 1_100)
    assert problem(response) == (413, "payload-too-large")


async def test_the_same_key_is_the_same_batch(served: Bench) -> None:
    """Whoever lost the answer asks again."""
    first, second, third = [
        await post(served, "echo", values(n), headers={"idempotency-key": '"batch key"'})
        for n in (2, 2, 3)
    ]
    assert first.json()["batch_id"] == second.json()["batch_id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert problem(third) == (422, "idempotency-key-reused")


async def test_a_batch_of_many_shows_its_first_jobs(served: Bench) -> None:
    """Ten thousand ids in each answer would be half a megabyte; the list has all, in pages."""
    batch = await submitted(served, "echo", values(450))
    assert (batch["total"], len(batch["job_ids"])) == (450, 200)
    url, seen = f"{batch['links']['jobs']}&limit=200", list[str]()
    while url:
        response = await served.client.get(url)
        seen += [job["job_id"] for job in response.json()["jobs"]]
        url = response.links.get("next", {}).get("url", "")
    assert (len(set(seen)), seen[::-1][:200]) == (450, batch["job_ids"])


async def test_an_unknown_batch_is_a_404_and_a_pruned_one_a_410() -> None:
    """On each of its routes."""
    async with in_process(retention=Retention(max_jobs=1)) as own:
        old, _ = [await submitted(own, "echo", values(1)) for _ in range(2)]
        await own.runner.drain()
        for batch_id, answer in (("batch_0", (404, "batch-not-found")),
                                 (old["batch_id"], (410, "batch-gone"))):  # fmt: skip
            path = f"/batches/{batch_id}"
            answers = [
                await own.client.get(path),
                await own.client.get(f"{path}/stream"),
                await own.client.post(f"{path}/cancel", json={}),
            ]
            assert [problem(response) for response in answers] == [answer] * 3


async def test_cancelling_is_202_while_jobs_stop_and_200_when_all_have(served: Bench) -> None:
    """With a reason for all of them."""
    params = [{"key": "never"}, {"key": "never"}, {"key": "never"}]
    batch = await submitted(served, "hold", params, max_in_flight=1)
    await served.gates["never reached"].wait()
    path = f"{batch['links']['self']}/cancel"
    first = await served.client.post(path, json={"reason": "too slow"})
    asked = first.json()
    assert (first.status_code, asked["cancel_note"]) == (202, "too slow")
    assert (asked["counts"]["cancelled"], asked["counts"]["running"]) == (2, 1)
    await served.runner.batch(batch["batch_id"]).wait()
    second = await served.client.post(path, json={"reason": "again"})
    assert (second.status_code, second.json()["counts"]["cancelled"]) == (200, 3)
    job = (await served.client.get(f"/jobs/{batch['job_ids'][1]}")).json()
    assert (job["status"], job["cancel_note"]) == ("cancelled", "too slow")


# Streams


async def test_a_finished_batch_is_told_from_the_start(served: Bench) -> None:
    """A snapshot, each end with its index, its result or its error, and the progress of all."""
    batch_id = await finished(served, "echo", values(2))
    frames = await read_all(served.client, f"/batches/{batch_id}/stream")
    job_ids = frames[0].data["job_ids"]
    assert told(frames) == [
        (None, "snapshot"), ("1", "item"), ("2", "progress"), ("3", "item"), ("4", "progress"),
        ("5", "done"),
    ]  # fmt: skip
    snapshot = (await served.client.get(f"/batches/{batch_id}")).json()
    assert frames[0].data == snapshot | {"seq": 5}
    at = frames[1].data.pop("at")
    assert frames[1].data == {
        "seq": 1, "batch_id": batch_id, "job_id": job_ids[0], "index": 0,
        "status": "completed", "reason": None, "error": None, "cancel_note": None, "result": 0,
    }  # fmt: skip
    assert frames[4].data["progress_message"] == "2 of 2"
    counts = dict.fromkeys(map(str, JobStatus), 0) | {"completed": 2}
    assert frames[5].data["counts"] == snapshot["counts"] == counts
    assert at.endswith("Z")


async def test_a_failure_is_told_with_its_error(served: Bench) -> None:
    """Nobody has to ask again for what went wrong."""
    batch_id = await finished(served, "fail", [{"message": "no such file"}])
    item = (await read_all(served.client, f"/batches/{batch_id}/stream"))[1]
    assert (item.data["status"], item.data["reason"]) == ("failed", "error")
    assert (item.data["error"]["detail"], item.data["result"]) == ("no such file", None)


async def test_what_is_no_longer_kept_is_told_without_its_result() -> None:
    """The end of each job outlives the job, with how it was."""
    async with bench(retention=Retention(max_jobs=1)) as own:
        batch_id = await finished(own, "echo", values(3))
        frames = await read_all(own.client, f"/batches/{batch_id}/stream?after=0")
    items = [frame.data for frame in frames if frame.event == "item"]
    assert [(item["status"], "result" in item) for item in items] == [
        ("completed", False), ("completed", False), ("completed", True),
    ]  # fmt: skip


async def test_ends_come_as_they_happen(served: Bench) -> None:
    """Live is the point: "23 of 50" is shown before the fiftieth has ended."""
    keys = ["live 1", "live 2"]
    batch = await submitted(served, "hold", [{"key": key} for key in keys])
    async with stream(served.client, batch["links"]["stream"]) as frames:
        await anext(frames)
        seen = []
        for key in reversed(keys):
            served.gates[key].set()
            seen += [await anext(frames), await anext(frames)]
        rest = [frame.event async for frame in frames]
    assert [frame.data.get("index") for frame in seen] == [1, None, 0, None]
    assert (seen[1].data["progress_message"], rest) == ("1 of 2", ["done"])


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_stream_goes_on_after_each_number(served: Bench, way: str) -> None:
    """The browser was closed; nothing twice and nothing lost."""
    batch_id = await finished(served, "echo", values(8))
    path = f"/batches/{batch_id}/stream"
    for after in range(17):
        if way == "header":
            frames = await read_all(served.client, path, last_event_id=str(after))
        else:
            frames = await read_all(served.client, f"{path}?after={after}")
        assert [frame.number for frame in frames] == list(range(after + 1, 18))
    assert (await served.client.get(f"{path}?after=17")).status_code == 204


@pytest.mark.slow  # a hundred connections
async def test_a_stream_that_is_cut_at_random_places_tells_each_end_once(served: Bench) -> None:
    """However often the connection breaks, what has come is the story to the letter."""
    draw, seen = Random(5), list[Frame]()
    params = [{"key": f"cut {n}"} for n in range(100)]
    batch = await submitted(served, "hold", params, max_in_flight=10)
    path, opened = batch["links"]["stream"], 0
    while not seen or seen[-1].event != "done":
        after = seen[-1].number if seen else 0
        async with stream(served.client, f"{path}?after={after}") as frames:
            for _ in range(draw.randrange(1, 9)):
                if opened < 100:
                    served.gates[f"cut {opened}"].set()
                    opened += 1
                if (frame := await anext(frames, None)) is None:
                    break
                seen.append(frame)
    items = [frame.data["index"] for frame in seen if frame.event == "item"]
    assert [frame.number for frame in seen] == list(range(1, 202))
    assert sorted(items) == list(range(100))


@pytest.mark.slow  # ten thousand jobs
async def test_ten_thousand_items_over_http() -> None:
    """One request, one stream, and each end in it once."""
    async with bench(workers=50) as own:
        body = json.dumps({"type": "echo", "params": values(10_000)})
        response = await own.client.post(
            "/batches", content=body, headers={"content-type": "application/json"}
        )
        batch = response.json()
        frames = await read_all(own.client, f"{batch['links']['stream']}?after=0")
    items = [frame.data for frame in frames if frame.event == "item"]
    assert sorted(item["index"] for item in items) == list(range(10_000))
    assert all(item["result"] == item["index"] for item in items)
    assert [frame.number for frame in frames] == list(range(1, 10_102))


@pytest.mark.slow  # a server in a process of its own
@pytest.mark.parametrize("way", ["jobrunner", "uvicorn"])
async def test_s1_who_watches_a_batch_is_told_its_end_by_a_server_that_stops(
    tmp_path: Path, way: str
) -> None:
    """The end of each job, of the batch, and of the stream of all jobs; then the server goes."""
    async with process(tmp_path, way) as server:
        body = {"type": "wait", "params": [{}] * 100, "max_in_flight": 10}
        batch = (await server.client.post("/batches", json=body)).json()
        async with (
            stream(server.client, batch["links"]["stream"]) as of_batch,
            stream(server.client, "/events?after=0") as of_all,
        ):
            await anext(of_batch)
            server.running.send_signal(signal.SIGTERM)
            told = [frame async for frame in of_batch]
            ends = [frame.data["status"] async for frame in of_all if frame.event == "done"]
        assert await server.ended() == -signal.SIGTERM
    assert [frame.number for frame in told] == list(range(1, 202))
    assert (told[-1].event, told[-1].data["counts"]["failed"]) == ("done", 100)
    assert ends == ["failed"] * 100
