"""Handlers in this process: coroutines and generators in the event loop, functions in threads."""

from collections.abc import Awaitable, Mapping
from typing import Any

from ..context import JobContext
from ..handlers import Handler, Kind
from ..threads import Threads


class LocalEngine:
    """Runs handlers in this process.

    Args:
        threads: Where plain functions run.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def run(
        self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """Run the handler; see `Engine.run`."""
        if handler.kind is Kind.COROUTINE:
            value: Awaitable[Any] = handler.call(context, arguments)
            return value
        if handler.kind is Kind.GENERATOR:
            return _exhaust(handler, context, arguments)
        return self._threads.call(lambda: handler.call(context, arguments), context.job_id)

    async def close(self) -> None:
        """Nothing is kept from one job to the next."""


async def _exhaust(handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> None:
    generator = handler.call(context, arguments)
    try:
        async for piece in generator:
            context.emit(piece)
    finally:
        await generator.aclose()
