"""The command line, as a shell sees it: output, exit codes, signals."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from jobrunner import __version__
from tests.processes import ends
from tests.terminal import run

COMMAND = [sys.executable, "-m", "jobrunner"]
SERVED = "from jobrunner import JobRunner\nrunner = JobRunner()\nother = 1\n"


def cli(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )  # fmt: skip


@contextmanager
def started(*arguments: str, cwd: Path | None = None) -> "Iterator[subprocess.Popen[str]]":
    """Start the command, and leave nothing of it."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    ) as running:
        try:
            yield running
        finally:
            running.terminate()  # a kill would leave the command's own children behind
            running.wait(30)


def inside(*arguments: str) -> tuple[int, str]:
    """Run the command in this process, for what starts nothing."""
    ended = run(*arguments, COLUMNS="200")
    return ended.code, ended.out + ended.err


def line(running: "subprocess.Popen[str]") -> str:
    assert running.stdout is not None
    return running.stdout.readline()


# Run


@pytest.fixture
def nohup() -> Iterator[None]:
    """What is started ignores SIGHUP, as by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def loud() -> Iterator[None]:
    """The command silences the log; what runs after it in this process gets its log back."""
    logger = logging.getLogger("jobrunner")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)],
)
def test_run_ends_with_the_exit_code_of_its_command(loud: None, script: str, code: int) -> None:
    """A script that wraps a command in it has to see no difference; signals are as in shells."""
    assert inside("run", "--", "sh", "-c", script) == (code, "")


def test_run_takes_what_follows_for_the_command(loud: None) -> None:
    """Its options are its own, with and without `--`."""
    assert inside("run", "echo", "--timeout", "1", "--help") == (0, "--timeout 1 --help\n")


@pytest.mark.slow
def test_run_keeps_the_two_outputs_apart() -> None:
    """What is piped on is the command's stdout, and nothing of ours."""
    done = cli("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)


@pytest.mark.slow
def test_run_loses_no_output() -> None:
    """More than any log of events keeps: the terminal gets all of it."""
    done = cli("run", "--", "seq", "200000")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200_001))


@pytest.mark.slow
def test_run_shows_output_while_the_command_runs() -> None:
    """Whoever watches a test suite wants to see the first failure now."""
    with started("run", "--", "sh", "-c", "echo first; sleep 600") as p:
        assert line(p) == "first\n"
        assert p.poll() is None


@pytest.mark.slow
def test_run_shows_what_its_terminal_can_show() -> None:
    """A character that an old terminal doesn't know isn't the end of the job."""
    done = cli("run", "--", "printf", "\u00e4", PYTHONIOENCODING="ascii")
    assert (done.stdout, done.returncode) == ("?", 0)


@pytest.mark.slow
def test_run_gives_the_command_its_whole_environment() -> None:
    """The command is the user's own, started by hand; nothing has to be kept from it."""
    assert cli("run", "--", "sh", "-c", "echo $MINE", MINE="yes").stdout == "yes\n"


def test_run_ends_a_command_that_takes_too_long(loud: None) -> None:
    """124, as timeout(1) has it, and the time in words."""
    ended = inside("run", "--timeout", "0.05", "--", "sleep", "600")
    assert ended == (124, "jobrunner: timed out after 0.05 s\n")


@pytest.mark.parametrize("program", ["no-such-program-here", "/etc/passwd"])
def test_run_says_when_there_is_no_such_program(loud: None, program: str) -> None:
    """127, as shells have it, and its name."""
    code, output = inside("run", "--", program)
    assert code == 127
    assert output.startswith(f"jobrunner: can't run {program!r}: ")
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_run_ends_its_whole_process_tree_on_a_signal(number: signal.Signals, code: int) -> None:
    """Ctrl-C, a supervisor's TERM, a closed terminal: no child may be left behind."""
    with started("run", "--", "sh", "-c", "sleep 600 & echo $! $$; wait") as p:
        pids = [int(pid) for pid in line(p).split()]
        p.send_signal(number)
        assert p.wait(30) == code
    assert (len(pids), [pid for pid in pids if not ends(pid)]) == (2, [])


