"""A subprocess and everything it starts, run to its end or killed with nothing left behind.

Knows no job: it is given an argument list and something to call with output. Each command leads a
process group of its own; whatever ends the command ends the group, and on Linux what has left it.
"""

import asyncio
import errno
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from .errors import CommandFailed, CommandNotFound, InvalidOption
from .output import OnOutput, Output
from .processes import Tree, finished

TERMINATE_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL to the group."""
DRAIN = 1.0
"""Seconds to read on after the command's exit while something else holds its pipes."""
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "SHELL", "TERM")
"""What a command sees of the server's environment: never its secrets (P8)."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""What says nothing against the command: the system has no room for it now."""
_INTERPRETERS = {
    r"r?(ba|da|z|k|mk|fi|a|c|tc)?sh|(python|pypy)[\d.]*": "c",
    r"(perl|ruby)[\d.]*": "eE",
    r"node(js)?": "ep",
    r"php[\d.]*": "rBRE",
    r"bun|lua(jit)?[\d.]*|Rscript": "e",
    r"env": "S",
}
"""Programs that take code as an argument, and the letters of the options that come before it."""
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended and what it said."""

    exit_code: int
    """Its exit code; the negative number of the signal that killed it."""
    stdout: str
    """Standard output; the middle is left out when it is longer than 200,000 characters."""
    stderr: str
    """Standard error, likewise."""
    duration: float
    """Seconds from its start to its exit."""
    truncated: bool
    """Whether anything of the output was left out here."""
    left_running: bool = False
    """Whether something it had started still held its output, and was killed."""


class Verbatim(list[str]):
    """Program and arguments to execute as they are: nothing in them is a placeholder."""


def placeholders(command: str | Sequence[str]) -> list[str]:
    """Return the names in `{{name}}` of a template, each once, in order."""
    text = command if isinstance(command, str) else "\n".join(command)
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def command_line(
    command: str | Sequence[str], params: Mapping[str, Any], *, shell: bool
) -> list[str]:
    """Return the arguments to execute; a value can never become more than a part of one argument.

    A template is split first and filled in afterwards, since no quoting is safe in every place of
    a shell's text (P7). With `shell=True` nothing is filled in at all: the values are in the
    command's environment under their names.

    Raises:
        InvalidOption: The template is empty, has an open quote, a placeholder without a value, or
            a placeholder in shell text.
    """
    if shell:
        return _shell_line(command)
    if isinstance(command, Verbatim):
        return command
    try:
        parts = _split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise InvalidOption(f"the command {command!r} can't be split: {error}") from None
    if not parts:
        raise InvalidOption("the command is empty; give a program and its arguments")
    if not all(isinstance(part, str) for part in parts):
        raise InvalidOption(f"the command {command!r} must be made of strings only")
    refuse_code(parts)
    return [_PLACEHOLDER.sub(lambda match: _value(match[1], params), part) for part in parts]


def _split(command: str) -> list[str]:
    return shlex.split(_PLACEHOLDER.sub(r"{{\1}}", command))  # blanks in `{{ x }}` split nothing


def refuse_code(parts: Sequence[str]) -> None:
    """An argument that an interpreter takes as its program is code: nothing is safe in there.

    The interpreter may stand behind others, as in `timeout 5 sh -c`, and its options may take
    values, so whatever could be code counts as code.

    Raises:
        InvalidOption: There is a placeholder in code.
    """
    for place, program in enumerate(parts):
        for code in _code(os.path.basename(program), parts[place + 1 :]):
            if names := placeholders(code):
                raise InvalidOption(
                    f"{{{{{names[0]}}}}} stands in code for {program}, where no quoting is safe; "
                    f'read it there from the environment, as "${names[0]}" in a shell'
                )


def _code(program: str, arguments: Sequence[str]) -> Iterator[str]:
    """Yield each option that announces code, and what follows it up to the first word."""
    letters = next((v for k, v in _INTERPRETERS.items() if re.fullmatch(k, program)), None)
    if letters is None:
        return
    announces = re.compile(rf"-[A-Za-z0-9]*[{letters}]|--(eval|print|command)")
    announced, before = False, ""
    for argument in arguments:
        if program.startswith(("python", "pypy")) and argument.startswith("-m"):
            return  # the rest belongs to the module
        announced = announced or announces.match(argument) is not None
        if announced:
            yield argument
            announced = argument.startswith("-") or re.match(r"-\w*[oO]\Z", before) is not None
        before = argument


def _shell_line(command: str | Sequence[str]) -> list[str]:
    if not isinstance(command, str):
        raise InvalidOption("with shell=True the command is one string")
    if names := placeholders(command):
        raise InvalidOption(
            f"{{{{{names[0]}}}}} stands in shell text, where no quoting is safe; "
            f'write "${names[0]}": the params are in the environment of a shell command'
        )
    return ["/bin/sh", "-c", command]


def _value(name: str, params: Mapping[str, Any]) -> str:
    if name not in params:
        raise InvalidOption(f"the command has a placeholder {{{{{name}}}}} but no param {name!r}")
    value = params[name]
    return value if isinstance(value, str) else to_json(value).decode()


def environment(extra: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of a command: a few inherited names, the params, what is given.

    Names in capitals belong to the system (PATH, LD_PRELOAD), so params with such names are left
    out: a value that a client chose must not choose what is executed.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    given = {name: _value(name, params) for name in params if name != name.upper()}
    return inherited | given | dict(extra)


async def run_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    on_output: OnOutput,
    stdin: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    check: bool = False,
) -> CommandResult:
    """Run `argv` to its end and return how it ended.

    Whatever ends the wait, the command's exit, the timeout or a cancellation, the whole process
    group is gone when this returns, and on Linux what has left the group: SIGTERM, 2 s, SIGKILL;
    a second cancellation cuts the 2 s short. Standard input is `stdin`, or empty. Output is read
    at full speed to the end, however much of it is kept.

    Raises:
        CommandNotFound: The program or the working directory isn't there, or can't be used.
        CommandFailed: The exit code isn't 0, and `check` is set.
        TimeoutError: It took longer than `timeout` seconds.
        OSError: There are no descriptors, processes or memory left to start it.
    """
    loop = asyncio.get_running_loop()
    tree = Tree()
    try:
        output = Output(on_output, loop)
        with _standard_input(stdin) as given:
            group = await _spawn(argv, env=env, cwd=cwd, stdin=given, output=output, tree=tree)
        started = loop.time()
        try:
            async with asyncio.timeout(timeout):
                await group.wait()
        except TimeoutError:
            raise TimeoutError(f"the command {argv[0]} timed out after {timeout:g} s") from None
        finally:
            duration = loop.time() - started
            await group.end()
    finally:
        tree.forget()
    if (error := group.output.error) is not None:
        raise error
    result = group.result(duration)
    if check and result.exit_code != 0:
        raise CommandFailed(_failure(argv, result))
    return result


def _failure(argv: Sequence[str], result: CommandResult) -> str:
    said = (result.stderr or result.stdout)[-2_000:]
    return f"{shlex.join(argv)} ended with exit code {result.exit_code}\n{said}".rstrip()


@contextmanager
def _standard_input(text: str | None) -> Iterator[int]:
    """Give a file for a command to read: unlike a pipe it needs nobody to feed it."""
    if text is None:
        yield asyncio.subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode("utf-8", "replace"))
        file.seek(0)
        yield file.fileno()


async def _spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None,
    stdin: int,
    output: Output,
    tree: Tree,
) -> "_Group":
    """Start the process in a task that a cancellation can't tear apart halfway (P1)."""
    _check_text(argv, env)
    loop = asyncio.get_running_loop()
    spawning = loop.create_task(
        loop.subprocess_exec(
            lambda: output,
            *argv,
            stdin=stdin,
            env={**env, **tree.environment},
            cwd=cwd,
            start_new_session=True,
        ),
        name=f"spawn {argv[0]}",
    )
    try:
        transport, _ = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        await _kill_when_spawned(spawning, output, tree)
        raise
    except (OSError, ValueError) as error:
        await _clear(output, tree)
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            raise OSError(error.errno, f"can't run {argv[0]!r}: {error.strerror}") from None
        raise CommandNotFound(f"can't run {argv[0]!r}: {error}") from None
    return _Group(transport, output, tree)


