"""The operations of the OpenAPI document: what each takes, and every answer that it has."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..jobs import JobStatus
from . import openapi_data as data

JSON = "application/json"
PROBLEM = "application/problem+json"
HTML, FORM = "text/html", "application/x-www-form-urlencoded"
REF = "#/components/schemas/"


def operations(requests: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paths of the document.

    Args:
        requests: Examples for the schema of a body, by its name and by their own.
    """
    found = _job_paths() | _batch_paths() | _other_paths()
    for path in found.values():
        for operation in path.values():
            if isinstance(operation, dict) and "requestBody" in operation:
                content = operation["requestBody"]["content"][JSON]
                content["examples"] = requests[content["schema"]["$ref"].removeprefix(REF)]
    return found


def _job_paths() -> dict[str, Any]:
    job = _answer("The job", "Job", "ETag Retry-After Preference-Applied")
    early = _answer("The job, which hasn't ended", "Job", "Retry-After")
    ended = _answer("The job, which has ended", "Job", example=data.COMPLETED)
    new = "Location Job-Outcome Idempotency-Replayed RateLimit RateLimit-Policy Preference-Applied"
    filters = [
        data.query("status", "Only jobs with this status.", enum=list(JobStatus)),
        data.query("type", "Only jobs of this type."),
        data.query("session_id", "Only jobs with this session id."),
        data.query("batch_id", "Only jobs with this batch id."),
        data.query("parent_id", "Only jobs that this one has submitted."),
        data.query(
            "limit",
            "How many at most; 50 if not given, never more than 200.",
            **data.COUNT | {"minimum": 1},
        ),
        data.query("cursor", "`next_cursor` of the page before."),
        data.query(
            "brief",
            "`true` leaves out params, result and metadata that are over a "
            "kilobyte, and names them in `omitted`.",
            enum=["true", "false"],
        ),
    ]
    same = _bare("Nothing has changed since the event that `If-None-Match` names.",
                 "ETag Retry-After Preference-Applied")  # fmt: skip
    return {
        "/jobs": {
            "post": _operation("submit", "Submit a job", {
                "202": _answer("The job", "Job", f"{new} Retry-After"),
                "200": _answer("The job, which has ended", "Job", new, example=data.COMPLETED),
            }, "409 413 422 503", body="Submit",
                parameters=[data.IDEMPOTENCY_KEY, data.PREFER, data.TRACEPARENT]),
            "get": _operation("listJobs", "List jobs, newest first",
                              {"200": _answer("A page", "JobList", "Link")}, "422",
                              parameters=filters),
        },
        "/retry": {
            "post": _operation("retryFailed", "Run failed jobs again, as new ones",
                               {"202": _answer("The ids of the new jobs", "JobIds")},
                               "413 422 503", body="Retry"),
        },
        "/jobs/{job_id}": _job_path(
            get=_operation("getJob", "Look at a job", {"200": job, "304": same}, "404 410",
                           parameters=[data.WAIT, data.PREFER, data.IF_NONE_MATCH]),
            delete=_operation("forgetJob", "Forget a final job",
                              {"204": _bare("The id answers 410 from now on.")}, "404 409 410"),
        ),
        "/jobs/{job_id}/result": _job_path(
            get=_operation("getResult", "Get the bare result",
                           {"200": _content("The result", JSON, {}, {"passed": 47}), "202": early},
                           "404 409 410"),
        ),
        "/jobs/{job_id}/cancel": _job_path(
            post=_operation("cancelJob", "Ask a job to stop", {"200": ended, "202": early},
                            "404 410 413 422", body="Cancel"),
        ),
        "/jobs/{job_id}/input": _job_path(
            post=_operation("answerJob", "Answer what a job asks",
                            {"202": _answer("The job", "Job", "Retry-After")},
                            "404 409 410 413 422",
                            body="Input"),
        ),
        "/jobs/{job_id}/retry": _job_path(
            post=_operation("retryJob", "Run a final job again, as a new one",
                            {"202": _answer("The new job", "Job", "Location Retry-After")},
                            "404 409 410 503"),
        ),
        "/jobs/{job_id}/logs": _job_path(
            get=_operation("getLogs", "Keep what a job has said", {
                "200": _content("Log lines and output", "text/plain", {"type": "string"}, data.LOG,
                                "Content-Disposition"),
            }, "404 410"),
        ),
        "/jobs/{job_id}/stream": _job_path(
            get=_stream("streamJob", "Follow a job's events", "404 410 503")),
        "/jobs/{job_id}/deliveries": _job_path(
            get=_operation("listDeliveries", "List a job's webhook deliveries",
                           {"200": _answer("The deliveries", "DeliveryList")}, "404 410"),
        ),
        "/jobs/{job_id}/deliveries/{delivery_id}/resend": _path(
            ("job_id", "delivery_id"),
            post=_operation("resendDelivery", "Send a webhook again",
                            {"202": _answer("The delivery", "Delivery")}, "404 410 503"),
        ),
    }  # fmt: skip