@pytest.mark.slow
def test_run_outlives_its_terminal_if_it_is_to(tmp_path: Path, nohup: None) -> None:
    """`nohup jobrunner run -- ... &`, and the night's work is there in the morning."""
    os.mkfifo(gate := tmp_path / "gate")
    with started("run", "--", "sh", "-c", f"echo begun; head -n 1 '{gate}'") as p:
        assert line(p) == "begun\n"
        p.send_signal(signal.SIGHUP)
        with gate.open("r+b", buffering=0) as opened:  # waits for no reader
            opened.write(b"ended\n")
            assert (line(p), p.wait(30)) == ("ended\n", 0)


@pytest.mark.slow
def test_run_survives_a_reader_that_leaves() -> None:
    """`jobrunner run -- yes | head -1`: no traceback, and no `yes` that goes on for ever."""
    with started("run", "--", "sh", "-c", "echo $$; exec yes") as p:
        pid = int(line(p))
        assert p.stdout is not None and p.stderr is not None
        p.stdout.close()
        assert (p.wait(30), "Traceback" in p.stderr.read()) == (141, False)
    assert ends(pid)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "Missing argument"),
        (["run", "--timeout", "-1", "--", "true"], "timeout is -1.0"),
        (["run", "--timeout", "soon", "--", "true"], "--timeout"),
        (["run", "--timeout", "nan", "--", "true"], "timeout is nan"),
    ],
)
def test_run_refuses_what_makes_no_sense(loud: None, arguments: list[str], says: str) -> None:
    """2 and a sentence, as for every usage error."""
    code, output = inside(*arguments)
    assert (code, says in output) == (2, True)


# Serve


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules to serve, and nothing of them in this process afterwards."""
    (tmp_path / "served_by_test.py").write_text(SERVED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "served_by_test", raising=False)
    return tmp_path


BAD_TARGETS = {
    "no colon": (["served_by_test"], "doesn't name a runner"),
    "no name": (["served_by_test:"], "doesn't name a runner"),
    "no module": ([":runner"], "doesn't name a runner"),
    "a path": (["./served_by_test.py:runner"], "doesn't name a runner"),
    "dots": (["..:runner"], "doesn't name a runner"),
    "another module": (["no_such_module_here:runner"], "there is no module 'no_such_module_here'"),
    "a module that isn't a package": (["os.nothing:runner"], "there is no module 'os.nothing'"),
    "another name": (["served_by_test:nothing"], "has no 'nothing'"),
    "something else": (["served_by_test:other"], "is int, not a JobRunner"),
    "a port too high": (["served_by_test:runner", "--port", "65536"], "--port"),
    "no worker": (["served_by_test:runner", "--workers", "0"], "workers is 0"),
    "no token": (
        ["served_by_test:runner", "--host", "0.0.0.0", "--token", ""],
        "can be reached from other machines",
    ),
    "a token no header can carry": (["served_by_test:runner", "--token", "a b"], "visible ASCII"),
    "a host nobody knows": (["served_by_test:runner", "--host", "no.invalid"], "can't bind"),
}


@pytest.mark.parametrize(("arguments", "says"), BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_serve_refuses_what_it_cannot_serve(here: Path, arguments: list[str], says: str) -> None:
    """A sentence that names what is wrong, and no traceback: it is the first thing one tries."""
    code, output = inside("serve", *arguments)
    assert (code, says in output) == (2, True), output


@pytest.mark.parametrize("missing", ["no_such_module_here", "broken_by"])
def test_serve_shows_an_error_of_the_module_itself(here: Path, missing: str) -> None:
    """A missing import inside it isn't "no such module": its author needs the traceback."""
    (here / "broken_by_test.py").write_text(f"import {missing}\n")
    with pytest.raises(ModuleNotFoundError) as shown:
        run("serve", "broken_by_test:runner")
    assert shown.value.name == missing


