"""Events as Server-Sent Events (WHATWG HTML, 9.2), read from a log by number.

A stream keeps no queue: it remembers a number, reads what is newer, sends it and waits. A reader
that is slow makes its own stream wait, and nobody else; what the log has dropped meanwhile comes
as a gap.
"""

import asyncio
from collections.abc import Iterable
from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..events import EventLog
from .postponed import postpone
from .problems import problem_response
from .sources import Frame, Source

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nothing in between hangs up."""
PATIENCE = 5.0
"""Seconds in which each piece must be taken once the log has ended; a browser comes again."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class StreamPlaces:
    """How many streams are open, and how many may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0


class EventStream(Response):
    """A response that sends what a log has above `after`, and what comes, until the log's end.

    Args:
        source: The log, and how it looks from outside.
        after: Number to go on after; None to begin with a snapshot.
        places: Where a place is claimed and released: around the whole, since a body never started
            never runs its `finally` (S3).
    """

    def __init__(self, source: Source, *, after: int | None, places: StreamPlaces) -> None:
        self.status_code = 200
        self.background = None
        self._source = source
        self._after = after
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        postpone(self._claim, scope)

    async def _claim(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._places.open >= self._places.limit:
            answer = problem_response(
                503,
                "too-many-streams",
                f"{self._places.limit} streams are open, the limit; poll instead",
                headers={"Retry-After": "5", "X-Content-Type-Options": "nosniff"},
            )
            await answer(scope, receive, send)
            return
        self._places.open += 1
        gone = asyncio.get_running_loop().create_task(_disconnected(receive), name="stream")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            if scope["method"] != "HEAD":
                await self._send_events(_Sender(send, receive, self._source.log), gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._places.open -= 1

    async def _send_events(self, send: "_Sender", gone: "asyncio.Task[None]") -> None:
        log, frames, after = self._source.log, *self._source.begin(self._after)
        await send(b"retry: 1000\n\n" + encode(frames))
        fresh = bool(frames)
        while not gone.done():
            frames, after = self._source.read(after, fresh=fresh)
            if frames:
                await send(encode(frames))
                fresh = False
            elif after < log.last:
                continue  # what there was is not for this reader
            elif log.closed:
                return
            elif not await self._something(after, gone, send.last + HEARTBEAT):
                await send(b": still here\n\n")

    async def _something(self, after: int, gone: "asyncio.Task[None]", beat: float) -> bool:
        """Wait for an event or the client's leaving; return False when it is time to say a word."""
        log, loop = self._source.log, asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        wake = partial(_wake, waiter)
        timer = loop.call_at(beat, wake)
        gone.add_done_callback(wake)
        log.add_waiter(waiter, after)
        try:
            await waiter
        finally:
            log.remove_waiter(waiter)
            gone.remove_done_callback(wake)
            timer.cancel()
        return beat - loop.time() > 0.001  # a timer may strike that much too early


def _wake(waiter: "asyncio.Future[None]", _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


def encode(frames: Iterable[Frame]) -> bytes:
    """Return frames as they go over the wire; one without a number has no id."""
    piece = bytearray()
    for number, kind, data in frames:
        if number is not None:
            piece += b"id: %d\n" % number
        piece += b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    return bytes(piece)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Sender:
    """Sends pieces, and breaks the connection to a reader that is dead.

    uvicorn waits for its connections without an end, and ASGI has no way to break one, so this
    goes to the transport of the object that uvicorn's `receive` is a method of (S1, S4). Other
    servers have limits of their own. When something was sent last is in `last`.
    """

    __slots__ = ("_ended", "_log", "_loop", "_send", "_timer", "_transport", "last")

    def __init__(self, send: Send, receive: Receive, log: EventLog) -> None:
        self._send = send
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport = getattr(getattr(receive, "__self__", None), "transport", None)
        self.last = self._loop.time()

    async def __call__(self, body: bytes) -> None:
        self._wait()
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._timer.cancel()
        self.last = self._loop.time()

    def _wait(self) -> None:
        self._ended = self._log.closed
        self._timer = self._loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        if self._ended and isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()
        else:
            self._wait()
