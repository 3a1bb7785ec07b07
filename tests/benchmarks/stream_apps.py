"""The apps that are compared by their streams: `POST /emit` is one event for all of `GET /stream`.

The peers' frames are made as cheaply as can be: the data is JSON once, when the event comes.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from jobrunner import JobContext, JobRunner
from jobrunner.web import create_app

from .apps import TOKEN

TEXT = "a token @ of a model"
"""What is emitted; the one @ in it is what readers count."""


class Source:
    """Events in a list, and a future for each who waits for the next one."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.waiters: set[asyncio.Future[None]] = set()

    def publish(self) -> None:
        event = {"seq": len(self.events) + 1, "at": time.time(), "text": TEXT}
        self.events.append(json.dumps(event))
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def read(self) -> AsyncIterator[tuple[int, str]]:
        """Yield each event with its number."""
        seen = 0
        while True:
            while seen < len(self.events):
                seen += 1
                yield seen, self.events[seen - 1]
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.add(waiter)
            await waiter


class Queues(Source):
    """The other thing that people write: a queue for each reader."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: set[asyncio.Queue[tuple[int, str]]] = set()

    def publish(self) -> None:
        super().publish()
        for queue in self.queues:
            queue.put_nowait((len(self.events), self.events[-1]))

    async def read(self) -> AsyncIterator[tuple[int, str]]:
        queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.queues.discard(queue)


def ours() -> Any:
    """A job that says what it is told to, and its stream in the runner's app."""
    runner = JobRunner(shutdown_timeout=0.0)  # the job never ends by itself
    texts: asyncio.Queue[str] = asyncio.Queue()
    paths: list[str] = []

    @runner.job
    async def say(ctx: JobContext) -> None:
        while True:
            ctx.emit(await texts.get())

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with runner.lifespan(app):
            paths.append(f"/api/jobs/{(await runner.submit(say)).id}/stream")
            yield

    async def where(request: Request) -> Response:
        return PlainTextResponse(paths[0])

    app = _app(lambda: texts.put_nowait(TEXT), where)
    app.router.lifespan_context = lifespan
    app.routes.append(Mount("/api", create_app(runner, auth=TOKEN)))
    return app


def waiting() -> Any:
    """Starlette's StreamingResponse over a shared list."""
    return _streaming(Source())


def queueing() -> Any:
    """Starlette's StreamingResponse with a queue for each reader."""
    return _streaming(Queues())


def _streaming(source: Source) -> Any:
    async def frames() -> AsyncIterator[str]:
        async for number, data in source.read():
            yield f"id: {number}\nevent: output\ndata: {data}\n\n"

    async def stream(request: Request) -> Response:
        return StreamingResponse(frames(), media_type="text/event-stream")

    app = _app(source.publish)
    app.routes.append(Route("/stream", stream))
    return app


def sse() -> Any:
    """sse-starlette over a shared list."""
    from sse_starlette import EventSourceResponse

    source = Source()

    async def events() -> AsyncIterator[dict[str, str]]:
        async for number, data in source.read():
            yield {"id": str(number), "event": "output", "data": data}

    async def stream(request: Request) -> Any:
        return EventSourceResponse(events())

    app = _app(source.publish)
    app.routes.append(Route("/stream", stream))
    return app


async def _stream_path(request: Request) -> Response:
    return PlainTextResponse("/stream")


def _app(publish: Any, where: Any = _stream_path) -> Starlette:
    async def emit(request: Request) -> Response:
        publish()
        return Response(status_code=204)

    return Starlette(routes=[Route("/emit", emit, methods=["POST"]), Route("/where", where)])
