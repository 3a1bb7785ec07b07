"""Questions of jobs over MCP: as forms of a task, and answered by a client."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

pytest.importorskip("mcp", reason="needs the extra mcp")

from mcp.shared.exceptions import MCPError

from jobrunner import JobContext, JobRunner
from jobrunner.tools.mcp_forms import filled_in, form
from tests.mcp_clients import MODES, agent_of


class Approval(BaseModel):
    """Whether, and to which share of the users."""

    go: bool
    share: float = Field(default=1.0, ge=0, le=1)


class Plan(BaseModel):
    """Something that has no form."""

    steps: list[str]


SCHEMAS: dict[str, Any] = {
    "text": str,
    "yes or no": bool,
    "choice": Literal["blue", "green"],
    "model": Approval,
    "nested": Plan,
    "maybe": int | None,
}


@pytest.fixture
async def runner() -> AsyncIterator[JobRunner]:
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def ask(ctx: JobContext, kind: str) -> Any:
        """Ask a person, and return the answer."""
        answer = await ctx.ask("What now?", schema=SCHEMAS[kind])
        return answer.model_dump() if isinstance(answer, BaseModel) else answer

    @runner.job
    async def ask_twice(ctx: JobContext) -> list[str]:
        """Ask one thing after the other."""
        return [await ctx.ask("First?"), await ctx.ask("Second?")]

    async with runner:
        yield runner


async def asked(runner: JobRunner, task_id: str, number: int = 1) -> None:
    """Wait for the question with the number."""
    seen = 0
    async for event in runner.handle(task_id).events():
        seen += event.type == "question"
        if seen == number and event.type == "question":
            return


def accept(value: Any) -> dict[str, Any]:
    return {"q1": {"action": "accept", "content": value}}


@pytest.mark.parametrize(
    ("kind", "fields", "content", "result"),
    [
        ("text", {"value": {"type": "string"}}, {"value": "go"}, "go"),
        ("yes or no", {"value": {"type": "boolean"}}, {"value": False}, False),
        (
            "choice",
            {"value": {"type": "string", "enum": ["blue", "green"]}},
            {"value": "green"},
            "green",
        ),
        (
            "model",
            {
                "go": {"type": "boolean", "title": "Go"},
                "share": {"type": "number", "title": "Share", "default": 1.0,
                          "minimum": 0, "maximum": 1},
            },
            {"go": True, "share": None},
            {"go": True, "share": 1.0},
        ),
        ("nested", None, {"value": '{"steps": ["a", "b"]}'}, {"steps": ["a", "b"]}),
        ("maybe", None, {"value": "null"}, None),
    ],
)  # fmt: skip
async def test_a_question_is_a_form_that_the_client_fills_in(
    runner: JobRunner, kind: str, fields: Any, content: Any, result: Any
) -> None:
    """A form has flat fields only; whatever fits in none is asked for as JSON text."""
    async with agent_of(runner, tasks=True) as agent:
        made = await agent.task("ask_background", kind=kind)
        await asked(runner, made["taskId"])
        task = await agent.get(made["taskId"])
        ack = await agent.send(
            "tasks/update", taskId=made["taskId"], inputResponses=accept(content)
        )
        await runner.wait([made["taskId"]])
        done = await agent.get(made["taskId"])
    request = task["inputRequests"]["q1"]
    assert (task["status"], request["method"]) == ("input_required", "elicitation/create")
    assert (request["params"]["mode"], request["params"]["message"]) == ("form", "What now?")
    shown = request["params"]["requestedSchema"]["properties"]
    if fields is None:
        assert shown["value"]["type"] == "string"
        assert "JSON text" in shown["value"]["description"]
    else:
        assert shown == fields
    assert {key for key in ack if key != "_meta"} == {"resultType"}
    assert done["result"]["structuredContent"]["result"] == result


async def test_an_answer_that_doesn_t_fit_is_refused_and_the_question_stays(
    runner: JobRunner,
) -> None:
    """The client can ask its user again; a job is not lost by a typo."""
    async with agent_of(runner, tasks=True) as agent:
        made = await agent.task("ask_background", kind="choice")
        await asked(runner, made["taskId"])
        codes = []
        for content in ({"value": "red"}, {}, {"other": "blue"}):
            with pytest.raises(MCPError) as refused:
                await agent.send(
                    "tasks/update", taskId=made["taskId"], inputResponses=accept(content)
                )
            codes.append(refused.value.error.code)
        assert refused.value.error.data["errors"]
        task = await agent.get(made["taskId"])
    assert (codes, task["status"]) == ([-32602] * 3, "input_required")


async def test_q10_an_answer_that_is_too_long_is_the_client_s_fault(runner: JobRunner) -> None:
    """It says so by the code for parameters, and the question stays open."""
    async with agent_of(runner, tasks=True) as agent:
        made = await agent.task("ask_background", kind="text")
        await asked(runner, made["taskId"])
        with pytest.raises(MCPError) as refused:
            long = accept({"value": "x" * 300_000})
            await agent.send("tasks/update", taskId=made["taskId"], inputResponses=long)
        task = await agent.get(made["taskId"])
    assert (refused.value.error.code, task["status"]) == (-32602, "input_required")


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_who_will_not_answer_stops_the_job(runner: JobRunner, action: str) -> None:
    """A question that was turned down would otherwise be asked for ever."""
    async with agent_of(runner, tasks=True) as agent:
        made = await agent.task("ask_background", kind="text")
        await asked(runner, made["taskId"])
        await agent.send(
            "tasks/update", taskId=made["taskId"], inputResponses={"q1": {"action": action}}
        )
        await runner.wait([made["taskId"]])
        task = await agent.get(made["taskId"])
    assert task["status"] == "cancelled"
    assert runner.record(made["taskId"]).cancel_note == f"question q1: {action}"


async def test_answers_to_what_is_not_asked_are_left_alone(runner: JobRunner) -> None:
    """SEP-2663: a client may send an answer twice, or after somebody else has answered."""
    async with agent_of(runner, tasks=True) as agent:
        made = await agent.task("ask_twice_background")
        await asked(runner, made["taskId"])
        for answers in (
            accept({"value": "a"}),
            accept({"value": "b"}),
            {"q9": {"action": "cancel"}},
        ):
            await agent.send("tasks/update", taskId=made["taskId"], inputResponses=answers)
        await asked(runner, made["taskId"], 2)
        task = await agent.get(made["taskId"])
        second = {"q2": {"action": "accept", "content": {"value": "c"}}}
        await agent.send("tasks/update", taskId=made["taskId"], inputResponses=second)
        await runner.wait([made["taskId"]])
        done = await agent.get(made["taskId"])
    assert list(task["inputRequests"]) == ["q2"]
    assert done["result"]["structuredContent"]["result"] == ["a", "c"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_without_tasks_answers_by_a_tool(runner: JobRunner, mode: str) -> None:
    """A plain call that waits comes back with the question, and another one answers it."""
    async with agent_of(runner, mode=mode) as agent:
        job_id = (await agent.said("ask_background", kind="choice"))["job_id"]
        waited = (await agent.said("wait_for_jobs", job_ids=[job_id], wait_seconds=40))["jobs"][0]
        refused = await agent.call("answer_job", job_id=job_id, value="red")
        await agent.call("answer_job", job_id=job_id, value="green")
        done = await agent.said("wait_for_jobs", job_ids=[job_id])
    assert (waited["status"], refused.is_error) == ("input_required", True)
    assert done["jobs"][0]["result"] == "green"


def test_a_form_has_only_what_forms_may_have() -> None:
    """Clients check forms strictly; a keyword too many would have the question refused."""
    email = {"type": "string", "format": "email", "pattern": ".+", "x-y": 1}
    uuid = {"type": "string", "format": "uuid"}
    tags = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}
    schema = {"type": "object", "properties": {"e": email, "u": uuid, "t": tags}, "required": ["e"]}
    assert form(schema) == {
        "type": "object",
        "properties": {
            "e": {"type": "string", "format": "email"},
            "u": {"type": "string"},
            "t": tags,
        },
        "required": ["e"],
    }
    numbers = {"type": "integer", "enum": [1, 2], "description": "How many."}
    assert form(numbers)["properties"]["value"]["description"].startswith("How many. JSON text")
    assert filled_in(numbers, {"value": "2"}) == 2
    assert filled_in(numbers, {"value": "two"}) == "two"
    assert filled_in(numbers, {"value": 2}) == 2
    assert form({"type": "object"})["required"] == ["value"]