def test_serve_says_when_the_port_is_taken(here: Path) -> None:
    """The commonest error of all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = inside("serve", "served_by_test:runner", "--port", str(port))
    assert (code, f"can't bind 127.0.0.1 port {port}" in output) == (2, True)


TYPED = """
from jobrunner import JobRunner
runner = JobRunner()


@runner.job
async def add(a: int, b: int) -> int:
    \"\"\"Add two numbers.\"\"\"
    return a + b
"""


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["--json"], {"type": "function"}),
        (["--format", "openai-responses"], {"type": "function", "name": "add_background"}),
        (["--format", "anthropic"], {"name": "add_background"}),
        (["--format", "mcp"], {"name": "add_background"}),
    ],
)
def test_tools_are_printed_for_an_api(
    here: Path, options: list[str], first: dict[str, str]
) -> None:
    """What goes into the request to a model, without a program around it."""
    (here / "served_by_test.py").write_text(TYPED)
    code, output = inside("tools", "served_by_test:runner", *options)
    assert code == 0
    assert json.loads(output)[0].items() >= first.items()


def test_tools_are_listed_for_people(here: Path) -> None:
    """A line each; a format that there isn't is named with those that there are."""
    (here / "served_by_test.py").write_text(TYPED)
    code, output = inside("tools", "served_by_test:runner")
    assert (code, output.splitlines()[0].split("\t")[0]) == (0, "add_background")
    code, output = inside("tools", "served_by_test:runner", "--format", "yaml")
    assert (code, "'anthropic'" in output or "anthropic" in output) == (2, True)


