"""Commands that look: at a job, at what it says, at job types, at the server."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..events import Event
from .app import JOBS, SERVER, app
from .completing import complete_job, complete_type
from .exits import FAILED, INTERRUPTED, USAGE, complain, refuse, told
from .output import Writer, console, pretty, print_json, print_rows
from .remote import AsJson, Token, Url, client, watching_client
from .stripping import stripped
from .tables import print_job, print_type, stats_rows
from .transcript import Transcript, missed
from .watching import check_all_completed, run_to_end, watch_jobs

if TYPE_CHECKING:
    from ..client import JobClient

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job.", autocompletion=complete_job)]
JobIds = Annotated[
    list[str], typer.Argument(metavar="ID", help="The jobs.", autocompletion=complete_job)
]


@app.command(rich_help_panel=JOBS)
@told
def show(
    job_id: JobId,
    result: Annotated[
        bool, typer.Option("--result", help="Print its bare result as JSON; 1 if it has none.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show a job: status, progress, params, result or error, and what it asks."""
    with client(url, token) as server:
        job = server.get(job_id)
    if result:
        if job.status != "completed":
            refuse(f"{job_id} is {job.status} and has no result", FAILED)
        print_json(job.result)
    elif as_json:
        print_json(job)
    else:
        print_job(job, console())


@app.command(rich_help_panel=JOBS)
@told
def watch(job_ids: JobIds, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Watch jobs live until they end: bars, output, questions. 1 if one doesn't complete.

    Ctrl-C ends the watching only; the jobs go on.
    """
    check_all_completed(watch_jobs(job_ids, url=url, token=token, as_json=as_json))


@app.command(rich_help_panel=JOBS)
@told
def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print what a job has said: its log lines with their time, its output as it came."""
    if not (follow or as_json):
        with client(url, token) as server:
            writer = Writer(console())
            writer.write(server.logs(job_id))
            writer.finish()
        return
    try:
        run_to_end(_logs(watching_client(url, token), job_id, follow, as_json))
    except KeyboardInterrupt:
        complain(f"{job_id} goes on, unless it has ended")
        raise typer.Exit(INTERRUPTED) from None


async def _logs(client: "JobClient", job_id: str, follow: bool, as_json: bool) -> None:
    writer, script = Writer(console()), Transcript(times=True)
    async with client, aclosing(client.events(job_id)) as events:
        last = None if follow else (await client.get(job_id)).last_seq
        try:
            async for event in events:
                _log(event, writer, script, as_json)
                if last is not None and event.seq >= last:
                    break
        finally:
            writer.finish()


def _log(event: Event, writer: Writer, script: Transcript, as_json: bool) -> None:
    if event.type == "gap":
        complain(missed(event))
    if as_json:
        if event.type in ("output", "log"):
            print_json(event)
    elif text := script.text(event):
        writer.write(text)


@app.command(rich_help_panel=SERVER)
@told
def types(
    name: Annotated[
        str | None,
        typer.Argument(metavar="TYPE", help="Show its JSON schemas.", autocompletion=complete_type),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List the job types: what each takes, and what it does."""
    with client(url, token) as server:
        found = [each for each in server.types() if name is None or each.type == name]
    if name is not None and not found:
        refuse(f"there is no job type {name!r:.100}; `jobrunner types` lists them", USAGE)
    out = console()
    for each in found:
        if as_json:
            print_json(each)
        else:
            print_type(each, out)
        if name is not None and not as_json:
            print(stripped(pretty({"params": each.params, "result": each.result})))


@app.command(rich_help_panel=SERVER)
@told
def stats(as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show how the server does: its workers, and how many jobs have each status."""
    with client(url, token) as server:
        found = server.stats()
    if as_json:
        print_json(found)
        return
    rows = list(stats_rows(found))
    if not console().is_terminal:
        print_rows(rows)
        return
    width = max(len(name) for name, _ in rows)
    for row, value in rows:
        console().print(Text.assemble((f"{row:<{width}}  ", "bold"), value), soft_wrap=True)
