"""Commands: real processes, what they are given and what they say."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from jobrunner import CommandFailed, CommandNotFound, CommandResult
from jobrunner.commands import environment, run_command
from tests.processes import ends
from tests.running import Pids, Said, run, shell, start


async def test_the_result_has_the_exit_code_and_both_outputs() -> None:
    """What a person would look at in a terminal is in the result."""
    result = await shell("echo out; echo err >&2; exit 3")
    assert result == CommandResult(
        exit_code=3, stdout="out\n", stderr="err\n", duration=result.duration, truncated=False
    )
    assert 0.0 <= result.duration < 5.0


async def test_output_is_passed_on_while_the_command_runs() -> None:
    """A watcher sees the start of a long build before its end."""
    pids = Pids(1)
    task = start("echo $$; exec sleep 60", pids)
    (pid,) = await pids.started()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid)


async def test_standard_input_is_closed() -> None:
    """A command that asks something gets the end of its input, and doesn't wait for ever."""
    result = await run(["cat"])
    assert (result.exit_code, result.stdout) == (0, "")


async def test_the_working_directory_can_be_given(tmp_path: Path) -> None:
    """A test suite runs in its own checkout."""
    result = await run(["pwd", "-P"], cwd=str(tmp_path))
    assert result.stdout == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [
        (["/no/such/program"], None),
        (["true"], "/no/such/directory"),
        ([os.devnull], None),
        (["tr\0ue"], None),
        (["echo", "\udcff\ud800"], None),
    ],
    ids=["program", "directory", "not executable", "null byte", "lone surrogate"],
)
async def test_what_can_not_be_run_is_named(argv: list[str], cwd: str | None) -> None:
    """A wrong path, and an argument that no program can take, are errors of their own kind."""
    with pytest.raises(CommandNotFound, match=r"^can't run '"):
        await run(argv, cwd=cwd)


async def test_an_exit_code_is_an_error_when_it_is_checked() -> None:
    """`check` fails the job, and the message has what the command said last."""
    with pytest.raises(CommandFailed) as caught:
        await shell("echo out; echo 'no such test' >&2; exit 2", check=True)
    assert str(caught.value) == (
        "/bin/sh -c 'echo out; echo '\"'\"'no such test'\"'\"' >&2; exit 2' ended with exit code 2"
        "\nno such test"
    )


async def test_a_failed_check_without_standard_error_shows_the_output() -> None:
    """Many test runners say what failed on standard output."""
    with pytest.raises(CommandFailed, match=r"exit code 1\n1 failed$"):
        await shell("echo 1 failed; exit 1", check=True)


async def test_a_check_of_a_command_that_succeeds_is_no_error() -> None:
    """`check` looks at the exit code alone, not at standard error."""
    assert (await shell("echo warning >&2", check=True)).exit_code == 0


async def test_a_signal_is_a_negative_exit_code() -> None:
    """A command that was killed by the system is told apart from one that gave up."""
    assert (await shell("kill -9 $$")).exit_code == -signal.SIGKILL


async def test_p5_a_line_of_70_000_characters_loses_nothing() -> None:
    """P5: the usual line reader gives up at 64 kB without a newline."""
    said: Said = []
    result = await run([sys.executable, "-c", "print('x' * 70_000, end='')"], said=said)
    assert (result.stdout, "".join(text for _, text in said)) == ("x" * 70_000, "x" * 70_000)


async def test_p5_bytes_that_are_no_text_are_replaced() -> None:
    """P5: a binary file on the terminal is no reason to fail."""
    result = await shell(r"printf 'a\377\360\237b\n'")
    assert result.stdout == "a\ufffd\ufffdb\n"


async def test_p6_a_flood_is_read_at_full_speed_and_kept_bounded() -> None:
    """P6: a command whose output nobody reads stops at 64 kB; `yes` never stops by itself."""
    result = await shell("yes | head -c 5000000")
    assert result.truncated
    assert len(result.stdout) == len("\n... 4800000 characters left out ...\n") + 200_000


async def test_p6_an_endless_flood_ends_with_the_timeout() -> None:
    """P6: the limit fires though the loop is busy reading."""
    size = 0

    def count(name: str, text: str) -> None:
        nonlocal size
        size += len(text)

    with pytest.raises(TimeoutError):
        await run_command(["yes"], env=environment({}, {}), on_output=count, timeout=0.05)
    assert size > 65_536


@pytest.mark.parametrize("text", ["echo a; echo b >&2; printf c", "yes | head -c 300000"])
async def test_p9_nothing_is_passed_on_after_the_end(text: str) -> None:
    """P9: when the result is there, so is all of the output."""
    said: Said = []
    result = await run(["/bin/sh", "-c", text], said=said)
    before = list(said)
    await asyncio.sleep(0.01)
    assert said == before
    assert len("".join(piece for _, piece in said)) >= min(300_000, len(result.stdout))


async def test_p8_a_command_sees_a_few_names_of_the_environment_and_what_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P8: the server's secrets are not for every test suite that it runs."""
    monkeypatch.setattr(os, "environ", {"PATH": "/usr/bin:/bin", "LANG": "C", "API_KEY": "s3cret"})
    result = await run(["env"], env={"MODE": "fast"})
    seen = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert len(seen.pop("JOBRUNNER_COMMAND")) == 16
    assert seen == {"PATH": "/usr/bin:/bin", "LANG": "C", "MODE": "fast"}


def test_params_are_in_the_environment_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell reads its values from there; what is no text is there as JSON."""
    monkeypatch.setattr(os, "environ", {"HOME": "/home/me"})
    assert environment({"n": "given"}, {"n": 1, "name": "a b", "flags": [True, None]}) == {
        "HOME": "/home/me",
        "n": "given",
        "name": "a b",
        "flags": "[true,null]",
    }


def test_a_param_can_not_replace_what_the_system_reads() -> None:
    """A handler that passes on a client's dict must not hand over the loader and the path (P8)."""
    given = environment({"LANG": "C"}, {"PATH": "/tmp", "LD_PRELOAD": "x.so", "target": "all"})
    assert given["PATH"] == os.environ["PATH"]
    assert "LD_PRELOAD" not in given
    assert (given["target"], given["LANG"]) == ("all", "C")
