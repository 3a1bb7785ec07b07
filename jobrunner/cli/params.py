"""Params from the command line: `key=value` words, read by the job type's schema."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from ..errors import InvalidOption
from .stripping import one_line

Schema: TypeAlias = Mapping[str, Any]
YES, NO = frozenset({"yes", "y", "true", "on"}), frozenset({"no", "n", "false", "off"})
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "array": list,
    "object": dict,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def params_of(words: Iterable[str], schema: Schema, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with what the words say, by the JSON schema of the params.

    A value is what it is as JSON, where the schema doesn't want a text; `a.b=1` is a field of a
    field; for a list a key may come several times, each with one item.

    Raises:
        InvalidOption: A word is no `key=value`, or a key comes twice.
    """
    params, seen = dict(given), set[str]()
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise InvalidOption(f"{word!r:.200} is no param; write it as key=value")
        place, name, of = _place(params, key, schema, schema)
        kind = resolved(of.get("properties", {}).get(name, {}), schema)
        value = value_of(text, kind, schema)
        if key in seen:
            if types_of(kind, schema) - {"null"} != {"array"}:
                raise InvalidOption(f"{key!r} is given twice; it takes one value")
            if place[name] is None:
                raise InvalidOption(f"{key!r} is given as null and with an item; it takes one")
            value = place[name] + _items(text, value, kind, schema)
        elif inside := [each for each in seen if each.startswith(f"{key}.")]:
            raise InvalidOption(f"{key!r:.100} would undo {inside[0]!r:.100}; give it first")
        elif types_of(kind, schema) - {"null"} == {"array"} and not isinstance(value, list | None):
            value = _items(text, value, kind, schema)
        seen.add(key)
        place[name] = value
    return params


def value_of(text: str, kind: Schema, root: Schema) -> Any:
    """Return a word's value: JSON where the schema wants no text, else the text."""
    kind = resolved(kind, root)
    wanted = types_of(kind, root)
    if wanted and wanted <= {"string", "null"}:
        return text
    if wanted == {"boolean"} and text.lower() in YES | NO:
        return text.lower() in YES
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    fits = any(isinstance(value, _KINDS[each]) for each in wanted if each in _KINDS)
    return value if fits or "string" not in wanted else text


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; `-` is stdin.

    Raises:
        InvalidOption: There is none.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        found = json.loads(text, parse_constant=_no_constant)
    except OSError as error:
        raise InvalidOption(f"can't read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"{file} has no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidOption(f"{file} has {type(found).__name__}; params are a JSON object")
    return found


def resolved(kind: Schema, root: Schema) -> Schema:
    """Return the schema that a reference leads to, with what stands beside it."""
    for _ in range(10):
        if not str(kind.get("$ref", "")).startswith("#/$defs/"):
            break
        named = root.get("$defs", {}).get(kind["$ref"].removeprefix("#/$defs/"), {})
        kind = {**named, **{key: value for key, value in kind.items() if key != "$ref"}}
    return kind


def branches(kind: Schema, root: Schema) -> list[Schema]:
    """Return what a value may be one of; the schema itself when it is no choice."""
    for name in ("anyOf", "oneOf"):
        if name in kind:
            return [part for each in kind[name] for part in branches(resolved(each, root), root)]
    return [kind]


def types_of(kind: Schema, root: Schema) -> set[str]:
    """Return the JSON types that fit; none where the schema doesn't say."""
    found: set[str] = set()
    for branch in branches(resolved(kind, root), root):
        said = branch.get("type")
        if "const" in branch or "enum" in branch:
            values = [branch["const"]] if "const" in branch else branch["enum"]
            found |= {_type_name(value) for value in values}
        elif isinstance(said, str):
            found.add(said)
        elif isinstance(said, list):
            found.update(said)
        else:
            return set()
    return found


def _place(
    params: dict[str, Any], key: str, kind: Schema, root: Schema
) -> tuple[dict[str, Any], str, Schema]:
    """Return the object that a key's value belongs into, the name there, and its schema."""
    if "." not in key or key in kind.get("properties", {}):
        return params, key, kind
    name, _, rest = key.partition(".")
    inner = params.setdefault(name, {})
    if not isinstance(inner, dict) or not rest:
        raise InvalidOption(f"{one_line(name)!r} has a value already, and {key!r:.100} none in it")
    found = resolved(kind.get("properties", {}).get(name, {}), root)
    objects = [each for each in branches(found, root) if "properties" in each]
    return _place(inner, rest, objects[0] if objects else {}, root)


def _items(text: str, value: Any, kind: Schema, root: Schema) -> list[Any]:
    """Return the items that one word adds to a list."""
    if isinstance(value, list):
        return value
    lists = [each for each in branches(kind, root) if each.get("type") == "array"]
    items = lists[0].get("items", {}) if lists else {}
    return [value_of(text, items if isinstance(items, dict) else {}, root)]


def _type_name(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return next((name for name, kind in _KINDS.items() if isinstance(value, kind)), "string")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
