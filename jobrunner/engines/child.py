"""The process that runs handlers for `ProcessEngine`: one job after the other, until the pipe ends.

The main thread has an event loop, in which a local engine runs the handler. A thread of its own
reads the pipe, so that a handler which never gives the loop back can see that it is to stop, and
so that the child ends when the server has.
"""

import asyncio
import fcntl
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import from_json, to_json

from .. import current
from ..context import Desk, JobContext
from ..errors import InvalidHandler, InvalidResult, PayloadTooLarge
from ..events import EventLog
from ..handlers import Handler
from ..inbox import Inbox
from ..jobs import Job
from ..results import dump_result
from ..signatures import make_handler
from ..threads import Threads
from ..wording import describe
from . import crossing
from .crossing import Address, frame
from .local import LocalEngine

LOST_PIPE = 74
"""Exit code of a child that can't say any more what it has to say: EX_IOERR."""
LEAVE = 0.1
"""Seconds that threads of a handler have to end with it, before the child counts as used up."""
MAX_THREADS = 2
"""One runs the handler; of the one before, the last instructions may be left."""


@dataclass(slots=True, eq=False)
class Order:
    """A job to do, as it came through the pipe."""

    job: dict[str, Any]
    params: bytes
    stop: bool = False
    """Whether it has been asked to stop; set by the thread that reads."""
    context: JobContext | None = None
    task: "asyncio.Task[bytes] | None" = field(default=None)
    cancelled: bool = False
    threads: frozenset[threading.Thread] = field(default_factory=lambda: _threads())
    """Those that were there when the handler was called, or when the job came."""


def main(pipe: int, lifeline: int) -> None:
    """Do what comes through `pipe`; both descriptors are inherited."""
    os.set_inheritable(pipe, False)
    os.set_inheritable(lifeline, False)
    die_with(lifeline, os.getpgrp())
    with socket.socket(fileno=pipe) as connection:
        with asyncio.Runner(loop_factory=partial(Loop, pipe, lifeline)) as runner:
            runner.run(_Server(connection).serve())


def die_with(lifeline: int, group: int) -> int | None:
    """Have the kernel kill `group` when nobody is left who could write to the lifeline.

    That is when the server is gone, however it went. A thread would see it too, but not while the
    handler is in a long call that keeps the interpreter's lock. Linux only.
    """
    if not hasattr(fcntl, "F_SETSIG") or not os.path.exists("/proc/self/fd"):
        return None
    own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(own, fcntl.F_SETOWN, -group)
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except ProcessLookupError:  # the group has ended already
        os.close(own)
        return None
    return own


