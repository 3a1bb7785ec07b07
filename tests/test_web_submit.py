"""Submitting over HTTP: the job, wishes (RFC 7240) and idempotency keys."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.serving import (
    Bench,
    bench,
    problem,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test looks at jobs of its own."""
    async with bench() as served:
        yield served


async def test_a_submit_answers_before_the_job_has_run(served: Bench) -> None:
    """The request behind an agent's tool dies after a minute; the id has to be out by then."""
    response = await served.client.post(
        "/jobs", json={"type": "hold", "params": {"key": "submitted"}}
    )
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['job_id']}"
    assert response.headers["vary"] == "Prefer"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) >= 1
    assert (job["status"], job["result"], job["error"]) == ("pending", None, None)
    served.gates["submitted"].set()


async def test_the_job_has_the_shape_that_every_surface_has(served: Bench) -> None:
    """Clients are written against these names; one that goes missing breaks them."""
    job_id = await served.finished("echo", value=[1, "\u00e4"])
    job = (await served.client.get(f"/jobs/{job_id}")).json()
    times = {name: job.pop(name) for name in ("created_at", "started_at", "updated_at",
                                              "finished_at")}  # fmt: skip
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", t) for t in times.values())
    assert job == {
        "job_id": job_id, "type": "echo", "status": "completed", "progress": 100.0,
        "progress_message": None, "step": None, "params": {"value": [1, "\u00e4"]},
        "result": [1, "\u00e4"], "partial": None, "error": None, "attempt": 1, "max_attempts": 1,
        "question": None, "questions": [],
        "next_attempt_at": None, "run_at": None, "expires_at": None,
        "deadline_at": None, "cancel_requested_at": None,
        "cancel_reason": None, "cancel_note": None, "timeout": 600.0, "priority": 0,
        "session_id": None, "batch_id": None, "parent_id": None, "retry_of": None,
        "metadata": {}, "last_seq": 3,
        "links": {"self": f"/jobs/{job_id}", "stream": f"/jobs/{job_id}/stream"},
    }  # fmt: skip


async def test_every_option_of_a_submit_comes_to_the_job(served: Bench) -> None:
    """What can be said in Python can be said over HTTP."""
    options = {"priority": 7, "timeout": 9.5, "session_id": "opt", "metadata": {"a": [1]}}
    body = {"type": "echo", "delay": 3_600, **options}
    job = (await served.client.post("/jobs", json=body)).json()
    run_at = datetime.fromisoformat(job["run_at"])
    assert {name: job[name] for name in options} == options
    assert 3_500 < (run_at - datetime.now(UTC)).total_seconds() <= 3_600
    await served.client.post(f"/jobs/{job['job_id']}/cancel")


async def test_a_job_that_has_not_ended_links_to_its_cancel(served: Bench) -> None:
    """A client that follows links needs to know no paths."""
    job_id = await served.held("links")
    links = (await served.client.get(f"/jobs/{job_id}")).json()["links"]
    assert links == {
        "self": f"/jobs/{job_id}",
        "stream": f"/jobs/{job_id}/stream",
        "cancel": f"/jobs/{job_id}/cancel",
    }
    served.gates["links"].set()


PREFERENCES = {
    "wait=30": 30,
    "WAIT=30": 30,
    "wait = 30": 30,
    "respond-async, wait=30": 30,
    "respond-async; x=1, wait=30": 30,
    'note="a, b", wait=30': 30,
    "wait=30, wait=0": 30,
    "wait=31": 30,
    "wait=999999999": 30,
}


@pytest.mark.parametrize(("prefer", "applied"), PREFERENCES.items())
async def test_a_submit_that_prefers_to_wait_sees_the_end(
    served: Bench, prefer: str, applied: int
) -> None:
    """RFC 7240: a short job is one request, and the answer says that the wish was granted."""
    response = await served.client.post(
        "/jobs", json={"type": "echo", "params": {"value": 1}}, headers={"prefer": prefer}
    )
    assert (response.status_code, response.json()["result"]) == (200, 1)
    assert response.headers["preference-applied"] == f"wait={applied}"
    assert "retry-after" not in response.headers


IGNORED = [
    "respond-async", "wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "await=30", "x-wait=30",
    "wait=1e9", "wait=9999999999", 'note="wait=30"', 'note=", wait=30, "', "note; wait=30", ",,;=",
]  # fmt: skip


@pytest.mark.parametrize("prefer", IGNORED)
async def test_a_preference_that_is_unknown_or_malformed_is_ignored(
    served: Bench, prefer: str
) -> None:
    """RFC 7240, 2: a preference is a wish; one that isn't understood is no error."""
    response = await served.client.post("/jobs", json={"type": "echo"}, headers={"prefer": prefer})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_two_prefer_headers_are_one_list(served: Bench) -> None:
    """RFC 9110: a list may come in several lines."""
    headers = [("prefer", "respond-async"), ("prefer", "wait=30")]
    response = await served.client.post("/jobs", json={"type": "echo"}, headers=headers)
    assert response.status_code == 200


async def test_a_get_that_waits_sees_the_end(served: Bench) -> None:
    """A long poll: nobody has to spin, and the answer comes with the end and not later."""
    job_id = await served.held("waited")
    async with asyncio.TaskGroup() as group:
        by_query = group.create_task(served.client.get(f"/jobs/{job_id}?wait=30"))
        by_header = group.create_task(
            served.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=30"})
        )
        await served.client.get("/healthz")
        served.gates["waited"].set()
    assert [r.json()["result"] for r in (by_query.result(), by_header.result())] == ["waited"] * 2
    assert "preference-applied" not in by_query.result().headers
    assert by_header.result().headers["preference-applied"] == "wait=30"


