"""The commands that the README shows: they are there, and those of curl are carried out."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.readme import README, ROOT, blocks, save_files

SHELL = "\n".join(blocks("sh")).replace("\\\n", " ")
TEXT = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"(?:^|[`/\s])(jobrunner [a-z]+[^`#&\n]*)", SHELL, re.MULTILINE) + [
    " ".join(each.split()) for each in re.findall(r"`(jobrunner [a-z]+[^`]*)`", TEXT)
]
TRIED = [block for block in blocks("sh") if "curl" in block or "jobrunner submit" in block]
with_curl = [
    pytest.mark.curl,
    pytest.mark.slow,  # a server is started, as a reader would
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl program on the path"),
]


@cache
def help_of(command: str) -> str:
    """Return what `--help` says of a command, nothing if there is no such command."""
    run = [sys.executable, "-m", "jobrunner", command, "--help"]
    wide = {**os.environ, "COLUMNS": "300", "TERM": "dumb"}
    return subprocess.run(run, env=wide, capture_output=True, text=True, timeout=30).stdout


@pytest.mark.slow  # an interpreter for each command
def test_the_commands_and_options_shown_are_there() -> None:
    """A reader types them as they stand."""
    assert len(COMMANDS) > 5
    for command in COMMANDS:
        name, *words = command.split()[1:]
        said = help_of(name)
        assert said, f"`{command}`: there is no command {name}"
        if "--" in words:
            words = words[: words.index("--")]
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in options if option not in said] == [], command


def test_the_extras_and_modules_shown_are_there() -> None:
    """pip only warns of an extra that there isn't."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    shown = ",".join(re.findall(r"(?:\.|agent-jobrunner)\[([\w,]+)\]", README)).split(",")
    assert set(shown) - set(project["optional-dependencies"]) == set()
    modules = set(re.findall(r"python -m ([\w.]+)", README))
    assert [module for module in modules if find_spec(module) is None] == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def carry_out(script: str, folder: Path) -> str:
    """Return what a script prints that starts a server in the background, and end that."""
    save_files(folder)
    programs = folder / "bin"
    programs.mkdir()
    for name in ("jobrunner", "uvicorn"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (programs / name).chmod(0o755)
    port = free_port()
    script = script.replace(":8000", f":{port}").replace("--port 8000", f"--port {port}")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    ours = {name: value for name, value in os.environ.items() if "JOBRUNNER" not in name}
    environment = {**ours, "PATH": path, "NO_PROXY": "*", "XDG_RUNTIME_DIR": str(folder)}
    command = ["bash", "-c", f"set -euo pipefail; trap 'kill $(jobs -p)' EXIT\n{script}"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as bash:  # fmt: skip
        try:
            said, errors = bash.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(bash.pid, signal.SIGKILL)  # the server, too
            raise
    assert bash.returncode == 0, said + errors
    return said


def test_each_block_that_asks_a_server_is_carried_out_below() -> None:
    """One more of them would be tried by nobody."""
    assert len(TRIED) == 3


@pytest.mark.slow  # seven interpreters
@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq program on the path")
def test_the_commands_of_the_terminal_work(tmp_path: Path) -> None:
    """They find the server by themselves, in a pipe as in a terminal."""
    serve, _, rest = TRIED[2].partition("\n")
    wait = "until jobrunner stats >/dev/null 2>&1; do :; done"
    said = carry_out(f"{serve}\n{wait}\n{rest}", tmp_path)
    assert re.search(r"2/2 100% Reading b\.pdf\n.* completed: 2\n", said)
    assert said.splitlines()[-1].endswith('completed: "1.2 is live"')


class TestWithCurl:
    """As a reader does it, from a folder with the files that the README has them save."""

    pytestmark = with_curl

    def test_the_walk_from_a_request_to_a_stream_works(self, tmp_path: Path) -> None:
        """It is the first thing that people try."""
        serve = next(block for block in blocks("sh") if "uvicorn app:app" in block)
        serve = serve.replace("pip install fastapi\n", "").rstrip()
        wait = "curl -s --retry 9 --retry-connrefused http://127.0.0.1:8000/jobs-api/healthz"
        said = carry_out(f"{serve} &\n{wait}\n{TRIED[0]}", tmp_path)
        shown = next(block for block in blocks("text") if "event:" in block)
        number, event = re.findall(r"(?:id|event): (\w+)", shown)
        assert f"id: {number}\nevent: {event}\n" in said
        assert re.search(rf'"seq":{number},.*"status":"retrying","attempt":1,', said)
        assert said.endswith('"a summary of a.pdf"')

    def test_the_calls_of_the_http_api_work(self, tmp_path: Path) -> None:
        """They are copied line by line."""
        said = carry_out(TRIED[1], tmp_path)
        assert '"47 passed in tests"' in said
        assert "event: done" in said
        assert '"type":"/problems/' in said  # it asks nothing, so there is nothing to answer
