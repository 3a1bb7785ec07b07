"""A tools file: its grammar, what is wrong with it, and its tools as job types."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobrunner import DuplicateJobType, InvalidParams, JobRunner
from tests.processes import ends
from tests.tools_files import load, result_of, serving, shell, tool, view_of, yaml

from jobrunner.tools.gantz import load_tools  # isort: skip  # it needs what the line above skips for

ORDINARY = """\
# Tools for my notes
name: notes
description: Notes of mine
version: "1.2.0"
server:
  port: 3000
tools:
  - name: hello
    description: Say hello to someone
    parameters:
      - name: name
        type: string
        description: The name to greet
        required: true
    script:
      shell: echo "Hello, {{name}}!"

  - name: list_files
    description: List files
    parameters:
      - name: path
        type: string
        required: true
        default: "."
    script:
      shell: ls -a {{path}}
      timeout: 5s

  - name: head
    parameters: [{name: file, required: true}, {name: limit, type: number, default: "2"}]
    script:
      command: head
      args: ["-n", "{{limit}}", "{{file}}"]
      working_dir: "${NOTES}"
      timeout: 1m30s

  - name: count
    description: Count words
    parameters: [{name: text, type: string}]
    script: {command: wc, args: [-w], stdin: "{{text}}"}

  - name: secret
    description: |
      Show what it has been given.

      And more of it.
    parameters: []
    environment:
      API_KEY: ${NOTES_KEY}
      DEBUG: "true"
      REGION: ${NOTES_REGION:-north}
    script:
      shell: echo "$API_KEY $DEBUG $REGION $NOTES_KEY"

  - name: show
    description: Show what a program finds in its environment
    parameters: [{name: from, type: string}, {name: dry-run, type: boolean, default: false}]
    script:
      command: sh
      args: ["-c", 'echo "$GANTZ_ARG_FROM $GANTZ_ARG_DRY_RUN"']
"""


@pytest.fixture
def ordinary(tmp_path: Path) -> Any:
    path = tmp_path / "gantz.yaml"
    path.write_text(ORDINARY, "utf-8")
    (tmp_path / "todo").write_text("one\ntwo\nthree\n")
    return load_tools(path, environ={"NOTES": str(tmp_path), "NOTES_KEY": "k1"})


def test_an_ordinary_file_says_what_it_is(ordinary: Any) -> None:
    """Name, version and port are whose server asks for them."""
    assert (ordinary.name, ordinary.description) == ("notes", "Notes of mine")
    assert (ordinary.version, ordinary.port) == ("1.2.0", 3000)
    assert [tool.name for tool in ordinary.tools] == [
        "hello", "list_files", "head", "count", "secret", "show"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("hello", {"name": '"; id; "'}, 'Hello, "; id; "!'),
        ("head", {"file": "todo"}, "one\ntwo"),
        ("head", {"file": "todo", "limit": 1}, "one"),
        ("count", {"text": "a b c"}, "3"),
        ("count", {}, "0"),
        ("secret", {}, "k1 true north k1"),
        ("show", {"from": "a b", "dry-run": True}, "a b true"),
        ("show", {}, "false"),
    ],
)
async def test_an_ordinary_file_works_unchanged(
    ordinary: Any, name: str, params: dict[str, Any], said: str
) -> None:
    """Each of its tools is a job type, and the result is what the tool has said."""
    assert await result_of(ordinary, params, name) == said


def test_the_schemas_are_those_of_the_file(ordinary: Any) -> None:
    """A model reads them; a type it didn't expect would only confuse it."""
    runner = JobRunner()
    ordinary.register(runner)
    types = {each.name: each for each in runner.job_types}
    assert types["hello"].params_schema() == {
        "type": "object", "title": "hello", "additionalProperties": False, "required": ["name"],
        "properties": {"name": {
            "type": "string", "title": "Name", "description": "The name to greet"}},
    }  # fmt: skip
    assert types["head"].params_schema()["properties"]["limit"] == {
        "type": "number", "title": "Limit", "default": 2}  # fmt: skip
    assert types["show"].params_schema()["properties"]["from"] == {
        "type": "string", "title": "From", "default": None}  # fmt: skip
    assert types["secret"].description == "Show what it has been given.\n\nAnd more of it."
    assert types["count"].description == "Count words"
    assert (types["head"].options.timeout, types["hello"].options.timeout) == (90.0, ...)


@pytest.mark.parametrize(
    ("type_name", "value", "what"),
    [
        ("integer", "many", "integer"), ("integer", 1.5, "integer"), ("boolean", "maybe", "bool"),
        ("number", "NaN", "finite"), ("array", {}, "list"), ("object", [], "dictionary"),
        ("string", 3, "string"),
    ],
)  # fmt: skip
async def test_params_are_validated_before_anything_runs(
    type_name: str, value: object, what: str, tmp_path: Path
) -> None:
    """A model gets told at once, and can mend its call."""
    file = load(tmp_path, shell("echo {{x}}", parameters=[{"name": "x", "type": type_name}]))
    async with serving(file) as runner:
        with pytest.raises(InvalidParams, match=what):
            await runner.submit("t", {"x": value})
        with pytest.raises(InvalidParams, match="unknown"):
            await runner.submit("t", {"y": 1})


async def test_the_file_s_own_default_may_be_an_option(tmp_path: Path) -> None:
    """Its author may write what no caller may."""
    params = [{"name": "x", "default": "-n"}]
    file = load(tmp_path, shell("printf '<%s>' {{x}}", parameters=params))
    assert await result_of(file, {}) == "<-n>"
    assert await result_of(file, {"x": "-n"}) == "<-n>"


