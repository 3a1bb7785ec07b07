"""The command line as a whole: its name, its help, and the panels that its commands stand in."""

import typer

from .exits import MEANINGS

RUNNING, JOBS, SERVER = "Run and serve", "Jobs on a server", "The server"
"""Panels of the help."""

app = typer.Typer(
    help="Background jobs for agents, in one process.",
    epilog="\n".join(["Exit codes:", *(f"{code:>3}  {said}" for code, said in MEANINGS.items())]),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
