"""Clients of MCP as the package `mcp` has them, and the requests of tasks, for which it has none.

To be imported after `pytest.importorskip("mcp", ...)`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from jobrunner import JobRunner
from jobrunner.tools.mcp import mcp_server  # before `mcp`, which would change uvicorn for all tests
from tests.serving import connect

import mcp_types as types  # isort: skip
from mcp.client.client import Client  # isort: skip
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim  # isort: skip
from mcp.client.streamable_http import streamable_http_client  # isort: skip

TASKS = "io.modelcontextprotocol/tasks"
MODERN, LEGACY = "2026-07-28", "2025-11-25"
MODES = ("auto", "legacy")
"""How a client connects: by the newest protocol, or with the handshake of earlier ones."""


class Whole(types.Result):
    """A result of which all that came is kept."""

    model_config = ConfigDict(extra="allow")

    def as_it_came(self) -> dict[str, Any]:
        """Return its members."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class TaskMade(Whole):
    """What a call that was made a task returns."""

    result_type: Literal["task"]


class TaskRequest(types.Request[dict[str, Any], str]):
    """A request of the extension."""

    name_param: ClassVar[str | None] = "taskId"


class KnowsTasks(ClientExtension):
    """Declares the extension, and leaves tasks to the test."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[Any]]:
        """Tasks may come instead of results."""
        return [ResultClaim(result_type="task", model=TaskMade, resolve=self._refuse)]

    async def _refuse(self, made: TaskMade, context: ClaimContext) -> types.CallToolResult:
        raise AssertionError("a test asks for what it wants")


class Agent:
    """A client's session, in a test's words."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> types.CallToolResult:
        """Call a tool, and return its answer, which is checked against the tool's schema."""
        return await self.client.session.call_tool(tool, arguments)

    async def said(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return its structured output."""
        found: dict[str, Any] = (await self.call(tool, **arguments)).structured_content
        return found

    async def task(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return the task that was made of it, as it came."""
        made = await self.client.session.call_tool(tool, arguments, allow_claimed=True)
        assert isinstance(made, TaskMade), made
        return made.as_it_came()

    async def get(self, task_id: str) -> dict[str, Any]:
        """Return how a task stands."""
        return await self.send("tasks/get", taskId=task_id)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request of the extension, and return its result as it came."""
        kind = TaskRequest if isinstance(params.get("taskId"), str) else types.Request
        request = kind(method=method, params=params)
        return (await self.client.session.send_request(request, Whole)).as_it_came()


@asynccontextmanager
async def agent_of(
    runner: JobRunner, *, mode: str = "auto", tasks: bool = False, **options: Any
) -> AsyncIterator[Agent]:
    """Yield a client of the runner's tools without a transport; the runner has to run."""
    extensions = [KnowsTasks()] if tasks else []
    server = mcp_server(runner, **options)
    async with Client(server, mode=mode, extensions=extensions) as client:
        yield Agent(client)


@asynccontextmanager
async def http_agent(
    url: str, *, mode: str = "auto", tasks: bool = False, headers: Mapping[str, str]
) -> AsyncIterator[Agent]:
    """Yield a client of `/mcp` of a server."""
    extensions = [KnowsTasks()] if tasks else []
    async with (
        connect(url, headers=headers) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, extensions=extensions
        ) as client,
    ):
        yield Agent(client)
