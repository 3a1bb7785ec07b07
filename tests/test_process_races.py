"""Process trees that move at the worst moment: between a look at them and what comes of it.

An audit hook stands in that moment, and has the tree itself do it and say so: nothing is a matter
of luck, however busy the machine is.
"""

import asyncio
import ctypes
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jobrunner import CommandResult
from jobrunner.commands import environment, run_command
from tests.processes import ends
from tests.running import Pids, run

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")

Act = Callable[[str, tuple[object, ...]], None]
LONG = 20.0
"""Seconds after which a tree that says nothing has failed."""

_acts: list[Act] = []
_hooked: list[Act] = []


@contextmanager
def at_each_event(act: Act) -> Iterator[None]:
    """Act before anything that Python audits, in the thread that is about to do it."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        for each in _acts:
            each(event, arguments)

    if not _hooked:  # one for all, since it can't be removed
        _hooked.append(hook)
        sys.addaudithook(hook)
    _acts.append(act)
    try:
        yield
    finally:
        _acts.remove(act)


class Line:
    """Two pipes with names: to tell a process to go on, and to hear of its pid."""

    def __init__(self, folder: Path) -> None:
        self.paths = [str(folder / name) for name in ("go", "said")]
        for path in self.paths:
            os.mkfifo(path)
        self._go, self._said = (os.open(path, os.O_RDWR) for path in self.paths)
        self.pid = 0
        """The last one that was heard."""

    def hear(self) -> None:
        """Wait until a process says its pid."""
        if not select.select([self._said], [], [], LONG)[0]:
            raise RuntimeError("the tree says nothing")
        self.pid = int(os.read(self._said, 100).split()[-1])

    def go(self) -> None:
        """Have it go on, until a process says its pid."""
        os.write(self._go, b"go\n")
        self.hear()

    def close(self) -> None:
        """Kill who spoke last, if a test has failed."""
        os.close(self._go)
        os.close(self._said)
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line to a tree whose orphans are ours: some init processes are slow to let them go."""
    set_option, subreaper = ctypes.CDLL(None).prctl, 36
    set_option(subreaper, 1, 0, 0, 0)
    line = Line(tmp_path)
    yield line
    line.close()
    set_option(subreaper, 0, 0, 0, 0)


async def test_p4_what_is_born_just_before_its_parent_is_signalled_is_found(line: Line) -> None:
    """It has neither marker nor group, and a parent that must not be dead before it is seen."""
    text = """
        echo $$ > "$1"
        read go < "$0"
        setsid sh -c 'echo $$ > "$0"; exec sleep 60' "$1" &
        exec sleep 60
    """
    parent, killed = 0, False

    def bear(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal parent, killed
        if event == "os.kill":
            killed = arguments[1] == signal.SIGKILL
            if not parent:
                line.hear()
                parent = line.pid
                line.go()
        elif event == "os.listdir" and killed:
            assert ends(parent, within=LONG)  # who was killed shows nobody any more

    with at_each_event(bear):
        env = {"TEXT": text, "GO": line.paths[0], "SAID": line.paths[1]}
        lost = 'env -i PATH="$PATH" sh -c "$TEXT" "$GO" "$SAID" >/dev/null 2>&1 &'
        await run(["/bin/sh", "-c", lost], env=env)
    assert line.pid != parent
    assert ends(line.pid, within=0.0)


RELAY = """
import os, sys
ours, theirs = os.pipe()
if os.fork():
    os.close(theirs)
    os.read(ours, 1)
    os._exit(0)
os.setsid()
os.close(1), os.close(2), os.close(ours)
go, said = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY)
while True:
    os.write(said, b"%d\\n" % os.getpid())
    os.close(theirs) if theirs else None
    theirs = 0
    os.read(go, 3)
    if os.fork():
        os._exit(0)
"""
"""Leaves its parent's session; forks and exits each time that it is told to."""


class Relay:
    """A process that is another one whenever somebody looks at it: its last pid is gone by then.

    Args:
        line: How it is told to fork and to exit.
        looks: After each listing of all processes, how often it does so.
        listings: After how many of them; then it stays.
    """

    def __init__(self, line: Line, *, looks: float, listings: float = math.inf) -> None:
        self.line = line
        line.hear()
        self.stays = False
        self._group = line.pid
        self._looks, self._left, self._listings = looks, 0.0, listings

    def evade(self, event: str, arguments: tuple[object, ...]) -> None:
        """Move, when the time has come; once its group is signalled it stays."""
        if event == "os.listdir" and arguments == ("/proc",):
            self._left = self._looks if self._listings > 0 else 0.0
            self._listings -= 1
        elif event == "os.kill":
            self.stays = self.stays or arguments[0] == -self._group
            if arguments[0] == self.line.pid:
                self.move()
        elif event == "open" and not self.stays and self._left and self.sees(arguments[0]):
            self._left -= 1
            self.move()

    def sees(self, path: object) -> bool:
        """Whether this is a moment to move: somebody is about to read the path."""
        return path == f"/proc/{self.line.pid}/stat"

    def move(self) -> None:
        """Return when the last one is gone without a trace, and somebody else is there."""
        before = self.line.pid
        self.line.go()
        os.waitpid(before, 0)


def started(line: Line, pids: Pids) -> "asyncio.Task[CommandResult]":
    """Start a command that has a relay, and then says its own pid."""
    text = '"$PYTHON" -S -c "$RELAY" "$GO" "$SAID"; echo $$; exec sleep 60'
    env = {"PYTHON": sys.executable, "RELAY": RELAY, "GO": line.paths[0], "SAID": line.paths[1]}
    return asyncio.create_task(
        run_command(["/bin/sh", "-c", text], env=environment(env, {}), on_output=pids.take)
    )


async def evaded(
    line: Line, *, seen: bool = False, kind: "type[Relay] | None" = None, **options: float
) -> None:
    """Run a command whose relay evades the looks at it, and have all of it killed."""
    pids = Pids(1)
    task = started(line, pids)
    await pids.started()
    if seen:
        await run(["true"])
    relay = (kind or Relay)(line, **options)
    with at_each_event(relay.evade):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ends(line.pid, within=0.0)


async def test_p4_what_is_born_while_all_are_looked_at_is_seen(line: Line) -> None:
    """The pid that was listed is gone, each time, and the new one wasn't there to be listed."""
    await evaded(line, looks=1)


async def test_p4_who_may_have_been_missed_is_looked_for_again(line: Line) -> None:
    """Two whole searches find nothing of it, but that somebody was born all the time."""
    await evaded(line, looks=math.inf, listings=2)


class Fleeting(Relay):
    """Is there to be seen when it was born, and is gone when it is asked whose it is."""

    def sees(self, path: object) -> bool:
        if path == "/proc/loadavg":
            self._asked = False
            return True
        first = str(path).endswith("/environ") and path != f"/proc/{self.line.pid}/environ"
        first, self._asked = first and not self._asked, self._asked or first
        return first

    _asked = False


async def test_p4_a_process_says_whose_it_is_as_soon_as_it_is_seen(line: Line) -> None:
    """Each of its pids is gone before the search is over; its group is known by then."""
    await evaded(line, kind=Fleeting, looks=math.inf)


async def test_p4_a_group_of_which_nobody_is_ever_seen_is_killed(line: Line) -> None:
    """It was known before it began to run away; its number stays."""
    await evaded(line, seen=True, looks=math.inf)


async def test_p4_a_group_is_signalled_and_not_a_pid_that_may_be_gone(line: Line) -> None:
    """Who is signalled by its pid forks, exits, and isn't hit."""
    await evaded(line, looks=0)
