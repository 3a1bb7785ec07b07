"""Commands: real processes, run to their end or killed with nothing left behind."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jobrunner import CommandFailed, CommandNotFound, CommandResult, InvalidOption
from jobrunner.commands import command_line, environment, placeholders, run_command
from tests.processes import ends

Said = list[tuple[str, str]]


async def run(
    argv: Sequence[str],
    *,
    said: Said | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: float | None = None,
    check: bool = False,
) -> CommandResult:
    """Run a command with the environment that a job gives it."""
    kept: Said = [] if said is None else said
    return await run_command(
        argv,
        env=environment(env or {}, {}),
        on_output=lambda name, text: kept.append((name, text)),
        cwd=cwd,
        timeout=timeout,
        check=check,
    )


async def shell(text: str, **options: float | bool | None) -> CommandResult:
    return await run(["/bin/sh", "-c", text], **options)  # type: ignore[arg-type]  # by name


class Pids:
    """Reads the process ids that a command prints, as they come."""

    def __init__(self, wanted: int) -> None:
        self.said: Said = []
        self._wanted = wanted
        self._enough = asyncio.Event()

    def take(self, name: str, text: str) -> None:
        self.said.append((name, text))
        if not self._enough.is_set() and len(self.pids) >= self._wanted:
            self._enough.set()

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in "".join(text for _, text in self.said).split()]

    async def started(self) -> list[int]:
        await self._enough.wait()
        for _ in range(10):  # the first output may come before the loop says that it has spawned
            await asyncio.sleep(0)
        return self.pids


def start(text: str, pids: Pids, timeout: float | None = None) -> "asyncio.Task[CommandResult]":
    """Start a shell command that prints the ids of its processes."""
    running = run_command(
        ["/bin/sh", "-c", text], env=environment({}, {}), on_output=pids.take, timeout=timeout
    )
    return asyncio.create_task(running)


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


async def test_a_timeout_ends_the_command_and_names_the_limit() -> None:
    """A command's own limit is an error that a handler can catch."""
    pids = Pids(1)
    with pytest.raises(TimeoutError, match=r"^the command /bin/sh timed out after 0.05 s$"):
        await start("echo $$; exec sleep 60", pids, timeout=0.05)
    assert ends(pids.pids[0])


async def test_a_cancel_ends_the_command_and_its_children() -> None:
    """The whole tree is gone: a leader, its child, and its grandchild."""
    pids = Pids(3)
    task = start("sh -c 'sleep 60 & echo $!; echo $$; wait' & echo $$; wait", pids)
    tree = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [ends(pid) for pid in tree] == [True, True, True]


@pytest.mark.slow
async def test_a_command_that_ignores_the_polite_signal_is_killed() -> None:
    """P2: SIGTERM is a request; two seconds later SIGKILL is not (slow: waits for those)."""
    pids = Pids(1)
    task = start("trap '' TERM; echo $$; while true; do sleep 0.1; done", pids)
    (pid,) = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid)


async def test_a_command_may_clean_up_when_it_is_asked_to_end() -> None:
    """P2: SIGTERM comes first, so a build can remove its temporary files."""
    pids = Pids(1)
    task = start("trap 'echo cleaned >&2; exit 0' TERM; echo $$; sleep 60 & wait", pids)
    await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pids.said[1:] == [("stderr", "cleaned\n")]


async def test_children_that_outlive_the_leader_are_killed() -> None:
    """P2: the leader dies of SIGTERM at once, its child has trapped it; the group gets SIGKILL."""
    pids = Pids(2)
    task = start("sh -c 'trap \"\" TERM; echo $$; sleep 60; sleep 60' & echo $$; wait", pids)
    tree = await pids.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [ends(pid) for pid in tree] == [True, True]


@pytest.mark.slow
async def test_a_background_child_that_holds_the_pipe_is_reported_and_killed() -> None:
    """P3: reading to the end would take as long as the child (slow: it is read on for 1 s)."""
    result = await shell("sleep 60 & echo $!")
    assert (result.exit_code, result.left_running) == (0, True)
    assert ends(int(result.stdout))


async def test_a_background_child_that_holds_no_pipe_is_killed_too() -> None:
    """P3: the group goes with its leader, also when nothing delays the end."""
    result = await shell("sleep 60 >/dev/null 2>&1 & echo $!")
    assert (result.exit_code, result.left_running) == (0, False)
    assert ends(int(result.stdout))


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8])
async def test_a_cancel_during_the_spawn_leaves_no_process(ticks: int, tmp_path: Path) -> None:
    """P1: a cancel in the middle of the spawn orphaned nine of ten processes."""
    pids = tmp_path / "pids"
    task = asyncio.create_task(
        run(["/bin/sh", "-c", f"echo $$ >> {shlex.quote(str(pids))}; exec sleep 60"])
    )
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = pids.read_text().split() if pids.exists() else []
    assert [ends(int(pid)) for pid in started] == [True] * len(started)
    assert children() == set()


