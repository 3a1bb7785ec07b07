"""Values in a shell's text: real shells get what no hand would quote right."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrunner import InvalidParams
from tests.tools_files import (
    PAYLOADS,
    load,
    refused_tool,
    result_of,
    serving,
    shell,
    tool,
    view_of,
)

SHELLS = [
    pytest.param(
        name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} isn't here")
    )
    for name in ("/bin/sh", "dash", "bash")
]
SLOTS = {
    "bare": "printf '<%s>' {{x}}",
    "double": 'printf "<%s>" "{{x}}"',
    "single": "printf '<%s>' '{{x}}'",
    "within a word": "printf %s '<'{{x}}\">\"",
    "within quotes": 'printf %s "<{{ x }}>"',
    "within single quotes": "printf %s '<{{x}}>'",
    "twice": "v={{x}}; printf '<%s>' \"$v\"",
    "exported": 'export V="{{x}}"; printf \'<%s>\' "$V"',
    "substitution": 'v=$(printf \'<%s>\' "{{x}}"); printf %s "$v"',
    "substitution in quotes": "printf '<%s>' \"$(printf %s '{{x}}')\"",
    "continued line": "printf '<%s>' \\\n  {{x}}",
    "here-document": "cat <<EOF\n<{{x}}>\nEOF\n",
    "here-document with tabs": "cat <<-EOF\n\t<{{x}}>\n\tEOF\n",
    "literal here-document": "cat <<'EOF' && true\n<{{x}}>\nEOF\n",
    "case": 'case "{{x}}" in q) ;; *) printf \'<%s>\' "{{x}}" ;; esac',
    "if": 'if [ "{{x}}" != q ]; then printf \'<%s>\' "{{x}}"; fi',
    "loop": "for i in {{x}}; do printf '<%s>' \"$i\"; done",
    "function": "f() { printf '<%s>' \"$1\"; }; f {{x}}",
    "subshell": "(printf '<%s>' {{x}})",
    "pipe": "printf '<%s>' {{x}} | cat",
    "default of another": "printf '<%s>' {{x}} # a comment: {{x}} don't",
    "redirection": "printf '<%s>' {{x}} 2>/dev/null >&1",
}


@pytest.mark.slow  # a process for each value
@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize("slot", SLOTS)
async def test_p7_no_value_gets_out_of_a_shell_s_text(
    slot: str, program: str, tmp_path: Path
) -> None:
    """P7: each value arrives whole, as one word, and nothing of it is run."""
    home = tmp_path / "home"
    home.mkdir()
    file = load(tmp_path, shell(SLOTS[slot], script={"working_dir": str(home)}), shell=program)
    async with serving(file) as runner:
        jobs = [await runner.submit("t", {"x": payload}) for payload in PAYLOADS]
        said = [await job.result() for job in jobs]
    assert said == [f"<{payload}>" for payload in PAYLOADS]
    assert os.listdir(home) == []


@pytest.mark.slow  # a process for each value
async def test_p7_no_value_gets_out_of_a_test_of_bash(tmp_path: Path) -> None:
    """P7: `[[` has operators of its own, and some of them compute with what they compare."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash isn't here")
    text = '[[ -n "{{x}}" && "{{x}}" != q* || ( {{x}} == z ) ]] && printf "<%s>" <<< {{x}} "{{x}}"'
    home = tmp_path / "home"
    home.mkdir()
    file = load(tmp_path, shell(text, script={"working_dir": str(home)}), shell=bash)
    async with serving(file) as runner:
        jobs = [await runner.submit("t", {"x": payload}) for payload in PAYLOADS]
        assert [await job.result() for job in jobs] == [f"<{payload}>" for payload in PAYLOADS]
    assert os.listdir(home) == []


