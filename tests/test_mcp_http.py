"""MCP at `/mcp` of the app: who may come in, both eras of the protocol, and how it ends."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

pytest.importorskip("mcp", reason="needs the extra mcp")

from mcp.server import streamable_http
from mcp.shared.exceptions import MCPError
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.routing import Mount

from jobrunner.server import serving
from jobrunner.web import create_app
from jobrunner.web.body import MAX_BODY
from tests.mcp_clients import MODERN, MODES, TASKS, http_agent
from tests.serving import Bench, client_of, connect, listening, make_runner

IN_LOOP = pytest.mark.asyncio(loop_scope="module")
both_eras = pytest.mark.parametrize("mode", MODES)
ACCEPT = {"accept": "application/json, text/event-stream"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}


def message(method: str, **params: Any) -> dict[str, Any]:
    """Return a request of the newest protocol."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META} | params}


def head(method: str, **more: str) -> dict[str, str]:
    """Return the headers that belong to it."""
    return ACCEPT | {"mcp-protocol-version": MODERN, "mcp-method": method} | more


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    """One server for the file: each test has jobs of its own."""
    runner, gates = make_runner()
    async with serving(runner, mcp=True) as server, client_of(server) as client:
        yield Bench(runner, gates, client, server.url, server.token)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def agent_at(bench: Bench, **options: Any) -> Any:
    return http_agent(bench.url, headers=bearer(bench.token), **options)


@IN_LOOP
@both_eras
async def test_an_agent_starts_waits_reads_and_stops(bench: Bench, mode: str) -> None:
    """The same tools as without a network, told how far a job is while it waits."""
    told: list[float] = []

    async def note(progress: float, total: float | None, text: str | None) -> None:
        told.append(progress)
        bench.gates[mode].set()

    async with agent_at(bench, mode=mode) as agent:
        job_id = (await agent.said("hold_background", key=mode))["job_id"]
        call = {"job_ids": [job_id], "wait_seconds": 40}
        await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
        result = await agent.said("get_job_result", job_id=job_id)
        other = (await agent.said("hold_background", key="other"))["job_id"]
        stopped = await agent.said("cancel_job", job_id=other)
        unknown = await agent.call("check_job_status", job_id="job_0")
    assert (result["result"], stopped["status"], unknown.is_error) == (mode, "cancelled", True)
    assert told[0] == 0.0


@IN_LOOP
async def test_a_task_is_followed_over_http(bench: Bench) -> None:
    """Polled with its id in `Mcp-Name`, as SEP-2663 has it for whoever routes by it."""
    async with agent_at(bench, tasks=True) as agent:
        made = await agent.task("hold_background", key="task")
        working = await agent.get(made["taskId"])
        bench.gates["task"].set()
        await bench.runner.wait([made["taskId"]])
        done = await agent.get(made["taskId"])
    assert (working["status"], done["status"]) == ("working", "completed")
    assert done["result"]["structuredContent"]["result"] == "task"


@IN_LOOP
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_a_header_that_names_another_task_is_refused(bench: Bench, method: str) -> None:
    """-32020: somebody who routes by the header would have judged another request."""
    job = await bench.runner.submit("hold", {"key": "named"})
    body = message(method, taskId=job.id, inputResponses={})
    for named in ("job_0", "", "=?base64?!?="):
        refused = await bench.client.post(
            "/mcp", json=body, headers=head(method, **{"mcp-name": named})
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32020)
    for rest in ({}, {"mcp-name": job.id}):  # fastmcp sends none
        taken = await bench.client.post("/mcp", json=body, headers=head(method, **rest))
        assert taken.json()["result"]["resultType"] == "complete"


@IN_LOOP
async def test_an_error_of_the_protocol_has_its_http_status(bench: Bench) -> None:
    """Whoever reads no body still sees that it didn't work."""
    body = message("tasks/get", taskId="job_0")
    unknown = await bench.client.post("/mcp", json=body, headers=head("tasks/get"))
    body["params"]["_meta"] = META | {"io.modelcontextprotocol/clientCapabilities": {}}
    undeclared = await bench.client.post("/mcp", json=body, headers=head("tasks/get"))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, -32602)
    assert (undeclared.status_code, undeclared.json()["error"]["code"]) == (400, -32021)


