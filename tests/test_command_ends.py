"""Ends of commands: however one ends, nothing of what it has started is left."""

import asyncio
import contextlib
import shlex
from pathlib import Path

import pytest

from jobrunner.commands import environment, run_command
from tests.processes import ends
from tests.running import Pids, run, shell, start


async def test_a_timeout_ends_the_command_and_names_the_limit() -> None:
    """A command's own limit is an error that a handler can catch."""
    pids = Pids(1)
    with pytest.raises(TimeoutError, match=r"^the command /bin/sh timed out after 0.05 s$"):
        await start("echo $$; exec sleep 60", pids, timeout=0.05)
    assert ends(pids.pids[0])


async def test_a_cancel_ends_the_command_and_its_children() -> None:
    """The whole tree is gone: a leader, its child, and its grandchild."""
    pids = Pids(3)
    task = start("sh -c 'sleep 60 & echo $!; echo $$; wait' & echo $$; wait", pids)
    tree = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [ends(pid) for pid in tree] == [True, True, True]


def children() -> set[int]:
    """Return the living children of this process."""
    listed = set[int]()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            listed.update(map(int, (thread / "children").read_text().split()))
    return {pid for pid in listed if not ends(pid, within=0.0)}


async def test_a_receiver_of_output_that_raises_ends_the_command() -> None:
    """Nobody listens any more: the command is killed, and who ran it gets the error."""

    def refuse(name: str, text: str) -> None:
        raise LookupError(text)

    running = run_command(
        ["/bin/sh", "-c", "echo $$; exec sleep 60"], env=environment({}, {}), on_output=refuse
    )
    with pytest.raises(LookupError) as caught:
        await running
    assert ends(int(str(caught.value)))


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8])
async def test_p1_a_cancel_during_the_spawn_leaves_no_process(ticks: int, tmp_path: Path) -> None:
    """P1: a cancel in the middle of the spawn orphaned nine of ten processes."""
    pids = tmp_path / "pids"
    task = asyncio.create_task(
        run(["/bin/sh", "-c", f"echo $$ >> {shlex.quote(str(pids))}; exec sleep 60"])
    )
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = pids.read_text().split() if pids.exists() else []
    assert [ends(int(pid)) for pid in started] == [True] * len(started)
    assert children() == set()


async def test_p1_a_second_cancel_during_the_spawn_leaves_no_process() -> None:
    """P1: who is impatient can't tear the spawn apart either."""
    task = asyncio.create_task(run(["sleep", "60"]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == set()


async def test_p1_a_cancel_during_a_spawn_that_fails_is_a_cancel() -> None:
    """P1: there is nothing to kill, and nobody hears of the missing program."""
    task = asyncio.create_task(run(["/no/such/program"]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.slow
async def test_p2_a_command_that_ignores_the_polite_signal_is_killed() -> None:
    """P2: SIGTERM is a request; two seconds later SIGKILL is not (slow: waits for those)."""
    pids = Pids(1)
    task = start("trap '' TERM; echo $$; while true; do sleep 0.1; done", pids)
    (pid,) = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid)


async def test_p2_a_command_may_clean_up_when_it_is_asked_to_end() -> None:
    """P2: SIGTERM comes first, so a build can remove its temporary files."""
    pids = Pids(1)
    task = start("trap 'echo cleaned >&2; exit 0' TERM; echo $$; sleep 60 & wait", pids)
    await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pids.said[1:] == [("stderr", "cleaned\n")]


async def test_p2_children_that_outlive_the_leader_are_killed() -> None:
    """P2: the leader dies of SIGTERM at once, its child has trapped it; the group gets SIGKILL."""
    pids = Pids(2)
    task = start("sh -c 'trap \"\" TERM; echo $$; sleep 60; sleep 60' & echo $$; wait", pids)
    tree = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [ends(pid) for pid in tree] == [True, True]


async def test_p2_a_cancel_during_the_end_leaves_no_process() -> None:
    """P2: a second cancel while the first one waits for SIGTERM goes to SIGKILL at once."""
    pids = Pids(1)
    task = start("trap '' TERM; echo $$; while true; do sleep 0.1; done", pids)
    (pid,) = await pids.started()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid)


@pytest.mark.slow
async def test_p3_a_background_child_that_holds_the_pipe_is_reported_and_killed() -> None:
    """P3: reading to the end would take as long as the child (slow: it is read on for 1 s)."""
    result = await shell("sleep 60 & echo $!")
    assert (result.exit_code, result.left_running) == (0, True)
    assert ends(int(result.stdout))


@pytest.mark.slow
async def test_p3_what_is_said_soon_after_the_exit_is_read() -> None:
    """P3: a pipeline's last part often ends after its leader (slow: it takes its time)."""
    result = await shell("(sleep 0.3; echo late) &")
    assert (result.exit_code, result.stdout, result.left_running) == (0, "late\n", False)


async def test_p3_a_background_child_that_holds_no_pipe_is_killed_too() -> None:
    """P3: the group goes with its leader, also when nothing delays the end."""
    result = await shell("sleep 60 >/dev/null 2>&1 & echo $!")
    assert (result.exit_code, result.left_running) == (0, False)
    assert ends(int(result.stdout))


async def test_p2_a_command_that_has_stopped_itself_is_killed() -> None:
    """A stopped process sees no SIGTERM; a second cancel doesn't wait until it would."""
    pids = Pids(1)
    task = start("echo $$; kill -STOP $$; sleep 60", pids)
    (pid,) = await pids.started()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid, within=0.0)


async def test_p3_a_command_that_has_closed_its_outputs_is_still_waited_for() -> None:
    """The end of its pipes isn't the end of the command."""
    pids = Pids(1)
    task = start("echo $$; exec >&- 2>&-; exec sleep 60", pids)
    (pid,) = await pids.started()
    assert not ends(pid, within=0.05)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid, within=0.0)


@pytest.mark.slow
async def test_p3_a_daemon_that_holds_the_pipe_is_reported_and_killed() -> None:
    """In a session of its own, it would hold the pipe for ever (slow: it is read on for 1 s)."""
    result = await shell("setsid sh -c 'echo $$; exec sleep 60' &")
    assert (result.exit_code, result.left_running) == (0, True)
    assert ends(int(result.stdout), within=0.0)