async def test_p7_a_value_in_json_is_json(tmp_path: Path) -> None:
    """The body of a `curl -d` stays the object that it is, whatever a message has in it."""
    text = """printf %s '{"text": "<{{x}}>", "n": {{n}}, "all": {{all}}, "k": "'"$K"'"}'"""
    params = [
        {"name": "x"},
        {"name": "n", "type": "number"},
        {"name": "all", "type": "array"},
    ]
    file = load(tmp_path, shell(text, parameters=params), environ={"K": "from the server"})
    async with serving(file) as runner:
        for payload in PAYLOADS:
            given = {"x": payload, "n": 2.5, "all": [payload]}
            said = json.loads(await (await runner.submit("t", given)).result())
            assert said == {"text": f"<{payload}>", "n": 2.5, "all": [payload],
                            "k": "from the server"}  # fmt: skip
        nothing = json.loads(await (await runner.submit("t", {})).result())
    assert nothing == {"text": "<>", "n": None, "all": None, "k": "from the server"}


async def test_a_literal_here_document_stays_literal(tmp_path: Path) -> None:
    """Its other lines are what stands there: no variable, no command."""
    text = "cat > out << 'CONTENT'\n$HOME `id` \\ \"q\" {{x}}\nCONTENT\ncat out"
    file = load(tmp_path, shell(text, script={"working_dir": str(tmp_path)}))
    said = await result_of(file, {"x": "CONTENT\n$(id)"})
    assert said == '$HOME `id` \\ "q" CONTENT\n$(id)'


@pytest.mark.parametrize(
    ("type_name", "value", "said"),
    [
        ("number", 10, "10"), ("number", 10.0, "10"), ("number", "2.5", "2.5"),
        ("integer", "7", "7"), ("integer", -3, "-3"), ("boolean", True, "true"),
        ("boolean", "false", "false"), ("array", [1, "a b", None], '[1,"a b",null]'),
        ("object", {"a": {"b": "é"}}, '{"a":{"b":"é"}}'), ("string", "", ""),
        ("number", None, ""),
    ],
)  # fmt: skip
async def test_a_value_of_each_type_is_written_as_json_has_it(
    type_name: str, value: object, said: str, tmp_path: Path
) -> None:
    """`head -n 10.0` is no count, and a list is of no use as Python writes it."""
    file = load(tmp_path, shell("printf '<%s>' {{x}}", parameters=[
        {"name": "x", "type": type_name}]))  # fmt: skip
    params = {} if value is None else {"x": value}
    assert await result_of(file, params) == f"<{said}>"


async def test_a_whole_number_can_be_computed_with(tmp_path: Path) -> None:
    """Also a negative one behind a minus."""
    params = [{"name": "x", "type": "integer"}]
    file = load(tmp_path, shell('echo "$((1 -{{x}} * ("2"+{{x}})))"', parameters=params))
    assert await result_of(file, {"x": -3}) == "-2"


# Refused when the file is read


