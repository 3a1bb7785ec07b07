"""Handlers in this process: coroutines and generators in the event loop, functions in threads."""

import asyncio
import contextvars
import threading
from collections.abc import Mapping
from typing import Any

from ..context import JobContext
from ..handlers import Handler, Kind


class LocalEngine:
    """Runs handlers in this process."""

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Run the handler; see `Engine.run`."""
        if handler.kind is Kind.COROUTINE:
            return await handler.call(context, arguments)
        if handler.kind is Kind.GENERATOR:
            return await _exhaust(handler, context, arguments)
        return await _in_thread(handler, context, arguments)


async def _exhaust(handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> None:
    generator = handler.call(context, arguments)
    try:
        async for piece in generator:
            context.emit(piece)
    finally:
        await generator.aclose()


async def _in_thread(handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
    """Call the function in a thread of its own, and wait for it until the attempt is given up.

    A thread can't be cancelled: it is told by `context.cancel_requested`, and what it does then
    decides. A pool would be filled by a few that never end (T10), and a daemon thread is not
    joined when the interpreter exits.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    outcome: list[tuple[Any, BaseException | None]] = []  # emptied below, as no future can be (T12)

    def work() -> None:
        try:
            outcome.append((handler.call(context, arguments), None))
        except BaseException as error:
            outcome.append((None, error))
        _tell(loop, ended)

    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(work,), name=context.job_id, daemon=True).start()
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            if context.ended:  # nobody waits for the value, and the loop is closing
                raise
            # the thread can't be cancelled; `check_cancelled` raises it there
    value, error = outcome.pop()
    try:
        if error is not None:
            raise error
        return value
    finally:
        del error  # it holds this frame, which would hold it


def _tell(loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
    try:
        loop.call_soon_threadsafe(ended.set_result, None)
    except RuntimeError:
        pass  # the loop is closed: the runner has stopped without this thread
