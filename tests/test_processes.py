"""Process trees: what has left a command's group is found, and nobody else's processes are."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobrunner import CommandNotFound, CommandResult
from jobrunner.commands import environment, run_command
from jobrunner.processes import Tree, kill_all
from tests.limited import living
from tests.processes import ends
from tests.running import Pids, run

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")

LEAF = {"LEAF": "echo $$; exec sleep 60 >/dev/null 2>&1"}
"""A shell's text: says its pid, lets go of the pipe, and stays."""
RUNAWAY = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
trace = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(1, b"1")
os.close(1), os.close(2)
end = time.monotonic() + 10
while time.monotonic() < end:
    os.write(trace, b".")
    if os.fork():
        os._exit(0)
"""
"""Nobody can signal its pid, which is another one each time."""


async def shell(text: str) -> CommandResult:
    return await run(["/bin/sh", "-c", text], env=LEAF)


def start(text: str, pids: Pids, timeout: float | None = None) -> "asyncio.Task[CommandResult]":
    env = environment(LEAF, {})
    argv = ["/bin/sh", "-c", text]
    return asyncio.create_task(run_command(argv, env=env, on_output=pids.take, timeout=timeout))


async def cancelled(task: "asyncio.Task[CommandResult]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "text",
    [
        'setsid sh -c "$LEAF" &',
        "(setsid sh -c '(sh -c \"$LEAF\" &)' &)",
        "setsid setsid -f sh -c '(setsid sh -c \"$LEAF\" &)'",
        "(bash -c 'set -m; (sh -c \"$LEAF\" &)' &)",
        'env -i sh -c "$LEAF" &',
    ],
    ids=["setsid", "double fork", "three sessions", "own group", "group, no environment"],
)
async def test_p4_what_left_its_parents_is_found_when_the_command_exits(text: str) -> None:
    """A daemon that a test suite starts escapes the signal to the group, not the search."""
    result = await shell(text)
    assert (result.exit_code, result.left_running) == (0, False)
    assert ends(int(result.stdout), within=0.0)


@pytest.mark.parametrize(
    "text",
    [
        'setsid sh -c "$LEAF"; wait',
        "(setsid sh -c '(sh -c \"$LEAF\" &)' &); sleep 60",
        'env -i setsid -w sh -c "$LEAF"',
        'env -i sh -c \'setsid sh -c "$0" & sleep 60\' "$LEAF"',
    ],
    ids=["setsid", "double fork", "no environment", "no environment, its parent dies first"],
)
async def test_p4_what_left_its_group_is_found_when_the_command_is_cancelled(text: str) -> None:
    """What has dropped its environment too is known by its parents, as long as they live."""
    pids = Pids(1)
    task = start(text, pids)
    (pid,) = await pids.started()
    await cancelled(task)
    assert ends(pid, within=0.0)


async def test_p4_what_left_its_group_is_found_after_a_timeout() -> None:
    """The command's own limit ends all of it, too."""
    pids, limit = Pids(1), 0.05
    while not pids.pids:  # a busy machine hasn't started it by then
        limit *= 2
        with pytest.raises(TimeoutError):
            await start('setsid sh -c "$LEAF"; wait', pids, timeout=limit)
    assert ends(pids.pids[0], within=0.0)


async def test_p4_what_was_seen_while_another_command_ended_is_known(tmp_path: Path) -> None:
    """Each search looks for all commands: who is seen once is known without parents and marker."""
    pids, gate = Pids(2), tmp_path / "gate"
    os.mkfifo(gate)
    parent = 'echo $$; setsid sh -c "$0" & read x < "$1"'
    task = start(f"env -i sh -c '{parent}' \"$LEAF\" {gate}; exec sleep 60", pids)
    tree = await pids.started()
    await run(["true"])
    gate.write_text("go\n")
    assert sorted(ends(pid, within=0.2) for pid in tree) == [False, True]
    await cancelled(task)
    assert [ends(pid, within=0.0) for pid in tree] == [True, True]


