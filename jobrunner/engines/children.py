"""A child as the server sees it: a process, a pipe, and one job at a time."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic_core import from_json

from ..context import JobContext
from ..errors import ProcessDied, RetryableError
from ..processes import Tree
from ..results import Refused
from . import crossing
from .crossing import BrokenFrame, Frames

logger = logging.getLogger("jobrunner.engines.process")

BATCH = 50
"""Messages of a child that are read in one turn of the loop."""
LEAVE = 1.0
"""Seconds that an idle child has to end by itself, and a pipe to end after its process."""
Ended: TypeAlias = tuple[Any, BaseException | None]
"""What a handler returned, or raised."""

_BOOT = (
    "import json, sys; sys.path[:], pipe, lifeline, *sys.argv[:] = json.loads(sys.argv[1]); "
    "from jobrunner.engines.child import main; main(pipe, lifeline)"
)


async def start(max_result: int, gone: Callable[["Child"], None]) -> "Child":
    """Start a child and connect to it.

    The standard library's `multiprocessing` would leave its resource tracker behind, make the
    child lead its session only after the user's modules were imported, and forbid its handlers to
    have children; its way to carry the program's own module over is used in the child.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    reading, lifeline = os.pipe()
    child = Child(loop, lifeline, max_result, gone)
    try:
        given = [sys.path, theirs.fileno(), reading, *sys.argv]
        await loop.subprocess_exec(
            lambda: _Watch(child),
            sys.executable,
            *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # as spawn
            *("-c", _BOOT, json.dumps(given)),
            stdin=subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            env={**os.environ, **child.tree.environment},
            pass_fds=(theirs.fileno(), reading),
            start_new_session=True,
        )
        await loop.create_unix_connection(lambda: child, sock=ours)
    except OSError as error:
        raise RetryableError(f"can't start a process for a handler: {error}") from None
    finally:
        theirs.close()
        os.close(reading)
        if child.pipe is None:
            ours.close()
            child.give_up()
    return child


class _Watch(asyncio.SubprocessProtocol):
    """Tells a child's end of its process."""

    def __init__(self, child: "Child") -> None:
        self._child = child

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._child.process = transport
        self._child.tree.lead(transport.get_pid())

    def process_exited(self) -> None:
        self._child.process_exited()


