"""Events as Server-Sent Events (WHATWG HTML, 9.2), read from a log by number.

A stream keeps no queue: it remembers a number, reads what is newer, sends it and waits. A reader
that is slow makes its own stream wait, and nobody else; what the log has dropped meanwhile comes
as a gap.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import NamedTuple

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


class Piece(NamedTuple):
    """What a reader is sent that has all of a log but its newest events."""

    log: EventLog
    after: int
    upto: int
    """Number of the newest event."""
    body: bytes
    last: int
    """The number to read after next time."""


class StreamPlaces:
    """How many streams are open, how many may be, and what they are sent.

    A thousand readers of one log are sent the same, which is made once for all of them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self._newest: Piece | None = None

    def piece(self, source: Source, after: int, *, fresh: bool) -> tuple[bytes, int]:
        """Return what a reader gets next, nothing if there is nothing, and the number after it."""
        newest, log = self._newest, source.log
        if after >= log.last:
            return b"", after
        if newest is not None and newest.log is log and newest.upto == log.last:
            if newest.after == after:
                return newest.body, newest.last
        frames, last = source.read(after, fresh=fresh)
        body = encode(frames)
        if source.alike and body and after >= log.first - 1:  # no snapshot, which ages, is in it
            self._newest = Piece(log, after, log.last, body, last)
        return body, last


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
        log = self._source.log
        gone = asyncio.get_running_loop().create_task(_disconnected(receive), name="stream")
        rest, sender = _Rest(log, gone), _Sender(send, receive, log)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            if scope["method"] != "HEAD":
                await self._send_events(sender, rest)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            sender.end()
            rest.end()
            gone.cancel()
            self._places.open -= 1

    async def _send_events(self, send: "_Sender", rest: "_Rest") -> None:
        log, frames, after = self._source.log, *self._source.begin(self._after)
        body, fresh = b"retry: 1000\n\n" + encode(frames), bool(frames)
        del frames  # a snapshot may be large, and this goes on for hours
        await send(body)
        while not (rest.over or send.lost):
            body, after = self._places.piece(self._source, after, fresh=fresh)
            if body:
                await send(body)
                fresh = False
            elif after < log.last:
                continue  # what there was is not for this reader
            elif log.closed:
                return
            else:
                try:
                    await rest.begin(after, send.last + HEARTBEAT)
                finally:
                    rest.stop()
                if rest.due:
                    await send(b": still here\n\n")


class _Rest:
    """What a stream does between two pieces: wait for an event, or for its client's leaving.

    Its timer is set when it strikes, and not for each wait: most last a moment.
    """

    __slots__ = ("_beat", "_gone", "_log", "_loop", "_timer", "_waiter")

    def __init__(self, log: EventLog, gone: "asyncio.Task[None]") -> None:
        self._log = log
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._beat = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        gone.add_done_callback(self._wake)

    @property
    def over(self) -> bool:
        """Whether the client has left."""
        return self._gone.done()

    def begin(self, after: int, beat: float) -> "asyncio.Future[None]":
        """Return what to await: it comes with what is above `after`, or when a word is `due`.

        That is no coroutine: one for each open stream would be a quarter of a kilobyte.

        Args:
            beat: When a word is due, on the loop's clock.
        """
        self._beat = beat
        if self._timer is None:
            self._timer = self._loop.call_at(beat, self._look)
        waiter = self._waiter = self._loop.create_future()
        self._log.add_waiter(waiter, after)
        return waiter

    def stop(self) -> None:
        """Wait no longer; whoever began does this in any case."""
        if self._waiter is not None:
            self._log.remove_waiter(self._waiter)
            self._waiter = None

    def end(self) -> None:
        """Wait for nothing any more."""
        self._gone.remove_done_callback(self._wake)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def due(self) -> bool:
        """Whether it is time to say a word."""
        return self._beat - self._loop.time() <= 0.001  # a timer may strike that much too early

    def _look(self) -> None:
        if self.due:
            self._timer = None
            self._wake()
        else:
            self._timer = self._loop.call_at(self._beat, self._look)

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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

    __slots__ = ("_log", "_loop", "_send", "_sending", "_since", "_timer", "_transport", "last")

    def __init__(self, send: Send, receive: Receive, log: EventLog) -> None:
        self._send = send
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport = getattr(getattr(receive, "__self__", None), "transport", None)
        self._sending = False
        self._since = math.inf  # since when a reader has let the last that there is wait
        self._timer: asyncio.TimerHandle | None = None
        self.last = self._loop.time()

    async def __call__(self, body: bytes) -> None:
        self._sending = True
        self._since = self._loop.time() if self._log.closed else math.inf
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._look)
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._sending = False
        self.last = self._loop.time()

    @property
    def lost(self) -> bool:
        """Whether the connection is: of several requests on it uvicorn tells that to the last."""
        return isinstance(self._transport, asyncio.WriteTransport) and self._transport.is_closing()

    def end(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Look at the reader, while it lets something wait."""
        self._timer, now = None, self._loop.time()
        if not self._sending:
            return
        if self._log.closed and self._since == math.inf:
            self._since = now
        if now - self._since < PATIENCE - 0.001:  # a timer may strike that much too early
            self._timer = self._loop.call_at(min(self._since, now) + PATIENCE, self._look)
        elif isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()
