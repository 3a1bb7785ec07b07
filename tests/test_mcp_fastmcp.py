"""An independent client, `fastmcp`, over HTTP: tasks that it drives by itself, and plain calls."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from tests.mcp_clients import MODERN
from tests.serving import Gates, make_runner

from mcp.shared.exceptions import MCPError  # isort: skip

from jobrunner import JobRunner
from jobrunner.server import Server, serving

if TYPE_CHECKING:  # it takes half a second to load, in each process that runs tests
    from fastmcp import Client

pytestmark = pytest.mark.slow  # they load it


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Server, JobRunner, Gates]]:
    pytest.importorskip("fastmcp_tasks", reason="needs fastmcp and fastmcp-tasks, of the extra dev")
    runner, gates = make_runner()
    async with serving(runner, mcp=True) as server:
        yield server, runner, gates


def client_at(server: Server, **options: Any) -> "Client[Any]":
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport

    headers = {"authorization": f"Bearer {server.token}"}
    return Client(StreamableHttpTransport(f"{server.url}/mcp", headers=headers), **options)


async def test_a_task_looks_like_a_call_that_takes_its_time(
    bench: tuple[Server, JobRunner, Gates],
) -> None:
    """It polls, and its caller gets the tool's result."""
    from fastmcp.exceptions import ToolError

    async with client_at(bench[0]) as client:
        assert client.session.protocol_version == MODERN
        done = await client.call_tool("echo_background", {"value": [1, 2]})
        with pytest.raises(ToolError, match="no disk"):
            await client.call_tool("fail_background", {"message": "no disk"})
    assert done.structured_content is not None
    assert done.structured_content["result"] == [1, 2]


async def test_a_task_that_is_gone_is_refused(bench: tuple[Server, JobRunner, Gates]) -> None:
    """By an error of the protocol, which its handle raises."""
    from fastmcp_tasks.client import call_tool_task

    server, runner, _ = bench
    async with client_at(server) as client:
        task = await call_tool_task(client, "echo_background", {})
        await task.wait()
        await runner.forget(task.task_id)
        with pytest.raises(MCPError) as refused:
            await task.status()
    assert refused.value.error.code == -32602