def _batch_paths() -> dict[str, Any]:
    batch, one = _answer("The batch", "Batch", "Retry-After"), ("batch_id",)
    new = "Location Idempotency-Replayed RateLimit RateLimit-Policy Retry-After"
    return {
        "/batches": {
            "post": _operation("submitBatch", "Submit many jobs as one",
                               {"202": _answer("The batch", "Batch", new)}, "409 413 422 503",
                               body="SubmitBatch",
                               parameters=[data.IDEMPOTENCY_KEY, data.TRACEPARENT]),
        },
        "/batches/{batch_id}": _path(
            one, get=_operation("getBatch", "Look at a batch", {"200": batch}, "404 410",
                                parameters=[data.WAIT]),
        ),
        "/batches/{batch_id}/cancel": _path(
            one, post=_operation("cancelBatch", "Ask all jobs of a batch to stop",
                                 {"200": batch, "202": batch}, "404 410 413 422", body="Cancel"),
        ),
        "/batches/{batch_id}/stream": _path(
            one, get=_stream("streamBatch", "Follow a batch's events", "404 410 503")),
    }  # fmt: skip


def _other_paths() -> dict[str, Any]:
    events = _stream("streamJobs", "Follow what happens to all jobs", "503")
    events["responses"].pop("204")  # it has no end
    return {
        "/answers/{token}": _path(("token",), get=_looking(), post=_answering()),
        "/events": {"get": events},
        "/types": {"get": _operation("listTypes", "List the job types",
                                     {"200": _answer("The types", "JobTypes")}, "")},
        "/stats": {"get": _operation("getStats", "See how the runner does",
                                     {"200": _answer("How it does", "Stats")}, "")},
        "/metrics": {"get": _operation("getMetrics", "Scrape numbers for Prometheus", {
            "200": _content("Metrics; also as OpenMetrics, if asked for", "text/plain",
                            {"type": "string"}, data.METRICS),
        }, "403 404")},
        "/healthz": {"get": _open("healthz", "Whether the process answers", "alive", "")},
        "/readyz": {"get": _open("readyz", "Whether jobs are taken and started", "ready", "503")},
    }  # fmt: skip


def _stream(name: str, summary: str, problems: str) -> dict[str, Any]:
    text = {"type": "string"}
    answers = {
        "200": _content("Server-Sent Events", "text/event-stream", text, data.EVENTS),
        "204": _bare("All events have been read; don't ask again."),
    }
    parameters = [data.AFTER, data.LAST_EVENT_ID]
    return _operation(name, summary, answers, problems, parameters=parameters)


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
    statuses += " 408" if body is not None else ""
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": answers | {status: _problem(status) for status in sorted(statuses.split())},
    }
    if body is not None:
        operation["requestBody"] = {
            "content": {JSON: {"schema": {"$ref": REF + body}}},
            "required": body in ("Submit", "SubmitBatch"),
        }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _problem(status: str) -> dict[str, Any]:
    headers = {"401": "WWW-Authenticate", "503": "Retry-After RateLimit"}.get(status, "")
    schema, example = {"$ref": REF + "Problem"}, data.problem_example(status)
    return _content(example["title"], PROBLEM, schema, example, headers)


def _open(name: str, summary: str, status: str, problems: str) -> dict[str, Any]:
    """Return an operation that asks for no token."""
    schema = data.object_of({"status": {"type": "string"}})
    answer = _content("Yes", JSON, schema, {"status": status})
    operation = _operation(name, summary, {"200": answer}, problems)
    for status in ("401", "403", "415"):
        operation["responses"].pop(status, None)
    return operation | {"security": []}


def _looking() -> dict[str, Any]:
    text = {"type": "string"}
    found = _operation("getQuestion", "Look at what is asked, by the link to it", {
        "200": _content("A page with the question and a form", HTML, text, data.PAGE),
        "404": _content("No open question has this token", HTML, text, data.PAGE),
    }, "")  # fmt: skip
    found["responses"].pop("401")
    return found | {"security": []}


def _answering() -> dict[str, Any]:
    """Return the operation that takes JSON from a program, and a form from the page."""
    text, answered = {"type": "string"}, _answer("The answer was taken", "Answered")
    found = _operation("answerQuestion", "Answer what is asked, by the link to it",
                       {"200": answered}, "404 413 422", body="AnswerLink")  # fmt: skip
    for status in ("200", "404", "422"):
        content = found["responses"][status]["content"]
        content[HTML] = {"schema": text, "examples": {"one": {"value": data.PAGE}}}
    found["responses"].pop("401")
    found["requestBody"]["required"] = True
    found["requestBody"]["content"][FORM] = {
        "schema": {
            "type": "object",
            "properties": dict.fromkeys(("text", "number", "json"), text),
            "minProperties": 1,
        },
        "examples": {"one": {"value": {"json": "true"}}},
    }
    return found | {"security": []}


def _job_path(**operations: dict[str, Any]) -> dict[str, Any]:
    return _path(("job_id",), **operations)


def _path(names: Sequence[str], **operations: dict[str, Any]) -> dict[str, Any]:
    place = {"in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "parameters": [{"name": name} | place | {"example": data.IDS[name]} for name in names],
        **operations,
    }


def _answer(
    description: str, schema: str, headers: str = "", *, example: Any = None
) -> dict[str, Any]:
    made = data.ANSWERS[schema] if example is None else example
    return _content(description, JSON, {"$ref": REF + schema}, made, headers)


def _content(
    description: str, kind: str, schema: dict[str, Any], example: Any, headers: str = ""
) -> dict[str, Any]:
    """Return an answer that has a body."""
    content = {"schema": schema, "examples": {"one": {"value": example}}}
    return _bare(description, headers) | {"content": {kind: content}}


def _bare(description: str, headers: str = "") -> dict[str, Any]:
    """Return an answer; `headers` are the names of those that it has."""
    found = {name: data.ANSWERED[name] for name in headers.split()}
    return {"description": description} | ({"headers": found} if found else {})
