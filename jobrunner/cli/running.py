"""`run`: one command as a job, without a server."""

import logging
import os
import sys
from typing import Annotated

import typer

from ..errors import CommandNotFound, InvalidOption
from ..jobs import JobStatus
from .app import RUNNING, app
from .exits import FAILED, INTERRUPTED, NOT_FOUND, TIMED_OUT, steady
from .watching import run_to_end


@app.command(
    rich_help_panel=RUNNING,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@steady
def run(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="Program and arguments, after `--`.")
    ],
    timeout: Annotated[float | None, typer.Option(help="Seconds it may take.")] = None,
) -> None:
    """Run one command as a job, with its output live, and end with its exit code."""
    try:
        code = run_to_end(_run(command, timeout))
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _run(command: list[str], timeout: float | None) -> int:
    from ..context import JobContext  # late: who only looks at jobs needs no runner
    from ..runner import JobRunner

    logging.getLogger("jobrunner").setLevel(logging.CRITICAL)  # what failed is said below
    runner = JobRunner(workers=1, shutdown_timeout=0.0)

    @runner.job
    async def run_command(ctx: JobContext) -> int:
        done = await ctx.run_command(command, env=os.environ)
        return done.exit_code

    try:
        async with runner:
            job = await runner.submit(run_command, timeout=timeout)
            async for event in job.events():
                if event.type == "output":
                    out = sys.stdout if event.data["stream"] == "stdout" else sys.stderr
                    print(event.data["text"], end="", file=out, flush=True)
            ended = job.view()
    except InvalidOption as error:
        raise typer.BadParameter(str(error)) from None
    if ended.status is not JobStatus.COMPLETED:
        assert ended.error is not None, "a job that isn't completed has an error"
        print(f"jobrunner: {ended.error.detail}", file=sys.stderr)
        codes = {CommandNotFound.__name__: NOT_FOUND, TimeoutError.__name__: TIMED_OUT}
        return codes.get(ended.error.type, FAILED)
    code: int = ended.result
    return code if code >= 0 else 128 - code