class Child(asyncio.Protocol):
    """The server's end of one child.

    Args:
        loop: The running loop.
        lifeline: A pipe's end; when it is closed, the kernel kills the child.
        max_result: Bytes that a result may have.
        on_gone: Called when nothing is left of it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lifeline: int,
        max_result: int,
        on_gone: Callable[["Child"], None],
    ) -> None:
        self.process: asyncio.SubprocessTransport | None = None
        self.pipe: asyncio.Transport | None = None
        self.tree = Tree()
        """All that comes of it."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Set when nothing is left of it."""
        self.warm = False
        """Whether it has done a job before this one."""
        self.begun = False
        """Whether the handler of its last job was called."""
        self.told = False
        """Whether it was told to stop its last job."""
        self._loop = loop
        self._lifeline = lifeline
        self._frames = Frames(max_result=max_result)
        self._on_gone = on_gone
        self._clean = True
        self._exited = self._closed = self._ending = self._finished = False
        self._fault: str | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._backlog: asyncio.Handle | None = None
        self._outcome: asyncio.Future[Ended] | None = None
        self._context: JobContext | None = None
        self._step: Any = None

    @property
    def usable(self) -> bool:
        """Whether it can do a job: its last one has left nothing behind."""
        return self._clean and not (self._ending or self._exited or self._closed)

    async def carry_out(self, order: bytes, context: JobContext) -> Ended:
        """Do a job, and return how the handler ended; the child's death is an error of it.

        Cancelled once, it tells the child; again, it kills it and raises at once.
        """
        outcome = self._begin(order, context)
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        while not outcome.done():
            try:
                await asyncio.wait([outcome])
            except asyncio.CancelledError:
                if outcome.done():
                    break
                if self.told or task.cancelling() > before + 1:  # two may come as one
                    self.kill()
                    raise
                self._tell()
        return outcome.result()

    def _begin(self, order: bytes, context: JobContext) -> "asyncio.Future[Ended]":
        outcome = self._outcome = self._loop.create_future()
        self.begun = self.told = False
        if self.usable and self.pipe is not None:
            self._clean, self._context, self._step = False, context, None
            self.pipe.write(order)
        elif self._finished or self._ending:
            self._settle(None, ProcessDied("the process of the handler was ended"))
        return outcome

    def _tell(self) -> None:
        self.told = True
        if self.pipe is not None and not self._closed:
            self.pipe.write(crossing.frame(crossing.STOP))

    def _settle(self, value: Any, error: BaseException | None) -> None:
        outcome, self._outcome, self._context = self._outcome, None, None
        if outcome is not None and not outcome.done():
            self.warm = True
            outcome.set_result((value, error))

    def end(self) -> None:
        """End it: let it leave if it is idle, but at once if there is no good end to wait for."""
        if self._ending or self._exited:
            return
        if self._outcome is None and self.warm and self.usable and self.pipe is not None:
            self._ending = True
            self.pipe.write_eof()
            self._set_alarm(self.kill)
        else:
            self.kill()

    def kill(self) -> None:
        """Kill it and all that is in its group, now; `gone` tells when that has had its effect."""
        self._ending, self._context = True, None
        if not self._exited:
            self.tree.signal(signal.SIGKILL)

    def give_up(self) -> None:
        """Let go of a child that could not be started, or not be connected to."""
        self._closed = True
        if self.process is None:
            os.close(self._lifeline)
            self.tree.forget()
            self.gone.set_result(None)
        else:
            self.kill()

    # What the process and the pipe report

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.pipe = transport

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        if self._backlog is None:
            self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if not self._exited:
            self._set_alarm(self._kill_mute)
        self._finish_if_over()

    def process_exited(self) -> None:
        """The process is no more; what it has left in its group is killed."""
        self._exited = True
        self.tree.signal(signal.SIGKILL)
        self._set_alarm(self._let_go_of_pipe)
        self._finish_if_over()

    def _set_alarm(self, call: Callable[[], None]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(LEAVE, call)

    def _kill_mute(self) -> None:
        self._fault = self._fault or "closed its pipe, and was killed"
        self.kill()

    def _let_go_of_pipe(self) -> None:
        """Something that left the group holds the child's end (P3)."""
        self._frames = Frames(max_result=0)
        if self.pipe is not None:
            self.pipe.abort()

    def _take(self) -> None:
        """Read a bounded number of messages; the pipe holds up a child that sends more (Q10)."""
        self._backlog = None
        try:
            for _ in range(BATCH):
                message = self._frames.take()
                if message is None:
                    self._read_on()
                    return
                self._message(*message)
        except Exception as error:  # what comes is anybody's, and may be anything
            context = self._context
            fields = {} if context is None else {"job_id": context.job_id, "job_type": context.type}
            logger.warning("a process of a handler is killed: %r", error, extra=fields)
            self._fault = "sent what is no message, and was killed"
            self._frames = Frames(max_result=0)
            self.kill()
        else:
            self._backlog = self._loop.call_soon(self._take)
            if self.pipe is not None and not self._closed:
                self.pipe.pause_reading()

    def _read_on(self) -> None:
        if self.pipe is not None and not self._closed and not self.pipe.is_reading():
            self.pipe.resume_reading()
        self._finish_if_over()

    def _message(self, kind: bytes, payload: bytes) -> None:
        if self._ending:
            return
        if self._outcome is None:
            raise BrokenFrame("a message without a job")
        if kind == crossing.BEGUN:
            self.begun = True
        elif kind == crossing.CLEAN:
            self._clean = True
        elif kind == crossing.EVENT:
            self._event(*from_json(payload))
        elif kind == crossing.RESULT:
            self._settle(from_json(payload), None)
        elif kind == crossing.FAILURE:
            self._settle(None, crossing.unpack_error(payload))
        elif kind == crossing.REFUSAL:
            self._settle(Refused(crossing.unpack_error(payload)), None)
        else:
            raise BrokenFrame(f"a message of kind {kind!r}")

    def _event(self, kind: Any, data: dict[str, Any]) -> None:
        """Do with the context here what the handler did with the one there."""
        context = self._context
        assert context is not None, "a job that runs has its context"
        if kind == "progress":
            self._progress(context, data)
        elif kind in ("log", "output") and type(data["text"]) is str:
            # Not by the public methods: the text has been cut there, and would be cut again.
            context._replay(kind, data)
        elif kind == "extend":
            context.extend_timeout(data["seconds"])
        else:
            raise BrokenFrame(f"an event of kind {kind!r:.100}")

    def _progress(self, context: JobContext, data: dict[str, Any]) -> None:
        step, message = data["step"], data["progress_message"]
        if step is None or step == self._step:
            context.progress(data["progress"], message)
        else:
            self._step = step
            context.step(step["current"], step["total"], message)

    def _finish_if_over(self) -> None:
        """When process and pipe have ended, and all is read, clear away what is left."""
        if self._finished or self._backlog or not (self._exited and self._closed):
            return
        self._finished = True
        if self._alarm is not None:
            self._alarm.cancel()
        assert self.process is not None
        code = self.process.get_returncode()
        self.process.close()
        os.close(self._lifeline)
        self._sweeping = self._loop.create_task(self._sweep(code), name="sweep after a process")

    async def _sweep(self, code: int | None) -> None:
        """Kill what it had started elsewhere (P4), then say that it is gone."""
        try:
            await self.tree.sweep()
        finally:
            self.tree.forget()
            how = self._fault or _how(code)
            self._settle(None, ProcessDied(f"the process of the handler {how}"))
            self._on_gone(self)
            self.gone.set_result(None)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exited with code {code} before it had a result"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
