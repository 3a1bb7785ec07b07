"""What a command writes: bytes to text, text to lines, the ends of it kept for the result."""

import asyncio
import codecs
from collections.abc import Callable
from typing import Literal, TypeAlias

StreamName: TypeAlias = Literal["stdout", "stderr"]
OnOutput: TypeAlias = Callable[[StreamName, str], None]

MAX_LINE = 16_384
"""Characters after which a line is passed on though it hasn't ended."""
KEEP_OUTPUT = 200_000
"""Characters of each stream that the result keeps: half from the start, half from the end."""
PARTIAL_LINE_AFTER = 0.1
"""Seconds after which the start of a line is passed on: dots of a test run are worth seeing."""


class Output(asyncio.SubprocessProtocol):
    """Takes what the pipes give as it comes: nobody has to pump, and nothing fills up (P6)."""

    def __init__(self, on_output: OnOutput, loop: asyncio.AbstractEventLoop) -> None:
        self.streams = {
            1: Stream("stdout", self._deliver, loop),
            2: Stream("stderr", self._deliver, loop),
        }
        self.error: BaseException | None = None
        self.ended: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._open = {1, 2}
        self._on_output = on_output
        self._transport: asyncio.BaseTransport | None = None

    def _deliver(self, stream: StreamName, text: str) -> None:
        """Pass it on; what the receiver raises ends the command, not the reading."""
        try:
            if self.error is None:
                self._on_output(stream, text)
        except BaseException as error:
            self.error = error
            self._end_wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def abandon(self) -> None:
        """Close what a spawn that failed may have opened."""
        if self._transport is not None:
            self._transport.close()  # pragma: no cover  # it depends on Python's version

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.streams[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.closed.done():
            self.closed.set_result(None)

    def process_exited(self) -> None:
        self._end_wait()
        if not self.exited.done():
            self.exited.set_result(None)

    def _end_wait(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def finish(self) -> None:
        """Pass on what is left of the last lines; nothing follows (P9)."""
        for stream in self.streams.values():
            stream.finish()


class Stream:
    """One pipe: an incremental decoder, and lines cut by ourselves (P5)."""

    def __init__(
        self, name: StreamName, on_output: OnOutput, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.kept = Kept(KEEP_OUTPUT)
        self._name = name
        self._on_output = on_output
        self._loop = loop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._flush: asyncio.TimerHandle | None = None
        self._finished = False

    def feed(self, data: bytes) -> None:
        """Take what the pipe gave; whole lines are passed on at once."""
        if self._finished:
            return
        self._take(self._decoder.decode(data))
        if self._line and self._flush is None:
            self._flush = self._loop.call_later(PARTIAL_LINE_AFTER, self._flush_line)

    def finish(self) -> None:
        """Pass on the rest; whatever comes after is not taken any more."""
        if self._finished:
            return
        self._take(self._decoder.decode(b"", final=True))
        self._flush_line()
        self._finished = True

    def _take(self, text: str) -> None:
        self.kept.add(text)
        self._line += text
        end = self._line.rfind("\n") + 1
        self._pass_on(len(self._line) if len(self._line) - end > MAX_LINE else end)

    def _flush_line(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._pass_on(len(self._line))

    def _pass_on(self, count: int) -> None:
        text, self._line = self._line[:count], self._line[count:]
        for start in range(0, len(text), MAX_LINE):
            self._on_output(self._name, text[start : start + MAX_LINE])


class Lines:
    """Makes whole lines of pieces of output; one longer than `MAX_LINE` comes in parts."""

    def __init__(self, on_line: OnOutput) -> None:
        self._on_line = on_line
        self._rest: dict[StreamName, str] = {}

    def feed(self, stream: StreamName, text: str) -> None:
        """Pass on each line that ends in `text`, without its end."""
        *lines, rest = (self._rest.get(stream, "") + text).split("\n")
        if len(rest) > MAX_LINE:
            lines, rest = [*lines, rest], ""
        self._rest[stream] = rest
        for line in lines:
            self._on_line(stream, line.removesuffix("\r"))

    def finish(self) -> None:
        """Pass on the last line of each stream, which may have no end."""
        for stream, rest in self._rest.items():
            if rest:
                self._on_line(stream, rest)
        self._rest.clear()


class Kept:
    """The head and the tail of a text of any length."""

    __slots__ = ("_half", "_head", "_tail", "length")

    def __init__(self, limit: int) -> None:
        self.length = 0
        self._half = limit // 2
        self._head = ""
        self._tail = ""

    @property
    def truncated(self) -> bool:
        return self.length > 2 * self._half

    def add(self, text: str) -> None:
        self.length += len(text)
        room = self._half - len(self._head)
        self._head += text[:room]
        self._tail += text[room:]
        if len(self._tail) > 4 * self._half:  # seldom, so that a flood costs no copy a chunk
            self._tail = self._tail[-self._half :]

    def text(self) -> str:
        if not self.truncated:
            return self._head + self._tail
        left_out = self.length - 2 * self._half
        return f"{self._head}\n... {left_out} characters left out ...\n{self._tail[-self._half :]}"
