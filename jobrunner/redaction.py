"""Secrets in what is shown: values are masked by the names that they have.

A handler gets its params as they are; what is kept with the job for others to see, and what a
handler logs, has `**********` in the place of secrets. `SecretStr` masks itself.

Whether params can hold a secret at all is decided once for a job type, from its schema, so that
most types never look. A field's `json_schema_extra={"writeOnly": True}` says that its value is a
secret whatever its name, and `False` that it is none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic_core import from_json, to_json

MASK = "**********"
"""What stands in the place of a secret, as pydantic has it."""
_NAMES = re.compile(
    r"(?:(?:password|passwd|secret|cookie|credential|(?:api|access|private|secret)[-_. ]?key)s?"
    r"|token|authorization)\d*\Z",
    re.IGNORECASE,
)
_WORDS = (b"passw", b"secret", b"token", b"authorization", b"cookie", b"credential", b"key")
"""One of these is in every name of a secret."""
_LONGEST = 64
_STRUCTURE = {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}


@lru_cache(maxsize=4_096)
def _has_secret_name(name: str) -> bool:
    return _NAMES.search(name) is not None


class Redaction:
    """Masks secrets in JSON values.

    Args:
        hidden: Names of secrets beside those that every secret is known by.
        shown: Names of what is none.
    """

    def __init__(self, hidden: frozenset[str], shown: frozenset[str]) -> None:
        self._hidden = hidden
        self._shown = shown

    def names(self, name: str) -> bool:
        """Return whether what is called so is a secret.

        The last part of a name says what it is: `github_token` and `X-Api-Key` are secrets;
        `max_tokens`, `tokenizer`, `token_count` and `key` are not.
        """
        if name in self._shown:
            return False
        return name in self._hidden or _has_secret_name(name[-_LONGEST:])

    def __call__(self, value: Any) -> Any:
        """Return the value with its secrets masked; the same one when it has none.

        What is null, empty or a truth value stays: that nothing was given is no secret.
        """
        if isinstance(value, dict):
            return self._each(value, dict(value), value.items())
        if isinstance(value, list):
            return self._each(value, list(value), enumerate(value))
        return value

    def in_json(self, raw: bytes) -> bytes:
        """Return JSON with its secrets masked; the same where there are none, which is cheap."""
        low = raw.lower()
        if not self._hidden and not any(word in low for word in _WORDS):
            return raw
        value = from_json(raw)
        shown = self(value)
        return raw if shown is value else to_json(shown)

    def _each(self, value: Any, copy: Any, items: Any) -> Any:
        changed = False
        for name, item in items:
            secret = isinstance(name, str) and self.names(name)
            shown = _mask(item) if secret else self(item)
            if shown is not item:
                copy[name] = shown
                changed = True
        return copy if changed else value


def _mask(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) or value in ("", MASK) else MASK


redact = Redaction(frozenset(), frozenset())
"""Masks what has the name of a secret."""


def redaction_for(schema: Mapping[str, Any], names: Iterable[str] = ()) -> Redaction | None:
    """Return what masks the secrets in values with this JSON schema; None if there can't be any.

    Args:
        names: What parts of them are called where that isn't as the schema says.
    """
    found = _Found()
    found.look(schema)
    found.names.update(names)
    redaction = Redaction(frozenset(found.hidden), frozenset(found.shown))
    named = any(redaction.names(name) for name in found.names)
    return redaction if named or found.open else None


def mark_secrets(schema: dict[str, Any], redaction: Redaction | None) -> dict[str, Any]:
    """Say of secrets in a JSON schema that they are never shown, and mask their defaults."""
    if redaction is not None:
        for node in _nodes(schema):
            for name, field in _properties(node).items():
                if isinstance(field, dict) and redaction.names(name):
                    field.setdefault("writeOnly", True)
                    if "default" in field:
                        field["default"] = _mask(field["default"])
                    field.pop("examples", None)
    return schema


class _Found:
    """What a schema says of secrets."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.hidden: set[str] = set()
        self.shown: set[str] = set()
        self.open = False

    def look(self, schema: Mapping[str, Any]) -> None:
        for node in _nodes(schema):
            self.open = self.open or _is_open(node)
            for name, field in _properties(node).items():
                self.names.add(name)
                if isinstance(field, dict) and "writeOnly" in field:
                    (self.hidden if field["writeOnly"] else self.shown).add(name)


def _is_open(node: Mapping[str, Any]) -> bool:
    """Whether values may have parts with names that the schema doesn't list."""
    if not _STRUCTURE & node.keys():
        return True
    if node.get("type") == "array":
        return not {"items", "prefixItems"} & node.keys()
    more = node.get("additionalProperties", "properties" not in node)
    return node.get("type") == "object" and more is not False


def _properties(node: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = node.get("properties", {})
    return found


def _nodes(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schema and all those in it."""
    yield schema
    inner = [schema.get(name) for name in ("items", "additionalProperties")]
    for name in ("$defs", "properties", "patternProperties"):
        inner += schema.get(name, {}).values()
    for name in ("prefixItems", "anyOf", "oneOf", "allOf"):
        inner += schema.get(name, ())
    for node in inner:
        if isinstance(node, dict):
            yield from _nodes(node)