async def test_p4_what_was_seen_in_the_group_and_left_it_later_is_known(tmp_path: Path) -> None:
    """It has no marker, no parent, and no group of the command's: nothing but its pid is known."""
    seen, left, gate = Pids(1), Pids(2), tmp_path / "gate"
    os.mkfifo(gate)
    text = '(sh -c \'echo $$; read x < "$1"; exec setsid sh -c "$0"\' "$0" "$1" &)'

    def take(name: str, text: str) -> None:
        seen.take(name, text)
        left.take(name, text)

    argv = ["sh", "-c", 'env -i sh -c "$TEXT" "$LEAF" "$GATE"; exec sleep 60']
    env = environment({**LEAF, "TEXT": text, "GATE": str(gate)}, {})
    task = asyncio.create_task(run_command(argv, env=env, on_output=take))
    await seen.started()
    await run(["true"])
    await asyncio.to_thread(gate.write_text, "go\n")
    pid, same = await left.started()
    assert pid == same
    await cancelled(task)
    assert ends(pid, within=0.0)


@pytest.mark.slow
async def test_p4_what_forks_faster_than_anybody_looks_is_caught(tmp_path: Path) -> None:
    """A pid that is found is gone before its signal comes; its group isn't (slow: programs)."""
    traces = [tmp_path / name for name in "abcd"]
    async with asyncio.TaskGroup() as group:
        for trace in traces:
            group.create_task(run([sys.executable, "-S", "-c", RUNAWAY, str(trace)]))
    sizes = [trace.stat().st_size for trace in traces]
    await asyncio.sleep(0.05)
    assert [trace.stat().st_size for trace in traces] == sizes


@pytest.mark.slow
async def test_p4_what_grows_without_environment_while_it_is_killed_is_found() -> None:
    """Only its parent shows whose child it is: all are stopped, then killed (slow: it grows)."""
    pids, mark = Pids(20), f"60.{secrets.randbelow(10**9)}"
    # It must not end by itself before it is stopped: whose children its own are is known no more.
    grow = 'n=0; while [ $((n += 1)) -lt 2000 ]; do setsid sleep "$0" >&- 2>&- & echo $n; done'
    text = f'{grow}; exec sleep "$0"'
    env = environment({"TEXT": text, "MARK": mark}, {})
    argv = ["sh", "-c", 'env -i PATH="$PATH" sh -c "$TEXT" "$MARK"']
    task = asyncio.create_task(run_command(argv, env=env, on_output=pids.take))
    await pids.started()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line for line in command_lines() if mark in line] == []


def command_lines() -> Iterator[str]:
    """Yield the arguments of each process."""
    for directory in Path("/proc").iterdir():
        with suppress(OSError):
            yield (directory / "cmdline").read_text()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else: no command's, but a child of this process like them."""
    process = subprocess.Popen(["sleep", "60"], env=environment({}, {}), start_new_session=True)
    yield process
    process.kill()
    process.wait()


async def test_p4_other_processes_are_left_alone(bystander: "subprocess.Popen[bytes]") -> None:
    """The search goes through all processes, and kills what the command has started."""
    await shell('setsid sh -c "$LEAF" &')
    kill_all()
    assert bystander.poll() is None


async def test_p4_the_children_of_others_are_not_waited_for(
    bystander: "subprocess.Popen[bytes]",
) -> None:
    """An exit code that is taken from who started the process is lost."""
    bystander.terminate()
    assert ends(bystander.pid)
    await shell('setsid sh -c "$LEAF" &')
    assert bystander.wait() == -signal.SIGTERM


async def test_p4_a_stranger_that_has_got_the_pid_is_left_alone(
    bystander: "subprocess.Popen[bytes]",
) -> None:
    """Pids are used again: what was started at another time is another process."""
    tree = Tree()
    tree.lead(bystander.pid)
    tree.known = {bystander.pid: tree.known[bystander.pid] - 1}
    await tree.sweep()
    tree.forget()
    assert bystander.poll() is None


async def test_p4_the_leader_that_is_the_one_that_was_started_is_killed(
    bystander: "subprocess.Popen[bytes]",
) -> None:
    """The guard against strangers isn't in the way, and needs no marker."""
    tree = Tree()
    tree.lead(bystander.pid)
    await tree.sweep()
    tree.forget()
    assert bystander.wait() == -signal.SIGKILL


async def test_p4_a_hundred_ends_share_a_few_searches_outside_of_the_loop() -> None:
    """One search goes through every process of the machine: not once for each command."""
    searches: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.listdir" and arguments == ("/proc",):
            searches.append(threading.current_thread().name)

    sys.addaudithook(hook)  # can't be removed
    pids = Pids(100)
    tasks = [start("echo $$; exec sleep 60", pids) for _ in range(100)]
    await pids.started()
    searches.clear()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert set(searches) == {"jobrunner sweep"}
    assert len(searches) < 30


