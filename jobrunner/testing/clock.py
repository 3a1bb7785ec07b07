"""Virtual time: an event loop in which hours pass at once, in order.

Time passes only when nothing is ready, and then at once, to the next timer. Sleeps, time limits,
backoff, delays, retention, rate limits, schedules of webhooks and timestamps all follow.

    coroutines, timers          as ever
    threads that end            time stands still while one works: `def` handlers, `to_thread`
    threads that go on          `VirtualTimeError` names one, after `PATIENCE` seconds of real time
    threads at work before      aren't looked at; what is given to a pool of them is waited for
    `submit` of a pool          is seen but for the moment in which a thread takes the call, so that
                                on a busy machine time may pass: use `run_in_executor`
    `time.time`, `monotonic`    stay real: ask the loop, or `unix_now`
    sockets, subprocesses       `VirtualTimeError`, at the call and at the end of the test

So a test in virtual time may use handlers of every kind but commands and `engine="process"`, and
webhooks by `WebhookReceiver`, which needs no socket. What needs a server, a client or a process
runs in real time. What can't be right here is an error, not a wrong result: it is raised again at
the end, for the case that the code under test has caught it.

Libraries that patch the usual loop, such as looptime 0.9, go on when the loop's sockets have been
silent for some turns, and wait for threads of executors only. That guesses: an answer that is a
moment late meets a timeout that only the jump has made true. Here nothing is patched, and nothing
guessed but what stands above of `submit`.
"""

import asyncio
import functools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from concurrent.futures.thread import _threads_queues
from random import Random
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

from ..sight import uncollected
from ..watchdog import THREAD as WATCHDOG

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")

EPOCH = 1_700_000_000.0
"""Unix time at which virtual time begins: 2023-11-14, 22:13:20 UTC."""
PATIENCE = 5.0
"""Real seconds for which time stands still for threads."""
_IN_QUEUES = ("queue.py", "threading.py", "_queue.py")
_WORKER = "concurrent/futures/thread.py:_worker"
"""Where threads of executors wait for work, past the frames of queues."""
_ANYIO = "anyio._backends._asyncio"
"""Where the class of anyio's threads stands; each has a queue of its own."""


class VirtualTimeError(Exception):
    """The test does what can't be done in virtual time."""


class Deadlock(VirtualTimeError):
    """Somebody waits, and nothing can ever wake them."""


