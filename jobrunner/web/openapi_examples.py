"""Example values made from JSON schemas, for a document that shows what to send."""

import math
from collections.abc import Mapping
from typing import Any

from ..handlers import Handler

DEEPEST = 8
"""Levels of a value that are made; a model that holds itself has no end."""
FORMATS = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T03:00:00Z",
    "duration": "PT1M",
    "email": "ada@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "03:00:00Z",
    "uri": "https://example.com/",
    "uuid": "5f0c2a7e-8d3b-4c1a-9e6f-2b7d4a1c8e90",
}


def params_example(handler: Handler, schemas: Mapping[str, Any], name: str) -> Any:
    """Return params that the job type takes; None when none can be made of its schema.

    Args:
        handler: The job type.
        schemas: Where references lead.
        name: Name of the params' schema in there.
    """
    try:
        made = example_of(schemas[name], schemas)
        handler.validate(made)
    except Exception:  # a validator of the user's, a pattern: an example that is refused is worse
        return None
    return made


def example_of(schema: Any, schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value for a JSON schema: what it says itself, or else something simple.

    Args:
        schema: The schema.
        schemas: Where references lead, by their last part.
        depth: How deep in the value it is.

    Raises:
        RecursionError: The value has no end.
    """
    if depth > DEEPEST:
        raise RecursionError("a schema that holds itself has no smallest value")
    if not isinstance(schema, dict):
        return None  # `true`: anything
    said = _said(schema)
    if said is not None:
        return said
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return example_of(_first(schema[union]), schemas, depth + 1)
    return _typed(schema, schemas, depth)


def _said(schema: dict[str, Any]) -> Any:
    """Return an example, default or only value that the schema has; None if it says nothing."""
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("default") is not None and not schema.get("writeOnly"):  # a mask is no value
        return schema["default"]
    return schema.get("const", schema.get("enum", [None])[0])


def _first(members: list[Any]) -> Any:
    """Return the first member of a union that isn't null."""
    return next((each for each in members if each != {"type": "null"}), members[0])


def _typed(schema: dict[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    match kind:
        case "object":
            return _object(schema, schemas, depth)
        case "array":
            return _array(schema, schemas, depth)
        case "string":
            return _string(schema)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
    return None


def _object(schema: dict[str, Any], schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return an object with what has to be there, and what has a value of its own."""
    needed = schema.get("required", [])
    return {
        name: example_of(field, schemas, depth + 1)
        for name, field in schema.get("properties", {}).items()
        if name in needed or (isinstance(field, dict) and _said(field) is not None)
    }


def _array(schema: dict[str, Any], schemas: Mapping[str, Any], depth: int) -> list[Any]:
    """Return one item, or as many as there have to be; of a tuple each of its own."""
    first = schema.get("prefixItems", [])
    if "items" in schema and schema["items"] is not False and depth < DEEPEST - 2:
        wanted = max(schema.get("minItems", 0), len(first), min(1, schema.get("maxItems", 1)))
        first = [*first, *[schema["items"]] * (wanted - len(first))]
    return [example_of(item, schemas, depth + 1) for item in first]


def _string(schema: dict[str, Any]) -> str:
    text = FORMATS.get(schema.get("format", ""), "text")
    text = text.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """Return 1, or what is nearest to it within the bounds."""
    step = schema.get("multipleOf", 1 if whole else None)
    inside = step or 0.5
    low = max(schema.get("minimum", -math.inf),
              schema.get("exclusiveMinimum", -math.inf) + inside)  # fmt: skip
    high = min(schema.get("maximum", math.inf),
               schema.get("exclusiveMaximum", math.inf) - inside)  # fmt: skip
    value: float = min(max(1, low), high)
    if step and value % step:
        value = math.ceil(value / step) * step
    return int(value) if whole else value
