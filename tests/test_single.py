"""One process: several workers of one server are refused, and so is the copy in a fork."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobrunner.errors import ForkedRunner, SeveralWorkers, UsageError
from jobrunner.single import check_process, claim

APP = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from jobrunner.single import claim


@asynccontextmanager
async def lifespan(app):
    with claim():
        print("claimed", flush=True)
        yield


app = Starlette(lifespan=lifespan)
"""

SHARED = """
import multiprocessing, os, signal, socket, sys
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from jobrunner.errors import JobRunnerError
from jobrunner.single import claim


def serve(bound, said, fork):
    @asynccontextmanager
    async def lifespan(app):
        try:
            with claim():
                with claim():
                    pass  # the other is still held
                if fork and os.fork() == 0:
                    signal.pause()
                said.send("claimed")
                yield
        except JobRunnerError as error:
            said.send(error.code)
            raise

    config = uvicorn.Config(Starlette(lifespan=lifespan), log_level="critical")
    uvicorn.Server(config).run(sockets=[bound])


def start(bound, fork=False):
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(bound, there, fork))
    process.start()
    print(here.recv(), flush=True)
    return process


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    one, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    first = start(one, fork="fork" in sys.argv)
    start(one).join()
    elsewhere = start(other)
    first.kill()
    first.join()
    again = start(one)
    for process in (again, elsewhere):
        process.terminate()
        process.join()
    again = start(one)
    again.terminate()
    again.join()
    os.killpg(0, signal.SIGKILL)
"""


@contextmanager
def running(folder: Path, *command: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module beside the app, as the leader of a group that ends with the block."""
    (folder / "served.py").write_text(APP)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | env, start_new_session=True,
    )  # fmt: skip
    timer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        os.killpg(process.pid, signal.SIGKILL)  # nobody else has the id until it is waited for
        process.__exit__(None, None, None)


def output(folder: Path, *command: str, **env: str) -> str:
    """Return all that a command says until it ends by itself."""
    with running(folder, *command, **env) as process:
        assert process.stdout is not None
        return process.stdout.read()


def read_to(process: subprocess.Popen[str], text: str) -> None:
    """Read what the process says, up to a line with the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


@contextmanager
def changing(file: Path) -> Iterator[None]:
    """Make the file newer and newer: who watches it may look for the first time just then."""
    done = threading.Event()

    def touch() -> None:
        for seconds in itertools.count(1):
            newer = time.time() + seconds
            os.utime(file, (newer, newer))
            if done.wait(0.1):
                return

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


REFUSED = "worker processes, each with a job runner and jobs of its own"
UVICORN = ("-m", "uvicorn", "served:app", "--port", "0")


# Servers


@pytest.mark.slow  # processes of their own; uvicorn asks one that has ended for five seconds
@pytest.mark.parametrize(
    ("arguments", "env"),
    [(["--workers", "2"], {}), ([], {"WEB_CONCURRENCY": "2"})],
    ids=["workers", "environment"],
)
def test_t16_several_workers_of_uvicorn_are_refused(
    tmp_path: Path, arguments: list[str], env: dict[str, str]
) -> None:
    """Two of three polls would answer 404; now no worker starts, and uvicorn ends."""
    said = output(tmp_path, *UVICORN, *arguments, **env)
    assert f"SeveralWorkers: uvicorn runs 2 {REFUSED}" in said
    assert "Use one worker process (--workers 1" in said
    assert "claimed" not in said


@pytest.mark.slow  # processes of their own
def test_t16_a_reloading_uvicorn_has_one_worker_before_and_after(tmp_path: Path) -> None:
    """The worker is a child of uvicorn's there too, whatever number of workers was asked for."""
    with running(tmp_path, *UVICORN, "--reload", WEB_CONCURRENCY="4") as process:
        read_to(process, "Application startup complete")
        with changing(tmp_path / "served.py"):
            read_to(process, "Reloading...")
        read_to(process, "Application startup complete")


@pytest.mark.slow  # a process of its own
def test_t16_one_worker_of_uvicorn_is_served(tmp_path: Path) -> None:
    """The usual case."""
    with running(tmp_path, *UVICORN, "--workers", "1") as process:
        read_to(process, "Application startup complete")


OTHERS = [
    pytest.param("gunicorn", ["-k", "asgi", "-b", "127.0.0.1:0", "-w"], id="gunicorn"),
    pytest.param("hypercorn", ["-b", "127.0.0.1:0", "-w"], id="hypercorn"),
    pytest.param("granian", ["--interface", "asgi", "--port", "0", "--workers"], id="granian"),
]


@pytest.mark.slow  # processes of their own
@pytest.mark.parametrize(("server", "arguments"), OTHERS)
def test_t16_several_workers_of_other_servers_are_refused(
    tmp_path: Path, server: str, arguments: list[str]
) -> None:
    """Each of them ends when its workers do, with the reason in its log."""
    pytest.importorskip(server)  # the dev extra brings it, but for granian
    said = output(tmp_path, "-m", server, *arguments, "2", "served:app", HOME=str(tmp_path))
    assert f"{server} runs 2 {REFUSED}" in said
    assert "claimed" not in said


@pytest.mark.slow  # processes of their own
@pytest.mark.parametrize(("server", "arguments"), OTHERS)
def test_t16_one_worker_of_other_servers_is_served(
    tmp_path: Path, server: str, arguments: list[str]
) -> None:
    """It is a child process as well, and the only one."""
    pytest.importorskip(server)  # the dev extra brings it, but for granian
    command = ("-m", server, *arguments, "1", "served:app")
    with running(tmp_path, *command, HOME=str(tmp_path)) as process:
        read_to(process, "claimed")


# Programs


@pytest.mark.slow  # processes of their own
@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
@pytest.mark.parametrize("fork", ["", "fork"])
def test_t16_of_processes_that_share_a_socket_one_is_served(tmp_path: Path, fork: str) -> None:
    """Until it ends, killed or not, and whether or not a fork of it lives on."""
    (tmp_path / "shared.py").write_text(SHARED)
    said = output(tmp_path, "shared.py", fork)
    names = ["the first", "one beside it", "elsewhere", "after its death", "after an end"]
    assert dict(zip(names, said.split(), strict=True)) == {
        "the first": "claimed",
        "one beside it": "several-workers",
        "elsewhere": "claimed",
        "after its death": "claimed",
        "after an end": "claimed",
    }


def test_t16_several_runners_of_one_process_are_served() -> None:
    """They see each other's port, not each other's jobs, and nobody expects that they do."""
    with claim() as first, claim() as second:
        first.release()
        first.release()
        second.release()
    assert issubclass(SeveralWorkers, UsageError)
    assert SeveralWorkers.code == "several-workers"


# Forks


def test_t16_the_process_of_a_runner_is_its_own() -> None:
    """The check costs a system call, and nothing is said."""
    check_process(os.getpid())


def test_t16_a_runner_in_a_fork_is_refused_with_the_reason() -> None:
    """Nothing runs behind it there: a job would wait for ever."""
    with pytest.raises(ForkedRunner) as raised:
        check_process(os.getppid())
    assert str(raised.value) == (
        f"the runner was started in process {os.getppid()}; in process {os.getpid()}, which was "
        "forked from it, is a copy whose event loop doesn't run: start a runner after the fork, "
        "or ask the first process"
    )
    assert isinstance(raised.value, UsageError) and ForkedRunner.code == "forked-runner"
