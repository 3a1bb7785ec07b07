"""The whole path of an agent's job, by two clients, over both transports, in both ways.

Each lists the tools, starts a job, has its id at once, waits, answers a question in the middle,
reads the result, and cancels another job.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from jobrunner.server import serving
from tests.mcp_clients import LEGACY, MODERN, Agent, KnowsTasks
from tests.mcp_served import make_runner
from tests.serving import connect

from mcp.client.client import Client  # isort: skip
from mcp.client.stdio import StdioServerParameters, stdio_client  # isort: skip
from mcp.client.streamable_http import streamable_http_client  # isort: skip

if TYPE_CHECKING:  # it takes half a second to load, in each process that runs tests
    import fastmcp

HERE = Path(__file__).parents[1]
SERVE = ["-m", "jobrunner", "mcp", "tests.mcp_served:runner"]
TOOLS = {"deploy_background", "watch_background", "wait_for_jobs", "answer_job", "cancel_job"}

transports = pytest.mark.parametrize(
    "transport",
    [
        "http",
        pytest.param("stdio", marks=pytest.mark.slow),  # an interpreter that loads the package
    ],
)


@asynccontextmanager
async def mcp_client(transport: str, **options: Any) -> AsyncIterator[Client]:
    """Yield a client of the package `mcp` that is connected to a server of its own."""
    if transport == "stdio":
        process = StdioServerParameters(
            command=sys.executable, args=SERVE, env=dict(os.environ), cwd=HERE
        )
        async with Client(stdio_client(process), **options) as client:
            yield client
        return
    async with (
        serving(make_runner(), mcp=True, token="t") as server,
        connect(server.url, headers={"authorization": "Bearer t"}) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), **options) as client,
    ):
        yield client


@asynccontextmanager
async def fastmcp_client(transport: str, **options: Any) -> AsyncIterator["fastmcp.Client[Any]"]:
    """Yield a client of `fastmcp` that is connected to a server of its own."""
    pytest.importorskip("fastmcp_tasks", reason="needs fastmcp and fastmcp-tasks, of the extra dev")
    import fastmcp
    from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

    if transport == "stdio":
        process = StdioTransport(
            sys.executable, SERVE, env=dict(os.environ), cwd=str(HERE), keep_alive=False
        )
        async with fastmcp.Client(process, **options) as client:
            yield client
        return
    async with serving(make_runner(), mcp=True, token="t") as server:
        wire = StreamableHttpTransport(f"{server.url}/mcp", headers={"authorization": "Bearer t"})
        async with fastmcp.Client(wire, **options) as client:
            yield client


Call = Callable[..., Awaitable[Any]]
"""Calls a tool with arguments, and perhaps with who is to be told of progress."""


async def path_of_plain_calls(call: Call) -> None:
    """Go the whole path by tools alone; `call` returns what a client makes of an answer."""

    async def said(tool: str, *more: Any, **arguments: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (await call(tool, arguments, *more)).structured_content
        return found

    job_id = (await said("deploy_background", target="app"))["job_id"]
    (asking,) = (await said("wait_for_jobs", job_ids=[job_id]))["jobs"]
    await said("answer_job", job_id=job_id, value="eu")
    await said("wait_for_jobs", job_ids=[job_id])
    result = await said("get_job_result", job_id=job_id)
    assert (asking["status"], result["result"]) == ("input_required", "app in eu")

    here = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        if progress == 40.0:
            here.set()

    job_id = (await said("watch_background"))["job_id"]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(said("wait_for_jobs", note, job_ids=[job_id]))
        await here.wait()
        stopped = await said("cancel_job", job_id=job_id)
    assert (stopped["status"], waiting.result()["jobs"][0]["status"]) == ("cancelled",) * 2


@transports
async def test_the_client_of_mcp_goes_the_path_by_plain_calls(transport: str) -> None:
    """It declares no extension, so no answer is ever a task."""
    kinds = []
    async with mcp_client(transport) as client:

        async def call(tool: str, arguments: Any, note: Any = None) -> Any:
            answer = await client.call_tool(tool, arguments, progress_callback=note)
            kinds.append(answer.result_type)
            return answer

        assert client.protocol_version == MODERN
        assert {tool.name for tool in (await client.list_tools()).tools} >= TOOLS
        await path_of_plain_calls(call)
    assert set(kinds) == {"complete"}


@pytest.mark.slow  # it loads the package
@transports
async def test_the_client_of_fastmcp_goes_the_path_by_plain_calls(transport: str) -> None:
    """It declares the extension always, so by the protocol of before, which has none."""
    async with fastmcp_client(transport, mode="legacy") as client:

        async def call(tool: str, arguments: Any, note: Any = None) -> Any:
            return await client.call_tool(tool, arguments, progress_handler=note)

        assert client.session.protocol_version == LEGACY
        assert {tool.name for tool in await client.list_tools()} >= TOOLS
        await path_of_plain_calls(call)


@transports
async def test_the_client_of_mcp_goes_the_path_by_tasks(transport: str) -> None:
    """It has nothing of its own for tasks but to take them; requests do the rest."""
    async with mcp_client(transport, extensions=[KnowsTasks()]) as client:
        agent = Agent(client)

        async def once(task_id: str, *states: str) -> dict[str, Any]:
            while (task := await agent.get(task_id))["status"] not in states:
                pass  # a task is there to be asked
            return task

        assert {tool.name for tool in (await client.list_tools()).tools} >= TOOLS
        task_id = (await agent.task("deploy_background", target="app"))["taskId"]
        (question,) = (await once(task_id, "input_required"))["inputRequests"]
        filled = {"action": "accept", "content": {"value": "eu"}}
        await agent.send("tasks/update", taskId=task_id, inputResponses={question: filled})
        done = await once(task_id, "completed")
        other = (await agent.task("watch_background"))["taskId"]
        await agent.send("tasks/cancel", taskId=other)
        await once(other, "cancelled")
    assert done["result"]["structuredContent"]["result"] == "app in eu"


@pytest.mark.slow  # it loads the package
@transports
async def test_the_client_of_fastmcp_goes_the_path_by_tasks(transport: str) -> None:
    """Its handle polls, puts the question to its user as a form, and returns the tool's result."""
    pytest.importorskip("fastmcp_tasks", reason="needs fastmcp and fastmcp-tasks, of the extra dev")
    from fastmcp.client.elicitation import ElicitResult
    from fastmcp_tasks.client import call_tool_task

    asked: list[str] = []

    async def answer(message: str, *rest: Any) -> ElicitResult[Any]:
        asked.append(message)
        return ElicitResult(action="accept", content={"value": "eu"})

    async with fastmcp_client(transport, elicitation_handler=answer) as client:
        assert client.session.protocol_version == MODERN
        assert {tool.name for tool in await client.list_tools()} >= TOOLS
        task = await call_tool_task(client, "deploy_background", {"target": "app"})
        await task.wait(state="input_required")
        done = await task.result()
        other = await call_tool_task(client, "watch_background")
        await other.cancel()
        ended = await other.wait()
    assert (asked, ended.status) == (["Which region?"], "cancelled")
    assert done.structured_content is not None
    assert done.structured_content["result"] == "app in eu"
