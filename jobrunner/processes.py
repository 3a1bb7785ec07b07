"""Process trees: what a command has started is found wherever it went, and killed.

A command leads a session and a process group of its own. What leaves both (`setsid`, a double
fork) keeps its environment, and with it the marker that each command is given; what drops that too
(`env -i setsid`) is known when it was seen while the chain of its parents lived: before a command
is asked to end, and whenever another one ends. On Linux all of it is found in `/proc` and killed
(P4). Where there is no `/proc`, as on macOS, only the group is.

Becoming a child subreaper would find more. But it is a state of the whole process: daemons that
the embedding application starts would become its zombies.
"""

import asyncio
import atexit
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .process_table import MARKER, Family, Found, Process, has_proc, process

logger = logging.getLogger("jobrunner.processes")

SWEEP_LIMIT = 2.0
"""Seconds after which what can't be killed, or can't be looked for, is given up with a warning."""
SWEEP_MOST = 10.0
"""Seconds after which so is what still gets less, or more: thousands take a while to find."""

_FREEZES = 20
"""Rounds in which new processes are stopped, not killed: it is their parents that show them."""
_DOUBTS = 5
"""Rounds more when nothing was found, but one process was gone before it was looked at."""
_PAUSE = 0.002
"""Seconds between two rounds: to die takes a moment."""


class Tree(Family):
    """A command's process and all that comes of it, from before its start.

    `forget` it in the end: until then `kill_all` kills it.
    """

    def __init__(self) -> None:
        super().__init__(secrets.token_hex(8))
        around = os.environ.get(MARKER)
        self.environment = {MARKER: self.id if around is None else f"{around}.{self.id}"}
        """Has to be in the command's environment."""
        self._leader: int | None = None
        self._started: int | None = None
        _register(self)

    def lead(self, pid: int) -> None:
        """Say who leads the group and the session of the command."""
        self._leader = pid
        with suppress(OSError):  # no descriptor is left: then there is no guard either
            leader = process(pid) if _LINUX else None
            self._started = None if leader is None else leader.started
            self.known = {} if leader is None else {pid: leader.started}
        self.groups = frozenset([pid])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the group."""
        if self._leader is None or self.id not in _live or self._replaced(self._leader):
            return
        with suppress(ProcessLookupError, PermissionError):  # none is left; macOS says EPERM
            os.killpg(self._leader, number)

    def _replaced(self, leader: int) -> bool:
        """Whether a stranger has the leader's pid, which is so only when the group is empty."""
        try:
            now = None if self._started is None else process(leader)
        except OSError:
            return False
        return now is not None and now.started != self._started

    def orphans(self, found: Found) -> list[int]:
        """Return those that have become our children and have ended; the leader is asyncio's."""
        own = os.getpid()
        mine = found.of(self)
        return [p.pid for p in mine if p.parent == own and not p.alive and p.pid != self._leader]

    async def look(self) -> None:
        """Learn what belongs to the tree while parents still show it."""
        await asyncio.wait([_sweeper.ask(self, kill=False)], timeout=SWEEP_LIMIT)

    async def sweep(self) -> None:
        """Kill all of the tree; a cancellation is raised when it is done.

        The work is done by a thread, for all commands that end at the time together. It takes
        some milliseconds, and at most a second or two more than `SWEEP_MOST`.
        """
        await finished(_sweeper.ask(self, kill=True), timeout=SWEEP_MOST + SWEEP_LIMIT)

    def forget(self) -> None:
        """Say that nothing is left of it."""
        _live.pop(self.id, None)


async def finished(future: "asyncio.Future[Any]", *, timeout: float | None = None) -> None:
    """Wait until the future is done; a cancellation that comes meanwhile is raised then."""
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    cancelled: asyncio.CancelledError | None = None
    while not future.done() and (end is None or loop.time() < end):
        try:
            await asyncio.wait([future], timeout=None if end is None else end - loop.time())
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


_live: dict[str, Tree] = {}
_at_exit = False


def _register(tree: Tree) -> None:
    global _at_exit
    _live[tree.id] = tree
    if not _at_exit:
        _at_exit = True
        atexit.register(kill_all)
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    """The commands belong to the parent, and its thread and its lock are nowhere here."""
    global _sweeper
    _live.clear()
    _sweeper = _Sweeper()


