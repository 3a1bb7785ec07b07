"""`demo` and `version`."""

import asyncio
from typing import Annotated

import typer

from .. import __version__
from .app import RUNNING, SERVER, app
from .exits import INTERRUPTED, steady
from .output import console, print_json
from .remote import AsJson
from .serving import end_with_terminal


@app.command(rich_help_panel=RUNNING)
@steady
def demo(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 for a free one.", min=0, max=65_535)
    ] = 0,
    keep: Annotated[bool, typer.Option(help="Go on serving afterwards.")] = False,
) -> None:
    """See it work: an agent runs a real test suite and analyses fifty documents."""
    from ..demo import demo_server, run_demo

    try:
        server = demo_server(port)
    except OSError as error:
        raise typer.BadParameter(f"can't bind 127.0.0.1 port {port}: {error}") from None
    end_with_terminal()
    try:
        asyncio.run(run_demo(console(markup=True), server, keep=keep))
    except KeyboardInterrupt:
        raise typer.Exit(0 if keep else INTERRUPTED) from None


@app.command(rich_help_panel=SERVER)
@steady
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(__version__)
