"""What a call of a tool comes to over MCP: who asks, its answer, and progress while it waits."""

from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from pydantic_core import from_json

from ..errors import JobGone, JobNotFound, JobRunnerError
from ..events import EventLog
from ..jobs import Job, JobStatus
from ..runner import JobRunner
from ..toolbox import Toolbox
from .mcp_output import output_schema

Context: TypeAlias = ServerRequestContext[Any, Any]
Owner: TypeAlias = Callable[[], str | None]
"""Says for whom a call is answered; None for nobody in particular, who sees all jobs."""

READERS = frozenset({"check_job_status", "wait_for_jobs", "get_job_result"})
"""Tools whose structured output has the results of jobs, as their text has."""
MAX_RESULTS = 20_480
"""Bytes of results in structured output; the text has more, and names what it leaves out."""
WHOLE = 100.0
"""Progress of what has ended: jobs count in percent."""


class Calls:
    """The tools of a runner, as whoever asks may use them.

    Args:
        runner: The runner.
        owner: Called within each call: whose jobs it may see, and whose its new ones will be.
        options: What `JobRunner.toolbox` takes besides.
    """

    def __init__(self, runner: JobRunner, owner: Owner, options: Mapping[str, Any]) -> None:
        self.runner = runner
        self._owner = owner
        self._options = options

    def toolbox(self) -> Toolbox:
        """Return the tools of whoever asks."""
        return self.runner.toolbox(owner=self._owner(), **self._options)

    def record(self, job_id: str) -> Job:
        """Return the record of a job of whoever asks.

        Raises:
            JobNotFound, JobGone: They have none, or no longer.
        """
        return self.runner.record(job_id, self._owner())

    async def list(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """Answer `tools/list`; all tools are on one page."""
        tools = [tool | {"outputSchema": output_schema(tool["name"])}
                 for tool in self.toolbox().tools("mcp")]  # fmt: skip
        return types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in tools])

    async def call(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Answer `tools/call`; what the model did wrong is text for it, never an error."""
        arguments = params.arguments or {}
        job_ids = _waited_for(arguments)
        if not job_ids:
            return await self.answer(params.name, arguments)
        async with anyio.create_task_group() as group:
            group.start_soon(self._report, ctx, job_ids)
            answer = await self.answer(params.name, arguments)
            group.cancel_scope.cancel()
        return answer

    async def answer(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Carry out a call, and return its answer as text and as structured output."""
        answer = await self.toolbox().call(name, arguments)
        if name in READERS:
            self._put_results(answer.data.get("jobs", [answer.data]))
        return types.CallToolResult(
            content=[types.TextContent(text=answer.text)],
            structured_content=answer.data,
            is_error=answer.is_error,
        )

    def _put_results(self, told: Sequence[dict[str, Any]]) -> None:
        """Put results into what is said of jobs, as far as there is room for them."""
        room = MAX_RESULTS
        for said in told:
            if said.get("status") != JobStatus.COMPLETED:
                continue
            try:
                result = self.record(said["job_id"]).result or b"null"
            except (JobGone, JobNotFound):  # since it was read; if short, its result is here
                if "result" not in said:
                    said["omitted"] = ["result"]
                continue
            if len(result) > room:
                said["omitted"] = ["result"]
                continue
            room -= len(result)
            said["result"] = from_json(result)

    async def _report(self, ctx: Context, job_ids: Sequence[str]) -> None:
        """Tell how far the jobs are, whenever they are further, until the call has its answer."""
        told = -1.0
        with suppress(JobRunnerError):  # the call itself says what is wrong
            async for _ in _news(self.runner.feed(), set(job_ids)):
                jobs = self._there(job_ids)
                if jobs and (done := _percent(jobs)) > told:  # MCP has it rise each time
                    told = done
                    await ctx.session.report_progress(done, WHOLE, _message(jobs))

    def _there(self, job_ids: Sequence[str]) -> Sequence[Job]:
        """Return those of the jobs that there are; the call itself names the others."""
        found = []
        for job_id in job_ids:
            with suppress(JobGone, JobNotFound):
                found.append(self.record(job_id))
        return found


def _percent(jobs: Sequence[Job]) -> float:
    return sum(WHOLE if job.is_final else job.progress for job in jobs) / len(jobs)


def _message(jobs: Sequence[Job]) -> str:
    if len(jobs) == 1:
        return jobs[0].progress_message or str(jobs[0].status)
    return f"{sum(job.is_final for job in jobs)} of {len(jobs)} jobs have ended"


async def _news(feed: EventLog, job_ids: Container[str]) -> AsyncIterator[None]:
    """Yield now, and then whenever something has happened to one of the jobs."""
    after = feed.last
    yield
    async for reading in feed.follow(after):
        if reading.missed or any(event.job_id in job_ids for event in reading.events):
            yield


def _waited_for(arguments: Mapping[str, Any]) -> list[str]:
    """Return the ids in a call that may wait; whatever else is in it is the tool's to judge."""
    ids = arguments.get("job_ids")
    ids = [ids] if isinstance(ids, str) else ids
    return [each for each in ids if isinstance(each, str)] if isinstance(ids, list) else []