async def test_every_answer_that_a_preference_can_change_varies_by_it(served: Bench) -> None:
    """RFC 7240: a cache mustn't give one client what another one waited for."""
    job_id = await served.finished("echo")
    response = await served.client.get(f"/jobs/{job_id}")
    assert response.headers["vary"] == "Prefer"


@pytest.mark.parametrize("wait", ["-1", "1.5", "soon", "\u0663", "1e3", "9999999999", "+1"])
async def test_a_wait_that_is_no_number_is_a_400(served: Bench, wait: str) -> None:
    """In a query it is a parameter like any other, and a typo shouldn't look like a quick job."""
    job_id = await served.finished("echo")
    response = await served.client.get(f"/jobs/{job_id}", params={"wait": wait})
    assert problem(response) == (400, "invalid-query")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/{id}", "/jobs/{id}/stream"])
async def test_an_unknown_query_parameter_is_a_400(served: Bench, path: str) -> None:
    """`?state=failed` that answers with all jobs is worse than an error."""
    job_id = await served.finished("echo")
    response = await served.client.get(path.replace("{id}", job_id), params={"state": "failed"})
    assert problem(response) == (400, "invalid-query")


@pytest.mark.parametrize("second", ["k1", '"k1"'])
@pytest.mark.parametrize("first", ["k1", '"k1"'])
async def test_a_key_that_came_before_gets_the_same_job(
    first: str, second: str, served: Bench
) -> None:
    """A client that lost the answer may ask again: one run, and it is told so."""
    body = {"type": "echo", "params": {"value": "key"}}
    tag = f"{first}-{second}".replace('"', "q")
    one, two = [
        await served.client.post(
            "/jobs", json=body, headers={"idempotency-key": key.replace("k1", tag)}
        )
        for key in (first, second)
    ]
    assert "idempotency-replayed" not in one.headers
    assert two.headers["idempotency-replayed"] == "true"
    assert one.json()["job_id"] == two.json()["job_id"]


async def test_a_replay_of_a_finished_job_has_its_result(served: Bench) -> None:
    """Who retries late gets the end, not another run."""
    headers = {"idempotency-key": "late", "prefer": "wait=30"}
    body = {"type": "echo", "params": {"value": 3}}
    first = await served.client.post("/jobs", json=body, headers=headers)
    again = await served.client.post("/jobs", json=body, headers={"idempotency-key": "late"})
    assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize(
    "body", [{"type": "echo", "params": {"value": 2}}, {"type": "fail", "params": {"message": "x"}}]
)
async def test_a_key_with_another_request_is_a_422(served: Bench, body: dict[str, Any]) -> None:
    """One of the two is a bug of the client, and neither answer would be right."""
    headers = {"idempotency-key": "reused"}
    first = {"type": "echo", "params": {"value": 1}}
    await served.client.post("/jobs", json=first, headers=headers)
    response = await served.client.post("/jobs", json=body, headers=headers)
    assert problem(response) == (422, "idempotency-key-reused")


@pytest.mark.parametrize("key", ["", '""', "k" * 257, "tab\tinside"])
async def test_a_key_that_cannot_be_one_is_a_422(served: Bench, key: str) -> None:
    """An empty key shared by all clients would give each the first one's job."""
    response = await served.client.post(
        "/jobs", json={"type": "echo"}, headers={"idempotency-key": key}
    )
    assert problem(response) == (422, "invalid-option")


async def test_a_quoted_key_may_hold_quotes(served: Bench) -> None:
    """RFC 8941: inside a quoted string, a backslash goes before a quote or a backslash."""
    keys = [r'"a\"b\\c"', r"a\"b\\c", 'a"b\\c']
    jobs = [
        (await served.client.post("/jobs", json={"type": "echo"}, headers={"idempotency-key": key}))
        .json()["job_id"] for key in keys
    ]  # fmt: skip
    assert [jobs[0] == job for job in jobs] == [True, False, True]


async def test_many_submits_with_one_key_at_once_run_once(served: Bench) -> None:
    """Q1: the retries of an impatient client arrive together."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                served.client.post(
                    "/jobs", json={"type": "echo"}, headers={"idempotency-key": "storm"}
                )
            )
            for _ in range(30)
        ]
    assert len({task.result().json()["job_id"] for task in tasks}) == 1
    assert [t.result().headers.get("idempotency-replayed") for t in tasks].count(None) == 1


@pytest.mark.parametrize(("body", "pointer"), [
    ({"type": "nothing"}, "#/type"),
    ({"type": "echo", "priority": 1_000}, "#/priority"),
    ({"type": "echo", "timeout": 1e12}, "#/timeout"),
    ({"type": "echo", "delay": 1e12}, "#/delay"),
    ({"type": "echo", "session_id": ""}, "#/session_id"),
    ({"type": "echo", "params": {"value": 1, "other": 2}}, "#/params/other"),
])  # fmt: skip
async def test_a_fault_is_pointed_at(served: Bench, body: dict[str, Any], pointer: str) -> None:
    """A form shows the message beside the field that it is about."""
    response = await served.client.post("/jobs", json=body)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert (fault["pointer"], bool(fault["detail"])) == (pointer, True)
