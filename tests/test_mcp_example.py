"""The example of an MCP server, as an agent uses it."""

from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from jobrunner import JobRunner
from tests.mcp_clients import agent_of
from tests.test_examples import load


async def asked(runner: JobRunner, task_id: str) -> None:
    async for event in runner.handle(task_id).events():
        if event.type == "question":
            return


async def test_an_agent_builds_and_a_person_approves() -> None:
    """From the first call to what is live, with the question in the middle."""
    runner: JobRunner = load("mcp_server")["runner"]
    answer: dict[str, Any] = {"action": "accept", "content": {"go": True, "note": ""}}
    async with runner, agent_of(runner, tasks=True) as agent:
        built = await agent.task("build_background", target="app")
        await runner.wait([built["taskId"]])
        artifact = (await agent.get(built["taskId"]))["result"]["structuredContent"]["result"]
        made = await agent.task("deploy_background", **artifact)
        await asked(runner, made["taskId"])
        task = await agent.get(made["taskId"])
        assert task["inputRequests"]["q1"]["params"]["message"] == "Deploy app.tar.gz?"
        await agent.send("tasks/update", taskId=made["taskId"], inputResponses={"q1": answer})
        await runner.wait([made["taskId"]])
        done = await agent.get(made["taskId"])
    assert done["result"]["structuredContent"]["result"] == "app.tar.gz is live"