REFUSED = {
    "echo `ls {{x}}`": "inside of backticks",
    'echo "`ls {{x}}`"': "inside of backticks",
    "echo \\{{x}}": "behind a backslash",
    'echo "\\{{x}}"': "behind a backslash",
    "echo ${{x}}": "behind a $",
    "echo ${A:-{{x}}}": "inside of ${...}",
    'echo "${A:-"{{x}}"}"': "inside of ${...}",
    "echo $'{{x}}'": "inside of $'...'",
    "echo $((1 + {{x}}))": "is computed with",
    "((a = {{x}}))": "is computed with",
    "for ((i = 0; i < {{x}}; i++)); do :; done": "is computed with",
    'if (( $(echo "{{x}} > 1" | bc) )); then :; fi': "is computed with",
    "echo $[{{x}} + 1]": "$[...] is computed with",
    '[[ "{{x}}" -eq 1 ]]': "is compared as a number",
    '[ "{{x}}" -gt 1 ]': "is compared as a number",
    '[ -v "{{x}}" ]': "is compared as a number",
    "{{x}} now": "chooses the program",
    "echo a; {{x}}": "chooses the program",
    "echo a | {{x}}": "chooses the program",
    "if {{x}}; then :; fi": "chooses the program",
    "! {{x}}": "chooses the program",
    "A=1 {{x}}": "chooses the program",
    "./bin/{{x}}.sh": "chooses the program",
    "$(which {{x}}) -v": "chooses the program",
    "c='{{x}}'; $c": "chooses the program",
    "sudo -n {{x}}": "chooses the program",
    "sudo -u bob {{x}}": "chooses the program",
    "time -p {{x}}": "chooses the program",
    "exec -a name {{x}}": "chooses the program",
    "sudo -u bob env A=1 {{x}}": "chooses the program",
    "timeout -k 1 5 {{x}}": "chooses the program",
    "timeout 5 {{x}}": "chooses the program",
    "env A=1 {{x}}": "chooses the program",
    "xargs {{x}}": "chooses the program",
    "find . -exec {{x}} ;": "chooses the program",
    "a=({{x}})": "chooses the program",
    "eval echo {{x}}": "in code for eval",
    "trap 'echo {{x}}' EXIT": "in code for trap",
    ". {{x}}": "in code for .",
    "declare {{x}}": "in code for declare",
    "printf -v {{x}} a": "in code for printf",
    "export {{x}}": "takes names",
    "local -i a={{x}}": "takes names",
    "for {{x}} in a; do :; done": "name a variable",
    "PATH={{x}} ls": "PATH",
    "export LD_PRELOAD={{x}}": "LD_PRELOAD",
    "PS4='{{x}}'; set -x": "PS4",
    "echo a >&{{x}}": "chooses a descriptor",
    "sh -c 'echo {{x}}'": "in code for sh",
    'bash -lc "echo {{x}}"': "in code for bash",
    "v={{x}}; sh -c \"echo $v\"": "in code for sh",
    "for i in {{x}}; do sh -c \"$i\"; done": "in code for sh",
    "echo {{x}} | while read l; do eval \"$l\"; done": "in code for eval",
    "f() { eval \"$1\"; }; f {{x}}": "in code for eval",
    'sh -c "$(echo {{x}})"': "in code for sh",
    "sudo sh -c 'echo {{x}}'": "in code for",
    "python3 -c \"print('{{x}}')\"": "in code for python3",
    "node -e '{{x}}'": "in code for node",
    "awk '/{{x}}/ {print}' f": "in code for awk",
    "awk -F : -v a=1 '{{x}}' f": "in code for awk",
    "sed 's/a/{{x}}/' f": "in code for sed",
    "sed -n -e 's/a/{{x}}/' f": "in code for sed",
    "jq --arg a b '.{{x}}' f": "in code for jq",
    "ssh host ls {{x}}": "in code for ssh",
    "psql db -c 'SELECT {{x}}'": "in code for psql",
    "psql -Atc 'SELECT {{x}}'": "in code for psql",
    "mysql -e'SELECT {{x}}'": "in code for mysql",
    "jq --indent 2 '.{{x}}' f": "in code for jq",
    "sed -i '' 's/a/{{x}}/' f": "in code for sed",
    "ssh -o ProxyCommand={{x}} host": "in code for ssh",
    "ssh -o A=b host ls {{x}}": "in code for ssh",
    "tar --checkpoint-action={{x}} -cf a b": "in code for tar",
    "echo {{x}} | xargs -I% sh -c 'echo %'": "where xargs puts it",
    "declare -i n; n={{x}}": "may be computed with",
    "psql --command='SELECT {{x}}'": "in code for psql",
    "sqlite3 db 'SELECT {{x}}'": "in code for sqlite3",
    "watch ls {{x}}": "in code for watch",
    "echo {{x}} | sh": "code that sh reads",
    "echo {{x}} | python3 -": "code that python3 reads",
    "echo {{x}} | bash -s": "code that bash reads",
    "psql db < {{x}}": "code that psql reads",
    "bash <<EOF\necho {{x}}\nEOF": "code that bash reads",
    "bash <<< {{x}}": "code that bash reads",
    "echo {{x}} | sh 3< f": "code that sh reads",
    "echo a 2>&{{x}}": "chooses a descriptor",
    "[[ a < b && ( {{x}} -eq 1 ) ]]": "is compared as a number",
    "awk -- '{{x}}' f": "in code for awk",
    "eval {{x}}": "in code for eval",
    "echo {{x}} <<EOF": "has no end",
    "git log -{{x}}": "choose an option",
    "cat <<EOF\n`ls {{x}}`\nEOF": "inside of backticks",
    "cat <<'E F'\n{{x}}\nE F": "isn't a plain word",
    "cat <<EOF\n{{x}}": "has no end",
    "echo '{{x}}": "has no end",
    "echo $(ls {{x}}": "isn't closed",
    "echo $(case {{x}} in a) ;; esac)": "can't be followed",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_p7_what_no_quoting_makes_safe_is_refused_when_the_file_is_read(
    text: str, tmp_path: Path
) -> None:
    """P7: its author is told where, and no caller ever gets there."""
    problems = refused_tool(tmp_path, shell(text))
    assert REFUSED[text] in problems[0]


ACCEPTED = [
    "sh -c 'echo \"$1\"' _ {{x}}",
    "python3 script.py --to {{x}}",
    "python3 -m tool {{x}}",
    "awk -v a={{x}} '{print a}' f",
    "jq --arg f {{x}} '.[$f]' f",
    "psql -v id={{x}} -f query.sql",
    "echo {{x}} | jq -r .name",
    "curl -s {{x}} | python3 -c 'import sys; print(sys.stdin.read())'",
    "sudo -n ls -- {{x}}",
    "timeout 5 ls {{x}}",
    "sudo -u bob ls {{x}}",
    "xargs -0 -n1 rm -- {{x}}",
    "jq --raw-output .a {{x}}",
    "GITHUB_REPO={{x}} LINES={{x}} make -- {{x}}",
    "tar -cf a.tar -- {{x}}",
    "git log --grep={{x}}",
    "psql -Atc 'SELECT 1' -- {{x}}",
    "time ls {{x}}",
    'echo "${A:-it\'s}" {{x}}',
    "cat <<EOF\n\\$5 {{x}} $HOME\nEOF",
    "cat 0<<EOF {{x}}\na\nEOF",
    "docker ps --format '{{.Names}}' --filter {{x}}",
    "docker inspect -f '{{range .X}}{{.Y}}{{end}}' {{x}}",
    "[ -n {{x}} ] && ls {{x}}",
    "case {{x}} in a) ls ;; b | c) echo ;; esac",
    "cmd=ls; $cmd {{x}}",
    "echo \"${#A} ${A%%/*} ${A:-'q'}\" {{x}}",
    "echo $# $? $$ {{x}} | tee >(cat) > /dev/null",
    'v=`date`; echo "$v" {{x}}',
    "echo $'a\\'b' {{x}}",
    "a=$(( (1+2) * 3 )); ls {{x}}",
    "sort < {{x}} > {{x}}.out 2>&1",
    "((a = 1)); ls {{x}}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_is_safe_is_no_problem(text: str, tmp_path: Path) -> None:
    """A file that works today should work unchanged."""
    assert load(tmp_path, shell(text)).tools[0].name == "t"


def test_a_problem_names_its_line_in_the_file(tmp_path: Path) -> None:
    """Lines of a block are the file's own lines."""
    block = "tools:\n- name: t\n  parameters: [{name: x}]\n  script:\n    shell: |\n      ls\n"
    path = tmp_path / "gantz.yaml"
    path.write_text(f"{block}      eval {{{{x}}}}\n")
    with pytest.raises(ValueError, match=r"gantz\.yaml:7: \{\{x\}\} stands in code for eval"):
        load_tools_of(path)


def load_tools_of(path: Path) -> Any:
    from jobrunner.tools.gantz import load_tools

    return load_tools(path)


# What a program could take for an option


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("ls {{x}}", True), ("ls -la '{{x}}'", True), ('ls ""{{x}}', True), ("ls -- {{x}}", False),
        ("ls a{{x}}", False), ("ls --sort={{x}}", False), ("echo {{x}}", False),
        ("[ {{x}} = a ] || true", False), ("[ {{x}} {{x}} ] || true", True), ("v={{x}}", False),
        ("cat > {{x}}", False),
    ],
)  # fmt: skip
async def test_a_value_can_t_be_an_option(text: str, refuses: bool, tmp_path: Path) -> None:
    """`tar --checkpoint-action=exec` is code too; where an option can't be, all is welcome."""
    file = load(tmp_path, shell(text, script={"working_dir": str(tmp_path)}))
    async with serving(file) as runner:
        if refuses:
            with pytest.raises(InvalidParams, match="taken for an option"):
                await runner.submit("t", {"x": "--help"})
        else:
            await (await runner.submit("t", {"x": "--help"})).wait()
        await (await runner.submit("t", {"x": "- a list\n- of two"})).wait()


