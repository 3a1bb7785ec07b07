"""From a thread without a loop to the asynchronous client, in a thread with one."""

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from typing import Any, Generic, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .client_http import CLOSED
from .errors import UsageError

T = TypeVar("T")
CLEAN_UP = 5.0
"""Seconds that a call which was interrupted has to close its connection."""


class Bridge:
    """A thread with an event loop, in which a client lives until `close`.

    Args:
        client: Entered there at once, and left at the end.
    """

    def __init__(self, client: AbstractAsyncContextManager[Any]) -> None:
        self._process = os.getpid()
        stack = ExitStack()
        self._portal = stack.enter_context(start_blocking_portal(name="jobrunner client"))
        stack.enter_context(self._portal.wrap_async_context_manager(client))
        # Also at the interpreter's exit: later nobody could wait for the thread any more.
        self._close = weakref.finalize(self, _leave, stack, self._portal, self._process)

    def close(self) -> None:
        """Leave the client and end the thread; twice is the same as once."""
        self._close()

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do the work there, and return what comes of it."""
        with self.running(work) as ended:
            return ended.result()

    def iterate(self, feed: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what comes; whoever stops early closes the feed."""
        none = object()

        async def next_one() -> T | object:
            return await anext(feed, none)

        try:
            while (one := self.call(next_one)) is not none:
                yield one  # type: ignore[misc]  # it isn't the object that stands for the end
        finally:
            self.call(feed.aclose)

    @contextmanager
    def running(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Iterator[Future[T]]":
        """Do the work in the client's thread; leaving the block early, as by Ctrl-C, ends it."""
        if os.getpid() != self._process:
            raise UsageError("the client's thread isn't in this process: make a client in each")
        if not self._close.alive:
            raise UsageError(CLOSED)
        called = _Call(work)
        try:
            yield self._portal.start_task_soon(called.run)
        finally:
            if not called.over and self._close.alive:
                self._portal.call(called.stop)


def _leave(stack: ExitStack, portal: BlockingPortal, process: int) -> None:
    """End the thread; a fork hasn't got it, and forgets it."""
    if os.getpid() == process:
        stack.close()
    else:
        with suppress(StopIteration):  # no loop of this process could do it
            portal.stop().send(None)  # or whoever frees the stack would wait for the thread


class _Call(Generic[T]):
    """Work in the client's thread, to be ended from any moment on.

    Ctrl-C may strike while it is being handed over, too, when nobody holds its future yet: without
    an end it would go on, and what it reads from couldn't be closed.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self.over = False

    async def run(self) -> T:
        """Do the work."""
        self._task = asyncio.current_task()
        try:
            return await self._work()
        finally:
            self.over = True

    async def stop(self) -> None:
        """End the work, in time to close its connection.

        What was handed over before this has begun: a loop keeps the order.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLEAN_UP)