async def test_an_exit_code_fails_the_job_with_what_was_said(tmp_path: Path) -> None:
    """The last lines of both outputs are what a model can act on."""
    file = load(tmp_path, shell("echo out; echo {{x}} >&2; exit 3"))
    ended = await view_of(file, {"x": "why"})
    assert (ended.status, ended.result) == ("failed", None)
    assert ended.error is not None
    assert ended.error.type == "CommandFailed"
    assert ended.error.detail == "t ended with exit code 3\nout\nwhy"


async def test_the_output_is_live_and_both_are_in_the_result(tmp_path: Path) -> None:
    """A watcher sees it while it runs, and `git push` says everything on its error output."""
    file = load(tmp_path, shell("echo {{x}}; echo done >&2"))
    async with serving(file) as runner:
        job = await runner.submit("t", {"x": "a"})
        assert await job.result() == "a\ndone"
        said = [event.data["text"] async for event in job.events() if event.type == "output"]
    assert sorted(said) == ["a\n", "done\n"]


async def test_a_flood_of_output_is_cut_in_the_middle(tmp_path: Path) -> None:
    """A result is bounded, whatever characters it has."""
    file = load(tmp_path, shell("head -c 400000 /dev/zero; echo end"))
    result = await result_of(file, {"x": ""})
    assert (len(result) < 101_000, result[-3:]) == (True, "end")


async def test_time_is_limited_and_nothing_is_left(tmp_path: Path) -> None:
    """The whole tree of processes goes, as with every command."""
    file = load(tmp_path, shell("sleep 60 & echo $!; wait", script={"timeout": "300ms"}))
    async with serving(file) as runner:
        job = await runner.submit("t", {"x": ""})
        ended = await job.wait()
        said = [event.data["text"] async for event in job.events() if event.type == "output"]
    assert ended.error is not None
    assert (ended.error.reason, ended.error.detail) == ("timeout", "timed out after 0.3 s")
    assert ends(int(said[0]))


async def test_p8_a_script_sees_of_the_server_only_what_it_names(tmp_path: Path) -> None:
    """P8: naming a variable is asking for it; the runner's own are never given away."""
    text = 'echo "${MINE} $JOBRUNNER_TOKEN"; env'
    environ = {"MINE": "m1", "OTHER": "o1", "JOBRUNNER_TOKEN": "t1"}
    said = await result_of(load(tmp_path, shell(text), environ=environ), {"x": "x1"})
    assert said.startswith("m1 \n")
    assert "MINE=m1" in said
    assert "GANTZ_ARG_X=x1" in said
    assert "o1" not in said
    assert "t1" not in said


async def test_p7_a_value_in_the_environment_is_a_value(tmp_path: Path) -> None:
    """P7: also where the file gives it a name of its own."""
    given = tool(environment={"SUBJECT": "Re: {{x}}", "BODY": '{"text": "{{x}}"}'},
                 script={"shell": 'printf "%s\\n%s" "$SUBJECT" "$BODY"'})  # fmt: skip
    said = await result_of(load(tmp_path, given), {"x": '$(id) "q"'})
    assert said == 'Re: $(id) "q"\n{"text": "$(id) \\"q\\""}'


async def test_a_program_that_is_not_there_fails_the_job(tmp_path: Path) -> None:
    """Also a directory that isn't."""
    for script in ({"command": "no-such-program"}, {"shell": "id", "working_dir": "/no/where"}):
        ended = await view_of(load(tmp_path, tool(parameters=[], script=script)), {})
        assert ended.error is not None
        assert ended.error.type == "CommandNotFound"


def test_a_name_that_is_taken_is_no_tool_s(tmp_path: Path) -> None:
    """A file is registered beside job types of Python."""
    runner = JobRunner()
    file = load(tmp_path, shell("ls"))
    file.register(runner)
    with pytest.raises(DuplicateJobType):
        file.register(runner)


# Served


@pytest.mark.slow  # a server in a process of its own
def test_a_file_is_served_as_it_is(tmp_path: Path) -> None:
    """One command, and the tools of a file are an HTTP API."""
    path = tmp_path / "gantz.yaml"
    path.write_text(ORDINARY.replace("port: 3000", "port: 0"), "utf-8")
    command = [sys.executable, "-m", "jobrunner", "serve", "--tools", str(path), "--token", "t"]
    environ = os.environ | {"NOTES": str(tmp_path), "NOTES_KEY": "k1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as served:
        try:
            assert served.stdout is not None
            said = served.stdout.readline()
            url = said.split()[-1].partition("/?")[0]
            with httpx2.Client(base_url=url, headers={"authorization": "Bearer t"},
                               trust_env=False) as client:  # fmt: skip
                body = {"type": "hello", "params": {"name": "$(id)"}}
                job = client.post("/jobs", json=body, headers={"prefer": "wait=20"}).json()
                types = client.get("/types").json()
        finally:
            served.send_signal(signal.SIGTERM)
            served.wait(30)
    assert said.startswith(f"serving {path}: http://127.0.0.1:")
    assert (job["status"], job["result"]) == ("completed", "Hello, $(id)!")
    assert "hello" in str(types)


@pytest.mark.slow  # a process for each
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is nothing to serve"),
        (["--tools", "none.yaml"], "none.yaml: No such file or directory"),
        (["--tools", "bad.yaml"], "bad.yaml:1: the file has no 'tool'; did you mean 'tools'?"),
    ],
)
def test_serve_says_what_is_wrong_with_a_file(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    """As a shell sees it: exit code 2, no traceback."""
    (tmp_path / "bad.yaml").write_text("tool: []\n")
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "serve", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_yaml_is_the_extra_s(ordinary: Any) -> None:
    """These tests have skipped where it isn't installed."""
    assert yaml.__name__ == "yaml"
