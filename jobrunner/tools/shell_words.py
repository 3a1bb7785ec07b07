"""Words of a shell's text, and the placeholders in them."""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .substitution import Encoding, json_encodings, split, variable

Quote: TypeAlias = Literal["none", "double", "single", "raw"]
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=", re.ASCII)


@dataclass(slots=True, eq=False)
class Slot:
    """A placeholder, and what surrounds it."""

    name: str
    at: int
    quote: Quote
    arithmetic: bool = False
    """Whether the shell computes with the value, which some shells take for code."""
    encoding: Encoding = "text"
    is_option: bool = False
    """Whether a value that begins with `-` would be an option."""

    def written(self) -> str:
        """Return what stands in its place in the text that is run."""
        reference = f"${{{variable(self.name, self.encoding)}}}"
        quoted = {"none": f'"{reference}"', "single": f"'\"{reference}\"'"}
        return quoted.get(self.quote, reference)


@dataclass(slots=True, eq=False)
class Word:
    """One word; a part that is None is what the shell puts there itself."""

    parts: list[str | Slot | None] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Variables that it names."""
    nested: list[Slot] = field(default_factory=list)
    """Slots of commands inside of it."""
    is_quoted: bool = False

    @property
    def slots(self) -> list[Slot]:
        return [part for part in self.parts if isinstance(part, Slot)]

    @property
    def text(self) -> str:
        """The word without quotes, with a NUL where something is filled in."""
        return "".join(part if isinstance(part, str) else "\0" for part in self.parts)

    def encode(self) -> None:
        """Decide how to write values; in a JSON object they are JSON."""
        for slot, encoding in zip(self.slots, json_encodings(self.parts) or (), strict=False):
            slot.encoding = encoding

    @property
    def assigns(self) -> str | None:
        """The variable that it sets."""
        found = _ASSIGNMENT.match(self.text)
        return None if found is None else found[1]


@dataclass(slots=True, eq=False)
class Command:
    """A simple command."""

    words: list[Word] = field(default_factory=list)
    targets: list[tuple[str, Word]] = field(default_factory=list)
    """Redirections; the word of a here-document is its body."""


def words_of(texts: Sequence[str], names: Container[str]) -> list[Word]:
    """Return arguments as a shell's words, to be looked at as such."""
    return [
        Word([piece if isinstance(piece, str) else Slot(piece.name, at, "none")
              for at, piece in split(text, names) if piece != ""])
        for text in texts
    ]  # fmt: skip
