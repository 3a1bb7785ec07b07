"""MCP over stdin and stdout: what only the process shows, and what only raw bytes show."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from jobrunner import JobContext, JobRunner
from tests.mcp_clients import MODERN, TASKS
from tests.processes import ends
from tests.serving import GONE_ON

from jobrunner.tools.mcp_stdio import Wire, serve_stdio  # isort: skip

HERE = Path(__file__).parents[1]
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}


def line(method: str, **params: Any) -> bytes:
    """Return a request as it goes over the wire."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META} | params}
    return json.dumps(request).encode() + b"\n"


@contextmanager
def started(*arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Start the server, and leave nothing of it."""
    command = [sys.executable, "-m", "jobrunner", "mcp", "tests.mcp_served:runner", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=HERE) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(30)


def call(running: "subprocess.Popen[bytes]", tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool, and return its result; what else comes would be no message."""
    assert running.stdin and running.stdout
    running.stdin.write(line("tools/call", name=tool, arguments=arguments))
    running.stdin.flush()
    result: dict[str, Any] = json.loads(running.stdout.readline())["result"]
    return result


class Ends(NamedTuple):
    """A client's ends of the pipes of a server in this process, and how the server ends."""

    stdin: BinaryIO
    stdout: BinaryIO
    code: "asyncio.Task[int]"

    async def answer(self) -> Any:
        """Return the next message."""
        return json.loads(await asyncio.to_thread(self.stdout.readline))

    async def ended(self) -> int:
        """Return the server's exit code, once it has ended."""
        await asyncio.wait([self.code], timeout=GONE_ON)
        assert self.code.done()
        return self.code.result()


async def nothing(ctx: JobContext) -> None:
    """Do nothing."""


@pytest.fixture
async def server() -> AsyncIterator[Ends]:
    """Serve a runner with more tools than a pipe holds; it has ended when the test has."""
    runner = JobRunner()
    for number in range(100):
        runner.job(name=f"type{number}")(nothing)
    (stdin, to_it), (from_it, stdout) = os.pipe(), os.pipe()
    with os.fdopen(to_it, "wb", buffering=0) as write, os.fdopen(from_it, "rb") as read:
        serving = asyncio.create_task(serve_stdio(runner, Wire(stdin, stdout)))
        yield Ends(write, read, serving)
    await serving
    os.close(stdin)
    os.close(stdout)


@pytest.mark.slow  # an interpreter that loads the package
def test_what_handlers_print_goes_elsewhere_and_what_they_read_has_ended() -> None:
    """Stdout has nothing but messages, and a handler can't take any from stdin."""
    with started() as running:
        job_id = call(running, "read_background")["taskId"]
        waited = call(running, "wait_for_jobs", job_ids=[job_id])
        out, errors = running.communicate()
    assert waited["structuredContent"]["jobs"][0]["result"] == ""
    assert (out, running.returncode) == (b"", 0)
    for said in (b"a library says hello", b"a handler says something", b"a child's noise"):
        assert said in errors


@pytest.mark.slow  # an interpreter that loads the package
@pytest.mark.parametrize(
    ("end", "code", "ignored"),
    [("eof", 0, "TERM"), (signal.SIGTERM, 143, "USR1"), (signal.SIGHUP, 129, "USR1")],
)
def test_p1_its_end_leaves_no_process(tmp_path: Path, end: Any, code: int, ignored: str) -> None:
    """An agent closes the pipe and goes; some send a signal, and are gone two seconds later."""
    pidfile = tmp_path / "pid"
    os.mkfifo(pidfile)
    with started() as running:
        made = call(running, "build_background", pidfile=str(pidfile), ignored=ignored)
        assert made["resultType"] == "task"
        pid = int(pidfile.read_text())  # waits until it is there
        if end == "eof":
            assert running.stdin
            running.stdin.close()
        else:
            running.send_signal(end)
        assert running.wait(30) == code
        assert running.stderr
        assert b"Traceback" not in running.stderr.read()
    assert ends(pid)


@pytest.fixture
def nohup() -> Iterator[None]:
    """SIGHUP is ignored, as by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_a_signal_that_is_ignored_stays_so(nohup: None, server: Ends) -> None:
    """An agent that outlives its terminal has its tools all the same."""
    server.stdin.write(line("server/discover"))
    assert (await server.answer())["id"] == 1
    os.kill(os.getpid(), signal.SIGHUP)
    server.stdin.close()
    assert await server.ended() == 0


async def test_a_message_without_a_newline_at_the_end_is_none(server: Ends) -> None:
    """Half a message is what is left when a client dies; it must not be carried out."""
    server.stdin.write(line("tools/list").rstrip())
    server.stdin.close()
    assert await server.ended() == 0
    os.set_blocking(server.stdout.fileno(), False)
    assert server.stdout.read() is None


async def test_what_is_no_message_is_passed_over(
    server: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """One broken line is no reason to lose the jobs that run."""
    broken = b"\xff\xfe{\n[1]\n" + b"x" * 5_000_000 + b"\n"
    await asyncio.to_thread(server.stdin.write, broken)
    server.stdin.write(line("tools/list"))
    assert (await server.answer())["result"]["tools"]
    assert "over 4194304 bytes was dropped" in caplog.text


async def test_a_client_that_reads_no_more_does_not_keep_it(server: Ends) -> None:
    """Its pipe is full for ever; the server ends all the same."""
    server.stdin.write(line("tools/list"))
    await asyncio.to_thread(select.select, [server.stdout], [], [])  # full now, and not all of it
    signal.raise_signal(signal.SIGTERM)
    assert await server.ended() == 143


TOOLS_FILE = """
name: greetings
tools:
  - name: greet
    description: Greet somebody
    parameters: [{name: name, type: string, required: true}]
    script: {shell: "echo hello {{name}}"}
"""


@pytest.mark.slow  # an interpreter that loads the package
def test_a_tools_file_is_served_beside_a_runner(tmp_path: Path) -> None:
    """Whoever has a file, and no Python, gives an agent its tools with one command."""
    pytest.importorskip("yaml", reason="needs the extra yaml")
    file = tmp_path / "gantz.yaml"
    file.write_text(TOOLS_FILE)
    with started("--tools", str(file)) as running:
        greeted = call(running, "greet_background", name="it's me; id")["taskId"]
        read = call(running, "read_background")["taskId"]
        told = call(running, "wait_for_jobs", job_ids=[greeted, read])
    assert "hello it's me; id" in told["content"][0]["text"]


@pytest.mark.slow  # an interpreter that loads the package
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tests.mcp_served:runner", "--workers", "0"], "workers"),
        (["--tools", "nope.yaml"], "nope.yaml: No such file"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], says: str) -> None:
    """On stderr, where an agent's log is; stdout has nothing but messages."""
    command = [sys.executable, "-m", "jobrunner", "mcp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=60,
                          env=os.environ | {"COLUMNS": "200"})  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
