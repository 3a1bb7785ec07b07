"""What each endpoint answers about a job, in every state that it can be in."""

import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.testclient import TestClient

from jobrunner import InvalidOption, JobRunner, Limits, Retention, RetryableError, RetryPolicy
from jobrunner.lookup import Stats
from jobrunner.stats_views import StatsView
from jobrunner.web import create_app
from tests.serving import (
    Bench,
    bench,
    in_process,
    make_runner,
    problem,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "job_00000000000000000000000000000000"
ON_A_JOB = [
    ("GET", ""), ("DELETE", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry"),
    ("GET", "/stream"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test looks at jobs of its own."""
    async with bench() as served:
        yield served


@pytest.mark.parametrize(("method", "path"), ON_A_JOB)
async def test_an_unknown_job_is_a_404_everywhere(served: Bench, method: str, path: str) -> None:
    """One answer on all routes, whatever is asked of it."""
    response = await served.client.request(method, f"/jobs/{UNKNOWN}{path}")
    assert problem(response) == (404, "job-not-found")


@pytest.mark.parametrize(("method", "path"), ON_A_JOB)
async def test_a_forgotten_job_is_a_410_everywhere(served: Bench, method: str, path: str) -> None:
    """ "Gone" tells a client that its id was right and that it came too late."""
    job_id = await served.finished("echo")
    deleted = await served.client.delete(f"/jobs/{job_id}")
    response = await served.client.request(method, f"/jobs/{job_id}{path}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert problem(response) == (410, "job-gone")


async def test_a_pruned_job_is_a_410_too() -> None:
    """Whether the server or somebody else forgot it is the same to who asks."""
    async with in_process(retention=Retention(max_jobs=0)) as own:
        job_id = await own.finished("echo")
        assert problem(await own.client.get(f"/jobs/{job_id}")) == (410, "job-gone")


async def test_q8_who_waits_for_a_job_gets_its_end_though_it_is_pruned_at_once() -> None:
    """The result belongs to who waited for it, whatever the retention (Q8)."""
    async with in_process(retention=Retention(max_jobs=0)) as own:
        response = await own.client.post(
            "/jobs", json={"type": "echo", "params": {"value": 1}}, headers={"prefer": "wait=30"}
        )
    assert (response.status_code, response.json()["result"]) == (200, 1)


async def test_a_job_that_runs_is_not_forgotten(served: Bench) -> None:
    """409: cancel it first, or wait."""
    job_id = await served.held("kept")
    assert problem(await served.client.delete(f"/jobs/{job_id}")) == (409, "job-not-final")
    served.gates["kept"].set()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/jobs", "GET, HEAD, POST"), ("/jobs/x", "DELETE, GET, HEAD"), ("/jobs/x/cancel", "POST")],
)
async def test_another_method_is_a_405_that_says_which_there_are(
    served: Bench, path: str, allowed: str
) -> None:
    """RFC 9110, 15.5.6."""
    response = await served.client.put(path, json={})
    assert problem(response) == (405, "method-not-allowed")
    assert sorted(response.headers["allow"].split(", ")) == allowed.split(", ")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/{id}", "/jobs/{id}/result", "/types", "/"])
async def test_head_is_get_without_a_body(served: Bench, path: str) -> None:
    """RFC 9110, 9.3.2: the same headers."""
    job_id = await served.finished("echo")
    path = path.replace("{id}", job_id)
    head, get = await served.client.head(path), await served.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize(
    "value", [None, 0, "", [], "text", {"a": [1.5, True]}, "\u2028\r\n<script>", 10**18]
)
async def test_a_result_is_served_bare(served: Bench, value: Any) -> None:
    """What the handler returned, and nothing around it: it goes into a pipe."""
    job_id = await served.finished("echo", value=value)
    response = await served.client.get(f"/jobs/{job_id}/result")
    assert (response.status_code, response.json()) == (200, value)
    assert response.headers["content-type"] == "application/json"


async def test_a_result_that_is_not_there_yet_is_a_202(served: Bench) -> None:
    """The job itself, and when to ask again."""
    job_id = await served.held("no result")
    response = await served.client.get(f"/jobs/{job_id}/result")
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert response.headers["retry-after"] == "1"
    served.gates["no result"].set()


async def test_the_result_of_a_failure_is_a_409_that_says_why(served: Bench) -> None:
    """There is no result and never will be; the job itself is a 200 with its error."""
    job_id = await served.finished("fail", message="no such file")
    response = await served.client.get(f"/jobs/{job_id}/result")
    assert problem(response) == (409, "job-failed")
    assert "no such file" in response.json()["detail"]
    assert (await served.client.get(f"/jobs/{job_id}")).status_code == 200


async def test_the_result_of_a_cancelled_job_is_a_409(served: Bench) -> None:
    """Not a failure of the job, and still no result."""
    job_id = await served.held("cancelled result")
    await served.client.post(f"/jobs/{job_id}/cancel")
    await served.runner.handle(job_id).wait()
    response = await served.client.get(f"/jobs/{job_id}/result")
    assert problem(response) == (409, "job-cancelled")


@pytest.mark.parametrize("debug", [False, True])
async def test_a_traceback_is_shown_in_debug_mode_only(debug: bool) -> None:
    """It has paths and source lines of the server in it."""
    runner, _ = make_runner()
    with TestClient(create_app(runner, auth=None, debug=debug)) as client:
        job = client.post("/jobs", json={"type": "fail", "params": {"message": "x"}},
                          headers={"prefer": "wait=30"}).json()  # fmt: skip
    assert ("traceback" in job["error"]) == debug
    assert {k: job["error"][k] for k in ("reason", "type", "detail", "attempt", "retryable")} == {
        "reason": "error", "type": "PermanentError", "detail": "x", "attempt": 1,
        "retryable": False,
    }  # fmt: skip


async def test_a_cancel_is_a_202_while_the_job_stops_and_a_200_afterwards(served: Bench) -> None:
    """The status tells the truth about what still runs; twice is the same as once."""
    job_id = await served.held("stopping")
    first = await served.client.post(f"/jobs/{job_id}/cancel", json={"reason": "changed my mind"})
    await served.runner.handle(job_id).wait()
    second = await served.client.post(f"/jobs/{job_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "running")
    assert first.json()["cancel_requested_at"] is not None
    assert (second.status_code, second.json()["status"]) == (200, "cancelled")
    assert (second.json()["cancel_reason"], second.json()["cancel_note"]) == (
        "user",
        "changed my mind",
    )


async def test_a_cancel_of_a_job_that_waits_is_a_200(served: Bench) -> None:
    """It never ran, so there is nothing to wait for."""
    job = (await served.client.post("/jobs", json={"type": "echo", "delay": 3_600})).json()
    response = await served.client.post(f"/jobs/{job['job_id']}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_cancel_of_a_completed_job_changes_nothing(served: Bench) -> None:
    """It came too late, which is no error: the answer has the result."""
    job_id = await served.finished("echo", value=1)
    before = (await served.client.get(f"/jobs/{job_id}")).json()
    response = await served.client.post(f"/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()) == (200, before)


async def test_a_retry_is_a_new_job(served: Bench) -> None:
    """History isn't rewritten: the failure stays, and the new job says what it repeats."""
    job_id = await served.finished("fail", message="again")
    response = await served.client.post(f"/jobs/{job_id}/retry")
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['job_id']}"
    assert (job["retry_of"], job["params"]) == (job_id, {"message": "again"})


async def test_a_job_that_runs_is_not_retried(served: Bench) -> None:
    """409: it hasn't ended."""
    job_id = await served.held("no retry")
    response = await served.client.post(f"/jobs/{job_id}/retry")
    assert problem(response) == (409, "job-not-final")
    served.gates["no retry"].set()


async def test_a_job_that_is_retrying_says_when(served: Bench) -> None:
    """A rate limit of a minute: the client is told not to ask every second."""
    policy = RetryPolicy(max_attempts=2)
    runner = JobRunner(retry=policy, shutdown_timeout=0.0)

    @runner.job
    async def limited() -> None:
        raise RetryableError("rate limit", retry_after=45.0)

    app = create_app(runner, auth=None)
    transport = httpx2.ASGITransport(app=app)
    async with runner, httpx2.AsyncClient(transport=transport, base_url="http://localhost") as c:
        job = await runner.submit(limited)
        async for event in job.events():
            if event.data.get("status") == "retrying":
                break
        response = await c.get(f"/jobs/{job.id}")
    assert (response.json()["status"], response.json()["attempt"]) == ("retrying", 1)
    assert 44 <= int(response.headers["retry-after"]) <= 60


async def test_the_types_have_their_schemas(served: Bench) -> None:
    """An agent's tool list is made from this."""
    types = {t["type"]: t for t in (await served.client.get("/types")).json()["types"]}
    assert list(types) == ["echo", "fail", "say", "hold", "steps"]
    assert types["fail"]["description"] == "Fail with the message."
    assert types["fail"]["params"]["properties"] == {
        "message": {"title": "Message", "type": "string"}
    }
    assert types["say"]["result"] == {"type": "integer"}


async def test_the_stats_say_how_the_runner_does(served: Bench) -> None:
    """Whoever looks after it sees workers and jobs at a glance, without listing them all."""
    held = await served.held("stats")
    answer = (await served.client.get("/stats")).json()
    assert list(answer) == list(Stats._fields) == list(StatsView.model_fields)
    view = StatsView.model_validate(answer)
    assert (view.state, view.jobs["running"]) == ("running", view.busy)
    served.gates["stats"].set()
    await served.runner.handle(held).wait()


async def test_a_running_runner_is_alive_and_ready(served: Bench) -> None:
    """What a load balancer asks."""
    health = await served.client.get("/healthz")
    ready = await served.client.get("/readyz")
    assert (health.status_code, health.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_a_full_queue_is_a_503_with_a_time_to_come_back() -> None:
    """Bounded memory: too many jobs are refused, not kept."""
    async with in_process(workers=1, limits=Limits(max_pending=1)) as own:
        await own.held("full")
        await own.submit("echo")
        response = await own.client.post("/jobs", json={"type": "echo"})
    assert problem(response) == (503, "queue-full")
    assert response.headers["retry-after"] == "1"


async def test_a_runner_that_was_not_started_is_not_ready() -> None:
    """Nor does a load balancer send it anything."""
    runner, _ = make_runner()
    response = TestClient(create_app(runner, auth=None)).get("/readyz")
    assert (response.status_code, response.json()["type"]) == (503, "/problems/runner-not-started")


async def test_a_stopped_runner_takes_no_jobs_and_still_answers() -> None:
    """Results can be fetched until the process has ended."""
    async with in_process() as own:
        job_id = await own.finished("echo", value=1)
        await own.runner.stop()
        submit = await own.client.post("/jobs", json={"type": "echo"})
        ready = await own.client.get("/readyz")
        result = await own.client.get(f"/jobs/{job_id}/result")
    assert [problem(submit), problem(ready)] == [(503, "shutting-down")] * 2
    assert (result.status_code, result.json()) == (200, 1)


async def test_an_error_of_ours_is_a_problem_document_too() -> None:
    """What nobody thought of says nothing of the inside, and is in the log."""
    runner, _ = make_runner()
    app = create_app(runner, auth=None)

    async def broken(request: Any) -> Any:
        raise RuntimeError("secret")

    app.router.add_route("/broken", broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/broken")
    assert (response.status_code, response.json()) == (
        500,
        {"type": "/problems/internal-error", "title": "Internal Server Error", "status": 500,
         "detail": "something went wrong here; it is in the log"},
    )  # fmt: skip


async def test_failed_jobs_are_run_again_by_type_or_all_at_once(served: Bench) -> None:
    """Row 12: after an outage is over, nobody has to look for each job that it took."""
    async with in_process() as own:
        ids = [await own.finished("fail", message=f"{i}") for i in range(2)]
        other = await own.client.post("/retry", json={"type": "echo"})
        again = await own.client.post("/retry", json={"type": "fail"})
        jobs = [(await own.client.get(f"/jobs/{i}?wait=30")).json()
                for i in again.json()["job_ids"]]  # fmt: skip
        unknown = await own.client.post("/retry", json={"type": "nothing"})
    assert (other.status_code, other.json()) == (202, {"job_ids": []})
    assert {job["retry_of"] for job in jobs} == set(ids)
    assert problem(unknown) == (422, "unknown-job-type")


async def test_mcp_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for it should hear so at once, and not from the first agent."""
    monkeypatch.delitem(sys.modules, "jobrunner.tools.mcp", raising=False)
    monkeypatch.setitem(sys.modules, "jobrunner.tools.mcp", None)
    with pytest.raises(InvalidOption, match=r"pip install 'agent-jobrunner\[mcp\]'"):
        create_app(JobRunner(), auth=None, mcp=True)