@pytest.mark.parametrize("value", ["a\0b", "x" * 130_000])
async def test_what_no_variable_can_hold_is_refused_at_submit(value: str, tmp_path: Path) -> None:
    """It would be cut off, or the system would say `Argument list too long`."""
    async with serving(load(tmp_path, shell("echo {{x}}"))) as runner:
        with pytest.raises(InvalidParams, match="NUL"):
            await runner.submit("t", {"x": value})


# Any text at all


LITERALS = [
    "a",
    "b c",
    "*",
    "~",
    "#",
    "$",
    "\\",
    '"',
    "'",
    "`",
    "{{.y}}",
    "é",
    "=",
    "&",
    "\n",
    "x-",
]
KINDS = ["bare", "double", "single"]
SEGMENTS = st.tuples(st.sampled_from(KINDS), st.one_of(st.just("{{x}}"), st.sampled_from(LITERALS)))
WORDS = st.lists(st.lists(SEGMENTS, min_size=1, max_size=4), min_size=1, max_size=4)
VALUES = st.text(
    st.sampled_from("ab -$`\"'\\\n;&|<>(){}[]*?~#!%=,é\u2028\t\r"), max_size=20
).filter(lambda value: not value.startswith("-") or value[1:2].isspace())


def _written(kind: str, text: str) -> str:
    """Write a segment as a person would, who knows what a shell does with it."""
    if text == "{{x}}":
        return {"bare": "{{x}}", "double": '"{{x}}"', "single": "'{{x}}'"}[kind]
    if kind == "single":
        return "'" + text.replace("'", "'\\''") + "'"
    escaped = "".join(f"\\{char}" if char in '$`"\\' else char for char in text)
    return f'"{escaped}"'


