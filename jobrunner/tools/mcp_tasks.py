"""Jobs as tasks of MCP: the extension `io.modelcontextprotocol/tasks` (SEP-2663, 2026-07-28).

A client that declares it with a call of a tool that starts a job is given the job as a task: it
polls `tasks/get`, answers questions with `tasks/update` and stops it with `tasks/cancel`. A task's
id is the job's, so a job that was started in any other way can be followed likewise.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.jsonrpc import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ..errors import InvalidAnswer, JobGone, JobNotFound, NotWaitingForInput, RequestError
from ..jobs import Job, JobStatus
from ..questions import OpenQuestion
from ..toolbox_text import in_line
from ..views import iso
from .mcp_calls import Calls, Context
from .mcp_forms import filled_in, form

OURS = frozenset({"shutdown", "lost", "rejected"})
"""Reasons of failures that are the runner's and no outcome of the handler's."""


class TaskParams(types.RequestParams):
    """What `tasks/get` and `tasks/cancel` are sent."""

    task_id: str


class UpdateParams(TaskParams):
    """What `tasks/update` is sent."""

    input_responses: dict[str, types.ElicitResult]


class Tasks(Extension):
    """The server's half of the extension.

    Args:
        calls: The tools, as the caller may use them.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def methods(self) -> Sequence[MethodBinding]:
        """Return the methods that a client may send."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get),
            MethodBinding("tasks/update", UpdateParams, self._update),
            MethodBinding("tasks/cancel", TaskParams, self._cancel),
        ]

    async def intercept_tool_call(
        self, params: types.CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        """Return the job that a call has started as a task, where the client knows tasks."""
        answer = await call_next(ctx)
        if not self._declared(ctx) or self._calls.toolbox().job_type(params.name) is None:
            return answer
        assert isinstance(answer, types.CallToolResult), "what `Calls` answers"
        if answer.is_error:
            return answer
        job = self._calls.record(answer.structured_content["job_id"])
        return {"resultType": "task", **self._task(job)}

    async def _get(self, ctx: Context, params: TaskParams) -> HandlerResult:
        job = self._admit(ctx, params.task_id)
        return {**self._task(job), **await self._outcome(job)}

    async def _update(self, ctx: Context, params: UpdateParams) -> HandlerResult:
        job = self._admit(ctx, params.task_id)
        with _as_errors():
            for question_id, response in params.input_responses.items():
                if (question := _open(job).get(question_id)) is not None:
                    await self._respond(job, question, response)
        return {}  # what answers no open question is left alone, as SEP-2663 has it

    async def _cancel(self, ctx: Context, params: TaskParams) -> HandlerResult:
        job = self._admit(ctx, params.task_id)
        with _as_errors():
            await self._calls.runner.cancel(job.id)
        return {}

    async def _respond(
        self, job: Job, question: OpenQuestion, response: types.ElicitResult
    ) -> None:
        """Answer a question; who won't answer it has decided that the job can't go on."""
        runner = self._calls.runner
        if response.action != "accept":
            await runner.cancel(job.id, f"question {question.question_id}: {response.action}")
            return
        value = filled_in(question.kind.json_schema, response.content or {})
        with suppress(NotWaitingForInput):  # somebody else was faster
            await runner.answer(job.id, question.question_id, value)

    def _admit(self, ctx: Context, task_id: str) -> Job:
        """Return the job that a request is about.

        Raises:
            MCPError: The client doesn't declare the extension, its header names another task, or
                there is no such job for whoever asks.
        """
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
        if not self._declared(ctx):
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"{ctx.method} is for clients that declare {self.identifier} with each request",
                {"requiredCapabilities": {"extensions": {self.identifier: {}}}},
            )
        named = None if ctx.request is None else ctx.request.headers.get(MCP_NAME_HEADER)
        if named is not None and decode_header_value(named) != task_id:
            raise MCPError(HEADER_MISMATCH, "the header Mcp-Name doesn't name the taskId")
        with _as_errors():
            return self._calls.record(task_id)

    def _declared(self, ctx: Context) -> bool:
        """Whether the client has declared the extension, with this very request."""
        declared = ctx.session.client_capabilities
        return (
            ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            and declared is not None
            and self.identifier in (declared.extensions or {})
        )

    def _task(self, job: Job) -> dict[str, Any]:
        """Return what is said of every task."""
        runner = self._calls.runner
        kept = runner.retention.max_age
        age = (job.finished_at or job.updated_at) - job.created_at
        return {
            "taskId": job.id,
            "status": _status(job),
            "statusMessage": _message(job),
            "createdAt": iso(job.created_at),
            "lastUpdatedAt": iso(job.updated_at),
            "ttlMs": None if kept is None else round(1_000 * (age + kept)),
            "pollIntervalMs": round(1_000 * runner.poll_after(job.id)),
        }

    async def _outcome(self, job: Job) -> dict[str, Any]:
        """Return what `tasks/get` says besides: questions, the result, or an error."""
        match _status(job):
            case "input_required":
                return {"inputRequests": {id: _request(q) for id, q in _open(job).items()}}
            case "completed":
                answer = await self._calls.answer("get_job_result", {"job_id": job.id})
                dumped = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
                return {"result": dumped}
            case "failed":
                assert job.error is not None, "a job that failed has an error"
                return {"error": {"code": INTERNAL_ERROR, "message": job.error.detail}}
        return {}


def _status(job: Job) -> str:
    """Return what a job's status is called; a handler's failure is a result like another."""
    match job.status:
        case JobStatus.INPUT_REQUIRED | JobStatus.COMPLETED | JobStatus.CANCELLED as same:
            return str(same)
        case JobStatus.FAILED:
            return "failed" if job.error and job.error.reason in OURS else "completed"
    return "working"


def _open(job: Job) -> dict[str, OpenQuestion]:
    return {} if job.questions is None else dict(job.questions.open)


def _request(question: OpenQuestion) -> dict[str, Any]:
    """Return a question as the request that a server would send, were it one that sends any."""
    wanted = form(question.kind.json_schema)
    asked = {"mode": "form", "message": question.prompt, "requestedSchema": wanted}
    return {"method": "elicitation/create", "params": asked}


def _message(job: Job) -> str:
    """Return how the job stands in one line; what it says itself stands in quotes."""
    said = "asked to stop" if job.cancel_requested_at and not job.is_final else str(job.status)
    if job.progress and not job.is_final:
        said += f", {job.progress:g} % done"
    if job.status in (JobStatus.RETRYING, JobStatus.FAILED) and job.error is not None:
        return f"{said}: {in_line(job.error.detail)}"
    return f"{said}: {in_line(job.progress_message)}" if job.progress_message else said


@contextmanager
def _as_errors() -> Iterator[None]:
    """Raise what a runner raises as MCP's errors."""
    try:
        yield
    except (JobNotFound, JobGone) as error:
        raise MCPError(INVALID_PARAMS, f"there is no such task: {error}") from None
    except InvalidAnswer as error:
        raise MCPError(INVALID_PARAMS, str(error), {"errors": error.errors}) from None
    except RequestError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from None