def children() -> set[int]:
    """Return the living children of this process."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    listed = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    return {pid for pid in listed if not ends(pid, within=0.0)}


async def test_a_second_cancel_during_the_spawn_leaves_no_process() -> None:
    """P1: who is impatient can't tear the spawn apart either."""
    task = asyncio.create_task(run(["sleep", "60"]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == set()


async def test_a_cancel_during_a_spawn_that_fails_is_a_cancel() -> None:
    """P1: there is nothing to kill, and nobody hears of the missing program."""
    task = asyncio.create_task(run(["/no/such/program"]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_during_the_end_leaves_no_process() -> None:
    """P2: a second cancel while the first one waits for SIGTERM goes to SIGKILL at once."""
    pids = Pids(1)
    task = start("trap '' TERM; echo $$; while true; do sleep 0.1; done", pids)
    (pid,) = await pids.started()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(pid)


async def test_a_line_of_70_000_characters_loses_nothing() -> None:
    """P5: the usual line reader gives up at 64 kB without a newline."""
    said: Said = []
    result = await run([sys.executable, "-c", "print('x' * 70_000, end='')"], said=said)
    assert (result.stdout, "".join(text for _, text in said)) == ("x" * 70_000, "x" * 70_000)


async def test_bytes_that_are_no_text_are_replaced() -> None:
    """P5: a binary file on the terminal is no reason to fail."""
    result = await shell(r"printf 'a\377\360\237b\n'")
    assert result.stdout == "a\ufffd\ufffdb\n"


async def test_a_flood_is_read_at_full_speed_and_kept_bounded() -> None:
    """P6: a command whose output nobody reads stops at 64 kB; `yes` never stops by itself."""
    result = await shell("yes | head -c 5000000")
    assert result.truncated
    assert len(result.stdout) == len("\n... 4800000 characters left out ...\n") + 200_000


async def test_an_endless_flood_ends_with_the_timeout() -> None:
    """P6: the limit fires though the loop is busy reading."""
    size = 0

    def count(name: str, text: str) -> None:
        nonlocal size
        size += len(text)

    with pytest.raises(TimeoutError):
        await run_command(["yes"], env=environment({}, {}), on_output=count, timeout=0.05)
    assert size > 65_536


async def test_a_receiver_of_output_that_raises_ends_the_command() -> None:
    """Nobody listens any more: the command is killed, and who ran it gets the error."""

    def refuse(name: str, text: str) -> None:
        raise LookupError(text)

    running = run_command(
        ["/bin/sh", "-c", "echo $$; exec sleep 60"], env=environment({}, {}), on_output=refuse
    )
    with pytest.raises(LookupError) as caught:
        await running
    assert ends(int(str(caught.value)))


@pytest.mark.parametrize("text", ["echo a; echo b >&2; printf c", "yes | head -c 300000"])
async def test_nothing_is_passed_on_after_the_end(text: str) -> None:
    """P9: when the result is there, so is all of the output."""
    said: Said = []
    result = await run(["/bin/sh", "-c", text], said=said)
    before = list(said)
    await asyncio.sleep(0.01)
    assert said == before
    assert len("".join(piece for _, piece in said)) >= min(300_000, len(result.stdout))


async def test_a_command_sees_a_few_names_of_the_environment_and_what_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P8: the server's secrets are not for every test suite that it runs."""
    monkeypatch.setattr(os, "environ", {"PATH": "/usr/bin:/bin", "LANG": "C", "API_KEY": "s3cret"})
    result = await run(["env"], env={"MODE": "fast"})
    assert dict(line.split("=", 1) for line in result.stdout.splitlines()) == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C",
        "MODE": "fast",
    }


def test_params_are_in_the_environment_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell reads its values from there; what is no text is there as JSON."""
    monkeypatch.setattr(os, "environ", {"HOME": "/home/me"})
    assert environment({"n": "given"}, {"n": 1, "name": "a b", "flags": [True, None]}) == {
        "HOME": "/home/me",
        "n": "given",
        "name": "a b",
        "flags": "[true,null]",
    }


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
async def test_no_value_gets_out_of_its_slot(payload: str, template: str, tmp_path: Path) -> None:
    """P7: whatever stands around a slot, the program gets the value as it is and runs nothing."""
    argv = command_line(template, {"x": payload}, shell=False)
    result = await run(argv, cwd=str(tmp_path))
    assert (result.stdout, os.listdir(tmp_path)) == (payload, [])


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_value_read_by_a_shell_stays_a_value(payload: str, tmp_path: Path) -> None:
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
    ],
)
def test_a_slot_in_code_is_refused(template: str) -> None:
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
    ],
)
def test_a_slot_that_is_an_argument_of_a_program_is_allowed(template: str) -> None:
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
def test_a_template_that_can_not_be_one_says_why(
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


def test_a_param_can_not_replace_what_the_system_reads() -> None:
    """A handler that passes on a client's dict must not hand over the loader and the path (P8)."""
    given = environment({"LANG": "C"}, {"PATH": "/tmp", "LD_PRELOAD": "x.so", "target": "all"})
    assert given["PATH"] == os.environ["PATH"]
    assert "LD_PRELOAD" not in given
    assert (given["target"], given["LANG"]) == ("all", "C")


def test_a_module_s_options_are_its_own() -> None:
    """P7: `-c` after `-m` is no code of Python's."""
    argv = command_line("python -m pytest -c {{config}}", {"config": "a b"}, shell=False)
    assert argv == ["python", "-m", "pytest", "-c", "a b"]
