"""Spawns: what can't be started says why, and leaves nothing half started."""

import asyncio
import errno
import gc
import os
import resource
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobrunner import CommandNotFound, JobContext, JobRunner
from jobrunner.commands import environment, run_command
from tests.running import carrying, run


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave this process as many file descriptors as that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_open()) + count + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def _open() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


@pytest.mark.slow
@pytest.mark.parametrize("count", range(12))
async def test_p1_a_spawn_without_descriptors_fails_and_leaves_nothing(count: int) -> None:
    """Some are needed before the fork, and some after it (slow: a search is tried for 2 s)."""
    entry = f"SPAWN={secrets.token_hex(8)}"
    await run(["true"])
    before = len(_open())
    with free_descriptors(count):
        try:
            await run(["sleep", "60"], env=dict([entry.split("=")]), timeout=0.05)
        except TimeoutError:
            pass  # they were enough
        except OSError as error:
            assert (error.errno, str(error)) == (
                errno.EMFILE,
                "[Errno 24] can't run 'sleep': Too many open files",
            )
    gc.collect()
    assert (carrying(entry), len(_open())) == ([], before)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="watched by a thread, not a descriptor")
async def test_p1_a_process_that_can_not_be_watched_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its descriptor is opened after the fork; when that fails, nobody else knows its pid."""
    entry = f"SPAWN={secrets.token_hex(8)}"

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    await run(["true"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(OSError, match="can't run 'sleep': Too many open files"):
            await run(["sleep", "60"], env=dict([entry.split("=")]))
    assert carrying(entry) == []


@pytest.mark.slow
async def test_a_job_without_descriptors_fails_and_says_so() -> None:
    """It is no fault of the command, so a retry may be worth it (slow: a search is tried)."""
    async with JobRunner() as runner:

        @runner.job
        async def build(ctx: JobContext) -> None:
            await ctx.run_command("true")

        with free_descriptors(0):
            view = await (await runner.submit(build)).wait()
        assert view.error is not None
        assert (view.error.type, view.error.title) == (
            "OSError",
            "[Errno 24] can't run 'true': Too many open files",
        )
        assert (await (await runner.submit(build)).wait()).status == "completed"


async def test_a_working_directory_that_has_vanished_is_named(tmp_path: Path) -> None:
    """A checkout that was removed while its job waited is an error that can be read."""
    gone = tmp_path / "gone"
    gone.mkdir()
    gone.rmdir()
    with pytest.raises(CommandNotFound, match=rf"^can't run 'true': .*No such file.*{gone}"):
        await run(["true"], cwd=str(gone))


async def test_a_program_that_is_not_executable_is_named(tmp_path: Path) -> None:
    """A script without its mode is the usual fault after a copy."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(CommandNotFound, match=r"^can't run '.*script': .*Permission denied"):
        await run([str(script)])


async def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    """The kernel knows no format without a first line that names an interpreter."""
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01\x02")
    script.chmod(0o755)
    with pytest.raises(CommandNotFound, match=r"^can't run '.*script': .*Exec format error"):
        await run([str(script)])


async def test_arguments_that_are_too_long_are_named_without_being_shown() -> None:
    """A list of a million files is no argument list, and no error message either."""
    with pytest.raises(CommandNotFound) as caught:
        await run(["echo", "x" * 5_000_000])
    assert str(caught.value) == "can't run 'echo': [Errno 7] Argument list too long: 'echo'"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"A": "b\0c"}, "there is a null byte"),
        ({"A=B": "c"}, "there is an environment variable with '=' in its name"),
        ({"A": "\ud800"}, ".*surrogates not allowed"),
    ],
)
async def test_an_environment_that_no_program_can_take_is_named(
    env: dict[str, str], message: str
) -> None:
    """A value that came with a job must not end as an error of the runner's own."""
    with pytest.raises(CommandNotFound, match=f"^can't run 'true': {message}$"):
        await run(["true"], env=env)


async def test_two_hundred_commands_at_once_end_each_with_its_own_output() -> None:
    """No output, exit code or pid is mixed up with another's."""

    async def one(number: int) -> tuple[int, str]:
        said: list[str] = []
        result = await run_command(
            ["/bin/sh", "-c", f"echo {number}; exit {number % 100}"],
            env=environment({}, {}),
            on_output=lambda name, text: said.append(text),
        )
        assert "".join(said) == result.stdout
        return result.exit_code, result.stdout

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(200)]
    assert [task.result() for task in tasks] == [(n % 100, f"{n}\n") for n in range(200)]
