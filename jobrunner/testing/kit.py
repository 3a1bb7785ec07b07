"""What a test has in its hands: a driven runner, and a server and a client of it if it wants them.

All of it starts within the test's own event loop, whoever runs that, and ends there; then whatever
is left behind is named.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any

from ..client import JobClient
from ..errors import InvalidOption
from ..server import Server, serving_by
from .clock import VirtualLoop
from .driven import DrivenRunner
from .leftovers import Before, LeftBehind


class Kit:
    """The runner of a test and what goes with it.

    Args:
        runner: The runner; it must not have been started yet.
    """

    def __init__(self, runner: DrivenRunner) -> None:
        self.runner = runner
        self.server: Server | None = None
        self.client: JobClient | None = None
        self._stack = AsyncExitStack()
        self._begun = False

    def serve(self) -> Server:
        """Bind a server to a free port; it serves once the test begins, or its client is used."""
        if self.server is None:
            self.server = Server(self.runner, port=0)
        return self.server

    def connect(self) -> JobClient:
        """Return a client of the server."""
        if self.client is None:
            self.client = JobClient(self.serve().login_url)
            self.client._http._client.event_hooks["request"].append(self._begin)
        return self.client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start all while the block runs, stop it, and see what is left.

        Raises:
            LeftBehind: The block went well, and something of it goes on; names it.
        """
        before = Before()
        async with self._stack:
            await self._begin()
            yield
            jobs = list(self.runner.left())
            if jobs:
                await self.runner.stop(timeout=0.0)
        _check([*jobs, *await before.left()])

    def check(self) -> None:
        """Look at what is left by a test that has used the runner in a loop of its own.

        Raises:
            LeftBehind: A job goes on, or has failed and nobody looked; names it.
        """
        _check(list(self.runner.left()))

    async def _begin(self, request: object = None) -> None:
        """Start all, unless a fixture has made a request before."""
        if not self._begun:
            self._begun = True
            self._stack.callback(self._forget)
            await self._start(self._stack)

    def _forget(self) -> None:
        self.runner.unseen.clear()  # it may run again, in another example
        self._begun = False

    async def _start(self, stack: AsyncExitStack) -> None:
        if self.server is not None:
            await stack.enter_async_context(serving_by(self.server))
        elif self.runner.stats().state != "running":
            await stack.enter_async_context(self.runner)
        else:  # a fixture has used it already
            self._check_loop()
            stack.push_async_exit(self.runner)
        if self.client is not None:
            await stack.enter_async_context(self.client)

    def _check_loop(self) -> None:
        if self.runner._loop is not asyncio.get_running_loop():
            raise InvalidOption(
                "a fixture has started job_runner in another event loop than the test's: with "
                "pytest-asyncio in strict mode mark the test with pytest.mark.asyncio; with "
                "another scope of loops, give the fixture and the test the same one"
            )

    def around(self, test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Return the test with the kit around it."""

        @wraps(test)
        async def run(*args: Any, **kwargs: Any) -> None:
            async with self.running():
                await test(*args, **kwargs)

        return run


def _check(left: list[str]) -> None:
    if left:
        raise LeftBehind("the test has left something behind:\n  " + "\n  ".join(left))


def running_loop() -> VirtualLoop:
    """Return the virtual loop that a test has to run in.

    Raises:
        InvalidOption: Its loop is another one; says how to get a virtual one.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise InvalidOption(
            f"this test wants virtual time, and runs in {loop!r:.80}: with anyio's plugin, have "
            "the fixture anyio_backend return ('asyncio', {'loop_factory': VirtualLoop}); with "
            "pytest-asyncio, 1.4 or newer is needed, and no loop_scope but function"
        )
    return loop


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return the test, which says when it isn't run in virtual time, or does what can't be in it.

    Raises:
        InvalidOption: Its loop is another one.
        VirtualTimeError: It has done what can't be done there, and caught the error.
    """

    @wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        loop = running_loop()
        try:
            await test(*args, **kwargs)
        finally:
            loop.check()

    return run
