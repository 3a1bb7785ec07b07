"""An agent of pydantic-ai lives a whole conversation about work in the background, offline.

python examples/agent_conversation.py
"""

import asyncio
import re
import sys
from typing import Any

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, Tool
from pydantic_ai.messages import ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from jobrunner import JobContext, JobRunner

runner = JobRunner(workers=3)
UNITTEST = [sys.executable, "-m", "unittest", "discover", "-s", "{{folder}}"]
runner.command_job("run_tests", UNITTEST, description="Run the test suite in a folder.")


@runner.job
async def build(ctx: JobContext, target: str) -> str:
    """Build a target."""
    for step in range(1, 61):
        ctx.step(step, 60, f"Compiling {target}")
        await asyncio.sleep(60.0)
    return f"{target}.tar.gz"


@runner.job
async def deploy(ctx: JobContext, target: str) -> str:
    """Deploy a target, once a person has approved it."""
    approved = await ctx.ask(f"Deploy {target} to production?", schema=bool)
    return f"{target} is {'in production' if approved else 'not deployed'}."


def tools() -> list[Tool[None]]:
    """The runner's tools as the framework takes them: these lines are all it needs."""

    def tool(name: str, description: str, schema: dict[str, Any]) -> Tool[None]:
        async def call(**arguments: Any) -> str:
            return await runner.execute_tool(name, arguments)

        return Tool.from_schema(call, name, description, schema)

    shapes = [shape["function"] for shape in runner.tools("openai-chat")]
    return [tool(shape["name"], shape["description"], shape["parameters"]) for shape in shapes]


def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """In the place of a model: decides what to call, and says the gist of what it has read."""
    heard = messages[-1].parts[-1]
    if isinstance(heard, ToolReturnPart):
        said = re.search(r"<job_question>\n(.+)", str(heard.content))
        return ModelResponse([TextPart(said[1] if said else str(heard.content).split("\n")[0])])
    assert isinstance(heard, UserPromptPart)
    job_id = (re.findall(r"job_[0-9a-f]{32}", str(messages)) or [""])[-1]
    return ModelResponse([ToolCallPart(*decide(str(heard.content), job_id))])


def decide(heard: str, job_id: str) -> tuple[str, dict[str, Any]]:
    match heard.split():
        case ["Run", *_, folder]:
            return "run_tests_background", {"folder": folder}
        case ["Are", "they", "done?"] | ["Is", "it", "live?"]:
            return "check_job_status", {"job_id": job_id}
        case ["Build" | "Deploy" as verb, target]:
            return f"{verb.lower()}_background", {"target": target}
        case ["Yes,", *_]:
            return "answer_job", {"job_id": job_id, "question_id": "q1", "value": True}
        case [*_, "stop", "it!"]:
            return "cancel_job", {"job_id": job_id, "reason": "it takes too long"}
        case _:
            return "wait_for_jobs", {"job_ids": [job_id]}


SAID = ["Run the full test suite in {folder}", "Are they done?", "Tell me how they went.",
        "Build release-2", "That takes too long, stop it!",
        "Deploy release-1", "Is it live?", "Yes, do it.", "How did it end?"]  # fmt: skip


async def main(folder: str = ".") -> None:
    history: list[ModelMessage] = []
    async with runner:
        agent = Agent(FunctionModel(model), tools=tools())
        for said in SAID:
            print(f"\nuser:  {said.format(folder=folder)}")
            run = await agent.run(said.format(folder=folder), message_history=history)
            history = run.all_messages()
            for part in (part for message in run.new_messages() for part in message.parts):
                if isinstance(part, ToolCallPart):
                    print(f"calls: {part.tool_name} {part.args}")
                elif isinstance(part, ToolReturnPart):
                    print("reads: " + str(part.content).replace("\n", "\n       "))
            print(f"agent: {run.output}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
