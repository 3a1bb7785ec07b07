"""The OpenAPI 3.1 document of a runner's HTTP surface, with one params schema for each job type."""

import re
from typing import Any

from .. import __version__
from ..batch_views import BatchView
from ..deliveries import DeliveryView
from ..handlers import Handler
from ..stats_views import StatsView
from ..views import JobView
from . import openapi_data as data
from .answers import InputBody, LinkBody
from .api import CancelBody, RetryBody, SubmitBody
from .batches import BatchBody
from .openapi_examples import params_example
from .openapi_paths import REF, operations
from .owners import OwnedRunner


def openapi_document(runner: OwnedRunner, *, base: str) -> dict[str, Any]:
    """Return the document; `base` is the path that the app is mounted at."""
    schemas = _schemas(runner.job_types)
    requests = {name: {"one": {"value": value}} for name, value in data.REQUESTS.items()}
    requests |= _bodies(runner.job_types, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobrunner", "version": __version__},
        "servers": [{"url": base or "/"}],
        "security": [{"bearer": []}],
        "paths": operations(requests),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    }


def _schemas(handlers: list[Handler]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    _add(schemas, "Job", JobView.model_json_schema(
        mode="serialization", ref_template=REF + "{model}"))  # fmt: skip
    _add_links(schemas["Job"], "Paths of the job: self, stream and, while it hasn't ended, cancel.")
    schemas["Job"]["properties"]["omitted"] = _list(_TEXT) | {"description": "What was too long."}
    _add(schemas, "Cancel", CancelBody.model_json_schema())
    _add(schemas, "Input", InputBody.model_json_schema())
    _add(schemas, "AnswerLink", LinkBody.model_json_schema())
    _add(schemas, "Retry", RetryBody.model_json_schema())
    schemas["Retry"]["properties"]["type"]["enum"] = [*(each.name for each in handlers), None]
    schemas["Answered"] = data.object_of({"job_id": _TEXT, "question_id": _TEXT})
    schemas["JobIds"] = data.object_of({"job_ids": _list({"type": "string"})})
    schemas["Problem"] = data.PROBLEM_SCHEMA
    schemas["JobList"] = data.object_of(
        {"jobs": _list({"$ref": REF + "Job"}), "next_cursor": {"type": ["string", "null"]}}
    )
    _add(schemas, "Delivery", DeliveryView.model_json_schema(mode="serialization"))
    schemas["DeliveryList"] = data.object_of({"deliveries": _list({"$ref": REF + "Delivery"})})
    _add(schemas, "Batch", BatchView.model_json_schema(
        mode="serialization", ref_template=REF + "{model}"))  # fmt: skip
    _add_links(
        schemas["Batch"],
        "Paths of the batch: self, stream, jobs and, until all have ended, cancel.",
    )
    _add(schemas, "Stats", StatsView.model_json_schema(mode="serialization"))
    schemas["JobTypes"] = data.object_of({"types": _list(data.JOB_TYPE_SCHEMA)})
    return schemas


def _bodies(handlers: list[Handler], schemas: dict[str, Any]) -> dict[str, Any]:
    """Add the bodies of `POST /jobs` and `POST /batches`; return examples for them and others."""
    submit, batch = SubmitBody.model_json_schema(), BatchBody.model_json_schema()
    one, many = _Union(schemas, "Submit", submit), _Union(schemas, "SubmitBatch", batch)
    for handler in handlers:
        params = _add_params(handler, schemas)
        example = params_example(handler, schemas, params)
        needed = bool(schemas[params].get("required"))
        one.add(handler, {"$ref": REF + params}, needed, example)
        examples = None if example is None else [example]
        many.add(handler, _list({"$ref": REF + params}), True, examples)
    retry = {each.name: {"value": {"type": each.name}} for each in handlers}
    return one.examples() | many.examples() | {"Retry": retry or {"one": {"value": {}}}}


class _Union:
    """The body of one operation: that of any job type, each a schema of its own.

    Args:
        schemas: Where they are put, since generators of clients look for the members there.
        name: Name of the whole.
        generic: What is the same for all job types.
    """

    def __init__(self, schemas: dict[str, Any], name: str, generic: dict[str, Any]) -> None:
        self._schemas, self._name, self._generic = schemas, name, generic
        self._examples: dict[str, Any] = {}
        self._mapping: dict[str, str] = {}
        schemas[name] = generic

    def add(self, handler: Handler, params: dict[str, Any], needed: bool, example: Any) -> None:
        """Add the body of a job type; an `example` of None stays away."""
        key = _free(f"{self._name}-{handler.name}", self._schemas)
        own = {"type": {"type": "string", "const": handler.name}, "params": params}
        self._schemas[key] = {
            "title": key,
            "description": handler.description,
            "type": "object",
            "properties": self._generic["properties"] | own,
            "required": ["type", "params"] if needed else ["type"],
            "additionalProperties": False,
        }
        self._mapping[handler.name] = REF + key
        self._schemas[self._name] = {
            "oneOf": [{"$ref": ref} for ref in self._mapping.values()],
            "discriminator": {"propertyName": "type", "mapping": self._mapping},
        }
        if example is not None:
            self._examples[handler.name] = {"value": {"type": handler.name, "params": example}}

    def examples(self) -> dict[str, Any]:
        """Return the examples by the name of the whole; none stays as it is without job types."""
        return {self._name: self._examples} if self._mapping else {}


def _add_params(handler: Handler, schemas: dict[str, Any]) -> str:
    """Add the schema of a job type's params and those that it refers to; return its name."""
    name = _free(f"params-{handler.name}", schemas)
    schema = handler.params_schema(ref_template=f"{REF}{name}.{{model}}")
    nested = schema.pop("$defs", {})  # named after the type: two types may have models of one name
    found = {name: schema} | {f"{name}.{model}": each for model, each in nested.items()}
    schemas |= {key: each | {"title": key} for key, each in found.items()}
    return name


def _free(name: str, schemas: dict[str, Any]) -> str:
    """Return a name that a key can hold, and that no other is taken for.

    Generators make class names of them, without what isn't a letter or a digit.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    taken = {re.sub("[^a-z0-9]", "", key.lower()) for key in schemas}
    free, number = name, 1
    while re.sub("[^a-z0-9]", "", free.lower()) in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    """Put a schema where `$ref` finds it, and beside it the ones it refers to."""
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema | {"title": name}


def _add_links(schema: dict[str, Any], description: str) -> None:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    schema["properties"]["links"] = texts | {"description": description}
    schema["required"].append("links")


_TEXT = {"type": "string"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
