"""The OpenAPI 3.1 document of a runner's HTTP surface, with one params schema for each job type."""

import re
from collections.abc import Sequence
from typing import Any, get_args

from .. import __version__
from ..batch_views import BatchView
from ..deliveries import DeliveryView
from ..handlers import Handler
from ..jobs import JobStatus
from ..submission import Outcome
from ..views import JobView
from .api import CancelBody, RetryBody, SubmitBody
from .batches import BatchBody
from .owners import OwnedRunner

JSON = "application/json"
PROBLEM = "application/problem+json"
REF = "#/components/schemas/"


def openapi_document(runner: OwnedRunner, *, base: str) -> dict[str, Any]:
    """Return the document; `base` is the path that the app is mounted at."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobrunner", "version": __version__},
        "servers": [{"url": base or "/"}],
        "security": [{"bearer": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(runner.job_types),
        },
    }


def _schemas(handlers: list[Handler]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    _add(
        schemas,
        "Job",
        JobView.model_json_schema(mode="serialization", ref_template=REF + "{model}"),
    )
    schemas["Job"]["properties"]["links"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Paths of the job: self, stream and, while it hasn't ended, cancel.",
    }
    schemas["Job"]["required"].append("links")
    _add(schemas, "Cancel", CancelBody.model_json_schema())
    _add(schemas, "Retry", RetryBody.model_json_schema())
    schemas["Retry"]["properties"]["type"]["enum"] = [*(each.name for each in handlers), None]
    schemas["JobIds"] = _object({"job_ids": {"type": "array", "items": {"type": "string"}}})
    schemas["Problem"] = _PROBLEM_SCHEMA
    schemas["JobList"] = _object(
        {
            "jobs": {"type": "array", "items": {"$ref": REF + "Job"}},
            "next_cursor": {"type": ["string", "null"]},
        }
    )
    _add(schemas, "Delivery", DeliveryView.model_json_schema(mode="serialization"))
    deliveries = {"type": "array", "items": {"$ref": REF + "Delivery"}}
    schemas["DeliveryList"] = _object({"deliveries": deliveries})
    _add(schemas, "Batch", BatchView.model_json_schema(
        mode="serialization", ref_template=REF + "{model}"))  # fmt: skip
    schemas["Batch"]["properties"]["links"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Paths of the batch: self, stream, jobs and, until all have ended, cancel.",
    }
    schemas["Batch"]["required"].append("links")
    schemas["JobTypes"] = _object({"types": {"type": "array", "items": _JOB_TYPE_SCHEMA}})
    submit = SubmitBody.model_json_schema()
    each = [_submit(submit, h, schemas) for h in handlers]
    schemas["Submit"] = {"oneOf": each} if handlers else submit
    batch = BatchBody.model_json_schema()
    schemas["SubmitBatch"] = {"oneOf": [_many(batch, one) for one in each]} if handlers else batch
    return schemas


def _many(generic: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """Return the body of `POST /batches` for one job type, from that of `POST /jobs`."""
    params = {"type": "array", "items": one["properties"]["params"]}
    own = {"type": one["properties"]["type"], "params": params}
    return one | {"properties": generic["properties"] | own, "required": ["type", "params"]}


def _submit(generic: dict[str, Any], handler: Handler, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the body of `POST /jobs` for one job type, its params as a schema of their own."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"params-{handler.name}")
    while name in schemas:  # another type's name that differs in what a key can't hold
        name += "-"
    schema = handler.params_schema(ref_template=f"{REF}{name}.{{model}}")
    nested = schema.pop("$defs", {})  # named after the type: two types may have models of one name
    schemas |= {f"{name}.{model}": definition for model, definition in nested.items()}
    schemas[name] = schema
    properties = generic["properties"] | {
        "type": {"const": handler.name},
        "params": {"$ref": REF + name},
    }
    required = ["type", "params"] if schemas[name].get("required") else ["type"]
    return {
        "title": handler.name,
        "description": handler.description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    """Put a schema where `$ref` finds it, and beside it the ones it refers to."""
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema


def _paths() -> dict[str, Any]:
    job = _answer("The job", "Job")
    taken = job | {"headers": {"Job-Outcome": _OUTCOME}}
    again = _answer("The ids of the new jobs", "JobIds")
    wait = _query("wait", "Seconds to wait for the job's end, at most 30.", **_COUNT)
    prefer = _header("Prefer", "`wait=N` waits up to N seconds for the job's end (RFC 7240).")
    key = _header("Idempotency-Key", "A second request with the same key gets the first one's job.",
                  minLength=1)  # fmt: skip
    filters = [
        _query("status", "Only jobs with this status.", enum=list(JobStatus)),
        _query("type", "Only jobs of this type."),
        _query("session_id", "Only jobs with this session id."),
        _query("batch_id", "Only jobs with this batch id."),
        _query(
            "limit",
            "How many at most; 50 if not given, never more than 200.",
            **_COUNT | {"minimum": 1},
        ),
        _query("cursor", "`next_cursor` of the page before."),
    ]
    after = _query("after", "Number of the last event seen.", **_COUNT)
    last = _header("Last-Event-ID", "The same, as a browser sends it.")
    text = {"description": "Log lines and output",
            "content": {"text/plain": {"schema": {"type": "string"}}}}  # fmt: skip
    same = {"description": "Nothing has changed since the event that `If-None-Match` names."}
    known = _header("If-None-Match", "`ETag` of an earlier answer; a match is a 304.")
    gone = {"description": "The id answers 410 from now on."}
    return {
        "/jobs": {
            "post": _operation("submit", "Submit a job", {"202": taken, "200": taken},
                               "409 413 422 503",
                               body="Submit", parameters=[key, prefer]),
            "get": _operation("listJobs", "List jobs, newest first",
                              {"200": _answer("A page", "JobList")}, "422", parameters=filters),
        },
        "/retry": {
            "post": _operation("retryFailed", "Run failed jobs again, as new ones", {"202": again},
                               "413 422 503", body="Retry"),
        },
        "/jobs/{job_id}": _job_path(
            get=_operation("getJob", "Look at a job", {"200": job, "304": same}, "404 410",
                           parameters=[wait, prefer, known]),
            delete=_operation("forgetJob", "Forget a final job", {"204": gone}, "404 409 410"),
        ),
        "/jobs/{job_id}/result": _job_path(
            get=_operation("getResult", "Get the bare result", {
                "200": {"description": "The result", "content": {JSON: {"schema": {}}}},
                "202": job,
            }, "404 409 410"),
        ),
        "/jobs/{job_id}/cancel": _job_path(
            post=_operation("cancelJob", "Ask a job to stop", {"200": job, "202": job},
                            "404 410 413 422", body="Cancel"),
        ),
        "/jobs/{job_id}/retry": _job_path(
            post=_operation("retryJob", "Run a final job again, as a new one", {"202": job},
                            "404 409 410 503"),
        ),
        "/jobs/{job_id}/logs": _job_path(
            get=_operation("getLogs", "Keep what a job has said", {"200": text}, "404 410"),
        ),
        "/jobs/{job_id}/stream": _job_path(
            get=_operation("streamJob", "Follow a job's events", {"200": _EVENTS, "204": _DONE},
                           "404 410 503", parameters=[after, last]),
        ),
        "/jobs/{job_id}/deliveries": _job_path(
            get=_operation("listDeliveries", "List a job's webhook deliveries",
                           {"200": _answer("The deliveries", "DeliveryList")}, "404 410"),
        ),
        "/jobs/{job_id}/deliveries/{delivery_id}/resend": _path(
            ("job_id", "delivery_id"),
            post=_operation("resendDelivery", "Send a webhook again",
                            {"202": _answer("The delivery", "Delivery")}, "404 410 503"),
        ),
        **_batch_paths(key, wait, after, last),
        "/events": {"get": _operation("streamJobs", "Follow what happens to all jobs",
                                      {"200": _EVENTS}, "503", parameters=[after, last])},
        "/types": {"get": _operation("listTypes", "List the job types",
                                     {"200": _answer("The types", "JobTypes")}, "")},
        "/healthz": {"get": _open("healthz", "Whether the process answers", "")},
        "/readyz": {"get": _open("readyz", "Whether jobs are taken and started", "503")},
    }  # fmt: skip


def _batch_paths(
    key: dict[str, Any], wait: dict[str, Any], after: dict[str, Any], last: dict[str, Any]
) -> dict[str, Any]:
    batch, one = _answer("The batch", "Batch"), ("batch_id",)
    return {
        "/batches": {
            "post": _operation("submitBatch", "Submit many jobs as one", {"202": batch},
                               "409 413 422 503", body="SubmitBatch", parameters=[key]),
        },
        "/batches/{batch_id}": _path(
            one, get=_operation("getBatch", "Look at a batch", {"200": batch}, "404 410",
                                parameters=[wait]),
        ),
        "/batches/{batch_id}/cancel": _path(
            one, post=_operation("cancelBatch", "Ask all jobs of a batch to stop",
                                 {"200": batch, "202": batch}, "404 410 413 422", body="Cancel"),
        ),
        "/batches/{batch_id}/stream": _path(
            one, get=_operation("streamBatch", "Follow a batch's events",
                                {"200": _EVENTS, "204": _DONE}, "404 410 503",
                                parameters=[after, last]),
        ),
    }  # fmt: skip


def _operation(
    name: str,
    summary: str,
    answers: dict[str, Any],
    problems: str,
    *,
    body: str | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    changes = not name.startswith(("get", "list", "stream"))
    statuses = f"400 401 431 {problems}" + (" 403 415" if changes else "")
    problem = {
        "description": "A problem",
        "content": {PROBLEM: {"schema": {"$ref": REF + "Problem"}}},
    }
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": answers | dict.fromkeys(sorted(set(statuses.split())), problem),
    }
    if body is not None:
        operation["responses"]["408"] = problem
        schema = {"schema": {"$ref": REF + body}}
        operation["requestBody"] = {
            "content": {JSON: schema},
            "required": body in ("Submit", "SubmitBatch"),
        }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _open(name: str, summary: str, problems: str) -> dict[str, Any]:
    answer = {"description": "Yes", "content": {JSON: {"schema": {"type": "object"}}}}
    operation = _operation(name, summary, {"200": answer}, problems)
    for status in ("401", "403", "415"):
        operation["responses"].pop(status, None)
    return operation | {"security": []}


def _job_path(**operations: dict[str, Any]) -> dict[str, Any]:
    return _path(("job_id",), **operations)


def _path(names: Sequence[str], **operations: dict[str, Any]) -> dict[str, Any]:
    place = {"in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [{"name": name} | place for name in names], **operations}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": REF + schema}}}}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    schema = {"type": "string"} | schema
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": True,  # as if it weren't given
        "schema": schema,
    }


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    schema = {"type": "string"} | schema
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_COUNT = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_EVENTS = {"description": "Server-Sent Events", "content": {"text/event-stream": {}}}
_DONE = {"description": "All events have been read; don't ask again."}
_OUTCOME = {
    "description": "How the job came about: new, found by its idempotency key, or beside others "
    "with the same concurrency key.",
    "schema": {"type": "string", "enum": list(get_args(Outcome))},
}
_JOB_TYPE_SCHEMA = _object(
    {
        "type": {"type": "string"},
        "description": {"type": "string"},
        "params": {"type": "object", "description": "JSON schema of the params."},
        "result": {"type": "object", "description": "JSON schema of the result."},
    }
)
_PROBLEM_SCHEMA = _object(
    {
        "type": {"type": "string", "description": "Ends in the error's stable code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    }
)
_PROBLEM_SCHEMA["properties"] |= {
    "option": {"type": "string", "description": "The option that has a wrong value."},
    "job_id": {"type": "string", "description": "The job that it is about."},
    "reason": {"type": "string", "description": "How that job ended."},
    "retry_after": {"type": "number", "description": "Seconds in which there should be room."},
}
_PROBLEM_SCHEMA["properties"]["errors"] = {
    "type": "array",
    "items": _object({"detail": {"type": "string"}, "pointer": {"type": "string"}}),
}
