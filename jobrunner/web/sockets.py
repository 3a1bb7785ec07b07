"""WebSockets: a job's events, or those of a session's jobs, as JSON frames; and what is asked back.

OpenAPI can't describe them, so here they are. A frame of the server is an object with a `type`:

    snapshot        a job as it stands: `seq`, `job_id`, `job`
    status, progress, log, output, question, answer
                    an event: `seq`, `job_id`, `at`, and what goes with the type. Output has its
                    channel, `stream`, and `text`; `json` if that is a JSON value; and `from` if it
                    was joined of older pieces: the first of the numbers that it stands for
    gap             events `from` .. `to` are no longer kept; a snapshot follows
    job_complete    the last event of a job: `seq`, `job_id`, `status`, `result`, `error`
    error           what was asked for can't be done: `code`, `detail`; the socket stays open

`WS /jobs/{id}/ws` sends a snapshot, the job's events from 1, and what comes, as the event stream
does; with `?after=n` what is above `n`. It is closed with 1000 after `job_complete`.

`WS /ws/{session_id}` sends of all jobs of the session, those to come too, what is `status`,
`progress` and `job_complete`. These have a number `feed` as well, which rises over all jobs:
`?after=` takes that one. A new session is no error.

A client may send `{"op": "subscribe", "after": n}` to go on after `n`, beginning with a snapshot;
with `job_id` a session's socket tells of that job in full; `{"op": "cancel", "reason": "..."}`;
`{"op": "input", "question_id": "...", "value": ...}`. On a session's socket both need `job_id`.

Close codes: 1000 the job has ended; 1001 the server is going away, or 1012, where it is uvicorn by
itself; 4401 no token, 4404 no such job, 4410 the job is no longer kept, 1013 too many are open;
1008 too many frames or a bad query, 1009 a frame is too large.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, TypeAlias

from pydantic_core import to_json
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from ..errors import JobGone, JobNotFound, JobRunnerError, RunnerStopped
from ..jobs import Job
from .body import MAX_BODY
from .owners import OwnedRunner
from .postponed import postpone
from .problems import Problem
from .sessions import SessionIndex
from .streams import HEARTBEAT, StreamPlaces
from .talks import Close, JobTalk, SessionTalk, Talk, parse_op
from .transports import Patience

MAX_FRAME = MAX_BODY
"""Bytes of a client's frame; a larger one ends the socket."""
BURST = 1_000
"""Frames that a client may send at once."""
RATE = 100.0
"""Frames that it may send in each second after that; who sends more is hostile."""

Opened: TypeAlias = tuple[Talk, AbstractContextManager[None]]
"""What a socket is about, and what has to be entered while it is open."""


class Sockets:
    """The two kinds of sockets over one runner.

    Args:
        runner: The runner, as whoever asks may see it.
        index: Which events of all jobs are whose session's.
        places: The places that they share with the event streams.
        view: Makes a job as JSON, for whoever asks.
    """

    def __init__(
        self,
        runner: OwnedRunner,
        index: SessionIndex,
        places: StreamPlaces,
        view: Callable[[Scope, Job], bytes],
    ) -> None:
        self._runner = runner
        self._view = view
        self._index = index
        self.job = Endpoint(self._job, places)
        self.session = Endpoint(self._session, places)

    def _job(self, connection: HTTPConnection) -> Opened:
        job = self._runner.record(connection.path_params["job_id"])
        talk = JobTalk(
            job,
            self._runner,
            after=_after(connection),
            snapshot=partial(self._view, connection.scope),
        )
        return talk, nullcontext()

    def _session(self, connection: HTTPConnection) -> Opened:
        self._index.find(self._runner.feed())
        session_id = connection.path_params["session_id"]
        talk = SessionTalk(
            session_id,
            self._index,
            self._runner,
            after=_after(connection),
            snapshot=partial(self._view, connection.scope),
        )
        return talk, self._index.used(session_id)


