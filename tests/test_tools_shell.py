"""Values in a shell's text: real shells get what no hand would quote right."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrunner import InvalidParams
from tests.tools_files import (
    PAYLOADS,
    load,
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


@pytest.mark.parametrize(
    ("script", "type_name", "value"),
    [
        ({"shell": """echo '{"a": {{x}}}'"""}, "string", '"' * 100_000),
        ({"command": "echo", "args": ['{"a": {{x}}}']}, "string", '"' * 100_000),
        ({"command": "echo", "args": ["{{x}}"]}, "array", ["a" * 150_000]),
    ],
)
async def test_what_gets_too_long_when_it_is_written_is_refused_at_submit(
    script: dict[str, object], type_name: str, value: object, tmp_path: Path
) -> None:
    """What counts is the text that a program would get, or every attempt would fail."""
    given = tool(script=script, parameters=[{"name": "x", "type": type_name}])
    async with serving(load(tmp_path, given)) as runner:
        with pytest.raises(InvalidParams, match="128000 bytes at most"):
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
