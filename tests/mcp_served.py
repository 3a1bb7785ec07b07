"""A runner for clients of MCP; its handlers print and read, as what they import may do."""

import asyncio
import os
import sys
from typing import Literal

from jobrunner import JobContext, JobRunner

print("a library says hello when it is imported")


def make_runner() -> JobRunner:
    """Return a runner with a job that asks in the middle, and one that never ends."""
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def deploy(ctx: JobContext, target: str) -> str:
        """Deploy to where a person says."""
        region = await ctx.ask("Which region?", schema=Literal["eu", "us"])
        return f"{target} in {region}"

    @runner.job
    async def read() -> str:
        """Say something, and return what stands on stdin."""
        print("a handler says something")
        os.write(1, b"a child's noise\n")
        return sys.stdin.read()

    @runner.job
    async def watch(ctx: JobContext) -> None:
        """Watch for ever."""
        ctx.progress(40, "watching")
        await asyncio.Event().wait()

    @runner.job
    async def build(ctx: JobContext, pidfile: str, ignored: str) -> int:
        """Run a process for ever that a signal doesn't end, and say which process."""
        command = f"trap '' {ignored}; echo $$ > {pidfile}; sleep 1000; :"
        return (await ctx.run_command(command, shell=True)).exit_code

    return runner


runner = make_runner()
