"""`list`: the jobs of a server, once or as they change."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..jobs import JobStatus
from ..views import JobView
from .app import JOBS, app
from .completing import complete_type
from .exits import INTERRUPTED, told
from .output import console, print_json, print_rows
from .remote import AsJson, Token, Url, client, watching_client
from .tables import job_rows, job_table, type_width
from .watching import run_to_end

if TYPE_CHECKING:
    from ..client import JobClient, SyncJobClient

PAGE = 200
"""Jobs on one page at most."""
AGAIN = 0.25
"""Seconds between two looks at most: a thousand events a second are one picture."""


@app.command("list", rich_help_panel=JOBS)
@told
def list_jobs(
    status: Annotated[
        JobStatus | None, typer.Option(metavar="STATUS", help=f"Only {', '.join(JobStatus)}.")
    ] = None,
    type: Annotated[
        str | None, typer.Option(help="Only jobs of this type.", autocompletion=complete_type)
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only jobs of this session.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only jobs of this batch.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many at most.", min=1)] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on as they change.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List jobs, the newest first; in a pipe with tabs between the columns."""
    filters = {"status": status, "type": type, "session_id": session, "batch_id": batch}
    if watch:
        work = _watch(watching_client(url, token), filters, limit, as_json)
        try:
            run_to_end(work)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    with client(url, token) as server:
        jobs = _pages(server, filters, None if everything else limit)
        _print(jobs, console(), as_json)


def _pages(
    server: "SyncJobClient", filters: dict[str, Any], limit: int | None
) -> Iterator[JobView]:
    """Yield the jobs page by page, so that the first are seen while the last are read."""
    cursor, left = None, limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = server.list(**filters, limit=size, cursor=cursor)
        yield from page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.jobs)


def _print(jobs: Iterator[JobView], out: Console, as_json: bool) -> None:
    if as_json:
        for job in jobs:
            print_json(job)
    elif not out.is_terminal:
        print_rows(job_rows(jobs))
    else:
        _print_tables(jobs, out)


def _print_tables(jobs: Iterator[JobView], out: Console) -> None:
    """Print a table a page, under one heading: one of 10,000 rows would take seconds to begin."""
    page = list(islice(jobs, PAGE))
    if not page:
        out.print(Text("no jobs", style="dim"))
    longest, heading = type_width(page), True
    while page:
        out.print(job_table(page, out, types=longest, heading=heading))
        page, heading = list(islice(jobs, PAGE)), False


async def _watch(client: "JobClient", filters: dict[str, Any], limit: int, as_json: bool) -> None:
    """Show the jobs now, and again when anything has happened to any."""
    happened = asyncio.Event()
    happened.set()  # look twice at first: the stream of events may begin after the first look

    async def listen() -> None:
        async with aclosing(client.events()) as events:
            async for _ in events:
                happened.set()

    try:
        async with client, asyncio.TaskGroup() as group:
            group.create_task(listen(), name="events")
            with _picture(as_json) as show:
                while True:
                    show((await client.list(**filters, limit=min(limit, PAGE))).jobs)
                    await asyncio.sleep(AGAIN)
                    await happened.wait()
                    happened.clear()
    except ExceptionGroup as errors:  # the first says it; the others are its echo
        raise errors.exceptions[0] from None


@contextmanager
def _picture(as_json: bool) -> Iterator[Callable[[list[JobView]], None]]:
    """Yield what shows jobs: a table that fills the terminal, or a line for each that changed."""
    out, seen = console(), dict[str, int]()

    def print_new(jobs: list[JobView]) -> None:
        new = [job for job in reversed(jobs) if seen.get(job.job_id) != job.last_seq]
        seen.clear()
        seen.update({job.job_id: job.last_seq for job in jobs})
        _print(iter(new), out, as_json)
        sys.stdout.flush()

    if as_json or not out.is_terminal or out.is_dumb_terminal:
        yield print_new
        return
    shown: list[JobView] = []

    def table() -> Table:
        return job_table(shown[: max(out.height - 1, 1)], out)

    with Live(get_renderable=table, console=out, refresh_per_second=1, screen=True) as live:

        def draw(jobs: list[JobView]) -> None:
            shown[:] = jobs
            live.refresh()

        yield draw
