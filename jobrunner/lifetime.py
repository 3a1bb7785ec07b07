"""The part of a runner that begins and ends: what it has begun ends with it.

new -> running -> draining -> stopped, from where it may run again
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from .endings import Endings
from .engines import Engines
from .errors import InvalidOption, RunnerNotStarted, RunnerStopped, WrongLoop
from .failures import Failures
from .jobs import JobError
from .lookup import State
from .signals import ending_on_signals
from .single import check_process, claim
from .steering import Steering
from .timers import Timers

logger = logging.getLogger("jobrunner.lifetime")


class Lifetime(Steering):
    """Starts a runner and stops it, and says whether it runs here and now."""

    _state: State = "new"
    _loop: asyncio.AbstractEventLoop | None = None
    _process: int | None = None
    _stopped: asyncio.Event
    _timers: Timers
    _engines: Engines
    _failures: Failures
    _endings: Endings
    _grace: float
    _shutdown: float

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run for as long as an app does: `Starlette(lifespan=runner.lifespan)`, or FastAPI's.

        SIGTERM and Ctrl-C stop the runner before the server, so that no open stream keeps the
        server waiting. The lifespan of a mounted app is never run by Starlette, so give it to the
        outermost app.

        Raises:
            SeveralWorkers: The server has several worker processes.
        """
        with claim(), ending_on_signals(self):  # around the end, too: a second signal hurries it
            async with self:
                yield

    async def __aenter__(self) -> Self:
        if self._state in ("running", "draining"):
            raise InvalidOption(f"the runner is {self._state}; enter it again when it has stopped")
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._timers.open(self._loop)
        self._workers.open(self._loop)
        self._store.wake()
        self._state = "running"
        self._queue.open()
        if self._webhooks is not None:
            self._webhooks.open()
        self._pool.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop(timeout=self._shutdown if error is None else 0.0)

    async def stop(self, *, timeout: float | None = None) -> None:
        """Stop: take no more jobs, let running ones end, interrupt the rest, fail what waits.

        Bounded in time whatever the handlers do. A runner that doesn't run is no error; while it
        stops, a second call waits for the same end, and with a timeout of 0 makes it hurry.

        Args:
            timeout: Seconds for which running jobs may go on; None for `shutdown_timeout`.

        Raises:
            WrongLoop: Called from another loop than the runner's, while that one is there.
        """
        if self._loop is not None and not self._loop.is_closed():
            self.check_loop()
        if self._state == "draining":
            if timeout == 0:
                self._pool.interrupt()
            await self._stopped.wait()
            return
        if self._state != "running":
            return
        self._state = "draining"
        self._stopped, ended = asyncio.Event(), 0
        try:
            wait = self._shutdown if timeout is None else timeout
            await self._pool.stop(timeout=wait, grace=2 * self._grace + 1.0)
            await self._workers.stuck.press()
            ended = self._end_jobs()
            ends = self._timers.now() + self._grace
            await self._failures.stop(self._grace)
            if self._webhooks is not None:
                await self._webhooks.stop(max(0.0, ends - self._timers.now()))
            await self._engines.close()
        finally:
            self._close(ended)

    def _end_jobs(self) -> int:
        """End what is left, since nobody will run it; return how many jobs that were."""
        self._workers.abandon_all()  # none, unless `stop` itself was cancelled
        waiting = list(self._store.live())
        for job in waiting:
            ended = JobError.from_limit("shutdown", _SHUTDOWN, attempt=job.attempt)
            if not job.is_final:  # pragma: no branch  # its parent may have taken it along
                self._endings.end_waiting(job, ended)
        return len(waiting)

    def _close(self, ended: int) -> None:
        ended += self._end_jobs()
        if ended or self._workers.stuck:
            logger.warning("stopped: %d jobs had not ended and failed, %d handlers are stuck",
                           ended, len(self._workers.stuck))  # fmt: skip
        self._failures.drop()
        if self._webhooks is not None:
            self._webhooks.close()
        self._workers.close()
        self._store.rest()
        self._timers.close()
        self._state, self._process = "stopped", None
        self._stopped.set()

    def _check_running(self) -> None:
        here = os.getpid() == self._process and asyncio._get_running_loop() is self._loop
        if not here or self._state != "running":
            self._check_state()
            self.check_loop()

    def _check_process(self) -> None:
        if self._process is not None:
            check_process(self._process)

    def _check_state(self) -> None:
        self._check_process()
        if self._state == "new":
            raise RunnerNotStarted(
                "the runner has not been started: use `async with runner:`, or give "
                "lifespan=runner.lifespan to the outermost app (a mounted app's lifespan never "
                "runs, nor does any under TestClient without `with`)"
            )
        if self._state != "running":
            raise RunnerStopped(f"the runner is {self._state} and takes no more jobs")

    def check_loop(self) -> None:
        """Raise WrongLoop when this is not the event loop that the runner works in."""
        if self._state in ("running", "draining") and _running_loop() is not self._loop:
            self._check_process()
            raise WrongLoop(
                "the runner belongs to another event loop; from another thread use "
                "submit_threadsafe, or asyncio.run_coroutine_threadsafe with the runner's loop"
            )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_SHUTDOWN = "the runner was shut down before the job had ended"
