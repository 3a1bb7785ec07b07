"""Handlers in this process: coroutines and generators in the event loop, functions in threads."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import to_json

from ..context import JobContext
from ..errors import RetryableError
from ..handlers import Handler, Kind


class LocalEngine:
    """Runs handlers in this process.

    Args:
        max_threads: How many threads of handlers may run at once, given up ones too.
    """

    def __init__(self, *, max_threads: int) -> None:
        self._max_threads = max_threads
        self._threads: set[threading.Thread] = set()

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Run the handler; see `Engine.run`."""
        if handler.kind is Kind.COROUTINE:
            return await handler.call(context, arguments)
        if handler.kind is Kind.GENERATOR:
            return await _exhaust(handler, context, arguments)
        return await self._in_thread(lambda: handler.call(context, arguments), context.job_id)

    async def _in_thread(self, call: Callable[[], Any], name: str) -> Any:
        """Call in a thread of its own, and wait for its end whatever happens.

        A thread can't be cancelled: it is told by `context.cancel_requested`, and what it does then
        decides. A pool would be filled by a few that never end (T10), and a daemon thread is not
        joined when the interpreter exits.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        outcome: list[tuple[Any, BaseException | None]] = []  # emptied, as no future can be (T12)

        def work() -> None:
            try:
                outcome.append((call(), None))
            except BaseException as error:
                outcome.append((None, error))
            _tell(loop, ended)

        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(work,), name=name, daemon=True)
        self._start(thread)
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:
                continue  # the thread can't be; `check_cancelled` raises it there
        self._threads.discard(thread)
        value, error = outcome.pop()
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # it holds this frame, which would hold it

    def _start(self, thread: threading.Thread) -> None:
        if len(self._threads) >= self._max_threads:
            self._threads = {thread for thread in self._threads if thread.is_alive()}
        if len(self._threads) >= self._max_threads:
            raise RetryableError(
                f"{len(self._threads)} threads of handlers still run, the limit; a handler that is "
                "a plain function has to end when ctx.check_cancelled() says so"
            )
        self._threads.add(thread)
        thread.start()


async def _exhaust(handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> None:
    generator = handler.call(context, arguments)
    try:
        async for piece in generator:
            text = piece if isinstance(piece, str) else to_json(piece, fallback=repr).decode()
            context.emit(text)
    finally:
        await generator.aclose()


def _tell(loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
    try:
        loop.call_soon_threadsafe(ended.set_result, None)
    except RuntimeError:
        pass  # the loop is closed: the runner has stopped without this thread
