"""An independent client, `fastmcp`, over HTTP: tasks that it drives by itself, and plain calls."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")
pytest.importorskip("fastmcp_tasks", reason="needs fastmcp and fastmcp-tasks, of the extra dev")

from tests.mcp_clients import LEGACY, MODERN
from tests.serving import Gates, make_runner

from fastmcp import Client  # isort: skip
from fastmcp.client.elicitation import ElicitResult  # isort: skip
from fastmcp.client.transports import StreamableHttpTransport  # isort: skip
from fastmcp.exceptions import ToolError  # isort: skip
from fastmcp_tasks.client import call_tool_task  # isort: skip
from mcp.shared.exceptions import MCPError  # isort: skip

from jobrunner import JobContext, JobRunner
from jobrunner.server import Server, serving


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Server, JobRunner, Gates]]:
    runner, gates = make_runner()

    @runner.job
    async def ask(ctx: JobContext) -> str:
        """Ask a person."""
        answer: str = await ctx.ask("Which branch?")
        return f"on {answer}"

    async with serving(runner, mcp=True) as server:
        yield server, runner, gates


def client_at(server: Server, **options: Any) -> Client[Any]:
    headers = {"authorization": f"Bearer {server.token}"}
    return Client(StreamableHttpTransport(f"{server.url}/mcp", headers=headers), **options)


async def test_a_task_looks_like_a_call_that_takes_its_time(
    bench: tuple[Server, JobRunner, Gates],
) -> None:
    """It polls, and its caller gets the tool's result."""
    async with client_at(bench[0]) as client:
        assert client.session.protocol_version == MODERN
        done = await client.call_tool("echo_background", {"value": [1, 2]})
        with pytest.raises(ToolError, match="no disk"):
            await client.call_tool("fail_background", {"message": "no disk"})
    assert done.structured_content is not None
    assert done.structured_content["result"] == [1, 2]


async def test_a_question_is_put_to_its_user(bench: tuple[Server, JobRunner, Gates]) -> None:
    """Its handler of elicitations is asked with a form, and the job goes on with the answer."""
    asked: list[str] = []

    async def answer(message: str, type: Any, params: Any, context: Any) -> ElicitResult[Any]:
        asked.append(message)
        return ElicitResult(action="accept", content={"value": "main"})

    async with client_at(bench[0], elicitation_handler=answer) as client:
        done = await client.call_tool("ask_background", {})
    assert asked == ["Which branch?"]
    assert done.structured_content is not None
    assert done.structured_content["result"] == "on main"


async def test_a_task_has_its_id_at_once_and_can_be_cancelled(
    bench: tuple[Server, JobRunner, Gates],
) -> None:
    """Its handle polls when it is asked to; another's id is refused."""
    server, runner, gates = bench
    async with client_at(server) as client:
        task = await call_tool_task(client, "hold_background", {"key": "k"})
        await gates["k reached"].wait()
        assert (await task.status()).status == "working"
        await task.cancel()
        assert (await task.wait()).status == "cancelled"
        await runner.forget(task.task_id)
        with pytest.raises(MCPError) as refused:
            await task.status()
    assert refused.value.error.code == -32602


async def test_without_tasks_it_calls_tools_like_others(
    bench: tuple[Server, JobRunner, Gates],
) -> None:
    """By the protocol of before, where the job's id is all that a call returns."""
    server, _, gates = bench
    async with client_at(server, mode="legacy") as client:
        assert client.session.protocol_version == LEGACY
        assert "echo_background" in [tool.name for tool in await client.list_tools()]
        started = await client.call_tool("hold_background", {"key": "k"})
        assert started.structured_content is not None
        job_id = started.structured_content["job_id"]
        gates["k"].set()
        waited = await client.call_tool("wait_for_jobs", {"job_ids": [job_id]})
    assert waited.structured_content is not None
    assert waited.structured_content["jobs"][0]["result"] == "k"
