"""The commands in a real terminal: live bars, Ctrl-C, questions, and every kind of window."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ptys import PATIENCE, Pty, in_terminal
from tests.terminal import HARMLESS, HOSTILE, Terminal, terminal

pytestmark = pytest.mark.slow  # each command is a process with a terminal
SHOW_CURSOR = "\x1b[?25h"
ORDERS = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*A|2K|[0-9]*[GJ]|\?25[hl]|\?1049[hl]|H)|\x1b(?!\[)")
"""What rich says to a terminal to draw its bars and tables; anything after `|` is none of it."""


@pytest.fixture(scope="module")
def served() -> Iterator[Terminal]:
    """One server for the file: each test has jobs of its own."""
    with terminal() as served:
        yield served


def environment(served: Terminal) -> dict[str, str]:
    return {"JOBRUNNER_URL": served.bench.url, "JOBRUNNER_TOKEN": served.bench.token}


@contextmanager
def at(served: Terminal, *arguments: str, columns: int = 100, **more: str) -> Iterator[Pty]:
    """Run a command at a terminal."""
    with in_terminal(*arguments, columns=columns, env=environment(served) | more) as screen:
        yield screen


def test_ctrl_c_ends_the_watching_and_not_the_job(served: Terminal) -> None:
    """And says so: who isn't sure starts it a second time."""
    job_id = served.held("ctrl-c", ["partial line"])
    with at(served, "watch", job_id) as screen:
        screen.until("partial line")
        screen.type("\x03")
        assert screen.ended() == 130
        assert screen.plain.rstrip().endswith(f"{job_id} goes on; see `jobrunner watch` and "
                                              "`jobrunner cancel`")  # fmt: skip
        assert screen.said.rindex(SHOW_CURSOR) > screen.said.rindex("\x1b[?25l")
    served.open("ctrl-c")
    assert served.result(job_id) == "ctrl-c"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(served: Terminal, number: signal.Signals) -> None:
    """A cursor that stays hidden is a broken shell."""
    job_id = served.held(f"signal {number}", ["begun"])
    with at(served, "watch", job_id) as screen:
        screen.until("begun")
        screen.process.send_signal(number)
        assert screen.ended() == 128 + number
        assert screen.said.rindex(SHOW_CURSOR) > screen.said.rindex("\x1b[?25l")
    served.open(f"signal {number}")


def test_ctrl_c_while_waiting_says_that_the_job_goes_on(served: Terminal) -> None:
    """`submit --wait` is a watch without pictures."""
    with at(served, "submit", "hold", "key=waiting", "--wait") as screen:
        screen.until(r"job_\w+ is submitted")
        screen.type("\x03")
        assert screen.ended() == 130
        assert re.search(r"job_\w+ goes on", screen.plain)
    served.open("waiting")


def test_who_follows_a_job_knows_its_id(served: Terminal) -> None:
    """Its bar has a short name; whatever happens, the id finds it again."""
    with at(served, "submit", "echo", "value=1", "--follow") as screen:
        screen.until(r"job_\w{32} is submitted")
        screen.until("completed: 1")
        assert screen.ended() == 0


def test_several_jobs_are_watched_at_once(served: Terminal) -> None:
    """A bar for each, whole lines with their names, the open line below them."""
    one, two = served.held("one", ["first\nsec"]), served.held("two", ["third"])
    with at(served, "watch", one, two) as screen:
        screen.until(f"hold {one[4:10]}.*first")
        screen.until(f"hold {one[4:10]}.*sec")
        screen.until(f"hold {two[4:10]}.*third")
        served.open("two")
        screen.until('completed: "two"')
        served.open("one")
        screen.until('completed: "one"')
        assert screen.ended() == 0


@pytest.mark.parametrize("command", ["watch", "show", "logs"])
def test_a_hostile_job_drives_no_terminal(served: Terminal, command: str) -> None:
    """What is left of its bytes are colours; what draws the bars is ours."""
    with at(served, command, served.finished("hostile", fail=True)) as screen:
        screen.ended()
        assert "[bold]x" in screen.said
        assert not re.search(r"[\x00-\x06\x07\x0e-\x1a\x7f-\x9f\u202e]", screen.said)
        rest = ORDERS.sub(lambda found: "" if found[0].startswith("\x1b[") else "!", screen.said)
        assert "\x1b" not in rest and "!" not in rest
        assert "\x1b[2J" not in screen.said


def test_colours_of_a_job_are_shown_and_put_out(served: Terminal) -> None:
    """What follows is in no job's colour."""
    job_id = served.finished("say", texts=["\x1b[31mred"])
    with at(served, "logs", job_id) as screen:
        screen.ended()
    assert screen.said == "\x1b[31mred\x1b[0m\r\n"