@pytest.mark.slow  # a process for each example
@given(words=WORDS, value=VALUES)
@settings(
    max_examples=int(os.environ.get("JOBRUNNER_SHELL_EXAMPLES", "30")), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
async def test_p7_any_text_arrives_in_any_words(
    tmp_path: Path, words: list[list[tuple[str, str]]], value: str
) -> None:
    """P7: a shell makes of a template with values what a person would expect who reads it."""
    text = " ".join("".join(_written(*segment) for segment in word) for word in words)
    file = load(tmp_path, shell(f"printf '<%s>' {text}"))
    expected = "".join(
        f"<{''.join(each.replace('{{x}}', value) for _, each in word)}>" for word in words
    )
    assert await result_of(file, {"x": value}) == expected


def test_a_tool_without_placeholders_is_taken_as_it_stands(tmp_path: Path) -> None:
    """What has no slot needs no reading: no shell's syntax is refused there."""
    odd = tool(name="odd", parameters=[], script={"shell": "-x '`$[ ${ <<"})
    assert load(tmp_path, odd).tools[0].name == "odd"


async def test_a_text_that_begins_like_an_option_is_run_as_text(tmp_path: Path) -> None:
    """A shell would take it for an option of its own."""
    ended = await view_of(load(tmp_path, tool(parameters=[], script={"shell": "-x echo"})), {})
    assert ended.error is not None
    assert "exit code 127" in ended.error.detail