@IN_LOOP
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": ""}, 401),
        ({"host": "evil.example"}, 400),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({}, 200),
    ],
)
async def test_the_same_guard_stands_before_it(
    bench: Bench, headers: dict[str, str], status: int
) -> None:
    """A page that a user looks at must not start jobs on their machine."""
    answer = await bench.client.post(
        "/mcp", json=message("tools/list"), headers=head("tools/list") | headers
    )
    assert answer.status_code == status


@IN_LOOP
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_there_is_nothing_but_posts(bench: Bench, method: str) -> None:
    """There are no sessions to be ended, and no streams but the answers to calls."""
    answer = await bench.client.request(method, "/mcp", headers=ACCEPT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["content-type"] == "application/problem+json"


@IN_LOOP
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"null", b'{"jsonrpc": "2.0"}', b"[" * 100_000, b"\xff"]
)
@pytest.mark.parametrize("version", [MODERN, "2025-11-25", "1999-01-01"])
async def test_s6_what_is_no_message_is_refused(bench: Bench, body: bytes, version: str) -> None:
    """Nothing that anybody sends is an error of the server's."""
    answer = await bench.client.post(
        "/mcp",
        content=body,
        headers=ACCEPT | {"content-type": "application/json", "mcp-protocol-version": version},
    )
    assert 400 <= answer.status_code < 500


@IN_LOOP
async def test_s6_a_message_that_is_too_long_is_refused(bench: Bench) -> None:
    """The limit is that of every other body."""
    body = message("tools/call", name="echo_background", arguments={"value": "x" * MAX_BODY})
    headers = head("tools/call", **{"mcp-name": "echo_background"})
    assert (await bench.client.post("/mcp", json=body, headers=headers)).status_code == 413


@both_eras
async def test_an_agent_sees_its_owner_s_jobs_only(mode: str) -> None:
    """Whoever `auth` says is asking, for each request by itself."""
    runner, _ = make_runner()
    app = create_app(runner, auth=lambda http: http.headers.get("x-user"), mcp=True)
    async with listening(app) as url:
        async with http_agent(url, mode=mode, headers={"x-user": "ada"}) as ada:
            job_id = (await ada.said("echo_background", value=1))["job_id"]
            await ada.call("wait_for_jobs", job_ids=[job_id])
            hers = await ada.said("list_jobs")
        async with http_agent(url, mode=mode, headers={"x-user": "bob"}) as bob:
            foreign = await bob.call("get_job_result", job_id=job_id)
            his = await bob.said("list_jobs")
        async with connect(url) as nobody:
            stranger = await nobody.post("/mcp", json={}, headers=ACCEPT)
    assert [job["job_id"] for job in hers["jobs"]] == [job_id]
    assert (foreign.is_error, his["jobs"], stranger.status_code) == (True, [], 401)


async def test_another_owner_s_task_is_unknown_over_http() -> None:
    """The same answer as to an id that never was."""
    runner, _ = make_runner()
    app = create_app(runner, auth=lambda http: http.headers.get("x-user"), mcp=True)
    codes = []
    async with listening(app) as url:
        async with http_agent(url, tasks=True, headers={"x-user": "ada"}) as ada:
            made = await ada.task("hold_background", key="k")
            assert (await ada.get(made["taskId"]))["status"] == "working"
        async with http_agent(url, tasks=True, headers={"x-user": "bob"}) as bob:
            for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                with pytest.raises(MCPError) as refused:
                    await bob.send(method, taskId=made["taskId"], inputResponses={})
                codes.append(refused.value.error.code)
        assert codes == [-32602] * 3
        assert not runner.record(made["taskId"]).is_final


@both_eras
async def test_s2_an_app_that_is_mounted_answers_too(mode: str) -> None:
    """The lifespan of a mounted app never runs, so nothing may depend on it."""
    runner, _ = make_runner()
    app = Starlette(
        routes=[Mount("/jobs-api", create_app(runner, auth=None, mcp=True))],
        lifespan=runner.lifespan,
    )
    async with listening(app) as url, http_agent(f"{url}/jobs-api", mode=mode, headers={}) as agent:
        job_id = (await agent.said("echo_background", value=1))["job_id"]
        waited = await agent.said("wait_for_jobs", job_ids=[job_id])
    assert waited["jobs"][0]["result"] == 1


