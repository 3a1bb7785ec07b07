"""A job's events as Server-Sent Events (WHATWG HTML, 9.2), read from its log by number.

A stream keeps no queue: it remembers a number, reads what is newer, sends it and waits. A reader
that is slow makes its own stream wait, and nobody else; what the log has dropped meanwhile comes
as a gap.
"""

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..events import Event, EventLog, gap
from ..jobs import Job
from ..views import event_json
from .problems import problem_response

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nothing in between hangs up."""
BATCH = 100
"""Events that are sent in one piece at most."""
PIECE = 32_768
"""Bytes after which a piece takes no more events; a dead reader leaves one in memory (S4)."""
PATIENCE = 5.0
"""Seconds in which each piece must be taken once the job has ended; a browser comes again."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class StreamPlaces:
    """How many streams are open, and how many may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0


class EventStream(Response):
    """A response that sends a job's events above `after`, and those that come, until its end.

    Args:
        job: The job's record.
        after: Number to go on after; None for a snapshot and everything that is kept.
        snapshot: Makes the job as JSON, as it stands when called.
        places: Where a place is claimed and released: here, since a body that was never started
            never runs its `finally` (S3).
    """

    def __init__(
        self, job: Job, *, after: int | None, snapshot: Callable[[], bytes], places: StreamPlaces
    ) -> None:
        self.status_code = 200
        self.background = None
        self._job = job
        self._after = after
        self._snapshot = snapshot
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        if self._places.open >= self._places.limit:
            answer = problem_response(
                503,
                "too-many-streams",
                f"{self._places.limit} streams are open, the limit; poll the job instead",
                headers={"Retry-After": "5"},
            )
            await answer(scope, receive, send)
            return
        self._places.open += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._places.open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        gone = asyncio.get_running_loop().create_task(_disconnected(receive), name="stream")
        try:
            if scope["method"] != "HEAD":
                await self._send_events(_Sender(send, receive, self._job.log), gone)
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, send: "_Sender", gone: "asyncio.Task[None]") -> None:
        log = self._job.log
        head, fresh = b"retry: 1000\n\n", self._after is None
        if fresh:
            head += self._snapshot_frame()
        after = min(self._after or 0, log.last)  # a number never reached is some other log's
        await send(head)
        while not gone.done():
            piece, after = self._piece(after, fresh=fresh)
            if piece:
                await send(piece)
                fresh = False
            elif log.closed:
                return
            elif not await self._something(after, gone):
                await send(b": still here\n\n")

    def _piece(self, after: int, *, fresh: bool) -> tuple[bytes, int]:
        """Return what is sent next, nothing if there is nothing, and the number to go on after.

        A gap comes with a snapshot, unless there was one just now, when it is `fresh`.
        """
        reading = self._job.log.read(after, limit=BATCH)
        piece, last = bytearray(), reading.last - len(reading.events)
        if reading.missed:
            piece += self._frame(gap(self._job.id, self._job.updated_at, reading))
            piece += b"" if fresh else self._snapshot_frame()
        for event in reading.events:
            if len(piece) >= PIECE:
                break
            piece += self._frame(event)
            last = event.seq
        return bytes(piece), last

    def _frame(self, event: Event) -> bytes:
        data = event_json(event, job=self._job)
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, event.type.encode(), data)

    def _snapshot_frame(self) -> bytes:
        """A snapshot has no id: it is no event of the log, and nothing resumes after it."""
        data = b'%b,"seq":%d}' % (self._snapshot()[:-1], self._job.log.last)
        return b"event: snapshot\ndata: %b\n\n" % data

    async def _something(self, after: int, gone: "asyncio.Task[None]") -> bool:
        """Wait for an event or the client's leaving; return False when nothing came in time."""
        log, loop = self._job.log, asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = loop.call_later(HEARTBEAT, wake)
        gone.add_done_callback(wake)
        log.add_waiter(waiter, after)
        try:
            await waiter
        finally:
            log.remove_waiter(waiter)
            gone.remove_done_callback(wake)
            timer.cancel()
        return log.last > after or log.closed or gone.done()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Sender:
    """Sends pieces, and breaks the connection to a reader that is dead.

    uvicorn waits for its connections without an end, and ASGI has no way to break one, so this
    goes to the transport of the object that uvicorn's `receive` is a method of (S1, S4). Other
    servers have limits of their own.
    """

    __slots__ = ("_ended", "_log", "_loop", "_send", "_timer", "_transport")

    def __init__(self, send: Send, receive: Receive, log: EventLog) -> None:
        self._send = send
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport = getattr(getattr(receive, "__self__", None), "transport", None)

    async def __call__(self, body: bytes) -> None:
        self._wait()
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._timer.cancel()

    def _wait(self) -> None:
        self._ended = self._log.closed
        self._timer = self._loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        if self._ended and isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()
        else:
            self._wait()
