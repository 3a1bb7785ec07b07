"""Where the server is, and a client of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOption, ServerUnreachable
from ..whereabouts import Whereabouts, running_servers

if TYPE_CHECKING:
    from ..client import JobClient, SyncJobClient

PATIENCE = 2.0
"""Seconds for which a request is tried again when there is no answer."""
LONG_PATIENCE = 30.0
"""Likewise where something is watched: a server that is restarted may be back by then."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="JOBRUNNER_URL",
        help="Server, as `serve` prints it. Else the one that runs here.",
        rich_help_panel="Server",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="JOBRUNNER_TOKEN",
        help="Its token. Not needed for one of yours on this machine.",
        rich_help_panel="Server",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def client(url: str | None, token: str | None) -> "SyncJobClient":
    """Return a client of the server that is meant; see `find`."""
    from ..client import SyncJobClient  # it loads an HTTP client

    found, shown = find(url, token)
    return SyncJobClient(found, token=shown, retry_for=PATIENCE)


def watching_client(url: str | None, token: str | None) -> "JobClient":
    """Return a client that waits longer for a server that is away; to be used in a loop."""
    from ..client import JobClient

    found, shown = find(url, token)
    return JobClient(found, token=shown, retry_for=LONG_PATIENCE)


def find(url: str | None, token: str | None) -> tuple[str, str | None]:
    """Return the server's URL and token.

    Raises:
        ServerUnreachable: None is named and none runs here, or several do.
        InvalidOption: The URL is none.
    """
    if not url:
        server = _only(running_servers())
        return server.url, server.token
    from ..client_address import address

    try:
        base, in_url = address(url)
    except InvalidOption as error:
        raise InvalidOption(str(error).replace("base_url", "the server's URL", 1)) from None
    here = {server.url: server.token for server in running_servers()}
    return str(base), in_url or token or here.get(str(base).rstrip("/"))


def _only(servers: list[Whereabouts]) -> Whereabouts:
    if not servers:
        raise ServerUnreachable(
            "no server of yours runs here; start one with `jobrunner serve module:runner`, or name "
            "one by --url or JOBRUNNER_URL"
        )
    if len(servers) > 1:
        named = ", ".join(f"{each.url} ({each.serves}, pid {each.pid})" for each in servers)
        raise ServerUnreachable(
            f"{len(servers)} servers run here: {named}; choose one by --url or JOBRUNNER_URL"
        )
    return servers[0]
