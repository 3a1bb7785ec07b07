"""A bar in the terminal or the notebook for whoever waits for a job; it needs rich."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .client_events import OnProgress, Progress
from .errors import InvalidOption

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress_bar(
    description: str = "", *, console: "Console | None" = None
) -> Iterator[OnProgress]:
    """Show a bar while the block runs, and yield what moves it: give it as `on_progress`.

    Args:
        description: What stands before the bar until the job says something itself.
        console: Where it is shown; the terminal or notebook if not given.

    Raises:
        InvalidOption: rich isn't installed.
    """
    try:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ModuleNotFoundError:
        raise InvalidOption(
            "a progress bar needs an extra: pip install 'agent-jobrunner[cli]'"
        ) from None
    # A job's message is text: square brackets in it are no markup.
    said = TextColumn("{task.description}", markup=False)
    with Bars(
        said, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console
    ) as bars:
        bar = bars.add_task(description, total=100.0)

        def move(now: Progress) -> None:
            bars.update(bar, completed=now.percent, description=now.message or description)

        yield move
