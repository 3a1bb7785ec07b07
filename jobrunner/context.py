"""What a handler may do while it runs: say how far it is, log, emit, run a command, stop in time.

All but `run_command`, which is awaited, may be called from threads too. Such a call is handed to
the event loop: in order, and with no more than a bounded number on the way.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias

from . import commands
from .askers import Asker, Notify
from .errors import InvalidOption
from .events import EventType
from .inbox import Inbox
from .jobs import Job, Step, report
from .limits import check_seconds
from .output import Lines, OnOutput, StreamName
from .parents import Parent
from .said import MAX_TEXT, as_fields, as_json, as_message, as_percent
from .subjobs import Kin, SubJobs
from .wording import clip

Record: TypeAlias = Callable[[Job, EventType, Mapping[str, Any]], None]


class Desk:
    """Where what handlers say goes to; one for all that run in a loop.

    Args:
        loop: The event loop.
        record: Keeps what a handler of a job has said.
        extend: Gives an attempt at a job some seconds more.
        aside: Returns what gives the worker of an attempt back while it is entered, as it waits
            for somebody; None where there are no workers.
        ask: Asks a person; likewise.
        kin: Takes sub-jobs in; None where there is no runner.
    """

    __slots__ = ("aside", "ask", "extend", "kin", "loop", "record")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        record: Record,
        extend: Callable[[Job, float], None],
        aside: "StandAside | None" = None,
        ask: "Ask | None" = None,
        kin: Kin | None = None,
    ) -> None:
        self.loop = loop
        self.record = record
        self.extend = extend
        self.aside = aside
        self.ask = ask
        self.kin = kin


class StandAside(Protocol):
    """See `Sideline`."""

    def __call__(
        self, context: "JobContext", *, for_answer: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Return what stands aside while it is entered."""
        ...

    def check(self, context: "JobContext") -> None:
        """Raise what entering it would."""


class Ask(Protocol):
    """See `JobContext.ask`."""

    def __call__(
        self,
        context: "JobContext",
        prompt: str,
        *,
        schema: Any,
        timeout: float | None,
        default: Any,
        notify: Notify | None,
    ) -> Coroutine[Any, Any, Any]:
        """Return what asks, and returns the answer."""
        ...


class Ending(Protocol):
    """What ends with an attempt."""

    def close(self) -> None:
        """End; it may still record something."""
        ...


