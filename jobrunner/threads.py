"""Plain functions in threads of their own, which nobody ever joins."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from .errors import RetryableError


class Threads:
    """Threads for calls that block.

    Args:
        limit: How many may run at once, those of handlers that were given up too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads: set[threading.Thread] = set()

    async def call(self, function: Callable[[], Any], name: str, *, abandon: bool = False) -> Any:
        """Call in a thread of its own, and wait for its end whatever happens.

        A thread can't be cancelled: it is told by `context.cancel_requested`, and what it does then
        decides. A pool would be filled by a few that never end (T10), and a daemon thread is not
        joined when the interpreter exits.

        Args:
            function: What to call.
            name: Name of the thread.
            abandon: Leave it to itself when the caller is cancelled; what it returns is dropped.

        Raises:
            RetryableError: Too many threads run already.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        outcome: list[tuple[Any, BaseException | None]] = []  # emptied, as no future can be (T12)

        def work() -> None:
            try:
                outcome.append((function(), None))
            except BaseException as error:  # raised again where it is waited for
                outcome.append((None, error))
            _tell(loop, ended)

        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(work,), name=name, daemon=True)
        self._start(thread)
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:
                if abandon:
                    raise
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
        if len(self._threads) >= self._limit:
            self._threads = {thread for thread in self._threads if thread.is_alive()}
        if len(self._threads) >= self._limit:
            raise RetryableError(
                f"{len(self._threads)} threads of handlers still run, the limit; a handler that is "
                "a plain function has to end when ctx.check_cancelled() says so"
            )
        self._threads.add(thread)
        thread.start()


def _tell(loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
    try:
        loop.call_soon_threadsafe(ended.set_result, None)
    except RuntimeError:
        pass  # the loop is closed: the runner has stopped without this thread
