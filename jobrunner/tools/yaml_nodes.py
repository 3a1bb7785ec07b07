"""A YAML file as nodes that know their lines, and all that is wrong with it in one error."""

import difflib
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import yaml
except ModuleNotFoundError:  # the extra is not installed
    raise ImportError("a tools file needs an extra: pip install 'agent-jobrunner[yaml]'") from None

from ..errors import InvalidToolsFile
from .substitution import LONGEST, PLACEHOLDER, Filled, fits, split

MAX_FILE = 1_000_000
"""Bytes of a tools file."""
_MERGE = "tag:yaml.org,2002:merge"
_BRACES = re.compile(r"\{\{([^{}]*)\}\}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_SERVER = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_]\w*)(?::-(.*))?", re.ASCII | re.DOTALL)


class Text(NamedTuple):
    """A text of the file."""

    value: str
    line: int
    is_block: bool = False
    """Whether it begins on the line below, and its lines are the file's."""

    def line_at(self, offset: int) -> int:
        """Return the line of a character."""
        return self.line + (1 + self.value.count("\n", 0, offset) if self.is_block else 0)


class Source:
    """A file that is being read, and what is wrong with it so far."""

    def __init__(self, path: str | os.PathLike[str], environ: Mapping[str, str]) -> None:
        self.path = os.fspath(path)
        self._problems: list[tuple[int, str]] = []
        self._environ = environ

    def problem(self, line: int, what: str) -> None:
        self._problems.append((line, what))

    def check(self) -> None:
        """Raise InvalidToolsFile with all that is wrong."""
        if self._problems:
            raise self._invalid(*sorted(set(self._problems)))

    def _invalid(self, *problems: tuple[int, str]) -> InvalidToolsFile:
        lines = (f"{self.path}:{line}: {what}" if line else f"{self.path}: {what}"
                 for line, what in problems)  # fmt: skip
        return InvalidToolsFile("\n".join(lines), problems)

    def root(self) -> "yaml.Node | None":
        """Return the file's one document.

        Raises:
            InvalidToolsFile: It can't be read, or isn't YAML.
        """
        raw = self._read()
        try:
            self._loader = yaml.SafeLoader(raw)
            return self._loader.get_single_node()
        except RecursionError:
            raise self._invalid((1, "it is nested too deeply")) from None
        except yaml.reader.ReaderError as error:
            raise self._invalid((_line(raw, error), f"it is no YAML: {error.reason}")) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or "no YAML"
            line = 1 if mark is None else mark.line + 1
            raise self._invalid((line, f"it is no YAML: {what}")) from None
        except (ValueError, OverflowError):  # of chr(), which yaml calls
            what = "there is no character of that number"
            raise self._invalid((self._loader.line + 1, f"it is no YAML: {what}")) from None

    def _read(self) -> bytes:
        try:
            with Path(self.path).open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            raise self._invalid((0, f"{error.strerror}")) from None
        if len(raw) > MAX_FILE:
            raise self._invalid((1, f"it is over {MAX_FILE:,} bytes"))
        return raw

    # Nodes

    def mapping(
        self, node: "yaml.Node | None", known: Sequence[str] | None, what: str
    ) -> "dict[str, yaml.Node]":
        """Return the entries of a mapping; None for `known` takes every key."""
        if node is None or _is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.problem(line_of(node), f"{what} must be a mapping")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in self._merged(node):
            name = _name(key)
            if known is not None and name not in known:
                self.problem(line_of(key), f"{what} has no {name!r}; {near(name, known)}")
            elif name in found:
                self.problem(line_of(key), f"{name!r} stands in {what} twice")
            else:
                found[name] = value
        return found

    def _merged(self, node: "yaml.MappingNode") -> "list[tuple[yaml.Node, yaml.Node]]":
        """Return the entries of a mapping, those of others that it merges among them.

        Its own come before the others', and the first one's before the next one's.
        """
        own: list[tuple[yaml.Node, yaml.Node]]
        own = [entry for entry in node.value if entry[0].tag != _MERGE]
        try:
            self._loader.flatten_mapping(node)
        except yaml.YAMLError as error:
            self.problem(line_of(node), f"it can't be read: {getattr(error, 'problem', error)}")
            return own
        more = {_name(key): (key, value) for key, value in node.value[: -len(own) or None]}
        for key, _ in own:
            more.pop(_name(key), None)
        entries = [*more.values(), *own]
        node.value = entries  # it may be read again, and is flat by now
        return entries

    def items(self, node: "yaml.Node | None", what: str) -> "list[yaml.Node]":
        """Return the items of a list."""
        if node is None or _is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.problem(line_of(node), f"{what} must be a list")
            return []
        return list(node.value)

    def text(self, node: "yaml.Node | None", what: str) -> Text | None:
        """Return a text; a number or a date counts as what is written there."""
        if node is None or _is_null(node):
            return None
        if not isinstance(node, yaml.ScalarNode):
            self.problem(line_of(node), f"{what} must be a text")
            return None
        value = encodable(node.value)
        if value != node.value:
            self.problem(line_of(node), f"{what} has half a character in it, which is no text")
        return Text(value, line_of(node), is_block=node.style == "|")

    def argument(self, node: "yaml.Node | None", what: str) -> Text | None:
        """Return a text that a program can be given."""
        text = self.text(node, what)
        if text is not None and not fits(text.value):
            self.problem(text.line, f"{what} must have no NUL, and {LONGEST:,} bytes at most")
        return text

    def flag(self, node: "yaml.Node | None", what: str) -> bool:
        """Return true or false; false for nothing."""
        value = self.value(node)
        if not isinstance(value, bool | None):
            self.problem(line_of(node), f"{what} must be true or false")
        return value is True

    def value(self, node: "yaml.Node | None") -> Any:
        """Return what the node says, as JSON has it."""
        if node is None:
            return None
        try:
            return self._loader.construct_document(node)
        except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
            what = getattr(error, "problem", None) or error  # each tag fails in a way of its own
            self.problem(line_of(node), f"it can't be read: {what}")
            return None

    # What stands in texts

    def placeholders(self, text: Text, names: Iterable[str]) -> None:
        """Tell of placeholders that are none of the tool's params."""
        known = list(names)
        for found in _BRACES.finditer(text.value):
            line, inner = text.line_at(found.start()), found[1].strip()
            words = _WORD.findall(inner)
            if PLACEHOLDER.fullmatch(found[0]):
                if inner not in known and inner not in ("end", "else"):
                    self.problem(line, f"{found[0]} is no param of the tool; {near(inner, known)}")
            elif words and not inner.startswith(".") and set(words) & set(known):
                self.problem(line, f"{found[0]} is no placeholder; only {{{{param}}}} is")

    def no_placeholders(self, text: Text, names: Iterable[str], what: str) -> None:
        """Tell of params where a value would choose what is run, or where it goes."""
        for found in PLACEHOLDER.finditer(text.value):
            if found[1] in names:
                line = text.line_at(found.start())
                self.problem(line, f"{found[0]} can't stand in {what}, which no caller may choose")

    def variable(self, name: str) -> str | None:
        """Return a variable of the server's environment."""
        return self._environ.get(name)

    def pieces(self, text: Text, names: Container[str]) -> list[str | Filled]:
        """Return a text cut at its placeholders, with what comes from the server's environment."""
        return [
            self.expanded(Text(piece, text.line_at(at))) if isinstance(piece, str) else piece
            for at, piece in split(text.value, names)
        ]

    def expanded(self, text: Text) -> str:
        """Return the text with `${NAME}` and `${NAME:-default}` from the server's environment."""
        return _SERVER.sub(lambda found: self._from_server(found, text), text.value)

    def _from_server(self, found: "re.Match[str]", text: Text) -> str:
        line, parts = text.line_at(found.start()), _VARIABLE.fullmatch(found[1])
        if parts is None:
            self.problem(line, f"{found[0]} names no environment variable")
            return ""
        value = self._environ.get(parts[1]) or parts[2]
        if value is None and parts[1] not in self._environ:
            self.problem(line, f"{found[0]} isn't in the server's environment; set {parts[1]}, or "
                               f"write ${{{parts[1]}:-default}}")  # fmt: skip
        return value or ""


def near(name: str, known: Sequence[str]) -> str:
    """Return what could have been meant, for the end of a message."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"there are: {', '.join(known)}" if known else "there are none"


def encodable(text: str) -> str:
    """Return a text without halves of characters, which no encoding has."""
    return text.encode("utf-8", "replace").decode()


def line_of(node: "yaml.Node | None") -> int:
    """Return the line on which a node begins, from 1."""
    return 1 if node is None else node.start_mark.line + 1


def _line(raw: bytes, error: "yaml.reader.ReaderError") -> int:
    """Return the line of what is no character, or none that YAML has: it has no mark."""
    text = raw.decode("utf-8", "replace") if error.encoding == "unicode" else raw.decode("latin-1")
    return text.count("\n", 0, error.position) + 1


def _is_null(node: "yaml.Node") -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _name(key: "yaml.Node") -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "?"
