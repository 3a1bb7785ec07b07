"""Exit codes, and errors as one line that says what is wrong and what to do."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import IO, NoReturn, ParamSpec

import typer

from .. import errors
from .stripping import one_line

P = ParamSpec("P")

FAILED, USAGE, NO_SERVER, UNKNOWN, REFUSED = 1, 2, 3, 4, 5
TIMED_OUT, NOT_FOUND = 124, 127
"""As `timeout` has it, and a shell without the program."""
INTERRUPTED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + signal.SIGPIPE
"""As shells have it."""
MEANINGS = {
    0: "all is well",
    FAILED: "a job failed or was cancelled",
    USAGE: "wrong options, params or answer; an unknown job type",
    NO_SERVER: "no server, or several and none chosen",
    UNKNOWN: "no such job or question, or no longer kept",
    REFUSED: "the server refuses: wrong token, no room, not in this state",
    TIMED_OUT: "the time to wait is over (`run`: the command's)",
    NOT_FOUND: "`run`: no such program; else it ends with the command's own",
    INTERRUPTED: "Ctrl-C; jobs on a server go on",
    BROKEN_PIPE: "whoever read the output has gone",
}
"""What is shown below `jobrunner --help`, and stands in the README."""
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.JobUnsuccessful, FAILED),
    (errors.UnknownJobType, USAGE),
    (LookupError, UNKNOWN),
    (errors.ServerUnreachable, NO_SERVER),
    (TimeoutError, TIMED_OUT),
    (ValueError, USAGE),
)
_WAYS_OUT = {
    "unauthorized": "Give the token as JOBRUNNER_TOKEN, or the URL that `jobrunner serve` printed.",
    "unknown-job-type": "`jobrunner types` lists them.",
    "job-not-final": "`jobrunner cancel` stops it first.",
}
"""What a user of the command line can do, by the error's code."""
_NOT_OURS = "no-jobrunner"
"""Code of the client for an answer from another program."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full disk says to who writes to a file that is open."""


def told(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command of a function: what it raises on purpose is a line and an exit code."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (errors.JobRunnerError, TimeoutError) as error:
            refuse(explained(error), code_of(error))

    return steady(command)


def steady(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command of a function: it takes odd output, a reader that leaves and a full disk."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        _open_closed()
        for out in (sys.stdout, sys.stderr):
            if callable(change := getattr(out, "reconfigure", None)):
                change(errors="replace")  # a terminal that can't show a character isn't fatal
        try:
            try:
                function(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where somebody sees that it fails
        except BrokenPipeError:
            _give_up(sys.stdout)
            raise typer.Exit(BROKEN_PIPE) from None
        except OSError as error:
            if error.errno not in _NO_ROOM or error.filename is not None:
                raise
            _give_up(sys.stdout)
            refuse(f"can't write: {error.strerror}", FAILED)

    return command


def code_of(error: BaseException) -> int:
    """Return the exit code for what a client raises."""
    if isinstance(error, errors.ServerProblem):
        return NO_SERVER if error.code == _NOT_OURS else REFUSED
    return next((code for kind, code in _CODES if isinstance(error, kind)), REFUSED)


def explained(error: BaseException) -> str:
    """Return what an error says, and the way out."""
    code = error.code if isinstance(error, errors.JobRunnerError) else ""
    ways = [_WAYS_OUT[code]] if code in _WAYS_OUT else getattr(error, "__notes__", [])
    said = str(error)
    return " ".join([said if said[-1:] in ".!?" or not ways else f"{said}.", *ways])


def complain(message: str) -> None:
    """Say on stderr what is wrong, in one line."""
    try:
        print(f"jobrunner: {one_line(message, 4_000)}", file=sys.stderr, flush=True)
    except OSError:  # there is no room for it, and the exit code speaks for itself
        _give_up(sys.stderr)


def refuse(message: str, code: int) -> NoReturn:
    """Say on stderr what is wrong, and end."""
    complain(message)
    raise typer.Exit(code)


def _open_closed() -> None:
    """Have what is closed, as by `>&-`, lead nowhere, as `print` has it where stdout is None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def _give_up(out: IO[str]) -> None:
    """Nobody reads any more: what is still to be flushed at the exit goes nowhere."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, out.fileno())
        os.close(descriptor)
    except (OSError, ValueError):  # it is no file
        pass
