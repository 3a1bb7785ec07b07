"""Text for models: what jobs say is data, quoted so that it can't pass for anything else.

A result may have come from a web page, a mail or a file, and may hold text that is meant for the
model that reads it. What a job has written stands on a line in quotes, or between two tags that
don't occur in it, so that it can't end its own quotation.
"""

import re
from typing import NamedTuple

from pydantic_core import to_json

LINE = 300
"""Characters of a job's words that are quoted within a line; longer ones stand in a block."""
NEAR = 200
"""Characters before a cut in which the end of a line is looked for, if there is room for many."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Piece(NamedTuple):
    """Part of a text."""

    start: int
    """Offset of its first character."""
    text: str

    @property
    def end(self) -> int:
        """Offset behind its last character."""
        return self.start + len(self.text)


def clean(text: str) -> str:
    """Return the text without what colours a terminal, and with no control characters."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return _CONTROLS.sub("\ufffd", text) if _CONTROLS.search(text) else text


def quoted(value: str) -> str:
    """Return the text as a JSON string: one line, whatever is in it."""
    return to_json(value).decode()


def in_line(value: str) -> str:
    """Return what a job says within a line, shortened when it is long."""
    text = " ".join(clean(value[: 4 * LINE]).split())
    return quoted(text if len(text) <= LINE else f"{text[:LINE]}...")


def block(kind: str, pieces: list[Piece], *, between: str = "", total: int | None = None) -> str:
    """Return the pieces between tags that don't occur in them.

    Args:
        kind: What the tags are called.
        between: Line that stands between two pieces.
        total: Length of the text that they are parts of; None when they are all of it.
    """
    tag, count = kind, 1
    whole = "\n".join(piece.text for piece in pieces).lower()
    while tag in whole:
        count += 1
        tag = f"{kind}_{count}"
    parts = []
    for piece in pieces:
        place = "" if total is None else f' from="{piece.start}" to="{piece.end}"'
        parts.append(f"<{tag}{place}>\n{piece.text.rstrip()}\n</{tag}>")
    return (f"\n{between}\n" if between else "\n").join(parts)


def excerpt(text: str, limit: int) -> list[Piece]:
    """Return the whole text, or its head and its tail when it is longer than `limit`.

    The tail is the longer one: what a program says last tells how it went.
    """
    if len(text) <= limit:
        return [Piece(0, text)]
    head = Piece(0, text[: _line_end(text, limit // 3, limit)])
    start = len(text) - (limit - limit // 3)
    newline = text.find("\n", start, start + _near(limit))
    start = start if newline < 0 else newline + 1
    return [head, Piece(start, text[start:])]


def part(text: str, offset: int, limit: int) -> Piece:
    """Return at most `limit` characters from `offset` on; a negative one counts from the end."""
    start = max(0, len(text) + offset) if offset < 0 else min(offset, len(text))
    end = start + limit
    end = len(text) if end >= len(text) else _line_end(text, end, limit)
    return Piece(start, text[start:end])


def _line_end(text: str, end: int, limit: int) -> int:
    """Return the end of the last line that ends shortly before `end`, or `end`."""
    return text.rfind("\n", max(0, end - _near(limit)), end) + 1 or end


def _near(limit: int) -> int:
    """Return how far from a cut a line may end: little of what there is room for is lost."""
    return min(NEAR, limit // 4)


def seconds(value: float) -> str:
    """Return a duration for people."""
    if value < 10:
        return f"{max(0.0, value):.1f} s"
    if value < 180:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7_200 else f"{value / 3_600:.1f} h"