def swept() -> None:
    """Wait until the thread that searches for processes has ended; it holds what it looks for."""
    for thread in threading.enumerate():
        if thread.name == "jobrunner sweep":
            thread.join(5.0)


async def test_p4_a_command_that_has_ended_is_forgotten() -> None:
    """A server that runs commands for months must not grow with each of them."""
    swept()
    before = living(Tree)
    await run(["true"])
    with pytest.raises(CommandNotFound):
        await run(["/no/such/program"])
    swept()
    assert living(Tree) == before


async def test_p4_no_thread_stays_when_nothing_is_to_be_searched() -> None:
    """A runner that runs no commands costs none."""
    await run(["true"])
    swept()
    assert "jobrunner sweep" not in [thread.name for thread in threading.enumerate()]


PROGRAM = """
import asyncio, os, signal, sys
from jobrunner.commands import environment, run_command
from jobrunner.processes import kill_all

ENV = environment({"LEAF": "echo $$; exec sleep 60 >/dev/null 2>&1"}, {})
pids = []

def take(name, text):
    pids.extend(text.split())
    if len(pids) == 2:
        print(*pids, flush=True)
        asyncio.get_running_loop().call_soon(finish)

async def main():
    text = 'trap "" TERM; setsid sh -c "$LEAF" & echo $$; while :; do sleep 0.1; done'
    await run_command(["/bin/sh", "-c", text], env=ENV, on_output=take)
"""


def outcome(ending: str, *, before: str = "") -> tuple[int, list[bool]]:
    """Run a program that has a command running when it comes to its end."""
    argv = [sys.executable, "-c", before + PROGRAM + ending]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, [ends(int(pid), within=1.0) for pid in done.stdout.split()]


BY_SIGNAL = """
def finish(): os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *_: (kill_all(), os._exit(3)))
asyncio.run(main())
"""
WITHOUT_LOOP = """
loop = asyncio.new_event_loop()
task = loop.create_task(main())
finish = loop.stop
loop.run_forever()
sys.exit(4)
"""
FORKED = """
def finish():
    if (child := os.fork()) == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    alive = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    kill_all()
    os._exit(len(alive))
asyncio.run(main())
"""
NESTED = """
def finish(): os._exit(0)
asyncio.run(main())
"""

HIDE_PROC = """
import os
def readlink(path, **options): raise FileNotFoundError(path)
os.readlink = readlink
"""
GROUP_ONLY = """
def finish(): pass
async def main():
    text = 'sh -c "$LEAF" & sh -c "$LEAF" &'
    await run_command(["/bin/sh", "-c", text], env=ENV, on_output=take)
    os._exit(6)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code"), [(BY_SIGNAL, 3), (WITHOUT_LOOP, 4)], ids=["handler", "exit"]
)
def test_s1_whatever_ends_the_interpreter_ends_the_commands(ending: str, code: int) -> None:
    """Killing depends on no lifespan, no loop and no `finally` (slow: a program each)."""
    assert outcome(ending) == (code, [True, True])


@pytest.mark.slow
def test_s1_a_forked_child_that_exits_does_not_end_the_commands_of_its_parent() -> None:
    """A worker process of somebody else runs the same exit functions (slow: a program)."""
    assert outcome(FORKED) == (2, [True, True])


@pytest.mark.slow
def test_p2_the_group_is_killed_where_processes_can_not_be_looked_for() -> None:
    """There is no `/proc` on macOS (slow: a program that can't find it)."""
    assert outcome(GROUP_ONLY, before=HIDE_PROC) == (6, [True, True])


@pytest.mark.slow
async def test_p4_what_a_command_runs_as_commands_is_found_too() -> None:
    """A job runner that is itself a command may die of SIGKILL (slow: a program)."""
    result = await run([sys.executable, "-c", PROGRAM + NESTED])
    assert [ends(int(pid), within=0.0) for pid in result.stdout.split()] == [True, True]


@pytest.mark.slow
def test_p4_orphans_that_become_ours_are_reaped() -> None:
    """As PID 1 of a container, this process gets every orphan; none stays (slow: a program)."""
    program = """
import asyncio, ctypes, os
from pathlib import Path
from jobrunner.commands import environment, run_command

async def main():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, which PID 1 has by itself
    for text in ("setsid sleep 60 >/dev/null 2>&1 &", "sleep 60 >/dev/null 2>&1 &"):
        await run_command(["/bin/sh", "-c", text], env=environment({}, {}), on_output=print)
    print(Path(f"/proc/self/task/{os.getpid()}/children").read_text())

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
