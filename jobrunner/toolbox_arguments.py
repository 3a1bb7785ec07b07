"""Arguments as models send them: objects, objects as text, and whatever else comes."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from .errors import ParamProblem
from .handlers import json_pointer

MAX_SHOWN = 8
"""Faults, and params, that are named."""


class BadArguments(Exception):
    """The arguments are no JSON object; says what of them is wrong."""


def read_arguments(arguments: object) -> dict[str, Any]:
    """Return the arguments as an object; nothing at all is an empty one.

    Some clients pass on the text that the model wrote, some encode it twice.

    Raises:
        BadArguments: They are none; says what they are.
    """
    for _ in range(2):
        if isinstance(arguments, bytes | bytearray | str):
            arguments = _parse(arguments)
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise BadArguments(f"are {_kind(arguments)}, not a JSON object")
    if wrong := next((name for name in arguments if not isinstance(name, str)), None):
        raise BadArguments(f"have a name that is no text: {wrong!r:.60}")
    return dict(arguments)


def _parse(text: str | bytes | bytearray) -> Any:
    if not text.strip():
        return None
    try:
        return from_json(text)
    except ValueError as error:
        raise BadArguments(f"are no valid JSON ({error})") from None


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def faults_of(error: ValidationError) -> list[ParamProblem]:
    """Return what is wrong with arguments, and where."""
    said = {"missing": "this param is missing", "extra_forbidden": "this param is unknown"}
    return [
        {"detail": said.get(line["type"], line["msg"]), "pointer": json_pointer(line["loc"])}
        for line in error.errors(include_url=False, include_input=False)
    ]


def explain(faults: Sequence[ParamProblem], schema: Mapping[str, Any]) -> str:
    """Return the faults as a list, each with a hint where there is one."""
    lines = [_fault(fault, schema) for fault in faults[:MAX_SHOWN]]
    more = len(faults) - MAX_SHOWN
    return "\n".join(lines + ([f"- and {more} more"] if more > 0 else []))


def _fault(fault: ParamProblem, schema: Mapping[str, Any]) -> str:
    place = fault["pointer"].removeprefix("#/")[:100]
    detail = fault["detail"].removeprefix("this param ")[:300]
    near = difflib.get_close_matches(place, schema.get("properties", {}), n=1)
    unknown = detail == "is unknown" and near
    hint = f"; did you mean {near[0]}?" if unknown else ""
    return f"- {place or 'arguments'}: {detail}{hint}"


def usage(schema: Mapping[str, Any]) -> str:
    """Return in a line what a tool takes."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        return "It takes no arguments: send {}."
    required = schema.get("required", ())
    defs: Mapping[str, Any] = schema.get("$defs", {})
    named = [_param(name, node, defs, name in required) for name, node in properties.items()]
    more = f", and {len(named) - MAX_SHOWN} more" if len(named) > MAX_SHOWN else ""
    return f"It takes a JSON object with {', '.join(named[:MAX_SHOWN])}{more}."


def _param(name: str, node: Mapping[str, Any], defs: Mapping[str, Any], required: bool) -> str:
    if required:
        return f"{name} ({_type(node, defs)}, required)"
    default = to_json(node["default"]).decode() if "default" in node else ""
    shown = f", default {default}" if 0 < len(default) <= 40 else ""
    return f"{name} ({_type(node, defs)}{shown})"


def _type(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Return in a few words what values a schema takes."""
    node = defs.get(str(node.get("$ref")).rpartition("/")[2], node)
    if "enum" in node or "const" in node:
        values = node.get("enum", [node.get("const")])
        return " or ".join(to_json(value).decode() for value in values[:MAX_SHOWN])
    if "anyOf" in node:
        return " or ".join(_type(member, defs) for member in node["anyOf"][:MAX_SHOWN])
    if node.get("type") == "array":
        return f"list of {_type(node['items'], {})}" if node.get("items") else "list"
    if node.get("type") == "object" and node.get("properties"):
        return f"object with {', '.join(list(node['properties'])[:MAX_SHOWN])}"
    return str(node.get("type", "object" if "$ref" in node else "anything"))