def kill_all() -> None:
    """Kill all commands that run now, and whatever they have started.

    It is done when this returns: bounded in time, without locks and without the event loop, so
    that it may be called from a signal handler too. It is called when the interpreter exits. A
    signal that ends it otherwise needs a handler that calls this; nothing can be done about
    SIGKILL, since what the kernel offers against it (PR_SET_PDEATHSIG) is bound to the thread that
    started the command.
    """
    trees = list(_live.values())
    sweeps = [_Sweep(tree, _nothing, kill=True) for tree in trees]
    try:
        while sweeps and _LINUX:
            sweeps = _round(sweeps, reap=False)
    finally:
        for tree in trees:
            tree.signal(signal.SIGKILL)


def _nothing() -> None:
    pass


class _Sweep:
    """What is asked of a sweeper for one tree."""

    def __init__(self, tree: Tree, done: Callable[[], None], *, kill: bool) -> None:
        self.tree = tree
        self.done = done
        self.kill = kill
        self.until = time.monotonic() + SWEEP_LIMIT
        self._ends = time.monotonic() + SWEEP_MOST
        self._left = 0
        self._seen: set[int] = set()
        self._rounds = 0
        self._doubts = 0

    def step(self, found: Found, *, reap: bool) -> bool:
        """Go one round on; return whether there is nothing more to do."""
        if not self.kill:
            return True
        if reap:
            _reap(self.tree.orphans(found))
        alive = [p for p in found.of(self.tree) if p.alive]
        unseen = found.unseen(self.tree)
        for group in unseen:
            _send(-group, signal.SIGKILL)
        if alive:
            self._press(alive, found)
        elif not unseen:
            self._doubts += 1
            return not found.doubtful or self._doubts > _DOUBTS
        return False

    def _press(self, alive: list[Process], found: Found) -> None:
        """Stop what is new until nothing new is found, then kill it all."""
        fresh = {p.pid for p in alive} - self._seen
        self._seen |= fresh
        self._rounds += 1
        if fresh or len(alive) < self._left:
            self.until = min(time.monotonic() + SWEEP_LIMIT, self._ends)
        self._left = len(alive)
        freeze = fresh and self._rounds <= _FREEZES
        for target in found.targets(alive):
            _send(target, signal.SIGSTOP if freeze else signal.SIGKILL)


def _send(target: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(target, number)


def _round(sweeps: list[_Sweep], *, reap: bool = True) -> list[_Sweep]:
    """Look once for all trees, go one step on with each, and return those that aren't done."""
    trees = _live | {sweep.tree.id: sweep.tree for sweep in sweeps}
    try:
        found = Found(list(trees.values()))
        left = [sweep for sweep in sweeps if not sweep.step(found, reap=reap)]
    except OSError as error:  # no descriptor is left: somebody may close one in time
        left, why = sweeps, f"/proc can't be read: {error}"
    else:
        why = "they can't be signalled, or wait in the kernel"
    late = [sweep for sweep in left if time.monotonic() > sweep.until]
    for sweep in late:
        logger.warning("processes %s of a command may be left: %s", [*sweep.tree.known], why)
    if left:
        time.sleep(_PAUSE)  # in a thread; no stranger's end can be waited for
    for sweep in {*sweeps} - {*left} | {*late}:
        sweep.done()
    return [sweep for sweep in left if sweep not in late]


class _Sweeper:
    """A thread, as long as there is something to look for: a scan must never block the loop.

    What is asked for while a scan is under way waits for the next one, which serves it all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[_Sweep] = []
        self._running = False

    def ask(self, tree: Tree, *, kill: bool) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def done() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle)

        if _LINUX and tree.id in _live:
            self._add(_Sweep(tree, done, kill=kill))
        else:
            settle()
        return future

    def _add(self, sweep: _Sweep) -> None:
        with self._lock:
            self._asked.append(sweep)
            idle, self._running = not self._running, True
        if idle:
            try:
                threading.Thread(target=self._run, name="jobrunner sweep").start()
            except RuntimeError:  # no thread is to be had: rather block than leave processes
                self._run()

    def _run(self) -> None:
        sweeps: list[_Sweep] = []
        while sweeps := self._with_asked(sweeps):
            try:
                sweeps = _round(sweeps)
            except Exception:  # nobody may wait for a thread that is gone
                logger.exception("looking for processes has failed")
                for sweep in sweeps:
                    sweep.done()
                sweeps = []

    def _with_asked(self, sweeps: list[_Sweep]) -> list[_Sweep]:
        with self._lock:
            sweeps, self._asked = sweeps + self._asked, []
            self._running = bool(sweeps)
        return sweeps


def _reap(orphans: list[int]) -> None:
    """Take the exit codes of those that were left to us, as to PID 1 of a container.

    Nobody else waits for them: none of them was started by us.
    """
    for pid in orphans:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


_LINUX = has_proc()
_sweeper = _Sweeper()
