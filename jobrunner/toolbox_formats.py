"""Tools as each vendor wants them described."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from .options import check_choice

ToolFormat: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic", "mcp"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, as a model is told of it."""

    name: str
    """1 to 64 of letters, digits, `_` and `-`."""
    description: str
    """What it does, and when to use it."""
    schema: Mapping[str, Any]
    """JSON Schema of its arguments, an object."""
    hints: Mapping[str, bool] = field(default_factory=dict)
    """What MCP calls annotations."""


def in_format(tool: Tool, format: ToolFormat) -> dict[str, Any]:
    """Return the tool as the vendor's API takes it.

    Raises:
        InvalidOption: There is no such format.
    """
    check_choice("format", format, ToolFormat)
    return _FORMATS[format](tool)


def _openai_chat(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": _function(tool)}


def _openai_responses(tool: Tool) -> dict[str, Any]:
    return {"type": "function", **_function(tool)}


def _function(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        "strict": False,
    }


def _anthropic(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}


def _mcp(tool: Tool) -> dict[str, Any]:
    named = {"name": tool.name, "description": tool.description, "inputSchema": tool.schema}
    return named | ({"annotations": dict(tool.hints)} if tool.hints else {})


_FORMATS: Mapping[str, Callable[[Tool], dict[str, Any]]] = {
    "openai-chat": _openai_chat,
    "openai-responses": _openai_responses,
    "anthropic": _anthropic,
    "mcp": _mcp,
}
assert _FORMATS.keys() == set(get_args(ToolFormat))


def lean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without the titles that pydantic makes of names: they cost tokens."""
    found = {key: value for key, value in schema.items() if key != "title"}
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = lean(found[key])
    for key in ("properties", "$defs", "patternProperties"):
        if isinstance(found.get(key), dict):
            found[key] = {name: _lean(node) for name, node in found[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(found.get(key), list):
            found[key] = [_lean(node) for node in found[key]]
    return found


def _lean(node: Any) -> Any:
    return lean(node) if isinstance(node, dict) else node
