"""The file by which commands find a server: whose it is, who may read it, and when it is stale."""

import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobrunner import JobRunner
from jobrunner.server import Server, serving, serving_by
from jobrunner.whereabouts import (
    LeftBehind,
    Whereabouts,
    folder,
    leave_behind,
    running_servers,
)
from tests.processes import ends

WHERE = Whereabouts("http://127.0.0.1:8000", "secret", os.getpid(), "work:runner")
KILLED = """
import os, sys
from jobrunner.whereabouts import Whereabouts, leave_behind
left = leave_behind(Whereabouts("http://127.0.0.1:1", None, os.getpid(), "killed"))
print(left.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder for the test alone: the user's own servers are none of its business."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_a_server_is_found_while_its_file_is_there() -> None:
    """And not a moment longer: a command would wait for somebody who is gone."""
    left = LeftBehind(WHERE)
    assert running_servers() == [WHERE]
    left.remove()
    left.remove()
    assert (running_servers(), list(folder().iterdir())) == ([], [])


def test_several_servers_are_all_found() -> None:
    """One that starts sweeps up behind the dead, and leaves the living alone."""
    other = WHERE._replace(url="http://127.0.0.1:7000")
    left = [LeftBehind(WHERE), LeftBehind(other)]
    assert running_servers() == [other, WHERE]
    for each in left:
        each.remove()


def test_nobody_else_may_read_it() -> None:
    """It has the token: who has that, may run whatever the runner runs."""
    left = LeftBehind(WHERE)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder(), left.path)]
    left.remove()
    assert modes == [0o700, 0o600]


@pytest.mark.slow  # a process of its own, which is killed
def test_what_a_killed_server_has_left_is_ignored_and_then_removed() -> None:
    """A pid may be another program's by now; the lock goes with the process that held it."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        path = Path(running.stdout.readline().strip())
        assert [where.serves for where in running_servers()] == ["killed"]
        running.send_signal(signal.SIGKILL)
        assert ends(running.pid)
    assert (running_servers(), path.exists()) == ([], True)
    LeftBehind(WHERE).remove()
    assert not path.exists()


def test_one_with_a_living_pid_and_without_a_server_is_stale() -> None:
    """Pids are used again."""
    LeftBehind(WHERE).remove()
    (folder() / "1-stale.json").write_text(json.dumps(WHERE._asdict()))
    assert running_servers() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "x"}', '{"url":"x","token":1,"pid":"a"}'])
def test_a_file_that_says_nothing_is_ignored(text: str) -> None:
    """Somebody else's, or half a disk's."""
    LeftBehind(WHERE).remove()
    with (folder() / "odd.json").open("w") as odd:
        fcntl.flock(odd, fcntl.LOCK_EX)
        odd.write(text)
        odd.flush()
        assert running_servers() == []


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """What isn't in the folder isn't the user's word; neither is it removed."""
    LeftBehind(WHERE).remove()
    elsewhere = tmp_path / "elsewhere.json"
    with elsewhere.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(WHERE._asdict()))
        file.flush()
        (folder() / "link.json").symlink_to(elsewhere)
        assert running_servers() == []
        LeftBehind(WHERE).remove()
    assert (folder() / "link.json").is_symlink()


@pytest.mark.parametrize("odd", ["open", "a file", "a link"])
def test_a_folder_that_others_could_have_made_is_not_used(
    odd: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In /tmp anybody may be first: the server serves on, and nobody is sent to a wrong one."""
    if odd == "open":
        folder().mkdir(mode=0o777)
        folder().chmod(0o777)
    elif odd == "a file":
        folder().write_text("")
    else:
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder().symlink_to(tmp_path / "theirs")
    assert leave_behind(WHERE) is None
    assert "commands won't find the server by themselves" in caplog.text
    assert running_servers() == []


@pytest.mark.parametrize("runtime_dir", ["", "relative", "/no/such/folder"])
def test_without_a_runtime_folder_it_is_beside_other_temporary_files(
    runtime_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every system has one; the user's number is in the name."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert folder() == tmp_path / f"jobrunner-{os.geteuid()}"


def test_where_nothing_can_be_written_no_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names one by its URL has no need of the file."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # holds for root, too
    try:
        assert (running_servers(), leave_behind(WHERE)) == ([], None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_server_can_be_found_while_it_takes_requests() -> None:
    """From its first to its last: also who embeds it may want that."""
    async with serving(JobRunner(), known_as="work:runner") as server:
        where = Whereabouts(server.url, server.token, os.getpid(), "work:runner")
        assert running_servers() == [where]
    assert running_servers() == []


async def test_a_server_on_all_addresses_is_found_on_this_machine() -> None:
    """0.0.0.0 is no address to go to."""
    server = Server(JobRunner(), host="0.0.0.0", port=0, token="s", known_as="x")
    async with serving_by(server):
        (where,) = running_servers()
    assert where.url == server.url.replace("0.0.0.0", "127.0.0.1")


async def test_a_server_without_a_token_says_so() -> None:
    """An empty text would be sent as a token."""
    server = Server(JobRunner(), port=0, token="", known_as="x")
    async with serving_by(server):
        (where,) = running_servers()
    assert where.token is None


async def test_a_server_that_is_embedded_leaves_nothing_behind() -> None:
    """Unless it is asked to: a test suite's servers are no one's to find."""
    async with serving(JobRunner()):
        assert running_servers() == []