class JobContext(Parent, Asker):
    """The running job, as its handler sees it.

    A handler gets it by annotating a parameter with this class. It is made for one attempt; once
    the attempt has ended, whatever is still called on it has no effect.

    Example:
        @runner.job
        async def read(ctx: JobContext, paths: list[str]) -> int:
            for number, path in enumerate(paths, 1):
                ctx.step(number, len(paths), f"Reading {path}")
                ctx.log("read", path=path)
            return len(paths)
    """

    __slots__ = ("_attempt", "_cancel_requested", "_captured", "_desk", "_inbox", "_job",
                 "_last_sign")  # fmt: skip

    def __init__(self, job: Job, desk: Desk, *, inbox: Inbox | None = None) -> None:
        self._job = job
        self._desk = desk
        self._last_sign = desk.loop.time()
        self._inbox = inbox or Inbox(desk.loop)
        self._attempt = job.attempt
        self._cancel_requested = False
        self._calls = self._subjobs = None
        self._captured: Ending | None = None

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self._job.id

    @property
    def type(self) -> str:
        """Job type, the name of the handler."""
        return self._job.type

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._attempt

    @property
    def max_attempts(self) -> int:
        """How many attempts the job has in all."""
        return self._job.max_attempts

    @property
    def session_id(self) -> str | None:
        """Session that the job was submitted with."""
        return self._job.session_id

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata that the job was submitted with."""
        return self._job.metadata or {}

    @property
    def cancel_requested(self) -> bool:
        """Whether this attempt is to stop: cancelled, out of time, or shutting down.

        A coroutine is cancelled as well; a thread has to look here, or at `check_cancelled`.
        """
        return self._cancel_requested

    def check_cancelled(self) -> None:
        """Raise `asyncio.CancelledError` when this attempt is to stop; call it in long loops."""
        if self._cancel_requested:
            raise asyncio.CancelledError(f"job {self._job.id} was asked to stop")

    def progress(self, percent: float, message: str | None = None) -> None:
        """Say how far the job is.

        Args:
            percent: 0 to 100; what is outside is taken as the nearer end.
            message: What it is doing, for a person; None keeps the last message.

        Raises:
            InvalidOption: `percent` is no number.
        """
        value, said = as_percent(percent), as_message(message)
        self._do(lambda: self._set_progress(value, said, self._job.step))

    def step(self, current: int, total: int, message: str | None = None) -> None:
        """Say how far the job is in steps; sets the percentage to `current / total`.

        Raises:
            InvalidOption: `total` isn't above 0, or `current` isn't within it.
        """
        if not (type(current) is int and type(total) is int and 0 <= current <= total > 0):
            raise InvalidOption(f"step {current!r} of {total!r}; say 0 <= current <= total")
        value, said = as_percent(100 * current / total), as_message(message)
        self._do(lambda: self._set_progress(value, said, Step(current, total)))

    def log(self, message: str, /, **fields: Any) -> None:
        """Add a line to the job's log, with fields; what JSON can't hold is kept as text.

        Fields that are over 16,384 bytes of JSON together are left out, and the line says so.
        """
        kept = as_fields(fields) if fields else {}
        data = {"text": clip(str(message), MAX_TEXT), "fields": kept}
        self._do(lambda: self._record("log", data))

    def emit(self, value: Any, *, channel: str = "text") -> None:
        """Stream a piece of partial output: text, or any other value as JSON.

        Every watcher sees it. A late one does too: all text that the job's log still has, 5,000,000
        characters by default, in fewer and larger pieces. Nothing in it is masked.

        Args:
            value: A text is a piece of all the text of its channel; one over 16,384 characters is
                streamed in several. Any other value stands for itself, as JSON: what JSON can't
                hold as its `repr`, and over 16,384 bytes only how long it was.
            channel: Which output it belongs to, "reasoning" for example. That of "text" is what
                others see as the job's `partial` output.

        Raises:
            InvalidOption: `channel` isn't 1 to 64 printable characters.
        """
        if not (isinstance(channel, str) and 0 < len(channel) <= 64 and channel.isprintable()):
            raise InvalidOption(
                f"channel is {channel!r:.100}; it must be 1 to 64 printable characters"
            )
        if not isinstance(value, str):
            data = {"stream": channel, "text": as_json(value), "json": True}
            self._do(lambda: self._record("output", data))
        elif len(value) <= MAX_TEXT:
            self._output(channel, clip(value, MAX_TEXT))
        else:
            for start in range(0, len(value), MAX_TEXT):
                self._output(channel, clip(value[start : start + MAX_TEXT], MAX_TEXT))

    def extend_timeout(self, seconds: float) -> None:
        """Give this attempt `seconds` more than its time limit says.

        Without a limit, or once the attempt was asked to stop, it has no effect; the job's
        deadline holds all the same.

        Raises:
            InvalidOption: `seconds` isn't above 0.
        """
        more = check_seconds("seconds", seconds) or 0.0
        self._do(lambda: self._desk.extend(self._job, more))

    async def run_command(
        self,
        command: str | Sequence[str],
        *,
        params: Mapping[str, Any] | None = None,
        stdin: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        shell: bool = False,
        on_line: OnOutput | None = None,
    ) -> commands.CommandResult:
        """Run a command; its output is streamed as events, and kept in the result.

        However this ends, nothing of what the command started is left. There is no shell, and a
        placeholder in the code of an interpreter (`sh -c`, `python -c`) is refused; what else a
        program makes of its arguments (`ssh`, `awk`, an option that begins with `-`) is its own.

        Args:
            command: Program and arguments, or a template of them in one string. `{{name}}` is
                filled in from `params`, and stays within its argument.
            params: Values for the placeholders. They are in the command's environment too, but for
                names in capitals, which belong to the system.
            stdin: What it reads from its standard input; None for nothing.
            cwd: Working directory; None for the server's own.
            env: Environment variables beside the few that a command inherits (PATH, HOME, ...).
            timeout: Seconds; None leaves it to the job's own limit.
            check: Whether an exit code other than 0 is an error.
            on_line: Called with the stream's name and each whole line, to read progress from it.
            shell: Give the string to `/bin/sh`, without placeholders; write `"$name"` instead.

        Raises:
            CommandNotFound: The program or the directory isn't there.
            CommandFailed: The exit code isn't 0, with `check`.
            TimeoutError: It took longer than `timeout`.
            InvalidOption: The template doesn't fit the params.
        """
        values = params or {}

        lines = None if on_line is None else Lines(on_line)

        def deliver(stream: StreamName, text: str) -> None:
            self._output(stream, text)
            if lines is not None:
                lines.feed(stream, text)

        result = await commands.run_command(
            commands.command_line(command, values, shell=shell),
            env=commands.environment({"JOBRUNNER_JOB_ID": self.job_id, **(env or {})}, values),
            on_output=deliver,
            stdin=stdin,
            cwd=cwd,
            timeout=timeout,
            check=check,
        )
        if lines is not None:
            lines.finish()
        return result

    def _do(self, call: Callable[[], None]) -> None:
        """Carry it out in the loop; whatever a handler says is a sign of life."""
        self._last_sign = self._desk.loop.time()
        self._inbox.do(call)

    def _record(self, kind: EventType, data: Mapping[str, Any]) -> None:
        self._desk.record(self._job, kind, data)

    def _set_progress(self, percent: float, message: str | None, step: Step | None) -> None:
        job = self._job
        said = job.progress_message if message is None else message
        if report(job, percent, said, step):
            shown = step and {"current": step.current, "total": step.total}
            self._record("progress", {"progress": percent, "progress_message": said, "step": shown})

    def _output(self, stream: str, text: str) -> None:
        if text:  # of nothing there is nothing to keep, but it is a sign of life
            self._do(lambda: self._record("output", {"stream": stream, "text": text}))
        else:
            self._do(lambda: None)

    def _replay(self, kind: EventType, data: Mapping[str, Any]) -> None:
        """Record what a handler has said in another process; for engines only."""
        self._do(lambda: self._record(kind, data))

    def _offer(self, kind: EventType, data: Mapping[str, Any]) -> bool:
        """Record what is said beside the context, unless it would have to wait; for `capture`."""
        self._last_sign = self._desk.loop.time()
        return self._inbox.offer(lambda: self._record(kind, data))

    def _sign_of_life(self) -> float:
        """Return when the handler last said anything, on the loop's clock; for the worker only."""
        return self._last_sign

    def _show_life(self) -> None:
        """Count the handler's silence from now on; for the worker only."""
        self._last_sign = self._desk.loop.time()

    def _request_stop(self) -> None:
        """Tell the handler that this attempt is to stop; for the worker only."""
        self._cancel_requested = True
        self._stop_subjobs()

    def _close(self) -> None:
        """Take what threads have on the way, and nothing after; for the worker only."""
        captured, self._captured = self._captured, None
        self._inbox.close(None if captured is None else captured.close)
        if self._subjobs is not None:
            self._stop_subjobs()

    def _make_subjobs(self) -> SubJobs:
        def say(percent: float, message: str, step: Step) -> None:
            self._do(lambda: self._set_progress(percent, message, step))

        made = SubJobs(self._job, self._desk.kin, aside=lambda: stand_aside(self), say=say)
        made.open = not (self._cancel_requested or self._inbox.closed)
        return made

    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._desk.loop

    def _asking(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        if self._desk.ask is None:
            raise InvalidOption(_ELSEWHERE)
        return partial(self._desk.ask, self)


def stand_aside(
    context: JobContext, *, for_answer: bool = False
) -> AbstractAsyncContextManager[None]:
    """Return what gives the worker of an attempt back while it is entered, in the event loop.

    Leaving it waits for a worker again, unless the attempt waits for something else too; who is to
    stop has none and needs none. Its stall timeout stands still meanwhile, its deadline doesn't.

    Args:
        for_answer: Whether a person is waited for; the attempt's time limit stands still then.

    Raises:
        InvalidOption: The handler runs in a process of its own.
        asyncio.CancelledError: The attempt has ended.
    """
    aside = context._desk.aside
    if aside is None:
        raise InvalidOption(_ELSEWHERE)
    return aside(context, for_answer=for_answer)


_ELSEWHERE = (
    "a handler in a process of its own can't wait for others; let a coroutine do that, and submit "
    "the job of the process from there"
)
