"""The command line: serve a runner, run a command as a job, see the demo."""

import asyncio
import importlib
import io
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError:  # the extra is not installed
    sys.exit("the command line needs an extra: pip install 'agent-jobrunner[cli]'")

from . import __version__
from .context import JobContext
from .errors import CommandNotFound, DuplicateJobType, InvalidOption, InvalidToolsFile
from .jobs import JobStatus
from .runner import JobRunner

if TYPE_CHECKING:
    from .server import Server

app = typer.Typer(
    help="Background jobs for agents, in one process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
PORT = 8000
INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""
NOT_FOUND, TIMED_OUT = 127, 124
"""Exit codes of a shell without the program, and of `timeout`."""


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def serve(
    target: Annotated[
        str | None, typer.Argument(help="Where the runner is: `module:runner`.")
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(help="A tools file, gantz.yaml: a job type of each tool.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to bind; 0 for a free one. The tools file's if not given, or 8000.",
            min=0,
            max=65_535,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Jobs at once; the runner's own.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="What clients have to show; a new one at each start. Empty: none at all.",
            envvar="JOBRUNNER_TOKEN",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Host name it is reached by; may be repeated.")
    ] = None,
    debug: Annotated[bool, typer.Option(help="Show tracebacks in answers.")] = False,
    max_streams: Annotated[int, typer.Option(help="Event streams open at once.", min=0)] = 10_000,
    mcp: Annotated[bool, typer.Option("--mcp", help="Let agents call its tools at /mcp.")] = False,
) -> None:
    """Serve a runner, a tools file or both over HTTP until SIGTERM or Ctrl-C."""
    from .server import Server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    runner, own_port = _runner(target, tools)
    port = own_port if port is None else port
    try:
        if workers is not None:
            runner.resize(workers)
        server = Server(
            runner,
            host=host,
            port=port,
            token=token,
            allowed_hosts=allowed_host or (),
            debug=debug,
            max_streams=max_streams,
            mcp=mcp,
        )
    except InvalidOption as error:
        raise _refused(str(error)) from None
    except OSError as error:
        raise _refused(f"can't bind {host} port {port}: {error}") from None
    greeting = f"serving {target or tools}: {server.login_url}"
    if mcp:
        greeting += f"\nits tools over MCP, by `Authorization: Bearer <token>`: {server.url}/mcp"
    try:
        asyncio.run(_serve(server, greeting))
    except KeyboardInterrupt:
        pass  # uvicorn raises it again after a clean end


async def _serve(server: "Server", greeting: str) -> None:
    """Serve, and say so once requests and signals are taken."""

    async def greet() -> None:
        await server.ready()
        print(greeting, flush=True)

    greeting_task = asyncio.get_running_loop().create_task(greet(), name="greeting")
    try:
        await server.run_until_stopped()
    finally:
        greeting_task.cancel()


@app.command()
def mcp(
    target: Annotated[
        str | None, typer.Argument(help="Where the runner is: `module:runner`.")
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(help="A tools file, gantz.yaml: a job type of each tool.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Jobs at once; the runner's own.")] = None,
) -> None:
    """Serve a runner, a tools file or both over stdin and stdout, to an agent that speaks MCP."""
    try:
        from .tools.mcp_stdio import serve_stdio, take_wire
    except ModuleNotFoundError as error:
        raise _refused(f"it needs an extra: pip install 'agent-jobrunner[mcp]' ({error})") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        wire = take_wire()  # before anything of the user's could print
    except OSError as error:
        raise _refused(f"stdin or stdout is closed: {error}") from None
    runner, _ = _runner(target, tools)
    try:
        if workers is not None:
            runner.resize(workers)
    except InvalidOption as error:
        raise _refused(str(error)) from None
    raise typer.Exit(asyncio.run(serve_stdio(runner, wire)))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def run(
    command: Annotated[list[str], typer.Argument(help="Program and arguments, after `--`.")],
    timeout: Annotated[float | None, typer.Option(help="Seconds it may take.")] = None,
) -> None:
    """Run one command as a job, with its output live, and end with its exit code."""
    try:
        code = asyncio.run(_run(command, timeout))
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _run(command: list[str], timeout: float | None) -> int:
    """Run the command and return its exit code; SIGTERM and SIGHUP end it, as Ctrl-C does."""
    task, got = asyncio.current_task(), list[int]()
    assert task is not None, "a coroutine runs in a task"

    def end(number: int) -> None:
        got.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await _watch(command, timeout)
    except asyncio.CancelledError:
        if not got:
            raise
        return 128 + got[0]


async def _watch(command: list[str], timeout: float | None) -> int:
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # a terminal that can't show a character isn't fatal
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
        raise _refused(str(error)) from None
    if ended.status is not JobStatus.COMPLETED:
        assert ended.error is not None, "a job that isn't completed has an error"
        print(f"jobrunner: {ended.error.detail}", file=sys.stderr)
        codes = {CommandNotFound.__name__: NOT_FOUND, TimeoutError.__name__: TIMED_OUT}
        return codes.get(ended.error.type, 1)
    code: int = ended.result
    return code if code >= 0 else 128 - code


@app.command()
def demo(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 for a free one.", min=0, max=65_535)
    ] = 0,
    keep: Annotated[bool, typer.Option(help="Go on serving afterwards.")] = False,
) -> None:
    """See it work: an agent runs a real test suite and analyses fifty documents."""
    from .demo import run_demo

    try:
        asyncio.run(run_demo(Console(), port=port, keep=keep))
    except KeyboardInterrupt:
        raise typer.Exit(0 if keep else INTERRUPTED) from None


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _runner(target: str | None, tools: Path | None) -> tuple[JobRunner, int]:
    """Return the runner to serve and its port: of a module, of a tools file, or of both."""
    if target is None and tools is None:
        raise _refused("there is nothing to serve; name module:runner, --tools gantz.yaml, or both")
    runner = JobRunner() if target is None else _load(target)
    if tools is None:
        return runner, PORT
    try:
        from .tools.gantz import load_tools  # needs an extra

        file = load_tools(tools)
        file.register(runner)
    except (InvalidToolsFile, DuplicateJobType, ImportError) as error:
        print(f"jobrunner: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    return runner, PORT if file.port is None else file.port


def _load(target: str) -> JobRunner:
    """Import `module:runner` as seen from the current directory."""
    module, colon, name = target.partition(":")
    if not (colon and name and all(part.isidentifier() for part in module.split("."))):
        raise _refused(f"{target!r} doesn't name a runner; write it as module:runner")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise _refused(f"there is no module {module!r} here or on the path") from None
    if not hasattr(found, name):
        raise _refused(f"module {module!r} has no {name!r}")
    runner = getattr(found, name)
    if not isinstance(runner, JobRunner):
        raise _refused(f"{name!r} in module {module!r} is {type(runner).__name__}, not a JobRunner")
    return runner


def _refused(message: str) -> typer.BadParameter:
    return typer.BadParameter(message)