class Endpoint:
    """An ASGI app that takes sockets in, each for a place.

    Args:
        open: Says what a connection is about.
        places: Where a place is claimed, and released whatever happens (S3).
    """

    def __init__(self, open: Callable[[HTTPConnection], Opened], places: StreamPlaces) -> None:
        self._open = open
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket from its handshake to its end."""
        postpone(self._claim, scope)

    async def _claim(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the client's `websocket.connect`
        with suppress(OSError):  # the client has left, as ASGI puts it
            await send({"type": "websocket.accept"})
            if self._places.open >= self._places.limit:
                await close(send, Close(1013, f"{self._places.limit} streams are open, the limit"))
                return
            self._places.open += 1
            try:
                await self._serve(HTTPConnection(scope), receive, send)
            finally:
                self._places.open -= 1

    async def _serve(self, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        try:
            talk, opened = self._open(connection)
        except Problem as problem:
            await close(send, Close(1008, problem.detail))
        except JobRunnerError as error:
            code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), 1011)
            await close(send, Close(code, str(error)))
        else:
            with opened:
                await _Socket(talk, receive, send).run()


_CODES: dict[type, int] = {JobNotFound: 4404, JobGone: 4410, RunnerStopped: 1001}


class _Socket:
    """An open socket. One task does one thing after the other: hear, say, or wait for either.

    While a slow client takes what is said nothing is heard, and the server reads no more of it.
    """

    def __init__(self, talk: Talk, receive: Receive, send: Send) -> None:
        self._talk = talk
        self._receive = receive
        self._send = send
        self._patience = Patience(receive, over=talk.ending)
        self._loop = asyncio.get_running_loop()
        self._frames, self._counted_at = 0.0, self._loop.time()

    async def run(self) -> None:
        """Talk until the end of what it is about, or until the client leaves."""
        coming = self._listen()
        try:
            while True:
                if coming.done():
                    if not await self._hear(coming.result()):
                        return
                    coming = self._listen()
                elif frames := self._talk.read():
                    for frame in frames:
                        await self._say(frame)
                    await asyncio.sleep(0)  # a client that takes all at once is one of many
                elif (end := self._talk.over()) is not None:
                    await close(self._send, end)
                    return
                else:
                    await self._something(coming)
        finally:
            coming.cancel()
            self._patience.part()

    def _listen(self) -> "asyncio.Task[Any]":
        async def listen() -> Any:
            return await self._receive()

        return self._loop.create_task(listen(), name="socket")

    async def _hear(self, message: Any) -> bool:
        """Do what the client asks for; return False when the socket is over."""
        if message["type"] == "websocket.disconnect":
            return False
        text: str | None = message.get("text")
        if not self._is_civil():
            await close(self._send, Close(1008, f"over {RATE:g} frames a second"))
        elif text is not None and len(text.encode("utf-8", "replace")) > MAX_FRAME:
            await close(self._send, Close(1009, f"a frame is over {MAX_FRAME} bytes"))
        else:
            await self._obey(text)
            return True
        return False

    async def _obey(self, text: str | None) -> None:
        try:
            if text is None:
                raise Problem(415, "invalid-frame", "the frame is binary; send text")
            await self._talk.do(parse_op(text))
        except Problem as problem:
            await self._complain(problem.code, problem.detail)
        except JobRunnerError as error:
            await self._complain(error.code, str(error))

    async def _complain(self, code: str, detail: str) -> None:
        await self._say(to_json({"type": "error", "code": code, "detail": detail}))

    async def _say(self, frame: bytes) -> None:
        if self._patience.given_up:  # nobody says so while all that is sent can be sent at once
            raise ConnectionResetError
        with self._patience:
            await self._send({"type": "websocket.send", "text": frame.decode()})

    def _is_civil(self) -> bool:
        """Count the client's frames: a bucket that leaks."""
        now = self._loop.time()
        self._frames = max(0.0, self._frames - (now - self._counted_at) * RATE) + 1
        self._counted_at = now
        return self._frames <= BURST

    async def _something(self, coming: "asyncio.Task[Any]") -> None:
        """Wait for something to say or to hear, and see now and then that it isn't in vain."""
        waiter: asyncio.Future[None] = self._loop.create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = self._loop.call_later(HEARTBEAT, wake)
        coming.add_done_callback(wake)
        try:
            with self._talk.waking(waiter):
                await waiter
        finally:
            coming.remove_done_callback(wake)
            timer.cancel()
        self._patience.look()


async def close(send: Send, end: Close) -> None:
    """Close a socket; the reason may have 123 bytes (RFC 6455, 5.5)."""
    reason = end.reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
    await send({"type": "websocket.close", "code": end.code, "reason": reason})


def _after(connection: HTTPConnection) -> int | None:
    """Return the number to go on after.

    Raises:
        Problem: It is none, or the query has more.
    """
    query = connection.query_params
    after = query.get("after")
    if query.keys() - {"after"} or not re.fullmatch(r"[0-9]{1,15}", after or "0"):
        raise Problem(400, "invalid-query", "the query may have `after`, a whole number, only")
    return int(after) if after else None
