"""The command line: serve a runner, look at its jobs from anywhere, see the demo."""

import sys

try:
    import rich  # noqa: F401
    import typer  # noqa: F401
except ModuleNotFoundError:  # the extra is not installed
    sys.exit("the command line needs an extra: pip install 'agent-jobrunner[cli]'")

# In the order of the help:
from . import serving, running, showing, changing, listing, looking, answering  # noqa: F401, I001
from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    app()
