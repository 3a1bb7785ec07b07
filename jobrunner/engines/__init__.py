"""Where a handler runs. An engine decides that and nothing else: state, events and limits are not
its business."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ..context import JobContext
from ..handlers import Handler
from ..options import EngineName
from ..threads import Threads
from .local import LocalEngine


class Engine(Protocol):
    """Runs a handler somewhere."""

    def run(
        self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """Run the handler to its end and return its value, or raise what it raised.

        When cancelled, it stops the handler as well as it can and doesn't return before the
        handler has ended.
        """
        ...

    async def close(self) -> None:
        """End whatever is kept from one job to the next; within a bounded time."""
        ...


class Engines:
    """The engines of a runner, made when the first job needs them.

    Args:
        threads: Where plain functions run.
        max_idle: Child processes that are kept for the next job.
    """

    def __init__(self, threads: Threads, *, max_idle: int) -> None:
        self.around: Callable[[Engine], Engine] | None = None
        """Put around each engine, to see or spoil what it does; for tests."""
        self._max_idle = max_idle
        self._made: dict[EngineName, Engine] = {"local": LocalEngine(threads)}

    def of(self, handler: Handler) -> Engine:
        """Return the engine that runs the handler."""
        name = handler.options.engine
        if (engine := self._made.get(name)) is None:
            from .process import ProcessEngine  # multiprocessing is not for everybody to load

            engine = self._made[name] = ProcessEngine(max_idle=self._max_idle)
        return engine if self.around is None else self.around(engine)

    async def close(self) -> None:
        """End what the engines keep."""
        for engine in self._made.values():
            await engine.close()
