"""Ask a person at the terminal for what a JSON schema wants."""

import getpass
import json
from collections.abc import Callable
from typing import Any, Final

from ..errors import InvalidOption
from .params import NO, YES, Schema, branches, resolved, types_of, value_of
from .stripping import one_line

LEFT_OUT: Final = object()
"""Nothing was said, and nothing has to be."""


class Asker:
    """Asks at stdin, again and again until it fits as far as can be told here.

    Args:
        root: Schema of the whole answer, in which references lead.
        say: Shows a line.
    """

    def __init__(self, root: Schema, say: Callable[[str], None]) -> None:
        self._root = root
        self._say = say

    def ask(self, kind: Schema | None = None, label: str = "answer") -> Any:
        """Return a value for a schema, or LEFT_OUT where it has a default.

        Raises:
            EOFError, KeyboardInterrupt: Nobody answers.
        """
        kind = resolved(self._root if kind is None else kind, self._root)
        choices = [each for each in branches(kind, self._root) if each.get("type") != "null"]
        if len(choices) == 1 and "properties" in choices[0]:
            return self._object(kind, choices[0], label)
        values = _choices(choices)
        if values:
            return self._one_of(kind, values, label)
        if types_of(kind, self._root) - {"null"} == {"array"}:
            return self._list(kind, choices[0], label)
        return self._text(kind, label)

    def _object(self, kind: Schema, shape: Schema, label: str) -> Any:
        if "default" in kind and not self._yes(f"{label}: fill it in? [y/N] "):
            return LEFT_OUT
        needed, found = shape.get("required", []), {}
        for name, field in shape["properties"].items():
            field = resolved(field, self._root)
            if text := field.get("description"):
                self._say(f"  {one_line(text)}")
            if name not in needed and "default" not in field:
                field = {**field, "default": None, "x-silent": True}
            if (value := self.ask(field, one_line(name, 100))) is not LEFT_OUT:
                found[name] = value
        return found

    def _one_of(self, kind: Schema, values: list[Any], label: str) -> Any:
        for number, value in enumerate(values, 1):
            self._say(f"  {number}) {one_line(_shown(value))}")
        while (text := self._line(kind, label)) is not LEFT_OUT:
            exact = [value for value in values if _shown(value) == text]
            if exact:
                return exact[0]
            if text.isascii() and text.isdigit() and 0 < int(text[:9]) <= len(values):
                return values[int(text) - 1]
            self._say(f"  {one_line(text)!r} is none of them; give its number or the text")
        return LEFT_OUT

    def _list(self, kind: Schema, shape: Schema, label: str) -> Any:
        items = shape.get("items")
        items = resolved(items if isinstance(items, dict) else {}, self._root)
        self._say(f"  {label}: one a line, an empty line ends")
        found: list[Any] = []
        while text := input(f"  {len(found) + 1}: "):
            found.append(value_of(text, items, self._root))
        return LEFT_OUT if not found and "default" in kind else found

    def _text(self, kind: Schema, label: str) -> Any:
        wanted = types_of(kind, self._root)
        hint = " or ".join(sorted(wanted - {"null"}))
        boolean = wanted - {"null"} == {"boolean"}
        shown = "y/n" if boolean else "" if hint == "string" else hint
        while (text := self._line(kind, label, shown)) is not LEFT_OUT:
            if boolean and text.lower() not in YES | NO:
                self._say("  answer y or n")
                continue
            if not text and "null" in wanted and "string" not in wanted:
                return None
            value = value_of(text, kind, self._root)
            if isinstance(value, str) and wanted and "string" not in wanted:
                self._say(f"  {one_line(text)!r} is no {hint}")
                continue
            return value
        return LEFT_OUT

    def _line(self, kind: Schema, label: str, hint: str = "") -> Any:
        """Return a line; LEFT_OUT when it is empty and there is a default."""
        default = ""
        if "default" in kind:
            silent = kind.get("x-silent") or kind["default"] is None
            default = " [Enter for none]" if silent else f" [{one_line(_shown(kind['default']))}]"
        prompt = f"{label}{f' ({hint})' if hint else ''}{default}: "
        secret = kind.get("writeOnly") or kind.get("format") == "password"
        text = getpass.getpass(prompt) if secret else input(prompt)
        return LEFT_OUT if not text and "default" in kind else text

    def _yes(self, prompt: str) -> bool:
        return input(prompt).lower() in YES


def _choices(kinds: list[Schema]) -> list[Any]:
    """Return the values of an enumeration; none where anything else fits, too."""
    found: list[Any] = []
    for kind in kinds:
        if "enum" not in kind and "const" not in kind:
            return []
        found += kind.get("enum", [kind.get("const")])
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_answer(words: list[str], schema: Schema) -> Any:
    """Return the answer that words on the command line are.

    Raises:
        InvalidOption: There are several, and none of them is a field's.
    """
    from .params import params_of

    is_object = types_of(schema, schema) - {"null"} == {"object"}
    shape = next((each for each in branches(schema, schema) if "properties" in each), schema)
    if is_object and all("=" in word and not word.startswith("{") for word in words):
        return params_of(words, {**shape, "$defs": schema.get("$defs", {})}, {})
    if len(words) > 1:
        raise InvalidOption(f"{len(words)} values are given, and one is asked for; quote it")
    return value_of(words[0], schema, schema)