@pytest.mark.parametrize("command", [["watch"], ["show"], ["logs"], ["list"]])
def test_no_colour_is_obeyed(served: Terminal, command: list[str]) -> None:
    """NO_COLOR (no-color.org); bold is none."""
    job_id = served.finished("say", texts=["\x1b[31mred\x1b[0m\n"])
    arguments = [*command, job_id] if command[0] in ("watch", "show", "logs") else command
    with at(served, *arguments, NO_COLOR="1") as screen:
        assert screen.ended() == 0
    found = re.findall(r"\x1b\[([0-9;]*)m", screen.said)
    codes = {code for each in found for code in each.split(";")}
    colours = codes & {str(code) for code in (*range(30, 48), *range(90, 108))}
    assert colours == set()


def test_a_dumb_terminal_gets_lines(served: Terminal) -> None:
    """An editor's shell, a serial line: no cursor, no colour."""
    job_id = served.finished("say", texts=["\x1b[31mred\x1b[0m\n"])
    with at(served, "watch", job_id, TERM="dumb") as screen:
        assert screen.ended() == 0
    assert "\x1b" not in screen.said
    assert f"red\r\n{job_id} completed: 1" in screen.said


@pytest.mark.parametrize("command", ["watch", "show", "logs", "--help"])
def test_a_terminal_without_utf_8_gets_ascii(served: Terminal, command: str) -> None:
    """Old machines, `LANG=C`, and consoles of CI: question marks, and no traceback."""
    job_id = served.finished("say", texts=["größer ☃\n"])
    arguments = [command, job_id] if command in ("watch", "show", "logs") else [command]
    with at(served, *arguments, PYTHONIOENCODING="ascii", LANG="C", LC_ALL="C") as screen:
        assert screen.ended() == 0
    assert screen.said.isascii() and "Traceback" not in screen.said
    assert command not in ("watch", "logs") or "gr??er ?" in screen.said


@pytest.mark.parametrize("columns", [20, 60, 250])
def test_bars_and_tables_fit_the_window(served: Terminal, columns: int) -> None:
    """A line that is too long by one breaks the picture at each update."""
    job_id = served.submit("steps", key=f"narrow {columns}")
    with at(served, "watch", job_id, columns=columns) as screen:
        screen.until("1/4")
        screen.type("\x03")
        screen.ended()
    drawn = [line for line in re.split(r"[\r\n]+", screen.plain) if "1/4" in line]
    assert drawn and max(len(line) for line in drawn) <= columns
    with at(served, "list", "-n", "3", columns=columns) as screen:
        assert screen.ended() == 0
    assert max(len(line) for line in screen.plain.splitlines()) <= columns
    served.open(f"narrow {columns}")


def test_a_long_list_has_one_heading(served: Terminal) -> None:
    """It is printed page by page, and begins at once; its columns stay where they are."""
    params = [{"key": f"{n}"} for n in range(405)]
    runner = served.bench.runner
    served.portal.call(lambda: runner.submit_batch("steps", params, delay=3_600.0))
    with at(served, "list", "--all", "--type", "steps", columns=120) as screen:
        assert screen.ended() == 0
    heading, *rows = screen.plain.splitlines()
    assert heading.split() == ["ID", "TYPE", "STATUS", "AT", "AGE"]
    assert len(rows) >= 405 and all(row.startswith("job_") for row in rows)
    assert {row.index("steps") for row in rows} == {heading.index("TYPE")}


def test_a_window_may_be_resized(served: Terminal) -> None:
    """Smaller and larger, while bars move."""
    job_id = served.held("resize", ["begun"])
    with at(served, "watch", job_id) as screen:
        screen.until("begun")
        for columns in (30, 10, 1, 200):
            screen.resize(columns, 5)
            screen.until("hold|h|━|-")
        served.open("resize")
        assert screen.ended() == 0
    assert "Traceback" not in screen.said


def test_a_list_is_watched_as_it_changes(served: Terminal) -> None:
    """A screen of its own, given back at the end."""
    job_id = served.held("list")
    with at(served, "list", "--watch", "--type", "hold") as screen:
        screen.until(f"{job_id}.*running")
        served.open("list")
        screen.until(f"{job_id}.*completed")
        screen.type("\x03")
        assert screen.ended() == 130
    assert screen.said.endswith("\x1b[?1049l\x1b[?25h") or "\x1b[?1049l" in screen.said
    assert "Traceback" not in screen.said


