"""JSON Schema of what the tools answer beside their text (MCP calls it structured output).

Nothing is required: a call that could not be done answers with an `error` alone.
"""

from typing import Any

from ..jobs import JobStatus

_TEXT, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_STEP = {"type": "object", "properties": {"current": _COUNT, "total": _COUNT}}

JOB: dict[str, Any] = {
    "type": "object",
    "properties": {
        "job_id": _TEXT,
        "type": _TEXT | {"description": "The job type."},
        "status": {"type": "string", "enum": [str(status) for status in JobStatus]},
        "progress": _NUMBER | {"description": "Percent, 0 to 100."},
        "progress_message": _TEXT,
        "step": _STEP,
        "result": {"description": "What the job returned, once completed, if it isn't too long."},
        "omitted": {"type": "array", "items": _TEXT, "description": "What was too long."},
        "error": {"type": "object", "description": "Why the job failed, or the call."},
        "retry_after": _NUMBER | {"description": "Seconds before which asking again is in vain."},
    },
}
"""One job."""

JOBS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "jobs": {"type": "array", "items": JOB},
        "next_cursor": _TEXT | {"description": "Where the list goes on."},
        "error": JOB["properties"]["error"],
    },
}
"""Several."""


def output_schema(tool: str) -> dict[str, Any]:
    """Return the schema of what a tool answers."""
    return JOBS if tool in ("wait_for_jobs", "list_jobs") else JOB
