"""Commands that have a runner of their own: serve it, to agents too, and show its tools."""

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DuplicateJobType, InvalidOption, InvalidToolsFile
from .app import RUNNING, app
from .exits import steady
from .output import console, print_json

if TYPE_CHECKING:
    from ..runner import JobRunner
    from ..server import Server

PORT = 8000
Target = Annotated[str | None, typer.Argument(metavar="MODULE:RUNNER", help="Where the runner is.")]
ToolsFile = Annotated[
    Path | None, typer.Option(help="A tools file, gantz.yaml: a job type of each tool.")
]
Workers = Annotated[int | None, typer.Option(help="Jobs at once; the runner's own.")]


@app.command(rich_help_panel=RUNNING)
@steady
def serve(
    target: Target = None,
    tools: ToolsFile = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to bind; 0 for a free one. The tools file's if not given, or 8000.",
            min=0,
            max=65_535,
        ),
    ] = None,
    workers: Workers = None,
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Say where it is as one line of JSON.")
    ] = False,
) -> None:
    """Serve a runner, a tools file or both over HTTP until SIGTERM, SIGHUP or Ctrl-C.

    While it runs it leaves a file behind that only you can read, by which
    `jobrunner list` and the other commands find it by themselves.
    """
    from ..server import Server

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
            known_as=str(target or tools),
        )
    except InvalidOption as error:
        raise _refused(str(error)) from None
    except OSError as error:
        raise _refused(f"can't bind {host} port {port}: {error}") from None
    greeting = f"serving {target or tools}: {server.login_url}"
    if mcp:
        greeting += f"\nits tools over MCP, by `Authorization: Bearer <token>`: {server.url}/mcp"
    if as_json:
        greeting = json.dumps(_where(server, mcp=mcp))
    end_with_terminal()
    try:
        asyncio.run(_serve(server, greeting))
    except KeyboardInterrupt:
        pass  # uvicorn raises it again after a clean end


def end_with_terminal() -> None:
    """Have SIGHUP end what is served as SIGTERM does; where it is ignored, by `nohup`, it stays so.

    By itself it would end this process at once, and leave the jobs' commands behind.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _where(server: "Server", *, mcp: bool) -> dict[str, object]:
    found = {"url": server.url, "token": server.token or None, "login_url": server.login_url}
    return found | {"mcp_url": f"{server.url}/mcp" if mcp else None, "pid": os.getpid()}


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


@app.command(rich_help_panel=RUNNING)
@steady
def mcp(
    target: Target = None,
    tools: ToolsFile = None,
    workers: Workers = None,
) -> None:
    """Serve a runner, a tools file or both over stdin and stdout, to an agent that speaks MCP."""
    try:
        from ..tools.mcp_stdio import serve_stdio, take_wire
    except ModuleNotFoundError as error:
        raise _refused(f"it needs an extra: pip install 'agent-jobrunner[mcp]' ({error})") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if None in (sys.__stdin__, sys.__stdout__):
        raise _refused("stdin or stdout is closed, and an agent speaks by both")
    wire = take_wire()  # before anything of the user's could print
    runner, _ = _runner(target, tools)
    try:
        if workers is not None:
            runner.resize(workers)
    except InvalidOption as error:
        raise _refused(str(error)) from None
    raise typer.Exit(asyncio.run(serve_stdio(runner, wire)))


@app.command(rich_help_panel=RUNNING)
@steady
def tools(
    target: Target = None,
    tools: ToolsFile = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Print them as JSON for this API: openai-chat, openai-responses, anthropic or mcp."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The same as `--format openai-chat`.")
    ] = False,
) -> None:
    """Show what a runner or a tools file offers to models: its job types as tools."""
    runner, _ = _runner(target, tools)
    if format is not None or as_json:
        wanted: Any = format or "openai-chat"  # one that isn't known is refused there
        try:
            print_json(runner.tools(wanted))
        except InvalidOption as error:
            raise _refused(str(error)) from None
        return
    from .tables import print_tool  # late, as what else only some commands need

    out = console()
    for tool in runner.toolbox().all():
        print_tool(tool.name, tool.description, out)


def _runner(target: str | None, tools: Path | None) -> "tuple[JobRunner, int]":
    """Return the runner to serve and its port: of a module, of a tools file, or of both."""
    if target is None and tools is None:
        raise _refused("there is nothing to serve; name module:runner, --tools gantz.yaml, or both")
    from ..runner import JobRunner

    runner = JobRunner() if target is None else _load(target)
    if tools is None:
        return runner, PORT
    try:
        from ..tools.gantz import load_tools  # needs an extra

        file = load_tools(tools)
        file.register(runner)
    except (InvalidToolsFile, DuplicateJobType, ImportError) as error:
        print(f"jobrunner: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    return runner, PORT if file.port is None else file.port


def _load(target: str) -> "JobRunner":
    """Import `module:runner` as seen from the current directory."""
    from ..runner import JobRunner

    module, colon, name = target.partition(":")
    if not (colon and name and all(part.isidentifier() for part in module.split("."))):
        raise _refused(f"{target!r} doesn't name a runner; write it as module:runner")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
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