class Loop(asyncio.SelectorEventLoop):
    """A loop whose subprocesses end when the server has ended."""

    def __init__(self, pipe: int, lifeline: int) -> None:
        super().__init__()
        self._pipe = pipe
        self._lifeline = lifeline

    def call_soon_threadsafe(  # type: ignore[override]  # passes on what it gets
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call it in the loop; end the child when a handler has closed what wakes the loop."""
        try:
            os.fstat(self._pipe)
        except OSError:
            os._exit(LOST_PIPE)
        return super().call_soon_threadsafe(callback, *args, context=context)

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        make = (
            self._watching(protocol_factory)
            if kwargs.get("start_new_session")
            else protocol_factory
        )
        return await super().subprocess_exec(make, *args, **kwargs)

    def _watching(self, make: Any) -> Any:
        """Have a command's group end with the server before anything is heard of the command."""

        def made() -> Any:
            protocol = make()
            connected = protocol.connection_made

            def watched(transport: asyncio.SubprocessTransport) -> None:
                watch = die_with(self._lifeline, transport.get_pid())
                if watch is not None:
                    weakref.finalize(transport, os.close, watch)
                del protocol.connection_made
                connected(transport)

            protocol.connection_made = watched
            return protocol

        return made


class _Outbox(Inbox):
    """Carries a context's calls out in the thread that makes them.

    What a plain function says is in the pipe when it goes on: it may die of its next line, or never
    give the interpreter's lock back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._lock = threading.Lock()

    def do(self, call: Callable[[], None]) -> None:
        with self._lock:
            if not self.closed:
                call()

    def offer(self, call: Callable[[], None]) -> bool:
        self.do(call)
        return True

    def close(self, last: Callable[[], None] | None = None) -> None:
        if last is not None:
            last()
        with self._lock:
            self.closed = True


class _Server:
    """Takes orders from the pipe, carries them out, and says there what became of them."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._current: Order | None = None
        self._handlers: dict[tuple[str, Address], Handler] = {}
        self._engine = LocalEngine(Threads(MAX_THREADS))
        self._executor = ThreadPoolExecutor()
        self._forked = False
        os.register_at_fork(after_in_parent=self._note_fork)

    def _note_fork(self) -> None:
        """The copy had the event loop's descriptors, and may have changed what they wait for."""
        self._forked = True

    async def serve(self) -> None:
        """Carry out orders until the pipe ends."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(self._executor)
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        threading.Thread(target=self._listen, name="jobrunner pipe", daemon=True).start()
        while (order := await self._orders.get()) is not None:
            await self._carry_out(order)
            del order  # its params may be secret, and the next one may be long in coming

    async def _carry_out(self, order: Order) -> None:
        end = await self._outcome(order)
        if order.context is not None:
            order.context._close()
        clean = frame(crossing.CLEAN) if self._tidy(order) else b""
        self._current = None
        self._send(clean + end)

    def _listen(self) -> None:
        """Read the pipe to its end; a thread."""
        params = b""
        with self._pipe.makefile("rb") as pipe:
            while len(head := pipe.read(crossing.HEAD.size)) == crossing.HEAD.size:
                kind, size = crossing.HEAD.unpack(head)
                payload = pipe.read(size)
                if kind == crossing.PARAMS:
                    params = payload
                elif kind == crossing.JOB:
                    self._current = Order(from_json(payload), params)
                    self._loop.call_soon_threadsafe(self._orders.put_nowait, self._current)
                elif (order := self._current) is not None:
                    self._stop(order)
        if self._current is not None:
            _die()
        self._loop.call_soon_threadsafe(self._orders.put_nowait, None)

    def _stop(self, order: Order) -> None:
        order.stop = True
        if order.context is not None:
            order.context._request_stop()
        self._loop.call_soon_threadsafe(_cancel, order)

    async def _outcome(self, order: Order) -> bytes:
        """Return the frame that says how the job ended."""
        order.task = self._loop.create_task(
            self._attempt(order), name=order.job["id"], context=Context()
        )
        if order.stop:
            _cancel(order)
        await asyncio.wait([order.task])
        if order.task.cancelled():
            error = asyncio.CancelledError("stopped before the first step")
            return frame(crossing.FAILURE, crossing.pack_error(error))
        return order.task.result()

    async def _attempt(self, order: Order) -> bytes:
        try:
            context = order.context = self._context(order)
            if order.stop:
                context._request_stop()
            handler = self._handler(order)
            arguments = _arguments(handler, order.params)
            if order.job["capture"] or current.is_wanted():  # by the handler's module, perhaps
                current.mark(context)
            if order.job["capture"]:
                from ..capture import capture  # not for every handler to load

                capture(context)
            order.threads = _threads()  # with those that the module has started
            self._send(frame(crossing.BEGUN))
            value = await self._engine.run(handler, context, arguments)
            return self._result(value, order.job["max_result"])
        except BaseException as error:  # SystemExit too is a failure like any other (T1)
            return frame(crossing.FAILURE, crossing.pack_error(error))

    def _result(self, value: Any, limit: int) -> bytes:
        try:
            return frame(crossing.RESULT, dump_result(value, limit=limit))
        except (InvalidResult, PayloadTooLarge) as error:
            return frame(crossing.REFUSAL, crossing.pack_error(error))

    def _context(self, order: Order) -> JobContext:
        fields = {name: order.job[name] for name in CONTEXT_FIELDS}
        job = Job(number=0, params=b"{}", created_at=0.0, log=EventLog(), **fields)

        def record(job: Job, kind: str, data: Any) -> None:
            self._send(frame(crossing.EVENT, to_json([kind, data])))

        def extend(job: Job, seconds: float) -> None:
            record(job, "extend", {"seconds": seconds})

        desk = Desk(self._loop, record=record, extend=extend)
        return JobContext(job, desk, inbox=_Outbox(self._loop))

    def _handler(self, order: Order) -> Handler:
        """Return the handler, its module imported and its signature read, once for each type."""
        key = (order.job["type"], Address(*order.job["address"]))
        if key not in self._handlers:
            if order.job["main"]:
                _import_main(order.job["main"])
            self._handlers[key] = make_handler(key[1].find(), name=key[0])
        return self._handlers[key]

    def _tidy(self, order: Order) -> bool:
        """Return whether the handler has left nothing behind: no task, no thread, no process.

        A thread counts even if it is a daemon: one that a plain function starts is so by default.
        A fork counts though it has ended: it had the event loop's descriptors.
        """
        if self._forked or len(asyncio.all_tasks()) > 1:
            return False
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = ThreadPoolExecutor()
        self._loop.set_default_executor(self._executor)
        return _others_end(order.threads) and not _has_children()

    def _send(self, data: bytes) -> None:
        """Write to the pipe; waits while the server has more to read than it takes."""
        if os.getpid() != self._pid:
            os._exit(LOST_PIPE)  # a fork of the handler's, that ran on into our code
        try:
            with self._writing:
                self._pipe.sendall(data)
        except OSError:
            os._exit(LOST_PIPE)


CONTEXT_FIELDS = ("id", "type", "attempt", "max_attempts", "session_id", "metadata")
"""What a handler can read of its job."""


def _import_main(where: dict[str, str]) -> None:
    """Import the program's own module, as the standard library does for `spawn`."""
    from multiprocessing import spawn  # most handlers stand in another module

    try:
        spawn.prepare(where)
    except Exception as error:  # importing a program runs it: it is anybody's code
        raise InvalidHandler(
            f"the program can't be imported in a process: {describe(error)}; put what starts it "
            'under `if __name__ == "__main__":`'
        ) from error


def _arguments(handler: Handler, raw: bytes) -> dict[str, Any]:
    if handler.params is None:
        return {}
    given = to_json(handler.given(raw), inf_nan_mode="constants")
    return dict(vars(handler.params.validate_json(given)))


def _cancel(order: Order) -> None:
    if order.task is not None and not order.cancelled:
        order.cancelled = True
        order.task.cancel()


def _threads() -> frozenset[threading.Thread]:
    return frozenset(threading.enumerate())


def _others_end(threads: frozenset[threading.Thread]) -> bool:
    """Return whether all other threads have ended, or do so soon."""
    deadline = time.monotonic() + LEAVE
    others = _threads() - threads
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in others)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _die() -> None:
    """End at once, with all that is in the group: nobody is there to hear of a result."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(LOST_PIPE)
