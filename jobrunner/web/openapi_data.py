"""What the OpenAPI document says that is the same for every runner: headers, schemas, examples."""

from collections.abc import Mapping
from typing import Any, get_args

from ..handles import Outcome


def object_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """Return a parameter of the query."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": True,  # as if it weren't given
        "schema": {"type": "string"} | schema,
    }


def header(name: str, description: str, example: str | None, **schema: Any) -> dict[str, Any]:
    """Return a header of the request."""
    schema = {"type": "string"} | schema
    given = {"name": name, "in": "header", "description": description, "schema": schema}
    return given if example is None else given | {"example": example}


def _answered(
    description: str, example: Any, *, always: bool = False, **schema: Any
) -> dict[str, Any]:
    """Return a header of an answer; `always` says that no such answer is without it."""
    found = {"description": description, "schema": {"type": "string"} | schema, "example": example}
    return found | {"required": True} if always else found


JOB_ID = "job_3f1d0c5a7e2b4968a1c0d9e8f7b6a5c4"
BATCH_ID = "batch_9b8a7c6d5e4f40312233445566778899"
COUNT = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
IDS = {
    "job_id": JOB_ID,
    "batch_id": BATCH_ID,
    "token": "Zm9yIHRoZSBwZXJzb24gd2hvIGlzIGFza2VkIG9ubHk",
    "delivery_id": "msg_3f1d0c5a7e2b4968a1c0d9e8f7b6a5c4_7",
}

ANSWERED: Mapping[str, dict[str, Any]] = {
    "Content-Disposition": _answered("A name to save it under.", 'attachment; filename="job.log"'),
    "ETag": _answered(
        "Number of the job's last event; `If-None-Match` takes it.", 'W/"7"', always=True
    ),
    "Idempotency-Replayed": _answered(
        "`true` when an earlier request with the same key made it.", "true", enum=["true"]
    ),
    "Job-Outcome": _answered(
        "How the job came about: new, found by its idempotency key, or beside others "
        "with the same concurrency key.",
        "created",
        always=True,
        enum=list(get_args(Outcome)),
    ),
    "Link": _answered(
        'The next page, as `rel="next"`; none on the last one (RFC 8288).',
        '</jobs?cursor=b3Blbg>; rel="next"',
    ),
    "Location": _answered("Path of what was made.", f"/jobs/{JOB_ID}", always=True),
    "Preference-Applied": _answered(
        "What of `Prefer` was obeyed, with the seconds that it came to (RFC 7240).", "wait=30"
    ),
    "RateLimit": _answered(
        "Free places of the queue as `r`; `t` is the seconds until there should be one "
        "(draft-ietf-httpapi-ratelimit-headers-10).",
        '"queue";r=999',
    ),
    "RateLimit-Policy": _answered("Places of the queue as `q`.", '"queue";q=1000'),
    "Retry-After": _answered(
        "Whole seconds after which to ask again; none once it has ended.",
        2,
        type="integer",
        minimum=0,
    ),
    "WWW-Authenticate": _answered("How to show who asks.", "Bearer", always=True),
}
"""Headers of answers."""

PREFER = header("Prefer", "`wait=N` waits up to N seconds for the job's end (RFC 7240).", "wait=10")
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "A text of your own: a second request with the same key gets what the first one made.",
    None,  # whoever sends the document's own would find somebody else's request
    minLength=1,
)
TRACEPARENT = header(
    "traceparent",
    "The caller's place in a trace, kept with the job (W3C Trace Context); another one is ignored.",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
IF_NONE_MATCH = header("If-None-Match", "`ETag` of an earlier answer; a match is a 304.", 'W/"7"')
WAIT = query("wait", "Seconds to wait for the job's end, at most 30.", **COUNT)
AFTER = query("after", "Number of the last event seen.", **COUNT)
LAST_EVENT_ID = header("Last-Event-ID", "The same, as a browser sends it.", "7")

PROBLEM_SCHEMA = object_of(
    {
        "type": {"type": "string", "description": "Ends in the error's stable code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    }
)
PROBLEM_SCHEMA["properties"] |= {
    "option": {"type": "string", "description": "The option that has a wrong value."},
    "job_id": {"type": "string", "description": "The job that it is about."},
    "reason": {"type": "string", "description": "How that job ended."},
    "retry_after": {"type": "number", "description": "Seconds in which there should be room."},
}
PROBLEM_SCHEMA["properties"]["errors"] = {
    "type": "array",
    "items": object_of({"detail": {"type": "string"}, "pointer": {"type": "string"}}),
}
JOB_TYPE_SCHEMA = object_of(
    {
        "type": {"type": "string"},
        "description": {"type": "string"},
        "params": {"type": "object", "description": "JSON schema of the params."},
        "result": {"type": "object", "description": "JSON schema of the result."},
    }
)


def _links(path: str, *more: str) -> dict[str, Any]:
    return {"self": path} | {name: f"{path}/{name}" for name in ("stream", *more)}


_AT = "2026-11-22T03:00:00.123Z"
_LATER = "2026-11-22T03:00:07.456Z"
_NOT_YET = dict.fromkeys(
    "result partial error question finished_at next_attempt_at run_at expires_at deadline_at "
    "cancel_requested_at cancel_reason cancel_note session_id batch_id parent_id retry_of".split()
)
RUNNING = _NOT_YET | {
    "job_id": JOB_ID, "type": "run_tests", "status": "running", "progress": 48.9,
    "progress_message": "23 of 47", "step": {"current": 23, "total": 47},
    "params": {"command": "pytest"}, "partial": "tests/test_vault.py ....", "attempt": 1,
    "max_attempts": 4, "created_at": _AT, "started_at": _AT, "updated_at": _LATER,
    "questions": [], "timeout": 600.0, "priority": 0, "metadata": {}, "last_seq": 7,
    "links": _links(f"/jobs/{JOB_ID}", "cancel"),
}  # fmt: skip
COMPLETED = RUNNING | {
    "status": "completed", "progress": 100.0, "progress_message": "47 of 47",
    "step": {"current": 47, "total": 47}, "result": {"passed": 47}, "partial": None,
    "finished_at": _LATER, "last_seq": 12, "links": _links(f"/jobs/{JOB_ID}"),
}  # fmt: skip
BATCH = {
    "batch_id": BATCH_ID, "type": "run_tests", "total": 50,
    "counts": {"pending": 27, "completed": 21, "failed": 2}, "progress": 46,
    "progress_message": "23 of 50, 2 failed", "step": {"current": 23, "total": 50},
    "created_at": _AT, "updated_at": _LATER, "finished_at": None, "cancel_requested_at": None,
    "cancel_note": None, "max_in_flight": None, "session_id": None, "job_ids": [JOB_ID],
    "last_seq": 23,
    "links": _links(f"/batches/{BATCH_ID}", "cancel") | {"jobs": f"/jobs?batch_id={BATCH_ID}"},
}  # fmt: skip
DELIVERY = {
    "delivery_id": IDS["delivery_id"], "job_id": JOB_ID, "event": "job.completed",
    "url": "https://example.com/hook", "status": "delivered", "attempts": 1, "status_code": 204,
    "error": None, "event_at": _AT, "last_attempt_at": _LATER, "next_attempt_at": None,
}  # fmt: skip
STATS = {
    "state": "running", "paused": False, "workers": 10, "busy": 1, "aside": 0, "stuck": 0,
    "stuck_total": 0, "blocked": 0, "faults": 0, "unready": None,
    "jobs": {"running": 1, "completed": 12}, "pruned": 0, "webhooks": {},
}  # fmt: skip
JOB_TYPE = {
    "type": "run_tests",
    "description": "Run the tests.",
    "params": {"type": "object", "properties": {"command": {"type": "string"}}},
    "result": {},
}
ANSWERS: Mapping[str, Any] = {
    "Job": RUNNING,
    "JobList": {"jobs": [COMPLETED], "next_cursor": None},
    "JobIds": {"job_ids": [JOB_ID]},
    "Answered": {"job_id": JOB_ID, "question_id": "q1"},
    "Batch": BATCH,
    "Delivery": DELIVERY,
    "DeliveryList": {"deliveries": [DELIVERY]},
    "JobTypes": {"types": [JOB_TYPE]},
    "Stats": STATS,
}
"""One answer for each schema."""
REQUESTS: Mapping[str, Any] = {
    "Submit": {"type": "run_tests", "params": {"command": "pytest"}},
    "SubmitBatch": {"type": "run_tests", "params": [{"command": "pytest"}]},
    "Cancel": {"reason": "no longer needed"},
    "Input": {"question_id": "q1", "value": True},
    "AnswerLink": {"value": True},
}
"""One request for each schema that isn't made of the job types."""
PAGE = "<!doctype html>\n<title>A job asks</title>\n"
EVENTS = (
    "retry: 1000\n\nid: 12\nevent: status\n"
    f'data: {{"seq":12,"job_id":"{JOB_ID}","at":"{_LATER}","status":"completed"}}\n\n'
)
LOG = f"{_LATER} 47 passed\n"
METRICS = "# HELP jobrunner_workers Jobs that may run at once\n# TYPE jobrunner_workers gauge\n"
METRICS += "jobrunner_workers 4.0\n"
PROBLEMS = {
    "400": ("invalid-query", "Bad Request", "limit is 'x'; it must be a whole number"),
    "401": ("unauthorized", "Unauthorized", "the token is missing"),
    "403": ("forbidden", "Forbidden", "a page of another origin may not change anything"),
    "404": ("job-not-found", "Not Found", f"there is no job {JOB_ID}"),
    "408": ("request-timeout", "Request Timeout", "the body has not come"),
    "409": ("job-not-final", "Conflict", f"job {JOB_ID} is running; it has not ended"),
    "410": ("job-gone", "Gone", f"{JOB_ID} is no longer kept"),
    "413": ("payload-too-large", "Content Too Large", "the body has more than 1048576 bytes"),
    "415": ("unsupported-media-type", "Unsupported Media Type", "send application/json"),
    "422": ("invalid-params", "Unprocessable Content", "command: a text is wanted"),
    "431": ("headers-too-large", "Request Header Fields Too Large", "send less than 16 kB"),
    "503": ("queue-full", "Service Unavailable", "the queue is full; ask again in 2 s"),
}
"""Code, title and detail by status: one of what each may mean."""


def problem_example(status: str) -> dict[str, Any]:
    """Return a problem document that has the status."""
    code, title, detail = PROBLEMS[status]
    example = {"type": f"/problems/{code}", "title": title, "status": int(status)}
    return example | {"detail": detail}