@contextmanager
def piped(served: Terminal, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Run a command whose output is a pipe."""
    buffered = {"PYTHONUNBUFFERED": ""}  # as it is unless somebody has said otherwise
    with subprocess.Popen(
        [sys.executable, "-m", "jobrunner", *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | environment(served) | buffered,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def test_a_watched_list_in_a_pipe_has_a_line_for_each_change(served: Terminal) -> None:
    """For a script that acts on it."""
    job_id = served.held("piped")
    with piped(served, "list", "--watch", "--type", "hold", "-n", "1") as running:
        assert running.stdout is not None
        first = running.stdout.readline().split("\t")
        served.open("piped")
        second = running.stdout.readline().split("\t")
    assert [row[:3] for row in (first, second)] == [
        [job_id, "hold", "running"],
        [job_id, "hold", "completed"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [["list", "--all"], ["list", "--all", "--json"], ["show"], ["logs"], ["watch"], ["stats"]],
)
def test_a_reader_that_leaves_is_no_error(served: Terminal, arguments: list[str]) -> None:
    """`| head -1`: 141 as shells have it, and no traceback."""
    job_id = served.finished("say", texts=["x" * 10_000 + "\n"] * 20)
    for _ in range(3):
        served.finished("echo", value="y" * 100_000)
    given = arguments if arguments[0] in ("list", "stats") else [*arguments, job_id]
    with piped(served, *given) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        code, said = running.wait(PATIENCE), running.stderr.read()
    assert (code, said) == (141, "")


def test_a_question_is_answered_in_a_conversation(served: Terminal) -> None:
    """By its schema: choices by number or text, yes or no, field by field; wrong ones again."""
    job_id = served.asking("choice")
    with at(served, "answer", job_id) as screen:
        screen.until(r"Well\?.*\n.*1\) eu\r\n  2\) us\r\n  3\) 3\r\nanswer: ")
        screen.type("mars\r")
        screen.until("'mars' is none of them")
        screen.type("us\r")
        assert screen.ended() == 0
    assert served.result(job_id) == ["us"]


def test_an_object_is_asked_for_field_by_field(served: Terminal) -> None:
    """Defaults are Enter, secrets aren't echoed, and what doesn't fit is asked for again."""
    job_id = served.asking("approval")
    with at(served, "answer", job_id) as screen:
        for expected, typed in [
            (r"approved \(y/n\): ", "perhaps"),
            (r"answer y or n.*\n.*approved \(y/n\): ", "y"),
            (r"2\) production\r\nwhere \[staging\]: ", "2"),
            (r"tags: one a line.*\n  1: ", "a"),
            (r"  2: ", ""),
            (r"How often\r\ntimes \(integer\) \[Enter for none\]: ", "often"),
            (r"'often' is no integer\r\ntimes .*: ", "3"),
            (r"secret \[Enter for none\]: ", "hunter2"),
        ]:
            screen.until(expected)
            screen.type(f"{typed}\r")
        assert screen.ended() == 0
    assert "hunter2" not in screen.said
    assert served.result(job_id) == [
        {"approved": True, "where": "production", "tags": ["a"], "times": 3,
         "secret": "**********"}
    ]  # fmt: skip


def test_a_hostile_question_drives_no_terminal(served: Terminal) -> None:
    """Its prompt and its choices are the job's words, too."""
    job_id = served.asking("hostile", prompt=HOSTILE)
    with at(served, "answer", job_id) as screen:
        screen.until("answer: ")
        screen.type("1\r")
        assert screen.ended() == 0
    assert not re.search(r"\x1b|\x07|[\x7f-\x9f\u202e]", screen.said)
    assert HARMLESS in screen.said and "2) no" in screen.said


def test_what_the_server_refuses_is_asked_for_again(served: Terminal) -> None:
    """Only it knows all that an answer has to be."""
    job_id = served.asking("list")
    with at(served, "answer", job_id) as screen:
        screen.until("1: ")
        screen.type("many\r")
        screen.until("2: ")
        screen.type("\r")
        screen.until("valid integer")
        screen.until("1: ")
        screen.type("5\r\r")
        assert screen.ended() == 0
    assert served.result(job_id) == [[5]]


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_who_gives_no_answer_leaves_the_question_open(served: Terminal, key: str) -> None:
    """Ctrl-C and Ctrl-D: somebody else may know."""
    job_id = served.asking("bool")
    with at(served, "answer", job_id) as screen:
        screen.until("answer .*: ")
        screen.type("\x04" if key == "\x04" else "")
        assert (screen.ended() if key == "\x04" else screen.interrupt()) == 130
    assert f"{job_id} still asks" in screen.plain
    assert served("answer", job_id, "yes").code == 0


def test_tools_are_told_in_full_at_a_terminal(served: Terminal, tmp_path: Path) -> None:
    """Whoever reads them there wants to know what a model is told; a pipe has a line for each."""
    (tmp_path / "of_tools.py").write_text("from jobrunner import JobRunner\nrunner = JobRunner()\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with at(served, "tools", "of_tools:runner", columns=60, PYTHONPATH=path) as screen:
        assert screen.ended() == 0
    lines = screen.plain.split("\r\n")
    assert lines[0] == "check_job_status"
    assert lines[1].startswith("    Look at a job once, without waiting: how it stands")
    assert all(len(line) <= 60 for line in lines)
