"""The `openai` package with a runner's jobs as tools: the loop that every agent has.

OPENAI_API_KEY=... python examples/openai_agent.py "How many words have the files in ./docs?"
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from jobrunner import JobContext, JobRunner

MODEL = "gpt-5"
runner = JobRunner(workers=3)


@runner.job
def count_words(ctx: JobContext, folder: str) -> dict[str, int]:
    """Count the words of each text file in a folder."""
    files = sorted(Path(folder).glob("*.txt"))
    words: dict[str, int] = {}
    for number, file in enumerate(files, 1):
        ctx.step(number, len(files), f"Reading {file.name}")
        words[file.name] = len(file.read_text().split())
    return words


async def ask(client: AsyncOpenAI, messages: list[Any]) -> str:
    """Let the model call tools until it has something to say to the user."""
    while True:
        reply = await client.chat.completions.create(
            model=MODEL,
            messages=messages,
            tools=runner.tools("openai-chat"),  # type: ignore[arg-type]  # plain dicts
        )
        message = reply.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            assert call.type == "function", "the runner's tools are functions"
            answer = await runner.execute_tool(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": answer})


async def main(*prompts: str) -> None:
    """Ask one thing after the other; jobs go on in between."""
    messages: list[Any] = []
    async with runner, AsyncOpenAI() as client:
        for prompt in prompts:
            messages.append({"role": "user", "content": prompt})
            print(await ask(client, messages))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
