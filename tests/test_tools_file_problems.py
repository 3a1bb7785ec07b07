"""What is wrong with a tools file: all of it at once, each with its line."""

import runpy
import sys
from pathlib import Path

import pytest

import jobrunner
from jobrunner import InvalidToolsFile
from tests.tools_files import refused

from jobrunner.tools.gantz import load_tools  # isort: skip  # it needs what the line above skips for


def test_all_that_is_wrong_is_in_one_error_with_the_lines(tmp_path: Path) -> None:
    """Nobody wants to mend a file one start of the server at a time."""
    said = refused(tmp_path, """\
nam: x
server: {prot: 1}
tools:
- name: a b
  parameters:
  - {name: x, type: strin, requird: true}
  script:
    shel: ls
    timeout: soon
- description: d
  http: {url: "https://{{x}}/", methd: GET, timeout: 5}
- name: two
  script: {shell: "ls {{pth}} ${NO}"}
  http: {url: "https://a.example/"}
- name: three
  parameters: [{name: a, type: integer, default: many}, {name: A}, {type: string}]
  environment: {KEY: "${NO}"}
  script: {shell: "ls {{aa}}", args: [a]}
- name: three
  script: {shell: ls}
""")  # fmt: skip
    assert said.splitlines() == [
        "1: the file has no 'nam'; did you mean 'name'?",
        "2: server has no 'prot'; did you mean 'port'?",
        "4: 'a b' can't name a tool; take up to 64 letters, digits, _ and -",
        "4: 'a b' needs one of script.shell and script.command",
        "6: a parameter has no 'requird'; did you mean 'required'?",
        "6: there is no type 'strin'; did you mean 'string'?",
        "8: script has no 'shel'; did you mean 'shell'?",
        "9: timeout is 'soon'; write it as 30s or 1m30s",
        "10: tool 2 has no name",
        "11: http has no 'methd'; did you mean 'method'?",
        "11: timeout is '5'; write it as 30s or 1m30s",
        "11: url is 'https://{{x}}/'; it must be http:// or https://, a host name in ASCII, and a "
        "path and a query without fragment",
        "11: {{x}} is no param of the tool; there are none",
        "12: 'two' needs one of script and http",
        "16: 'a' and 'A' would share one variable, GANTZ_ARG_A",
        "16: a parameter has no name",
        "16: the default 'many' is no integer",
        "17: ${NO} isn't in the server's environment; set NO, or write ${NO:-default}",
        "18: args belong to command, and not to shell",
        "18: {{aa}} is no param of the tool; did you mean 'a'?",
        "19: there are two tools 'three'",
    ]


