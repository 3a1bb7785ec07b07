"""Streams to clients of earlier protocols that nobody but the runner ends.

For those the package `mcp` answers by `sse_starlette`. With its first stream it starts a task that
no one owns, and that looks twice a second, for as long as the loop runs, whether uvicorn is about
to end. Here the runner's end ends the streams.
"""

from typing import Any

import anyio
from mcp.server import streamable_http
from starlette.types import Receive, Scope, Send

UNWATCHED = "jobrunner.unwatched"
"""In the scope of a request whose stream is the runner's to end; others' stay as they are."""

# A version of `mcp` that has it no longer starts no such task.
_Response: Any = getattr(streamable_http, "EventSourceResponse", object)


class _Stream(_Response):  # type: ignore[misc]  # its package is of no type here
    """A response as the package has it, but for what it waits for besides its content."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if UNWATCHED in scope:
            self._listen_for_exit_signal = anyio.sleep_forever
        await super().__call__(scope, receive, send)


streamable_http.EventSourceResponse = _Stream  # type: ignore[attr-defined]  # no other way in
