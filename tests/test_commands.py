"""Commands: real processes, what they are given and what they say."""

import asyncio
import os
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from jobrunner import CommandFailed, CommandNotFound, CommandResult, JobContext, JobRunner
from jobrunner.commands import INHERITED, environment, run_command
from jobrunner.output import MAX_LINE
from tests.processes import ends
from tests.running import Pids, Said, input_that_says, run, shell, start


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


ITS_INPUT = "import os; print(os.path.samestat(os.fstat(0), os.stat(os.devnull)))"


async def test_p8_standard_input_is_closed() -> None:
    """A command that asks something gets the end of its input: not the server's, and no pipe."""
    with input_that_says(b"for the server\n"):
        result = await run([sys.executable, "-I", "-S", "-c", ITS_INPUT])
        assert (result.exit_code, result.stdout) == (0, "True\n")
        assert (await run(["cat"])).stdout == ""


@pytest.mark.parametrize("text", ["", "a\nb", "ü" * 100_000])
async def test_a_command_reads_what_it_is_given(text: str) -> None:
    """More than a pipe holds, too: nobody has to feed it while the command runs."""
    result = await run_command(
        ["cat"], env=environment({}, {}), on_output=lambda name, said: None, stdin=text
    )
    assert (result.exit_code, result.stdout == text) == (0, True)


async def test_a_handler_gives_its_command_something_to_read() -> None:
    """A long text is given so, since arguments are bounded by the system."""
    runner = JobRunner()

    @runner.job
    async def count(ctx: JobContext, text: str) -> str:
        return (await ctx.run_command("wc -c", stdin=text)).stdout

    async with runner:
        job = await runner.submit(count, {"text": "x" * 200_000})
        assert (await job.result()).strip() == "200000"


@pytest.mark.parametrize(
    "text", ["read answer", "read answer </dev/tty", "stty size"], ids=["input", "terminal", "size"]
)
async def test_a_command_that_asks_a_person_gets_no_answer(text: str) -> None:
    """A password prompt opens the terminal itself: the server's must not be there for it."""
    result = await shell(text)
    assert result.exit_code != 0
    assert result.duration < 5.0


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


async def test_p5_random_bytes_at_random_cuts_lose_nothing(tmp_path: Path) -> None:
    """Each write of seven bytes may end anywhere in a character, valid or not."""
    random, file, said = Random(5), tmp_path / "data", Said()
    data = b"".join(random.choice([random.randbytes(9), "é🙂日\n".encode()]) for _ in range(3_000))
    file.write_bytes(data)
    result = await run(["dd", f"if={file}", "bs=7", "status=none"], said=said)
    assert result.stdout == data.decode("utf-8", "replace")
    assert "".join(text for _, text in said) == result.stdout


@pytest.mark.slow
async def test_p5_100_mb_without_a_newline_come_in_pieces_and_bounded_memory() -> None:
    """A binary file on standard output must not be one line (slow: 100 MB)."""
    sizes: Counter[int] = Counter()
    before = most_memory()
    result = await run_command(
        ["head", "-c", "100000000", "/dev/zero"],
        env=environment({}, {}),
        on_output=lambda name, text: sizes.update([len(text)]),
    )
    assert sum(size * count for size, count in sizes.items()) == 100_000_000
    assert (max(sizes), result.truncated) == (MAX_LINE, True)
    assert most_memory() - before < 20_000_000


def most_memory() -> int:
    """Return the bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
async def test_p6_yes_for_two_seconds_takes_bounded_memory() -> None:
    """Reading never stops, keeping does; gigabytes go by (slow: two seconds)."""
    size, before = 0, most_memory()

    def count(name: str, text: str) -> None:
        nonlocal size
        size += len(text)

    with pytest.raises(TimeoutError):
        await run_command(["yes"], env=environment({}, {}), on_output=count, timeout=2.0)
    assert size > 10_000_000
    assert most_memory() - before < 20_000_000


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


@pytest.mark.slow
async def test_p9_what_is_said_after_the_exit_is_said_before_the_end_or_never() -> None:
    """A grandchild that goes on talking is cut off, not heard later (slow: read on for 1 s)."""
    said: Said = []
    result = await shell("(while :; do echo late; sleep 0.01; done) & echo first", said=said)
    before = list(said)
    await asyncio.sleep(0.05)
    assert said == before
    assert "".join(text for _, text in said) == result.stdout
    assert result.stdout.count("late") > 1


async def test_p8_a_child_has_the_allow_list_the_params_and_the_markers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the server has beside them stays with the server."""
    inherited = {name: f"its {name}" for name in INHERITED} | {"PATH": "/usr/bin:/bin"}
    secrets = {
        "API_KEY": "s3cret",
        "AWS_SECRET_ACCESS_KEY": "s",
        "LD_LIBRARY_PATH": "/x",
        "low": "x",
    }
    monkeypatch.setattr(os, "environ", inherited | secrets)
    result = await run_command(
        ["env", "-0"],
        env=environment({"GIVEN": "1"}, {"name": "a\nb", "API_KEY": "sent"}),
        on_output=lambda name, text: None,
    )
    seen = dict(entry.split("=", 1) for entry in result.stdout.split("\0") if entry)
    assert len(seen.pop("JOBRUNNER_COMMAND")) == 16
    assert seen == inherited | {"GIVEN": "1", "name": "a\nb"}


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
