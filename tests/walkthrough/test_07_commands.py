"""Chapter 7. A test suite or a build is a command: real processes, and none of them left over."""

import asyncio
import sys

from jobrunner import JobContext, JobRunner
from tests.processes import ends


async def test_a_command_is_a_job_type_in_one_line() -> None:
    """Each `{{name}}` becomes a param; the result has the exit code and the output."""
    runner = JobRunner()
    runner.command_job("greet", "echo Hello, {{name}}")
    async with runner:
        result = await (await runner.submit("greet", {"name": "Ann"})).result()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello, Ann\n", "")


async def test_a_param_can_not_get_out_of_its_place() -> None:
    """No shell is between you and the program, so there is nothing to inject into."""
    runner = JobRunner()
    runner.command_job("greet", "echo 'Hello, {{name}}'")
    async with runner:
        result = await (await runner.submit("greet", {"name": "'; rm -rf / #"})).result()
    assert result.stdout == "Hello, '; rm -rf / #\n"


async def test_a_handler_can_run_commands() -> None:
    """Look at the exit code yourself, or pass `check=True` to fail the job with it."""
    runner = JobRunner()

    @runner.job
    async def run_tests(ctx: JobContext) -> str:
        done = await ctx.run_command([sys.executable, "-c", "raise SystemExit(3)"])
        return "green" if done.exit_code == 0 else f"red, exit code {done.exit_code}"

    async with runner:
        assert await (await runner.submit(run_tests)).result() == "red, exit code 3"


async def test_the_output_can_be_watched_while_it_runs() -> None:
    """Each piece is an event; here the job is cancelled as soon as the first one is seen."""
    runner = JobRunner()
    runner.command_job("serve", ["sh", "-c", "echo $$; exec sleep 600"])
    async with runner:
        job = await runner.submit("serve")
        async for event in job.events():
            if event.type == "output":
                await job.cancel()
        assert job.status == "cancelled"


async def test_nothing_is_left_of_a_cancelled_command() -> None:
    """The whole process tree goes: what the command had started, too."""
    runner = JobRunner()
    runner.command_job("tree", ["sh", "-c", "sleep 600 & echo $!; wait"])
    async with runner:
        job = await runner.submit("tree")
        async for event in job.events():
            if event.type == "output":
                child = int(event.data["text"])
                await job.cancel()
        assert await asyncio.to_thread(ends, child)
