"""Run a build and a test suite as jobs: live output, the exit code, and nothing left running.

python examples/command_job.py
"""

import asyncio
import sys

from jobrunner import JobContext, JobRunner

runner = JobRunner(workers=2)
runner.command_job("compile", [sys.executable, "-m", "compileall", "-q", "{{folder}}"])


@runner.job(timeout=120.0)
async def run_tests(ctx: JobContext, folder: str) -> dict[str, int]:
    """Run the test suite in a folder, and count its lines of output."""
    lines = 0

    def count(stream: str, line: str) -> None:
        nonlocal lines
        lines += 1
        ctx.log("the tests said something", stream=stream, line=line)

    command = [sys.executable, "-m", "unittest", "discover", "-v", "-s", folder]
    done = await ctx.run_command(command, on_line=count, timeout=60.0)
    return {"exit_code": done.exit_code, "lines": lines}


async def main(folder: str = ".") -> None:
    async with runner:
        build = await runner.submit("compile", {"folder": folder})
        print("compiled:", (await build.result()).exit_code == 0)
        tests = await runner.submit(run_tests, {"folder": folder})
        async for event in tests.events():
            if event.type == "output":
                print(event.data["text"], end="")
        print("tests:", await tests.result())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