class _Jumps:
    """In a selector's place: instead of waiting for sockets, moves the clock to the next timer."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._loop.pass_time(timeout)
        return []


def _refused(what: str) -> Any:
    def refuse(self: "VirtualLoop", *args: object, **options: object) -> Any:
        raise self.refuse(what)

    return refuse


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time.

    Args:
        seed: Shuffles ready callbacks, for one seed always the same way; None for the usual order.
    """

    _ready: "deque[asyncio.Handle]"
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _Jumps(self)
        self._random = None if seed is None else Random(seed)
        self._before = set(busy(threading.enumerate()))
        self._given: set[asyncio.Future[Any]] = set()
        self._woken = threading.Event()
        self._misuse: VirtualTimeError | None = None
        self.steps = 0
        """Turns of the loop so far."""

    def time(self) -> float:
        """Return the seconds that have passed since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass; nothing that comes due in it happens before the jump has ended."""
        self._now += seconds

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return what is set to happen later."""
        return [timer for timer in self._scheduled if not timer.cancelled()]

    def pass_time(self, seconds: float | None) -> None:
        """Nothing can happen before so many seconds have passed, or at all: let them pass.

        Raises:
            Deadlock: Nothing can ever happen.
            VirtualTimeError: A thread goes on.
        """
        if self._given or self._working():
            self._wait_for_threads()
        elif self._ready:
            return  # a thread has said something, and ended before it was looked at
        elif seconds is None:
            raise Deadlock("nothing is ready, no timer is set, and the test hasn't ended")
        else:
            self.jump(seconds)

    def _wait_for_threads(self) -> None:
        """Let real time pass until a thread says something, or none works any more."""
        ends = time.monotonic() + PATIENCE
        while not self._ready:
            working = self._working()
            if not (self._given or working):
                return
            if time.monotonic() >= ends:
                raise self._give_up(working)
            self._woken.wait(0.001)  # a thread that just ends wakes nobody
            self._woken.clear()

    def _working(self) -> list[threading.Thread]:
        return busy(each for each in threading.enumerate() if each not in self._before)

    def _give_up(self, working: list[threading.Thread]) -> VirtualTimeError:
        self._before.update(working)  # or closing the loop would wait for them again
        self._given.clear()
        name = f"thread {working[0].name!r}" if working else "an executor"
        return self._note(
            f"{name} still works after {PATIENCE:g} s of real time, for which virtual time stood "
            "still: have it end, or run the test in real time"
        )

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        """Call in another thread, or wherever the executor does; time stands still for it."""
        future = super().run_in_executor(executor, func, *args)
        self._given.add(future)
        future.add_done_callback(self._given.discard)
        return future

    def refuse(self, what: str) -> VirtualTimeError:
        """Note, and return, the error for something that isn't there in virtual time."""
        return self._note(
            f"there are no {what} in virtual time: leave them out of this test, or run it in real "
            "time, without `virtual_time`"
        )

    def _note(self, text: str) -> VirtualTimeError:
        error = VirtualTimeError(text)
        self._misuse = self._misuse or error
        return error

    def check(self) -> None:
        """Raise again what couldn't be done since the last check, if there was anything.

        Raises:
            VirtualTimeError: The first such thing.
        """
        misuse, self._misuse = self._misuse, None
        if misuse is not None:
            raise misuse

    def _run_once(self) -> None:
        self.steps += 1
        if self._random is not None and len(self._ready) > 1:
            handles = list(self._ready)
            self._random.shuffle(handles)
            self._ready.clear()
            self._ready.extend(handles)
        super()._run_once()  # type: ignore[misc]  # the one method of the loop that typeshed hides

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._woken.set()

    create_connection = create_server = sock_accept = sock_connect = _refused("sockets")
    sock_recv = sock_recv_into = sock_sendall = sock_sendto = sock_recvfrom = _refused("sockets")
    create_datagram_endpoint = create_unix_connection = create_unix_server = _refused("sockets")
    connect_accepted_socket = start_tls = add_reader = add_writer = _refused("sockets")
    connect_read_pipe = connect_write_pipe = _refused("pipes")
    subprocess_exec = subprocess_shell = _refused("subprocesses")


def busy(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    """Return those that have something to do: not a pool's that wait for work, nor a watchdog."""
    return [each for each in threads if each.name != WATCHDOG and not _idle(each)]


def _idle(thread: threading.Thread) -> bool:
    if type(thread).__module__ == _ANYIO:
        worker: Any = thread
        return not worker.queue.unfinished_tasks
    queue = _threads_queues.get(thread)
    return queue is not None and queue.empty() and _waits(thread)


def _waits(thread: threading.Thread) -> bool:
    with uncollected():
        frame = None if thread.ident is None else sys._current_frames().get(thread.ident)
        while frame is not None and frame.f_code.co_filename.endswith(_IN_QUEUES):
            frame = frame.f_back
    if frame is None:
        return False
    return f"{frame.f_code.co_filename}:{frame.f_code.co_name}".endswith(_WORKER)


def unix_now() -> float:
    """Return the time in unix seconds: virtual in a virtual loop, else the system's.

    Give it to a runner as `now`.
    """
    loop = asyncio.get_running_loop()
    return EPOCH + loop.time() if isinstance(loop, VirtualLoop) else time.time()


def simulate(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run `main` to its end, in virtual time, in a loop of its own.

    Raises:
        Deadlock: It waits for what can't happen.
        VirtualTimeError: It does what can't be done in virtual time.
    """
    loop = VirtualLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main())
        finally:
            loop.check()


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a coroutine function in which hours pass in no time.

    It needs no pytest: under unittest, and any other, it is a plain function. Asynchronous fixtures
    belong to another loop; tests that want some are marked with `pytest.mark.virtual_time` instead.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        simulate(lambda: test(*args, **kwargs))

    return run