BROKEN = {
    "": "1: there are no tools in it",
    "[]": "1: the file must be a mapping\n1: there are no tools in it",
    "tools: {}": "1: there are no tools in it\n1: tools must be a list",
    "tools: [": "1: it is no YAML: ",
    "a: 1\nb: [1": "2: it is no YAML: ",
    "\x00": "1: it is no YAML: ",
    "tools: !!python/object:os.system {}": "1: there are no tools in it\n1: tools must be a list",
    "tools: [{name: t, name: u, script: {shell: ls}}]": "1: 'name' stands in a tool twice",
    "tools: [{name: [t], script: {shell: ls}}]": "1: a tool's name must be a text",
    "server: {port: 99999}\ntools: [{name: t, script: {shell: ls}}]": "1: server.port is '99999'",
    "tools: [{name: t, confirm: often, script: {shell: ls}}]": "1: confirm must be true or false",
    "tools: [{name: t, script: {shell: ls}, parameters: [{name: 1x}]}]": "1: '1x' can't name a p",
    "tools: [{name: t, script: {shell: ls}, parameters: [{name: a}, {name: a}]}]":
        "1: there are two parameters 'a'",
    "tools: [{name: t, script: {command: '{{a}}'}, parameters: [{name: a}]}]":
        "1: {{a}} can't stand in command, which no caller may choose",
    "tools: [{name: t, script: {shell: ls, working_dir: '{{a}}'}, parameters: [{name: a}]}]":
        "1: {{a}} can't stand in working_dir",
    "tools: [{name: t, environment: {PATH: '{{a}}'}, script: {shell: l}, parameters: [{name: a}]}]":
        "1: {{a}} can't stand in the variable PATH",
    "tools: [{name: t, script: {shell: ls}, environment: {a b: c, GANTZ_X: d}}]":
        "1: 'GANTZ_X' can't name a variable\n1: 'a b' can't name a variable",
    "tools: [{name: t, script: {shell: ls, working_dir: '${a b}'}}]":
        "1: ${a b} names no environment variable",
    "tools: [{name: t, http: {url: 'http://a.b/'}, environment: {A: b}}]":
        "1: environment is for scripts",
    "tools: [{name: t, script: {shell: 'ls {{ if a }} {{a.b}}'}, parameters: [{name: a}]}]":
        "1: {{ if a }} is no placeholder; only {{param}} is\n1: {{a.b}} is no placeholder",
    "tools: [{name: t, script: {command: ls, args: [[a]]}}]": "1: an argument must be a text",
    "tools: [{name: t, script: {command: sh, args: [-c, 'ls {{a}}']}, parameters: [{name: a}]}]":
        "1: {{a}} stands in code for sh",
    "tools: [{name: t, script: {command: sudo, args: ['{{a}}']}, parameters: [{name: a}]}]":
        "1: {{a}} chooses the program that is run",
    "tools: [{name: t, script: {command: sh, stdin: '{{a}}'}, parameters: [{name: a}]}]":
        "1: {{a}} may get into the code that sh reads from its input",
    "tools: [{name: t, script: {shell: 'cat | sh', stdin: '{{a}}'}, parameters: [{name: a}]}]":
        "1: {{a}} may get into the code that sh reads from its input",
    "tools: [{name: t, parameters: [{name: a, type: integer, default: !!int b}]}]":
        "1: 't' needs one of script and http\n1: it can't be read",
    r'tools: [{name: t, script: {shell: ls}, parameters: [{name: a, default: "\ud800"}]}]':
        "1: default has half a character in it",
    "tools: [{name: t, script: {shell: ls}, "
    r'parameters: [{name: a, type: array, default: ["\ud800"]}]}]':
        r"1: the default ['\ud800'] is no array",
    "tools: [{name: t, script: {shell: ls}, "
    "parameters: [{name: a, type: array, default: &x [*x]}]}]":
        "1: the default [[...]] is no array",
    'name: a\ndescription: "\\U00110000"': "2: it is no YAML: there is no character of that number",
    'name: a\ndescription: "\\UFFFFFFFF"': "2: it is no YAML: there is no character of that number",
    'name: é\n\ndescription: "\x07"': "3: it is no YAML: special characters are not allowed",
    "tools:\n- {name: t, http: {url: 'http://a.b', extract_json: 'a[" + "9" * 5_000 + "]'}}":
        "2: extract_json is",
    'tools:\n- {name: t, http: {url: "http://a.b/\\ud800"}}': "2: url has half a character in it",
    'tools:\n- {name: t, script: {shell: "\\0"}}': "2: shell must have no NUL",
    'tools:\n- {name: t, script: {command: "\\0"}}': "2: command must have no NUL",
    'tools:\n- {name: t, script: {command: ls, args: ["\\0"]}}': "2: an argument must have no NUL",
    'tools:\n- {name: t, script: {shell: ls, working_dir: "\\0"}}':
        "2: working_dir must have no NUL",
    'tools:\n- {name: t, script: {shell: ls}, environment: {A: "\\0"}}':
        "2: the variable 'A' must have no NUL",
    "tools:\n- {name: t, script: {command: '${A:-}'}}": "2: command is empty; name a program",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_each_thing_that_is_wrong_is_said_with_its_line(text: str, tmp_path: Path) -> None:
    """No file raises anything but what its author can act on."""
    assert refused(tmp_path, text).startswith(BROKEN[text])


@pytest.mark.parametrize(
    "http", ["url: 'http://a.b/${K}'", "url: 'http://a.b', headers: {A: '${K}'}"]
)
def test_what_can_t_be_sent_of_the_server_s_environment_is_told(http: str, tmp_path: Path) -> None:
    """A request that no run could make is the file's problem, and no job's."""
    text = f"tools:\n- {{name: t, http: {{{http}}}}}"
    said = refused(tmp_path, text, {"K": "\udcff"})
    assert said == "2: a variable of the server's environment isn't UTF-8"


def test_bytes_that_are_no_utf_8_are_told_with_their_line(tmp_path: Path) -> None:
    """Else it has to be searched for."""
    path = tmp_path / "gantz.yaml"
    path.write_bytes("name: é\n".encode() + b"version: \xff\n")
    with pytest.raises(InvalidToolsFile, match=r"gantz.yaml:2: it is no YAML: invalid start byte"):
        load_tools(path)


def test_a_file_that_can_t_be_read_says_why(tmp_path: Path) -> None:
    """The first thing that goes wrong is the path."""
    with pytest.raises(InvalidToolsFile, match=r"none.yaml: No such file"):
        load_tools(tmp_path / "none.yaml")
    assert "over 1,000,000 bytes" in refused(tmp_path, "#" * 1_000_001)
    assert "nested too deeply" in refused(tmp_path, "[" * sys.getrecursionlimit())


def test_without_the_extra_it_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries it first has to be told."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"pip install 'agent-jobrunner\[yaml\]'"):
        runpy.run_path(str(Path(jobrunner.__file__).parent / "tools" / "yaml_nodes.py"))


def test_aliases_and_merges_are_yaml_s(tmp_path: Path) -> None:
    """A file may say once what several tools have."""
    text = """\
tools:
- {name: a, parameters: &p [{name: x, default: 7}], script: &s {shell: 'echo {{x}}'}}
- {name: b, parameters: *p, script: {<<: *s, timeout: 2s}}
"""
    path = tmp_path / "gantz.yaml"
    path.write_text(text)
    assert [tool.timeout for tool in load_tools(path).tools] == [None, 2.0]


def test_what_is_merged_may_be_said_otherwise(tmp_path: Path) -> None:
    """A mapping's own word counts before a merged one, and of those the first."""
    text = """\
tools:
- {name: a, script: &a {shell: 'echo a', timeout: 1s}}
- {name: b, script: &b {<<: *a, timeout: 2s}}
- {name: c, script: *b}
- {name: d, script: {timeout: 3s, <<: [*b, *a]}}
- {name: e, script: {<<: [*b, *a], working_dir: /}}
"""
    path = tmp_path / "gantz.yaml"
    path.write_text(text)
    assert [tool.timeout for tool in load_tools(path).tools] == [1.0, 2.0, 2.0, 3.0, 2.0]
    assert "'timeout' stands in script twice" in refused(
        tmp_path, text + "- {name: f, script: {<<: *a, timeout: 2s, timeout: 3s}}"
    )
    said = refused(tmp_path, "tools:\n- {name: a, script: {<<: 5, shell: 'echo 1'}}")
    assert said.startswith("2: it can't be read: expected a mapping or list of mappings")