def _check_text(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuse what the system would cut off at a null byte: uvloop passes it on as it is."""
    cut = any("\0" in text for text in (*argv, *env, *env.values()))
    if cut or any("=" in name for name in env):
        what = "a null byte" if cut else "an environment variable with '=' in its name"
        raise CommandNotFound(f"can't run {argv[0]!r}: there is {what}")


async def _kill_when_spawned(
    spawning: "asyncio.Task[tuple[asyncio.SubprocessTransport, Output]]", output: Output, tree: Tree
) -> None:
    """A process half started can't be left, however often we are asked."""
    try:
        await finished(spawning)
    finally:
        if spawning.exception() is None:
            await _Group(spawning.result()[0], output, tree).end(grace=0.0)
        else:
            await _clear(output, tree)


async def _clear(output: Output, tree: Tree) -> None:
    """A spawn that fails may leave a process: asyncio needs a descriptor more to watch it."""
    try:
        await tree.sweep()
    finally:
        output.abandon()


class _Group:
    """A process group, led by the command."""

    def __init__(self, transport: asyncio.SubprocessTransport, output: Output, tree: Tree) -> None:
        self._transport = transport
        self.output = output
        self._tree = tree
        self._left_running = False
        tree.lead(transport.get_pid())

    async def wait(self) -> None:
        """Wait until the command has exited, or a receiver of its output has raised.

        Not for its pipes: whatever it started may still hold them (P3).
        """
        await asyncio.wait([self.output.ended])

    async def end(self, *, grace: float = TERMINATE_GRACE) -> None:
        """End whatever is left of the tree, and read its last output."""
        try:
            if self.output.exited.done():
                await asyncio.wait([self.output.closed], timeout=DRAIN)
                self._left_running = not self.output.closed.done()
            elif grace:
                await self._tree.look()
                self._tree.signal(signal.SIGTERM)
                await asyncio.wait([self.output.exited], timeout=grace)
        finally:
            await self._kill()

    async def _kill(self) -> None:
        """Always, and all: children outlive the leader (P2), some outside of the group (P4)."""
        try:
            await self._tree.sweep()
        finally:
            self._tree.signal(signal.SIGKILL)
            try:
                await asyncio.wait([self.output.exited, self.output.closed], timeout=DRAIN)
            finally:
                self._transport.close()
                self.output.finish()

    def result(self, duration: float) -> CommandResult:
        stdout, stderr = self.output.streams.values()
        exit_code = self._transport.get_returncode()
        return CommandResult(
            exit_code=-signal.SIGKILL if exit_code is None else exit_code,
            stdout=stdout.kept.text(),
            stderr=stderr.kept.text(),
            duration=round(duration, 3),
            truncated=stdout.kept.truncated or stderr.kept.truncated,
            left_running=self._left_running,
        )
