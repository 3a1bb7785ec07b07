"""A command in a terminal of its own, to be read, typed into and resized."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PATIENCE = 60.0
"""Seconds after which a test that waits has failed; never how long it takes."""


class Pty:
    """The other side of a command's terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self.said = ""
        """All that it has said so far, as it came."""
        self._master = master
        self._read = 0

    @property
    def plain(self) -> str:
        """What it has said without the orders to the terminal."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said)

    def until(self, pattern: str) -> str:
        """Read until what came since the last call has the pattern, and return it."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said[self._read :])) is None:
            assert time.monotonic() < deadline and self._more(), f"no {pattern!r} in {self.said!r}"
        self._read += found.end()
        return found[0]

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def resize(self, columns: int, rows: int = 24) -> None:
        """Give the window another size."""
        set_size(self._master, columns, rows)

    def interrupt(self) -> int:
        """Press Ctrl-C until the command has ended, and return the exit code.

        One that strikes between a prompt and its read is seen with the next key only (CPython).
        """
        while self.process.poll() is None:
            self.type("\x03")
            try:
                self.process.wait(1.0)
            except subprocess.TimeoutExpired:
                continue
        return self.ended()

    def ended(self) -> int:
        """Read all that is left, and return the exit code."""
        while self._more():
            pass
        return self.process.wait(PATIENCE)

    def _more(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE)[0]:
            return False
        try:
            piece = os.read(self._master, 65_536)
        except OSError:  # the last who had it open has gone
            return False
        self.said += piece.decode("utf-8", "replace")
        return bool(piece)


def set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def in_terminal(
    *arguments: str, columns: int = 100, rows: int = 24, env: Mapping[str, str] | None = None
) -> Iterator[Pty]:
    """Run the command in a terminal, and leave nothing of either."""
    master, slave = pty.openpty()
    set_size(slave, columns, rows)
    hidden = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    # The first terminal that a session's leader opens is the one whose Ctrl-C it gets.
    shell = 'exec "$@" <"$0" >"$0" 2>&1'
    command = ["sh", "-c", shell, os.ttyname(slave), sys.executable, "-m", "jobrunner", *arguments]
    process = subprocess.Popen(
        command, start_new_session=True, stdin=slave, stdout=slave, stderr=slave,
        env=inherited | {"TERM": "xterm-256color"} | dict(env or {}),
    )  # fmt: skip
    os.close(slave)  # so that what is read ends with the command
    try:
        yield Pty(process, master)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(master)
