"""MCP over stdin and stdout: a server in a process of its own, as an agent starts it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from tests.mcp_clients import MODERN, MODES, TASKS, Agent, KnowsTasks
from tests.processes import ends

from mcp.client.client import Client  # isort: skip
from mcp.client.stdio import StdioServerParameters, stdio_client  # isort: skip

pytestmark = pytest.mark.slow  # each has an interpreter of its own, which loads the package

SERVED = '''
import asyncio
import os
import sys
from jobrunner import JobContext, JobRunner

print("a library says hello when it is imported")
runner = JobRunner()

@runner.job
async def chat(ctx: JobContext, says: str) -> str:
    """Print what is said, and read what there is."""
    print(says)
    os.write(1, b"a child's noise\\n")
    return f"{says}, {sys.stdin.read()!r}"

@runner.job
async def build(ctx: JobContext, pidfile: str) -> int:
    """Run for ever, and say as whom."""
    command = f"trap '' TERM; echo $$ > {pidfile}; sleep 1000; :"
    return (await ctx.run_command(command, shell=True)).exit_code

@runner.job
async def wait(ctx: JobContext) -> None:
    """Say something, and wait."""
    ctx.progress(40, "here")
    await asyncio.Event().wait()
'''
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "mcp_served_by_test.py").write_text(SERVED)
    return tmp_path


def server(here: Path) -> StdioServerParameters:
    """How an agent is told to start the server."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "jobrunner", "mcp", "mcp_served_by_test:runner"],
        env=dict(os.environ),
        cwd=here,
    )


@contextmanager
def started(here: Path, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Start the server, and leave nothing of it."""
    command = [sys.executable, "-m", "jobrunner", "mcp", "mcp_served_by_test:runner", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=here) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(30)


def ask(running: "subprocess.Popen[bytes]", method: str, **params: Any) -> dict[str, Any]:
    """Send a request, and return its answer; what else comes would be no message."""
    assert running.stdin and running.stdout
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META} | params}
    running.stdin.write(json.dumps(request).encode() + b"\n")
    running.stdin.flush()
    answer: dict[str, Any] = json.loads(running.stdout.readline())
    return answer


def call(running: "subprocess.Popen[bytes]", tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool, and return its result."""
    result: dict[str, Any] = ask(running, "tools/call", name=tool, arguments=arguments)["result"]
    return result


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_starts_waits_reads_and_stops(here: Path, mode: str) -> None:
    """What handlers print goes elsewhere, and what they read has ended."""
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with Client(stdio_client(server(here)), mode=mode) as client:
        agent = Agent(client)
        names = [tool.name for tool in (await client.list_tools()).tools]
        job_id = (await agent.said("chat_background", says="hello"))["job_id"]
        waited = await agent.said("wait_for_jobs", job_ids=[job_id])
        other = (await agent.said("wait_background"))["job_id"]
        call = {"job_ids": [other], "wait_seconds": 0.2}
        await client.call_tool("wait_for_jobs", call, progress_callback=note)
        stopped = await agent.said("cancel_job", job_id=other)
    assert {"chat_background", "list_jobs"} <= set(names)
    assert waited["jobs"][0]["result"] == "hello, ''"
    assert stopped["status"] == "cancelled"
    assert told[-1] == 40.0


async def test_a_job_is_a_task_for_a_client_that_knows_them(here: Path) -> None:
    """Without a header, which there is none of here."""
    client = Client(stdio_client(server(here)), extensions=[KnowsTasks()])
    async with client:
        agent = Agent(client)
        made = await agent.task("wait_background")
        await agent.send("tasks/cancel", taskId=made["taskId"])
        task = await agent.get(made["taskId"])
        while task["status"] == "working":
            task = await agent.get(made["taskId"])
    assert task["status"] == "cancelled"


@pytest.mark.parametrize(("end", "code"), [("eof", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_p1_its_end_leaves_no_process(here: Path, end: Any, code: int) -> None:
    """An agent closes the pipe and goes; some send a signal, and are gone two seconds later."""
    pidfile = here / "pid"
    os.mkfifo(pidfile)
    with started(here) as running:
        made = call(running, "build_background", pidfile=str(pidfile))
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


def test_a_message_without_a_newline_at_the_end_is_none(here: Path) -> None:
    """Half a message is what is left when a client dies; it must not be carried out."""
    with started(here) as running:
        assert running.stdin and running.stdout
        running.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"')
        running.stdin.close()
        assert running.stdout.read() == b""
        assert running.wait(30) == 0


def test_what_is_no_message_is_passed_over(here: Path) -> None:
    """One broken line is no reason to lose the jobs that run."""
    with started(here) as running:
        assert running.stdin
        running.stdin.write(b"\xff\xfe{\n[1]\n" + b"x" * 5_000_000 + b"\n")
        assert call(running, "list_jobs")["isError"] is False


def test_a_client_that_reads_no_more_does_not_keep_it(here: Path) -> None:
    """Its pipe is full for ever; the server ends all the same."""
    with started(here) as running:
        assert running.stdin
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
        line = json.dumps(request).encode() + b"\n"
        assert ask(running, "tools/list")["result"]["tools"]
        wire = running.stdin.fileno()
        os.set_blocking(wire, False)
        with suppress(BlockingIOError):  # at last neither side takes any more
            while os.write(wire, line):
                pass
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 143


def test_a_tools_file_is_served_beside_a_runner(here: Path) -> None:
    """Whoever has a file, and no Python, gives an agent its tools with one command."""
    pytest.importorskip("yaml", reason="needs the extra yaml")
    (here / "gantz.yaml").write_text(TOOLS_FILE)
    with started(here, "--tools", "gantz.yaml") as running:
        names = [tool["name"] for tool in ask(running, "tools/list")["result"]["tools"]]
        begun = call(running, "greet_background", name="it's me; id")
        job_id = begun["taskId"]
        told = call(running, "wait_for_jobs", job_ids=[job_id])
    assert {"greet_background", "chat_background"} <= set(names)
    assert "hello it's me; id" in told["content"][0]["text"]


TOOLS_FILE = """
name: greetings
tools:
  - name: greet
    description: Greet somebody
    parameters: [{name: name, type: string, required: true}]
    script: {shell: "echo hello {{name}}"}
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope:runner"], "no module"),
        (["mcp_served_by_test:nope"], "has no 'nope'"),
        (["mcp_served_by_test:runner", "--workers", "0"], "workers"),
        ([], "nothing to serve"),
        (["--tools", "nope.yaml"], "nope.yaml: No such file"),
    ],
)
def test_what_cannot_be_served_is_refused(here: Path, arguments: list[str], says: str) -> None:
    """On stderr, where an agent's log is; stdout has nothing but messages."""
    command = [sys.executable, "-m", "jobrunner", "mcp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=60,
                          env=os.environ | {"COLUMNS": "200"})  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
