"""What the command line says of itself, with and without its extra."""

import re
import subprocess
import sys

import pytest

from jobrunner.cli.exits import MEANINGS
from tests.readme import README
from tests.terminal import run

COMMANDS = (
    "serve run demo submit list show watch logs cancel retry answer types stats tools mcp version"
).split()


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", ["60", "200"])
def test_every_command_explains_itself(command: str, columns: str) -> None:
    """What it does and which options it has, in a narrow terminal too."""
    arguments = [command, "--help"] if command else ["--help"]
    ended = run(*arguments, COLUMNS=columns)
    assert (ended.code, "Usage:" in ended.out) == (0, True)
    assert max(len(line) for line in f"{ended.out}{ended.err}".splitlines()) <= int(columns)


def test_without_a_command_it_says_which_there_are() -> None:
    """Nobody remembers them all, nor what each exit code means."""
    output = run(COLUMNS="200").out
    assert all(f" {name} " in output for name in COMMANDS)
    assert all(f"{code}  {meaning}" in output for code, meaning in MEANINGS.items())


def test_the_readme_has_all_commands_and_exit_codes() -> None:
    """Scripts are written from it."""
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    assert {int(code): meaning for code, meaning in rows.items()} == MEANINGS
    section = README.partition("## Terminal\n")[2].partition("\n## ")[0]
    assert [name for name in COMMANDS if not re.search(rf"`{name}\b", section)] == []


@pytest.mark.slow  # an interpreter of its own, in which the extra is missing
@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """The command is there in any case; a traceback of imports helps nobody."""
    program = f"import sys; sys.modules[{missing!r}] = None; from jobrunner.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = "the command line needs an extra: pip install 'agent-jobrunner[cli]'\n"
    assert (done.returncode, done.stderr) == (1, said)
