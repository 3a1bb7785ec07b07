"""Commands that change something: submit, cancel, retry."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import InvalidOption, JobGone, JobNotFinal, JobNotFound
from ..views import JobView, check_completed
from .app import JOBS, app
from .completing import complete_job, complete_type
from .exits import INTERRUPTED, code_of, complain, explained, told
from .looking import JobIds
from .output import console, pretty, print_json
from .params import params_of, read_object
from .remote import AsJson, Token, Url, client
from .stripping import stripped
from .watching import check_all_completed, watch_jobs

if TYPE_CHECKING:
    from ..client import SyncJobClient, SyncRemoteJob

T = TypeVar("T")


@app.command(rich_help_panel=JOBS)
@told
def submit(
    type: Annotated[
        str, typer.Argument(metavar="TYPE", help="The job type.", autocompletion=complete_type)
    ],
    params: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Its params: JSON where no text is wanted; a.b=1 for a field of a field.",
        ),
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option(help="A file with params as a JSON object; - for stdin.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for its end, and print its result.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch it until its end, as `watch` does.")
    ] = False,
    wait_timeout: Annotated[
        float | None, typer.Option(help="Seconds to wait at most; the job goes on. 124 then.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.")] = None,
    delay: Annotated[float | None, typer.Option(help="Seconds before it may start.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds of an attempt at most.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds of the whole at most.")] = None,
    session: Annotated[str | None, typer.Option(help="Session to list it by.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second submit with the same key is the same job.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Submit a job, and print its id; or wait for its end, or watch it."""
    options = {
        "priority": priority, "delay": delay, "timeout": timeout, "deadline": deadline,
        "session_id": session, "idempotency_key": idempotency_key,
    }  # fmt: skip
    given: Any = {name: value for name, value in options.items() if value is not None}
    with client(url, token) as server:
        job = server.submit(type, _params(server, type, params or [], params_file), **given)
        if wait or wait_timeout is not None:
            _wait(job, wait_timeout, as_json)
        elif not follow:
            _print_new(job, as_json)
        elif not as_json:
            _say_submitted(job)
    if follow:
        check_all_completed(watch_jobs([job.id], url=url, token=token, as_json=as_json))


@app.command(rich_help_panel=JOBS)
@told
def cancel(
    job_ids: JobIds,
    note: Annotated[str | None, typer.Option(help="Why, for whoever looks at it.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Ask jobs to stop; twice is the same as once."""
    with client(url, token) as server:
        for job in _each(job_ids, lambda job_id: server.cancel(job_id, note)):
            if as_json:
                print_json(job)
            else:
                stopping = "is asked to stop" if job.finished_at is None else str(job.status)
                print(f"{job.job_id} {stopping}")


@app.command(rich_help_panel=JOBS)
@told
def retry(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="The jobs.", autocompletion=complete_job),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that have failed.")] = False,
    type: Annotated[
        str | None,
        typer.Option(help="With --failed: only of this type.", autocompletion=complete_type),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run jobs that have ended again, as new ones, and print their ids."""
    if bool(job_ids) == failed:
        raise InvalidOption("name jobs, or say --failed for all that have failed")
    if type is not None and not failed:
        raise InvalidOption("--type goes with --failed; a job's id says which it is")
    with client(url, token) as server:
        new = server.retry_failed(type) if failed else _each(job_ids or [], server.retry)
        if failed and not new:
            complain("no job has failed")
        for job in new:
            _print_new(job, as_json)


def _each(job_ids: Iterable[str], change: Callable[[str], T]) -> Iterator[T]:
    """Yield what becomes of each job; one that can't be changed is told of, and the others go on.

    Raises:
        Exit: At the end, with the highest code of those.
    """
    highest = 0
    for job_id in dict.fromkeys(job_ids):
        try:
            yield change(job_id)
        except (JobNotFound, JobGone, JobNotFinal) as error:
            complain(explained(error))
            highest = max(highest, code_of(error))
    if highest:
        raise typer.Exit(highest)


def _params(
    server: "SyncJobClient", type: str, words: list[str], file: Path | None
) -> dict[str, Any]:
    given = {} if file is None else read_object(file)
    if not words:
        return given
    schemas = {each.type: each.params for each in server.types()}
    return params_of(words, schemas.get(type, {}), given)


def _print_new(job: "SyncRemoteJob", as_json: bool) -> None:
    if as_json:
        print_json(job.get())
    else:
        print(job.id, flush=True)
        if console().is_terminal:
            complain(f"`jobrunner watch {job.id}` shows how it goes")


def _say_submitted(job: "SyncRemoteJob") -> None:
    """Tell a person the id while they wait: whatever happens, it finds the job again."""
    if sys.stderr.isatty():
        complain(f"{job.id} is submitted")


def _wait(job: "SyncRemoteJob", timeout: float | None, as_json: bool) -> None:
    try:
        _say_submitted(job)
        ended = job.wait(timeout=timeout)
    except KeyboardInterrupt:
        complain(f"{job.id} goes on; `jobrunner watch {job.id}` shows it")
        raise typer.Exit(INTERRUPTED) from None
    _print_end(ended, as_json)


def _print_end(job: JobView, as_json: bool) -> None:
    if as_json:
        print_json(job)
    elif job.status == "completed":
        result = job.result
        print(stripped(result) if isinstance(result, str) else stripped(pretty(result)))
    check_completed(job)
