"""Run commands as a job does, and watch the processes that they start."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobrunner import CommandResult
from jobrunner.commands import environment, run_command

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


async def shell(text: str, **options: Said | float | None) -> CommandResult:
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


def carrying(entry: str) -> list[int]:
    """Return the living processes that have `entry`, as in `NAME=value`, in their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:  # no process, gone, or not ours to read
            continue
        if entry.encode() in environment.split(b"\0"):
            found.append(int(directory.name))
    return found


@contextmanager
def input_that_says(text: bytes) -> Iterator[None]:
    """Give this process another standard input: a pipe with some bytes in it, and then its end."""
    kept = os.dup(0)
    reading, writing = os.pipe()
    try:
        os.write(writing, text)
        os.close(writing)
        os.dup2(reading, 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)
