"""Jobs as tasks of MCP: what a client of the extension is given, and what nobody else sees."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from jobrunner import JobRunner, PermanentError, Retention, RetryableError, RetryPolicy
from tests.mcp_clients import MODES, TASKS, agent_of
from tests.serving import Gates, make_runner

STAMPS = {"createdAt", "lastUpdatedAt", "_meta"}
INVALID_PARAMS, NO_METHOD, NO_CAPABILITY = -32602, -32601, -32021


class Bench:
    """A runner, and a client that knows tasks and connects anew for each request it sends."""

    def __init__(self, runner: JobRunner, gates: Gates) -> None:
        self.runner, self.gates = runner, gates

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool, and return its answer."""
        async with agent_of(self.runner, tasks=True) as agent:
            return await agent.call(tool, **arguments)

    async def task(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return the task that was made of it."""
        async with agent_of(self.runner, tasks=True) as agent:
            return await agent.task(tool, **arguments)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request of the extension."""
        async with agent_of(self.runner, tasks=True) as agent:
            try:
                return await agent.send(method, **params)
            except MCPError as error:
                refused = error
        raise refused  # not in there: the client would raise a group of it

    async def get(self, task_id: str) -> dict[str, Any]:
        """Return how a task stands."""
        return await self.send("tasks/get", taskId=task_id)

    async def ended(self, task_id: str) -> dict[str, Any]:
        """Return a task once its job has ended."""
        await self.runner.wait([task_id])
        return await self.get(task_id)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    runner, gates = make_runner()
    async with runner:
        yield Bench(runner, gates)


def code_of(refused: pytest.ExceptionInfo[MCPError]) -> int:
    return refused.value.error.code


async def test_a_call_that_starts_a_job_returns_a_flat_task(bench: Bench) -> None:
    """SEP-2663: the members stand beside `resultType`, and none of an outcome is among them."""
    made = await bench.task("hold_background", key="k")
    assert {k: v for k, v in made.items() if k not in STAMPS} == {
        "resultType": "task",
        "taskId": made["taskId"],
        "status": "working",
        "statusMessage": "pending",
        "ttlMs": 86_400_000,
        "pollIntervalMs": 1_000,
    }
    created, updated = (datetime.fromisoformat(made[k]) for k in ("createdAt", "lastUpdatedAt"))
    assert created <= updated
    assert bench.runner.record(made["taskId"]).type == "hold"


async def test_other_calls_stay_calls(bench: Bench) -> None:
    """Looking at a job is no job; a task of it would have to be polled like one."""
    made = await bench.task("echo_background", value=1)
    found = await bench.call("wait_for_jobs", job_ids=[made["taskId"]])
    refused = await bench.call("echo_background", nonsense=1)
    unknown = await bench.call("nope")
    assert found.structured_content["jobs"][0]["result"] == 1
    assert (refused.is_error, unknown.is_error) == (True, True)


@pytest.mark.parametrize("mode", MODES)
async def test_who_does_not_declare_the_extension_never_sees_a_task(
    bench: Bench, mode: str
) -> None:
    """SEP-2663: whatever other clients have declared, or this one with another request."""
    async with agent_of(bench.runner, mode=mode) as plain:
        answer = await plain.call("echo_background", value=1)
        job_id = answer.structured_content["job_id"]
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            with pytest.raises(MCPError) as refused:
                await plain.send(method, taskId=job_id, inputResponses={})
            assert code_of(refused) == (NO_CAPABILITY if mode == "auto" else NO_METHOD)
            if mode == "auto":
                assert refused.value.error.data == {
                    "requiredCapabilities": {"extensions": {TASKS: {}}}
                }
    assert answer.model_dump()["result_type"] == "complete"


async def test_an_earlier_protocol_has_no_tasks_whatever_a_client_declares(bench: Bench) -> None:
    """The extension is of 2026-07-28; the tasks of 2025-11-25 were something else."""
    async with agent_of(bench.runner, mode="legacy", tasks=True) as agent:
        answer = await agent.call("echo_background", value=1)
        with pytest.raises(MCPError) as refused:
            await agent.get(answer.structured_content["job_id"])
    assert code_of(refused) == NO_METHOD


async def test_a_completed_task_has_the_result_of_the_call(bench: Bench) -> None:
    """There is no other method that had it."""
    made = await bench.task("echo_background", value={"rows": 3})
    task = await bench.ended(made["taskId"])
    assert (task["resultType"], task["status"]) == ("complete", "completed")
    assert task["result"]["structuredContent"]["result"] == {"rows": 3}
    assert task["result"]["isError"] is False
    assert '{"rows":3}' in task["result"]["content"][0]["text"]
    assert "error" not in task


async def test_a_job_that_raised_is_a_completed_task_that_says_so(bench: Bench) -> None:
    """A tool's own failure is a result; `failed` would be a fault of the protocol."""
    made = await bench.task("fail_background", message="no disk")
    task = await bench.ended(made["taskId"])
    assert (task["status"], task["statusMessage"]) == ("completed", 'failed: "no disk"')
    assert task["result"]["isError"] is True
    assert "no disk" in task["result"]["content"][0]["text"]


async def test_a_job_that_took_too_long_is_a_completed_task_too() -> None:
    """The time limit is the tool's."""
    runner, _ = make_runner(timeout=0.01)
    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("hold_background", key="k")
        await runner.wait([made["taskId"]])
        task = await agent.get(made["taskId"])
    assert (task["status"], task["result"]["isError"]) == ("completed", True)


async def test_what_the_runner_could_not_do_is_a_failed_task() -> None:
    """The call was not carried out to its end, as with any other internal error."""
    runner, gates = make_runner()
    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("hold_background", key="k")
        await gates["k reached"].wait()
        await runner.stop(timeout=0.0)
        task = await agent.get(made["taskId"])
    assert task["status"] == "failed"
    assert task["error"]["code"] == -32603
    assert "shut down" in task["error"]["message"]
    assert "result" not in task


async def test_a_task_says_how_far_it_is(bench: Bench) -> None:
    """A client shows the message; what the job says stands in quotes, for a model may read it."""
    made = await bench.task("steps_background", key="k")
    async for event in bench.runner.handle(made["taskId"]).events():
        if event.type == "progress":
            break
    task = await bench.get(made["taskId"])
    assert task["statusMessage"] == 'running, 25 % done: "first"'
    assert {k for k in task if k not in STAMPS} == {
        "resultType", "taskId", "status", "statusMessage", "ttlMs", "pollIntervalMs"
    }  # fmt: skip


async def test_a_task_whose_job_is_tried_again_is_working_and_says_why() -> None:
    """Clients know no retries; the message is where they can be told."""
    runner = JobRunner(retry=RetryPolicy(max_attempts=2, base=3_600.0))

    @runner.job
    async def flaky() -> None:
        raise RetryableError("busy", retry_after=3_600.0)

    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("flaky_background")
        async for event in runner.handle(made["taskId"]).events():
            if event.data.get("status") == "retrying":
                break
        task = await agent.get(made["taskId"])
        await agent.send("tasks/cancel", taskId=made["taskId"])
    assert (task["status"], task["statusMessage"]) == ("working", 'retrying: "busy"')
    assert task["pollIntervalMs"] == 60_000


async def test_a_task_is_cancelled_and_the_answer_is_empty(bench: Bench) -> None:
    """SEP-2663: how it ended is for `tasks/get` to say; twice is as once."""
    made = await bench.task("hold_background", key="k")
    await bench.gates["k reached"].wait()
    answers = [await bench.send("tasks/cancel", taskId=made["taskId"]) for _ in range(2)]
    task = await bench.ended(made["taskId"])
    assert [{k: v for k, v in a.items() if k != "_meta"} for a in answers] == [
        {"resultType": "complete"}
    ] * 2
    assert (task["status"], task["statusMessage"]) == ("cancelled", "cancelled")
    assert not {"result", "error", "inputRequests"} & task.keys()


async def test_a_task_that_was_asked_to_stop_says_so_until_it_has() -> None:
    """Stopping takes time: it is no lie that the work goes on."""
    runner, gates = make_runner()

    @runner.job
    async def stubborn() -> None:
        gates["begun"].set()
        try:
            await gates["never"].wait()
        except asyncio.CancelledError:
            gates["asked"].set()
            await gates["go"].wait()
            raise

    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("stubborn_background")
        await gates["begun"].wait()
        await agent.send("tasks/cancel", taskId=made["taskId"])
        await gates["asked"].wait()
        task = await agent.get(made["taskId"])
        gates["go"].set()
    assert (task["status"], task["statusMessage"]) == ("working", "asked to stop")


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_an_unknown_task_is_refused(bench: Bench, method: str) -> None:
    """-32602, as the id is a parameter like another; the same for one that is gone."""
    runner, _ = make_runner(retention=Retention(max_jobs=0))
    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("echo_background", value=1)
        await runner.handle(made["taskId"]).wait()
        for task_id in (made["taskId"], "job_0", ""):
            with pytest.raises(MCPError) as refused:
                await agent.send(method, taskId=task_id, inputResponses={})
            assert code_of(refused) == INVALID_PARAMS


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_p_another_one_s_task_is_unknown(bench: Bench, method: str) -> None:
    """A task's id is no secret between owners."""
    asking = "ada"
    async with agent_of(bench.runner, tasks=True, owner=lambda: asking) as agent:
        made = await agent.task("hold_background", key="k")
        await agent.get(made["taskId"])
        asking = "bob"
        with pytest.raises(MCPError) as refused:
            await agent.send(method, taskId=made["taskId"], inputResponses={})
        with pytest.raises(MCPError) as unknown:
            await agent.send(method, taskId="job_0", inputResponses={})
    told = refused.value.error.message.replace(made["taskId"], "job_0")
    assert (code_of(refused), told) == (INVALID_PARAMS, unknown.value.error.message)
    assert not bench.runner.record(made["taskId"]).is_final


@pytest.mark.parametrize("params", [{}, {"taskId": 5}, {"taskId": None}])
async def test_a_request_without_an_id_is_refused(bench: Bench, params: dict[str, Any]) -> None:
    """Whatever is sent, it is never an internal error."""
    with pytest.raises(MCPError) as refused:
        await bench.send("tasks/get", **params)
    assert code_of(refused) == INVALID_PARAMS


async def test_a_job_that_was_started_otherwise_is_a_task_as_well(bench: Bench) -> None:
    """Its id may have come from a page or from another agent."""
    job = await bench.runner.submit("echo", {"value": 7})
    task = await bench.ended(job.id)
    assert task["result"]["structuredContent"]["result"] == 7


async def test_a_task_says_for_how_long_it_is_kept() -> None:
    """From its creation on, as the protocol counts; a job is kept for a time after its end."""
    runner, _ = make_runner(retention=Retention(max_age=None))
    async with runner, agent_of(runner, tasks=True) as agent:
        assert (await agent.task("echo_background", value=1))["ttlMs"] is None
    times = iter([1_000.0, 1_001.0, 1_060.0])
    last = 1_060.0
    runner, _ = make_runner(retention=Retention(max_age=100.0), now=lambda: next(times, last))
    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("echo_background", value=1)
        await runner.wait([made["taskId"]])
        task = await agent.get(made["taskId"])
    assert made["ttlMs"] == 100_000
    assert task["ttlMs"] == 160_000


async def test_a_runner_that_has_stopped_refuses_with_an_error_of_the_protocol() -> None:
    """An error that says why, not one that hides it."""
    runner = JobRunner()

    @runner.job
    async def broken() -> None:
        raise PermanentError("x")

    async with runner, agent_of(runner, tasks=True) as agent:
        made = await agent.task("broken_background")
        await runner.wait([made["taskId"]])
        await runner.stop()
        task = await agent.get(made["taskId"])
        ack = await agent.send("tasks/cancel", taskId=made["taskId"])
    assert task["status"] == "completed"
    assert ack["resultType"] == "complete"