@pytest.mark.slow  # a server in a process of its own
def test_serve_says_where_it_is_as_json(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that starts one on a free port needs its URL and its token."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(here))
    monkeypatch.delenv("JOBRUNNER_URL", raising=False)
    with started("serve", "served_by_test:runner", "--port", "0", "--json", cwd=here) as p:
        said = json.loads(line(p))
        stats = cli("stats", "--json")
        p.terminate()
        p.wait(30)
    assert said["login_url"] == f"{said['url']}/?token={said['token']}"
    assert (said["pid"], said["mcp_url"]) == (p.pid, None)
    assert (stats.returncode, json.loads(stats.stdout)["state"]) == (0, "running")
    assert list((here / "jobrunner").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_prints_one_url_and_serves_until_a_signal(here: Path, number: signal.Signals) -> None:
    """Ctrl-C is no error; TERM is passed on after a clean end, and a closed terminal is as TERM."""
    arguments = ("served_by_test:runner", "--port", "0", "--workers", "2", "--token", "secret")
    with started("serve", *arguments, cwd=here) as p:
        said = line(p)
        p.send_signal(number)
        code = p.wait(30)
        assert p.stderr is not None
        assert "Traceback" not in p.stderr.read()
    assert said.startswith("serving served_by_test:runner: http://127.0.0.1:")
    assert said.endswith("/?token=secret\n")
    assert code == (0 if number == signal.SIGINT else -signal.SIGTERM)


@pytest.mark.slow  # a server in a process of its own
def test_serve_outlives_its_terminal_if_it_is_to(here: Path, nohup: None) -> None:
    """`nohup jobrunner serve ... &` is how somebody leaves it running."""
    with started("serve", "served_by_test:runner", "--port", "0", "--json", cwd=here) as p:
        url = json.loads(line(p))["url"]
        p.send_signal(signal.SIGHUP)
        answer = httpx2.get(f"{url}/healthz", trust_env=False)
    assert answer.status_code == 200


@pytest.mark.slow  # a server in a process of its own
def test_serve_takes_as_many_streams_as_it_is_told(here: Path) -> None:
    """A small machine is protected where the server is started."""
    arguments = ("served_by_test:runner", "--port", "0", "--token", "secret", "--max-streams", "0")
    with started("serve", *arguments, cwd=here) as p:
        url = line(p).split()[-1].partition("/?")[0]
        answer = httpx2.get(
            f"{url}/events", headers={"authorization": "Bearer secret"}, trust_env=False
        )
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-many-streams")


@pytest.mark.slow  # a server in a process of its own
def test_serve_says_where_agents_find_its_tools(here: Path) -> None:
    """The page's URL is of no use to an agent, which sends the token in a header."""
    pytest.importorskip("mcp", reason="needs the extra mcp")
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}
    with started("serve", "served_by_test:runner", "--port", "0", "--token", "s", "--mcp",
                 cwd=here) as p:  # fmt: skip
        line(p)
        said, _, url = line(p).strip().rpartition(" ")
        answers = [
            httpx2.post(url, json=ping, headers={"authorization": sent}, trust_env=False)
            for sent in ("Bearer s", "Bearer wrong")
        ]
    assert said == "its tools over MCP, by `Authorization: Bearer <token>`:"
    assert [answer.status_code == 401 for answer in answers] == [False, True]


# The rest


@pytest.mark.slow
def test_demo_may_go_on_serving() -> None:
    """Whoever wants to look around keeps the page; Ctrl-C ends it, and is no error."""
    with started("demo", "--keep") as p:
        said = iter(lambda: line(p), "")
        assert any(text.startswith("still serving: http://127.0.0.1:") for text in said)
        assert line(p) == "Ctrl-C ends it.\n"
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 0


@pytest.mark.slow
def test_demo_that_is_interrupted_says_so() -> None:
    """130, and no traceback of twenty tasks."""
    with started("demo") as p:
        line(p)
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 130
        assert p.stderr is not None
        assert "Traceback" not in p.stderr.read()


@pytest.mark.slow
def test_demo_survives_a_reader_that_leaves() -> None:
    """`jobrunner demo | head -5`, in the middle of the conversation: no traceback."""
    with started("demo") as p:
        assert any("are the tests done?" in text for text in iter(lambda: line(p), ""))
        assert p.stdout is not None and p.stderr is not None
        p.stdout.close()
        assert (p.wait(30), "Traceback" in p.stderr.read()) == (141, False)


def test_demo_says_when_its_port_is_taken() -> None:
    """Before anything has been started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = inside("demo", "--port", str(port))
    assert (code, f"can't bind 127.0.0.1 port {port}" in output) == (2, True)


NOWHERE = {
    "stdout closed": ("run -- sh -c 'exit 7' >&-", 7, ""),
    "stdout full": ("version >/dev/full", 1, "jobrunner: can't write: No space left on device\n"),
    "stdout full meanwhile": (
        "run -- echo hello >/dev/full", 1, "jobrunner: can't write: No space left on device\n",
    ),
    "stdin closed": (
        "submit any --params-file - --url http://127.0.0.1:1 <&-",
        2,
        "jobrunner: - has no JSON: Expecting value: line 1 column 1 (char 0)\n",
    ),
    "stderr closed": ("types --url nowhere 2>&-", 2, ""),
    "stderr full": ("types --url nowhere 2>/dev/full", 2, ""),
}  # fmt: skip


def redirected(command: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a shell to its end."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m jobrunner {command}', sys.executable],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code", "says"), NOWHERE.values(), ids=NOWHERE)
def test_a_stream_that_is_closed_or_full_is_no_traceback(
    command: str, code: int, says: str
) -> None:
    """A service manager may start it so, and a disk is full one day; the exit code still counts."""
    ended = redirected(command)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", says)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_an_agent_s_server_needs_both_its_streams(closed: str) -> None:
    """Without one of them it would wait for ever for what can't come."""
    pytest.importorskip("mcp", reason="needs the extra mcp")
    ended = redirected(f"mcp tests.mcp_served:runner {closed}")
    assert (ended.returncode, "stdin or stdout is closed" in ended.stderr) == (2, True)


def test_the_version_is_the_package_s() -> None:
    """What somebody puts into a bug report."""
    assert inside("version") == (0, f"{__version__}\n")


@pytest.mark.slow
def test_python_m_jobrunner_is_the_same_command() -> None:
    """Where no script directory is on the path."""
    assert cli("version").stdout == f"{__version__}\n"
