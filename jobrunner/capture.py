"""What a handler says otherwise than by its context, kept with its job: `capture_logs=True`.

    logging.Logger.info(...)  -> a handler of the root logger -+
    warnings.warn(...)        -> `warnings.showwarning`       -+-> log events of the current job
    print(...)                -> `sys.stdout`                 -+-> output events

Everything goes where it went before, too. The taps are there while a capturing attempt runs, and
what passes in another job, or in none, only passes. Nothing here waits: a thread that logs may hold
a lock of `logging` that the event loop needs next.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from . import current
from .context import JobContext
from .events import EventType
from .said import MAX_TEXT, as_fields
from .wording import class_name, clip, describe, traceback_text

_OF_THE_LOOP = "asyncio"
"""Its lines come when an object is collected or a loop turns, whoever runs then."""
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName",
             "job_id", "job_type"}  # fmt: skip
"""What a record has without `extra`."""


class Captured:
    """What the handler of one attempt says, from its begin to `close`."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._lines: dict[int, str] = {}
        self._lock = threading.Lock()
        self._left_out = 0

    def log(self, text: str, fields: dict[str, Any]) -> None:
        """Keep a line of a log."""
        self._keep("log", {"text": clip(text, MAX_TEXT), "fields": fields})

    def write(self, text: str, *, end: bool = False) -> None:
        """Keep what is printed: whole lines of a thread, or others' would be in between.

        Args:
            end: Whether the last line is whole though nothing ends it.
        """
        thread = threading.get_ident()
        with self._lock:
            text = self._lines.pop(thread, "") + text
            size = len(text) if end or len(text) > MAX_TEXT else text.rfind("\n") + 1
            if size < len(text):
                self._lines[thread] = text[size:]
        self._print(text[:size])

    def close(self) -> None:
        """Keep the lines that nothing has ended, and no more; in the loop's thread."""
        _taps.leave()
        with self._lock:
            rest = "".join(self._lines.values())
            self._lines.clear()
        self._print(rest)
        if self._left_out:
            self.log(f"{self._left_out} lines are left out here: they came too fast", {})

    def _print(self, text: str) -> None:
        for start in range(0, len(text), MAX_TEXT):
            piece = clip(text[start : start + MAX_TEXT], MAX_TEXT)
            self._keep("output", {"stream": "stdout", "text": piece})

    def _keep(self, kind: EventType, data: dict[str, Any]) -> None:
        if not self._context._offer(kind, data):
            self._left_out += 1


def capture(context: JobContext) -> None:
    """Keep what is said in an attempt from now on, until its context is closed."""
    context._captured = Captured(context)
    _taps.enter()


class _Busy(threading.local):
    """Whether this thread keeps something now: what that says itself isn't kept."""

    on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *raised: object) -> None:
        self.on = False


_busy = _Busy()


def _here() -> Captured | None:
    """Return where what is said here is kept; None if it isn't."""
    job = None if _busy.on else current.current_job()
    found = None if job is None else job._captured
    return found if isinstance(found, Captured) else None


class _Tee:
    """A text stream in front of another one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text, and keep it."""
        _taps.heal(self)
        captured = _here() if isinstance(text, str) else None
        if captured is None:
            return self.stream.write(text)
        with _busy:
            captured.write(text)
            return self.stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, and keep what stands in a line that hasn't ended."""
        if (captured := _here()) is not None:
            with _busy:
                captured.write("", end=True)
        self.stream.flush()


class _LogTap(logging.Handler):
    """Keeps the records that come to the root logger."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle the record without the lock: who holds it could wait for who waits for it."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, and show it where it would be shown if there were no taps."""
        own = current.is_own(record.name) or record.name == _OF_THE_LOOP
        captured = None if own else _here()
        if captured is not None:
            with _busy:
                captured.log(_text_of(record), _fields_of(record))
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone(record.name):
            last.handle(record)

    def _is_alone(self, name: str) -> bool:
        """Return whether no other handler sees what this logger logs."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent  # to which it was passed on, or it wouldn't be here
        return True


class _WarningTap:
    """Shows warnings, in front of what did before; who puts something around it has both."""

    def __init__(self, show: Callable[..., Any]) -> None:
        self.show = show

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Keep a warning, but for those of the collector, which comes whoever runs."""
        _taps.heal(self)
        captured = _here()
        if captured is None:
            self.show(message, category, filename, lineno, file, line)
            return
        with _busy:
            if not issubclass(category, ResourceWarning):
                text = describe(message) if isinstance(message, Warning) else str(message)
                place = {"file": filename, "line": lineno}
                fields = {"level": "WARNING", "logger": "py.warnings", **place}
                captured.log(f"{category.__name__}: {text}", fields)
            self.show(message, category, filename, lineno, file, line)


class _Taps:
    """What is put into the process while anybody captures, and taken out after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._log = _LogTap()

    def enter(self) -> None:
        """Be there, also where somebody has put something else in the place meanwhile."""
        with self._lock:
            self._users += 1
            logging.getLogger().addHandler(self._log)
            if sys.stdout is not None and not isinstance(sys.stdout, _Tee):
                sys.stdout = _Tee(sys.stdout)
            if not isinstance(warnings.showwarning, _WarningTap):
                warnings.showwarning = _WarningTap(warnings.showwarning)

    def leave(self) -> None:
        """Go, when nobody is left. What others have put in front stays, and goes on to work."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                logging.getLogger().removeHandler(self._log)
                if isinstance(sys.stdout, _Tee):
                    sys.stdout = sys.stdout.stream
                if isinstance(warnings.showwarning, _WarningTap):
                    warnings.showwarning = warnings.showwarning.show

    def heal(self, tap: "_Tee | _WarningTap") -> None:
        """Take out what somebody has put back who had kept it."""
        if self._users > 0:
            return
        if sys.stdout is tap:
            sys.stdout = tap.stream
        elif warnings.showwarning is tap:
            warnings.showwarning = tap.show


_taps = _Taps()


def _text_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # the arguments are anybody's, and a line fails no job
        text = f"a line that can't be formatted: {class_name(error)}: {describe(error)}"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}\n{traceback_text(record.exc_info[1])}"
    return f"{text}\n{record.stack_info}" if record.stack_info else text


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return as_fields({"level": record.levelname, "logger": record.name, **extra})
