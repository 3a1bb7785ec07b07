"""Questions of jobs as forms of MCP, and what a client fills in as the answer.

A form is a flat object of texts, numbers, yes or no, and choices between texts (MCP 2026-07-28,
elicitation). A question whose schema is such an object is one; any other value is the only field
of a form, and what no field can hold is asked for as JSON text.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

FIELD = "value"
"""The only field of the form for a value that is no flat object."""
_PLAIN = {"string", "number", "integer", "boolean"}
_SAID = {"type", "title", "description", "default", "enum", "minimum", "maximum", "minLength",
         "maxLength", "format", "items", "minItems", "maxItems"}  # fmt: skip
_FORMATS = {"email", "uri", "date", "date-time"}


def form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form that asks for a value of the JSON Schema `schema`."""
    if _is_flat(schema):
        return {
            "type": "object",
            "properties": {name: _field(node) for name, node in schema["properties"].items()},
            "required": list(schema.get("required", ())),
        }
    return {"type": "object", "properties": {FIELD: _field(schema)}, "required": [FIELD]}


def filled_in(schema: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Return the answer that stands in a form that was filled in; it isn't validated here."""
    if _is_flat(schema):
        return {name: value for name, value in content.items() if value is not None}
    value = content.get(FIELD)
    if _is_plain(schema) or not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value  # a text after all, which the schema may take, or refuses with a reason


def _is_flat(schema: Mapping[str, Any]) -> bool:
    fields = schema.get("properties") or {}
    flat = schema.get("type") == "object" and all(map(_is_plain, fields.values()))
    return flat and bool(fields)


def _is_plain(schema: Mapping[str, Any]) -> bool:
    """Whether a field of a form can hold such a value."""
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return items.get("type") == "string" and "enum" in items
    choices = schema.get("enum", ())
    return schema.get("type") in _PLAIN and all(isinstance(choice, str) for choice in choices)


def _field(schema: Mapping[str, Any]) -> dict[str, Any]:
    if _is_plain(schema):
        said = {name: value for name, value in schema.items() if name in _SAID}
        if said.get("format") not in _FORMATS:
            said.pop("format", None)
        return said
    wanted = to_json(schema).decode()
    about = f"{schema['description']} " if "description" in schema else ""
    return {"type": "string", "description": f"{about}JSON text that fits this schema: {wanted}"}
