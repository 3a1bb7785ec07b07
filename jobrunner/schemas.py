"""JSON schemas that are JSON themselves: pydantic leaves in them what JSON can't hold."""

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json


def schema_of(adapter: TypeAdapter[Any], **options: Any) -> dict[str, Any]:
    """Return an adapter's JSON schema; infinity and NaN in it are text, as they are in params.

    Args:
        adapter: What values go through.
        options: What `TypeAdapter.json_schema` takes.

    Raises:
        PydanticUserError: It has none.
        ValueError: JSON can't hold it: half a character stands in it.
    """
    schema = to_json(adapter.json_schema(**options), inf_nan_mode="strings")
    found: dict[str, Any] = from_json(schema)
    return found
