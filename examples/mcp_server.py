"""An MCP server: an agent starts builds, and a person says whether they are deployed.

    python examples/mcp_server.py                        # an agent starts it so, over stdio
    jobrunner serve --mcp examples.mcp_server:runner     # agents reach it at /mcp, with the token

An agent is told of the first as of any MCP server:

    {"mcpServers": {"builds": {"command": "python", "args": ["examples/mcp_server.py"]}}}
"""

import asyncio

from pydantic import BaseModel

from jobrunner import JobContext, JobRunner

runner = JobRunner(workers=2)


class Approval(BaseModel):
    """What a person decides."""

    go: bool
    note: str = ""


@runner.job
async def build(ctx: JobContext, target: str) -> dict[str, str]:
    """Build a target, in three steps."""
    for number, step in enumerate(("compiling", "linking", "packing"), 1):
        ctx.step(number, 3, step)
        await asyncio.sleep(0)
    return {"artifact": f"{target}.tar.gz"}


@runner.job
async def deploy(ctx: JobContext, artifact: str) -> str:
    """Deploy an artifact, once a person has approved it."""
    approval = await ctx.ask(f"Deploy {artifact}?", schema=Approval, timeout=3_600.0)
    return f"{artifact} is live" if approval.go else f"not deployed: {approval.note}"


if __name__ == "__main__":
    from jobrunner.tools.mcp_stdio import serve_stdio, take_wire

    raise SystemExit(asyncio.run(serve_stdio(runner, take_wire())))