@both_eras
async def test_s1_who_waits_is_answered_when_the_server_ends(mode: str) -> None:
    """The runner ends first, so that the call that waits has something to say."""
    runner, _ = make_runner()
    async with serving(runner, mcp=True) as server:
        async with http_agent(server.url, mode=mode, headers=bearer(server.token)) as agent:
            job_id = (await agent.said("hold_background", key="k"))["job_id"]
            call = {"job_ids": [job_id], "wait_seconds": 45}

            async def stop(progress: float, total: float | None, message: str | None) -> None:
                server.stop()  # now that the call waits

            answer = await agent.client.call_tool("wait_for_jobs", call, progress_callback=stop)
    assert answer.structured_content["jobs"][0]["error"]["reason"] == "shutdown"


@both_eras
async def test_an_answer_leaves_no_task(mode: str) -> None:
    """Whoever embeds the server has a loop that goes on without it."""
    before = asyncio.all_tasks()
    runner, _ = make_runner()
    async with serving(runner, mcp=True) as server:
        async with http_agent(server.url, mode=mode, headers=bearer(server.token)) as agent:
            await agent.said("echo_background", value=1)
    assert asyncio.all_tasks() == before


@IN_LOOP
@both_eras
async def test_s1_another_server_s_end_cuts_off_no_stream(
    bench: Bench, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our streams end with the runner, whatever their package has heard."""
    monkeypatch.setattr(AppStatus, "should_exit", True)
    async with agent_at(bench, mode=mode) as agent:
        assert (await agent.said("echo_background", value=1))["job_id"]


async def test_streams_of_others_end_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may have an MCP server of its own beside ours."""
    monkeypatch.setattr(AppStatus, "should_exit", True)

    async def endless() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "never"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = streamable_http.EventSourceResponse(endless())  # type: ignore[attr-defined]  # theirs
        await stream(scope, receive, send)

    async with listening(app, lifespan="off") as url, connect(url) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/")


@IN_LOOP
async def test_without_it_there_is_no_such_path(bench: Bench) -> None:
    """It is only there when it was asked for."""
    runner, _ = make_runner()
    transport = httpx2.ASGITransport(app=create_app(runner, auth=None))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post("/mcp", json={}, headers=ACCEPT)).status_code == 404


def run(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow  # an interpreter of its own
def test_nobody_else_pays_for_it() -> None:
    """The package takes most of a second to load, and changes uvicorn for all servers."""
    done = run(
        "import sys, uvicorn\n"
        "before = uvicorn.Server.handle_exit\n"
        "import jobrunner, jobrunner.server\n"
        "from jobrunner.web import create_app\n"
        "create_app(jobrunner.JobRunner(), auth=None)\n"
        "assert not {'mcp', 'mcp_types', 'sse_starlette'} & sys.modules.keys()\n"
        "create_app(jobrunner.JobRunner(), auth=None, mcp=True)\n"
        "assert 'mcp' in sys.modules\n"
        "assert uvicorn.Server.handle_exit is before\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow  # an interpreter of its own
def test_who_has_loaded_streams_of_their_own_keeps_them_as_they_were() -> None:
    """What somebody else has imported is theirs to undo."""
    done = run(
        "import uvicorn, sse_starlette\n"
        "before = uvicorn.Server.handle_exit\n"
        "import jobrunner.tools.mcp\n"
        "assert uvicorn.Server.handle_exit is before\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow  # an interpreter of its own
def test_without_the_extra_it_says_what_to_install() -> None:
    """Here the package is there, so it is taken away."""
    done = run(
        "import sys\n"
        "sys.modules['mcp'] = None\n"
        "import jobrunner\n"
        "from jobrunner.web import create_app\n"
        "create_app(jobrunner.JobRunner(), auth=None, mcp=True)\n"
    )
    assert "pip install 'agent-jobrunner[mcp]'" in done.stderr.splitlines()[-1]
    assert "InvalidOption" in done.stderr
