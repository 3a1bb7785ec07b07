"""Placeholders, and what a value looks like in the place of one."""

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic_core import to_json

Encoding: TypeAlias = Literal["text", "json", "value"]
"""As it is; inside of a JSON string; as a JSON value."""

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_-]*)\s*\}\}", re.ASCII)
LONGEST = 128_000
"""Bytes of an argument or a variable; Linux takes 131,071 (MAX_ARG_STRLEN)."""
_OPTION = re.compile(r"-\S")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PREFIXES: Mapping[Encoding, str] = {
    "text": "GANTZ_ARG_", "json": "GANTZ_JSON_", "value": "GANTZ_VALUE_",
}  # fmt: skip


def variable(name: str, encoding: Encoding = "text") -> str:
    """Return the environment variable that has a param's value."""
    return _PREFIXES[encoding] + name.upper().replace("-", "_")


def encoded(value: Any, encoding: Encoding) -> str:
    """Return a value as text: JSON if it is none, and nothing for None."""
    if encoding == "value":
        return to_json(value).decode()
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = value if isinstance(value, str) else to_json(value).decode()
    return to_json(text).decode()[1:-1] if encoding == "json" else text


def json_encodings(parts: Sequence[object]) -> list[Encoding] | None:
    """Return how to fill in each part that isn't text, if the whole is a JSON object.

    None stands for what somebody else puts there. An object only: `[{{x}}]` may be anything.
    """
    if all(isinstance(part, str | None) for part in parts):
        return None
    sample, found, quoted, escaped = "", list[Encoding](), False, False
    for part in parts:
        if not isinstance(part, str):
            sample += "0"
            if part is not None:
                found.append("json" if quoted else "value")
            escaped = False
            continue
        sample += part
        for char in part:
            quoted ^= char == '"' and not escaped
            escaped = char == "\\" and quoted and not escaped
    return found if _is_object(sample) else None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


@dataclass(slots=True)
class Demands:
    """What the places in which a param stands demand of its values."""

    given_as: set[Encoding] = field(default_factory=set)
    """How it is written in variables and arguments, which end at a NUL."""
    no_option: bool = False
    """It begins a word that a program could take for an option."""
    no_control: bool = False
    """It stands in a header."""
    no_separator: bool = False
    """It stands in a cookie."""
    not_empty: bool = False
    """It is a whole segment of a path."""

    def check(self, value: Any) -> Any:
        """Return `value`.

        Raises:
            ValueError: It can't stand where it would.
        """
        if not all(fits(encoded(value, each)) for each in self.given_as):
            raise ValueError(f"must have no NUL, and {LONGEST} bytes at most")
        if not isinstance(value, str):
            return value
        if self.no_option and _OPTION.match(value):
            raise ValueError("must not begin with `-`, or it would be taken for an option")
        if self.no_control and CONTROL.search(value):
            raise ValueError("must have no line breaks or other control characters")
        if self.no_separator and re.search(r'[\s;,"\\]', value):
            raise ValueError('must have no blank and none of ; , " \\')
        if self.not_empty and not value:
            raise ValueError("must not be empty")
        return value


class Filled(NamedTuple):
    """Where a value goes."""

    name: str
    encoding: Encoding = "text"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders, that nobody parses but who gets it."""

    parts: tuple[str | Filled, ...]

    @property
    def names(self) -> list[str]:
        """The params in it, in order."""
        return [part.name for part in self.parts if isinstance(part, Filled)]

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text with its values."""
        return "".join(
            encoded(values[part.name], part.encoding) if isinstance(part, Filled) else part
            for part in self.parts
        )


def template_of(pieces: Sequence[str | Filled]) -> Template:
    """Return a template; in a JSON object values are JSON."""
    encodings = json_encodings(pieces)
    if encodings is None:
        return Template(tuple(pieces))
    left = iter(encodings)
    return Template(tuple(
        piece if isinstance(piece, str) else Filled(piece.name, next(left)) for piece in pieces
    ))  # fmt: skip


def split(text: str, names: Container[str]) -> Iterator[tuple[int, str | Filled]]:
    """Yield the pieces of a text, each with its offset; braces around other names are text."""
    start = 0
    for found in PLACEHOLDER.finditer(text):
        if found[1] in names:
            yield start, text[start : found.start()]
            yield found.start(), Filled(found[1])
            start = found.end()
    yield start, text[start:]


def fits(text: str) -> bool:
    """Return whether a variable or an argument can hold a text."""
    return "\0" not in text and len(text.encode("utf-8", "replace")) <= LONGEST
