"""What commands print: for a terminal with colours, for a pipe as plain as it is stable."""

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

from pydantic import BaseModel
from rich.console import Console

from ..events import Event
from ..views import iso
from .stripping import RESET, Stripper


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # as from `print`: rich would end the program with its own code


def console(*, markup: bool = False) -> Console:
    """Return stdout as rich has it: NO_COLOR, a pipe, TERM=dumb and a narrow window are obeyed."""
    return _Console(highlight=False, emoji=False, markup=markup)


def colours(out: Console) -> bool:
    """Return whether there may be colours."""
    return out.is_terminal and not out.no_color and out.color_system is not None


def unicode(out: Console) -> bool:
    """Return whether more than ASCII can be shown."""
    return out.encoding.startswith("utf")


def print_json(value: Any) -> None:
    """Print a value as one line of ASCII: it is safe in every terminal and every encoding."""
    print(json.dumps(plain(value), separators=(", ", ": ")), flush=True)


def compact(value: Any) -> str:
    """Return a value as JSON on a line, to be read, not yet harmless."""
    return json.dumps(plain(value), ensure_ascii=False)


def pretty(value: Any) -> str:
    """Return a value as JSON to be read, not yet harmless."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a view or an event as the JSON values that it has on the wire."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Event):
        head = {"type": value.type, "seq": value.seq, "job_id": value.job_id}
        return head | {"at": iso(value.at)} | plain(dict(value.data))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return iso(value.timestamp()) if isinstance(value, datetime) else value


def print_rows(rows: Iterable[Iterable[str]]) -> None:
    """Print rows for `cut` and `awk`: a tab between the columns, no heading, nothing cut off."""
    for row in rows:
        print("\t".join(row))


class Writer:
    """Writes what a job says to stdout as it comes."""

    def __init__(self, out: Console) -> None:
        self._stripper = Stripper(colours=colours(out))
        self._terminal = out.is_terminal
        self._last = "\n"
        self._coloured = False

    def write(self, text: str) -> None:
        """Write a piece."""
        self._put(self._stripper.feed(text))

    def end_line(self) -> None:
        """End what the job has begun to say, for a line about it."""
        self._put(self._stripper.finish())
        reset = RESET if self._coloured else ""
        self._put(reset + ("" if self._last == "\n" else "\n"))

    def finish(self) -> None:
        """Write what is left; the prompt after it is in no job's colour, and on its own line."""
        self._put(self._stripper.finish())
        end = "\n" if self._terminal and self._last != "\n" else ""
        self._put(f"{RESET if self._coloured else ''}{end}")

    def _put(self, text: str) -> None:
        if text:
            self._coloured = self._coloured or "\x1b" in text
            self._last = text[-1]
            sys.stdout.write(text)
            sys.stdout.flush()
