"""Connections that can't be ended by asking: a reader that takes nothing keeps them open.

Servers wait for what is still to be sent without an end, and ASGI has no way to break a
connection. So this goes to the transport of the object that uvicorn's `receive` is a method of
(S1, S4); other servers have limits of their own.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.types import Receive

PATIENCE = 5.0
"""Seconds in which each piece must be taken once nothing will follow it."""


class Patience:
    """Breaks a connection whose reader doesn't take the last of what is sent.

    Each block that sends is entered with it. While more is to come a reader may be as slow as it
    likes.

    Args:
        receive: What the server gave to receive by.
        over: Whether nothing will follow what is sent now.
    """

    __slots__ = ("_loop", "_over", "_timer", "_transport", "_was_over")

    def __init__(self, receive: Receive, over: Callable[[], bool]) -> None:
        self._over = over
        self._loop = asyncio.get_running_loop()
        found = getattr(getattr(receive, "__self__", None), "transport", None)
        self._transport = found if isinstance(found, asyncio.WriteTransport) else None

    def __enter__(self) -> None:
        self._wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def _wait(self) -> None:
        self._was_over = self._over()
        self._timer = self._loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        if self._was_over or self.given_up:
            self._abort()
        self._wait()

    def look(self) -> None:
        """Break what the server has given up: it waits for a dead reader to take the rest."""
        if self.given_up:
            self._abort()

    def part(self) -> None:
        """Leave the connection to the server, but for so long only as it may take to end it."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._loop.call_later(PATIENCE, self._transport.abort)

    @property
    def given_up(self) -> bool:
        """Whether the server ends the connection, or knows that the client has."""
        return self._transport is not None and self._transport.is_closing()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
