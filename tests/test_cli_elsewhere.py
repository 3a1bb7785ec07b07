"""The commands where no terminal is: a server that goes away, and a shell that completes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ptys import PATIENCE
from tests.terminal import Terminal, terminal

pytestmark = pytest.mark.slow  # each command is a process


@pytest.fixture(scope="module")
def served() -> Iterator[Terminal]:
    """One server for the file: each test has jobs of its own."""
    with terminal() as served:
        yield served


def environment(served: Terminal) -> dict[str, str]:
    return {"JOBRUNNER_URL": served.bench.url, "JOBRUNNER_TOKEN": served.bench.token}


SERVED = """
import asyncio
from jobrunner import JobContext, JobRunner

runner = JobRunner(shutdown_timeout=0.0)


@runner.job
async def wait(ctx: JobContext) -> None:
    ctx.emit("begun\\n")
    await asyncio.Event().wait()
"""


def test_a_server_that_goes_away_and_comes_back_without_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, and says so; jobs are in memory, so a new server knows none of them."""
    (tmp_path / "work.py").write_text(SERVED)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("JOBRUNNER_URL", raising=False)
    port = "0"
    with serving(tmp_path, port) as (first, url):
        submitted = command("submit", "wait").communicate(timeout=PATIENCE)[0].strip()
        with command("watch", submitted) as watching:
            assert watching.stdout is not None and watching.stderr is not None
            lines = iter(watching.stdout.readline, "")
            assert "begun\n" in lines
            first.kill()
            assert first.wait(PATIENCE) != 0
            assert "the server is away; trying again for 30 s\n" in lines
            with serving(tmp_path, url.rpartition(":")[2]):
                assert watching.wait(PATIENCE) == 4
                assert "A server that was restarted knows no job" in watching.stderr.read()


def command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "jobrunner", *arguments], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def serving(folder: Path, port: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Serve in a process of its own, on the token that the file has."""
    with subprocess.Popen(
        [sys.executable, "-m", "jobrunner", "serve", "work:runner", "--port", port, "--json",
         "--token", "secret"],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            url = re.search(r'"url": "([^"]+)"', running.stdout.readline())
            assert url is not None
            yield running, url[1]
        finally:
            running.terminate()
            running.wait(PATIENCE)


def complete(shell: str, words: str, env: dict[str, str]) -> str:
    """Return what a shell is told to offer."""
    asked = {"_JOBRUNNER_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "2",
             "_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    program = "import sys; sys.argv = ['jobrunner']; from jobrunner.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | env | asked,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_types_and_ids(served: Terminal, shell: str) -> None:
    """The three that people have; ids are too long to be typed."""
    job_id = served.finished("echo")
    env = environment(served)
    assert "typed" in complete(shell, "jobrunner submit ty", env)
    assert job_id in complete(shell, f"jobrunner show {job_id[:20]}", env)


def test_completion_without_a_server_offers_nothing(served: Terminal) -> None:
    """A Tab is no time for errors."""
    env = environment(served) | {"JOBRUNNER_URL": "http://127.0.0.1:1"}
    assert "Traceback" not in complete("bash", "jobrunner show job_", env)
