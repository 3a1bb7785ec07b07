"""The params of a tool: their types as pydantic has them, and what their places demand."""

import inspect
import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, WithJsonSchema
from pydantic_core import to_json

from .substitution import PLACEHOLDER, Demands, variable
from .yaml_nodes import Source, line_of, near

if TYPE_CHECKING:
    import yaml

TYPES: Mapping[str, Any] = {
    "string": str,
    "number": int | Annotated[float, Field(allow_inf_nan=False)],
    "integer": int,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
}
_KEYS = ("name", "type", "description", "required", "default")
REQUIRED: Any = object()
"""In the place of a default: there is none."""


@dataclass(slots=True, eq=False)
class Parameter:
    """A param of a tool."""

    name: str
    field_name: str
    """What it is called in Python, where not every name can be had."""
    type: str
    description: str
    default: Any
    demands: Demands = field(default_factory=Demands)

    def check(self, value: Any) -> Any:
        """Return a value that can stand where it will; the file's own default can."""
        return value if value == self.default else self.demands.check(value)

    @property
    def annotation(self) -> Any:
        kind = TYPES[self.type] if self.default is not None else TYPES[self.type] | None
        schema: dict[str, Any] = {"type": self.type}
        if self.type == "array":
            schema["items"] = {}
        if self.description:
            schema["description"] = self.description
        return Annotated[
            kind, AfterValidator(self.check), WithJsonSchema(schema), Field(alias=self.name)
        ]

    @property
    def in_signature(self) -> inspect.Parameter:
        """The param as one of a Python function."""
        default = inspect.Parameter.empty if self.default is REQUIRED else self.default
        return inspect.Parameter(
            self.field_name, inspect.Parameter.KEYWORD_ONLY, default=default,
            annotation=self.annotation,
        )  # fmt: skip


def read_parameters(source: Source, node: "yaml.Node | None") -> dict[str, Parameter]:
    """Return the params by name, in order; what is wrong is told to the source."""
    found: dict[str, Parameter] = {}
    variables: dict[str, str] = {}
    for each in source.items(node, "parameters"):
        parameter = _parameter(source, each, len(found))
        if parameter is None:
            continue
        other = variables.setdefault(variable(parameter.name), parameter.name)
        if parameter.name in found:
            source.problem(line_of(each), f"there are two parameters {parameter.name!r}")
        elif other != parameter.name:
            source.problem(line_of(each), f"{other!r} and {parameter.name!r} would share one "
                                          f"variable, {variable(other)}")  # fmt: skip
        found[parameter.name] = parameter
    return found


def _parameter(source: Source, node: "yaml.Node", number: int) -> Parameter | None:
    entries = source.mapping(node, _KEYS, "a parameter")
    name = source.text(entries.get("name"), "a parameter's name")
    if name is None:
        source.problem(line_of(node), "a parameter has no name")
        return None
    if not PLACEHOLDER.fullmatch(f"{{{{{name.value}}}}}") or name.value != name.value.strip():
        source.problem(name.line, f"{name.value!r} can't name a parameter; take letters, digits, "
                                  "_ and -, and begin with a letter")  # fmt: skip
        return None
    kind = source.text(entries.get("type"), "a parameter's type")
    if kind is not None and kind.value not in TYPES:
        source.problem(kind.line, f"there is no type {kind.value!r}; {near(kind.value, [*TYPES])}")
        kind = None
    description = source.text(entries.get("description"), "a parameter's description")
    type_name = "string" if kind is None else kind.value
    required = source.flag(entries.get("required"), "required")
    default = _default(source, entries.get("default"), type_name)
    return Parameter(
        name=name.value,
        field_name=_field_name(name.value, number),
        type=type_name,
        description="" if description is None else description.value,
        default=REQUIRED if required and default is None else default,
    )


def _default(source: Source, node: "yaml.Node | None", type_name: str) -> Any:
    """Return the default, or None; `default: 10` of a string is the text that stands there."""
    text = source.text(node, "default") if type_name == "string" else None
    value = source.value(node) if text is None else text.value
    if value is None:
        return None
    try:
        found = TypeAdapter(TYPES[type_name]).validate_python(value)
        to_json(found)  # half a character would fail later, for all tools of the file
        return found
    except (ValueError, RecursionError):
        source.problem(line_of(node), f"the default {value!r:.60} is no {type_name}")
        return None


def _field_name(name: str, number: int) -> str:
    is_free = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
    return name if is_free else f"ø{number}"
