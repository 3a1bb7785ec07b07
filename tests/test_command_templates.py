"""Templates of commands: a value stays within its argument, whatever it is."""

import os
from pathlib import Path

import pytest

from jobrunner import InvalidOption
from jobrunner.commands import Verbatim, command_line, environment, placeholders, run_command
from tests.running import run


@pytest.mark.parametrize(
    ("template", "params", "argv"),
    [
        ("pytest -q {{path}}", {"path": "a b"}, ["pytest", "-q", "a b"]),
        ("pytest '--k={{ k }}' x", {"k": "a or b"}, ["pytest", "--k=a or b", "x"]),
        (["tool", "{{n}}", "--x={{n}}"], {"n": 7}, ["tool", "7", "--x=7"]),
        ("echo {{a}}{{b}}", {"a": "{{b}}", "b": "x"}, ["echo", "{{b}}x"]),
        ("echo {{}} {{a b}}", {}, ["echo", "{{}}", "{{a", "b}}"]),
    ],
)
def test_a_template_is_split_before_it_is_filled_in(
    template: str | list[str], params: dict[str, object], argv: list[str]
) -> None:
    """A value can only become a part of the one argument in which it stands."""
    assert command_line(template, params, shell=False) == argv


def test_arguments_that_are_verbatim_are_no_template() -> None:
    """Who has filled them in already must not have a value's braces read again."""
    argv = ["sh", "-c", "echo {{x}}", "{{ y }}"]
    assert command_line(Verbatim(argv), {"x": "; id"}, shell=False) == argv


PAYLOADS = [
    "; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a' ; touch pwned ; '",
    'a" ; touch pwned ; "',
    "a\n touch pwned",
    "&& touch pwned",
    "| touch pwned",
    "> pwned",
    "'; touch pwned #",
    "\\'; touch pwned #",
    "${IFS}touch${IFS}pwned",
    "--help; touch pwned",
    "{{other}}",
    "%s$'\\n'touch pwned",
]
SLOTS = ["printf %s {{x}}", "printf %s '{{x}}'", 'printf %s "{{x}}"', "printf '%s' {{ x }}"]


@pytest.mark.parametrize("template", SLOTS)
@pytest.mark.parametrize("payload", PAYLOADS)
async def test_p7_no_value_gets_out_of_its_slot(
    payload: str, template: str, tmp_path: Path
) -> None:
    """P7: whatever stands around a slot, the program gets the value as it is and runs nothing."""
    argv = command_line(template, {"x": payload}, shell=False)
    result = await run(argv, cwd=str(tmp_path))
    assert (result.stdout, os.listdir(tmp_path)) == (payload, [])


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_p7_a_value_read_by_a_shell_stays_a_value(payload: str, tmp_path: Path) -> None:
    """P7: with `shell=True` the values come by the environment, where a shell never parses them."""
    result = await run_command(
        command_line('printf %s "$x"', {"x": payload}, shell=True),
        env=environment({}, {"x": payload}),
        on_output=lambda name, text: None,
        cwd=tmp_path,
    )
    assert (result.stdout, os.listdir(tmp_path)) == (payload, [])


@pytest.mark.parametrize(
    "template",
    [
        "sh -c 'echo {{x}}'",
        "/bin/bash -lc 'echo {{x}}'",
        "bash -c \"echo '{{x}}'\"",
        "sh -cu 'echo {{x}}'",
        "sh -c -u 'echo {{x}}'",
        "sh -c -- 'echo {{x}}'",
        "sh -e -c 'echo {{x}}'",
        "python3 -c 'print({{x}})'",
        "python3.12 '-cprint({{x}})'",
        "python3 -I -c 'print({{x}})'",
        "node --eval 'f({{x}})'",
        "node '--eval=f({{x}})'",
        "node -p 'f({{x}})'",
        "perl -ne 'print {{x}}' file",
        "ruby -e 'p {{x}}'",
        "php -r 'echo {{x}};'",
        "env A=1 sh -c 'echo {{x}}'",
        "bash -o pipefail -c 'echo {{x}}'",
        "env -S 'sh -c {{x}}'",
        "nice -n 5 sh -c 'echo {{x}}'",
        "timeout 5 bash -c 'echo {{x}}'",
        "busybox sh -c 'echo {{x}}'",
        "ash -c 'echo {{x}}'",
        "bash -c -o pipefail 'echo {{x}}'",
        "bash -co pipefail 'echo {{x}}'",
        "pypy3 -c 'print({{x}})'",
        "nodejs -e 'f({{x}})'",
        "bun -e 'f({{x}})'",
        "perl5.36 -ne 'print {{x}}' file",
        "php8.3 -r 'echo {{x}};'",
        "lua -e 'print({{x}})'",
        "Rscript -e 'print({{x}})'",
    ],
)
def test_p7_a_slot_in_code_is_refused(template: str) -> None:
    """P7: a value in the code of an interpreter is code, and no quoting is safe there."""
    with pytest.raises(InvalidOption, match=r"\{\{x\}\} stands in code for .*, where no quoting"):
        command_line(template, {"x": "1"}, shell=False)


@pytest.mark.parametrize(
    "template",
    [
        "sh -c 'echo \"$1\"' sh {{x}}",
        "python3 -m pytest {{x}}",
        "python3 -m pytest -rA {{x}}",
        "sh script.sh {{x}}",
        "bash -eu script.sh {{x}}",
        "env NAME={{x}} make",
        "perl -ne 'print' {{x}}",
        "gcc -c {{x}}",
        "bash -o pipefail -c 'echo \"$1\"' sh {{x}}",
    ],
)
def test_p7_a_slot_that_is_an_argument_of_a_program_is_allowed(template: str) -> None:
    """P7: what is refused is code, not every use of an interpreter."""
    assert "1" in " ".join(command_line(template, {"x": "1"}, shell=False))


@pytest.mark.parametrize(
    ("template", "shell", "message"),
    [
        ("", False, "the command is empty; give a program and its arguments"),
        ([], False, "the command is empty; give a program and its arguments"),
        ("echo 'a", False, "the command \"echo 'a\" can't be split: No closing quotation"),
        (["echo", 1], False, "the command ['echo', 1] must be made of strings only"),
        ("echo {{x}}", False, "the command has a placeholder {{x}} but no param 'x'"),
        (["ls"], True, "with shell=True the command is one string"),
        (
            "echo {{x}}",
            True,
            '{{x}} stands in shell text, where no quoting is safe; write "$x": the params are in '
            "the environment of a shell command",
        ),
    ],
)
def test_p7_a_template_that_can_not_be_one_says_why(
    template: str | list[str], shell: bool, message: str
) -> None:
    """The author of a job type hears of it before anybody runs it."""
    with pytest.raises(InvalidOption) as caught:
        command_line(template, {}, shell=shell)
    assert str(caught.value) == message


def test_the_placeholders_of_a_template_are_listed_once_in_order() -> None:
    """They become the params of the job type."""
    assert placeholders("cp {{b}} {{ a }} {{b}}") == ["b", "a"]
    assert placeholders(["x", "{{a}}", "y{{c}}"]) == ["a", "c"]


def test_p7_a_module_s_options_are_its_own() -> None:
    """P7: `-c` after `-m` is no code of Python's."""
    argv = command_line("python -m pytest -c {{config}}", {"config": "a b"}, shell=False)
    assert argv == ["python", "-m", "pytest", "-c", "a b"]
