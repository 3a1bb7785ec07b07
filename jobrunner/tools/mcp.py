"""An MCP server of a runner's tools: over stdin and stdout, and over streamable HTTP.

Every client may call the tools: a job's id comes back at once, and other tools follow it. To
clients that declare the extension for tasks each job is one besides (mcp_tasks.py).

Nothing imports this before it is asked for: the package `mcp` takes most of a second to load.
"""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from .. import __version__
from ..runner import JobRunner
from ..toolbox import Types
from .sparing import uvicorn_spared

with uvicorn_spared():
    from mcp.server.extension import compose_tool_call_handler
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp_types import CallToolRequestParams

    from .mcp_calls import Calls, Owner
    from .mcp_streams import UNWATCHED
    from .mcp_tasks import Tasks

INSTRUCTIONS = """\
These tools run jobs in the background. A tool that starts one answers at once with its job_id, \
while the job goes on by itself: tell the user that it runs, do something else, and look again \
later. wait_for_jobs waits for jobs for up to 45 seconds at a time; that the time is over is no \
failure. check_job_status says how a job is getting on, get_job_result has what it came to (in \
parts when it is long), list_jobs finds jobs whose id is lost, answer_job answers one that asks, \
cancel_job stops one. Never start a job again only because it isn't done yet.\
"""


def mcp_server(
    runner: JobRunner,
    *,
    owner: Owner = lambda: None,
    types: Types | None = None,
    name: str = "jobrunner",
    instructions: str = INSTRUCTIONS,
) -> Server[Any]:
    """Make an MCP server of the runner's tools, for any transport of the package `mcp`.

    Args:
        runner: The runner; it has to run while calls are answered, and isn't started here.
        owner: Called within each call: whose jobs it may see, and whose its new ones will be.
        types: The job types that there are tools for, or a mapping from them to names of tools;
            None for all.
        name: What clients show the server as.
        instructions: What a client tells its model of the tools as a whole.

    Raises:
        UnknownJobType: One of the types isn't registered.
        InvalidOption: A name can't be a tool's, or is another one's.
    """
    if types is not None and not isinstance(types, Mapping):
        types = list(types)  # to be read in each call
    runner.toolbox(types=types)  # what is wrong is said now, not to the first client
    calls = Calls(runner, owner, {"types": types})
    tasks = Tasks(calls)
    server: Server[Any] = Server(
        name,
        version=__version__,
        instructions=instructions,
        on_list_tools=calls.list,
        get_tool_input_schema=_no_headers,
    )
    call = compose_tool_call_handler([tasks], calls.call)
    server.add_request_handler("tools/call", CallToolRequestParams, call)
    for method in tasks.methods():
        server.add_request_handler(method.method, method.params_type, method.handler)
    server.extensions[tasks.identifier] = tasks.settings()
    return server


def _no_headers(name: str) -> Mapping[str, Any] | None:
    """No argument of ours stands in a header, so there is no schema to be looked up for it."""
    return None


class McpEndpoint:
    """An ASGI app that answers MCP messages posted to it (streamable HTTP).

    Each request stands alone, as MCP has it since 2026-07-28, and as earlier clients take it from a
    server that gives them no session: nothing is kept between two of them, so that there is nothing
    to be bounded, to expire, or to be taken over by somebody else.

    Args:
        server: The server.
        max_body: Bytes of a message.
    """

    def __init__(self, server: Server[Any], *, max_body: int) -> None:
        self._server = server
        self._max_body = max_body
        _quiet("mcp.server.streamable_http_manager")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        What the transport starts for it ends with it, whoever's lifespan runs: that of a mounted
        app never does.
        """
        manager = StreamableHTTPSessionManager(
            self._server, stateless=True, max_request_body_size=self._max_body
        )
        async with manager.run():
            await manager.handle_request({**scope, UNWATCHED: True}, receive, send)


def _quiet(name: str) -> None:
    """Have a logger say no more that it starts and stops, unless somebody has set it up."""
    chatty = logging.getLogger(name)
    if chatty.level == logging.NOTSET:
        chatty.setLevel(logging.WARNING)
