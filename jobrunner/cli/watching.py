"""Watch jobs until they end: several at once, over as many connections, none of them theirs."""

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ..errors import InvalidOption
from ..jobs import JobStatus
from ..views import JobView
from .exits import FAILED, INTERRUPTED, complain
from .output import console
from .remote import LONG_PATIENCE, watching_client
from .shows import JsonShow, LineShow, Show

if TYPE_CHECKING:
    from ..client import JobClient

T = TypeVar("T")
MOST = 100
"""Jobs that are watched at once."""


def watch_jobs(
    job_ids: Iterable[str], *, url: str | None, token: str | None, as_json: bool
) -> dict[str, str]:
    """Watch jobs to their ends, and return the statuses that they have then.

    Raises:
        Exit: Ctrl-C; the jobs go on, and it says so.
        JobNotFound, JobGone: There is no such job.
    """
    wanted = list(dict.fromkeys(job_ids))
    if len(wanted) > MOST:
        raise InvalidOption(f"{len(wanted)} jobs are more than {MOST}; watch fewer at once")
    ended: dict[str, str] = {}
    try:
        run_to_end(_watch(watching_client(url, token), wanted, ended, as_json=as_json))
    except KeyboardInterrupt:
        _say_they_go_on([job_id for job_id in wanted if job_id not in ended])
        raise typer.Exit(INTERRUPTED) from None
    return ended


def check_all_completed(ended: dict[str, str]) -> None:
    """Raise Exit unless all of the jobs have completed."""
    if any(status != JobStatus.COMPLETED for status in ended.values()):
        raise typer.Exit(FAILED)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a loop; SIGTERM and SIGHUP end it as Ctrl-C does, so that it cleans up.

    One that is ignored stays so: whoever started this by `nohup` wants it to go on.

    Raises:
        Exit: A signal has ended it.
        KeyboardInterrupt: Ctrl-C has.
    """
    got: list[int] = []

    async def run() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "a coroutine runs in a task"

        def end(number: int) -> None:
            got.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise typer.Exit(128 + got[0] if got else INTERRUPTED) from None


async def _watch(
    client: "JobClient", job_ids: Sequence[str], ended: dict[str, str], *, as_json: bool
) -> None:
    async with client:
        jobs = [await client.get(job_id) for job_id in job_ids]
        with _show(jobs, as_json=as_json) as show, _saying_when_away(show):
            try:
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        group.create_task(_follow(client, job, show, ended), name=job.job_id)
            except ExceptionGroup as errors:  # the first says it; the others are its echo
                raise errors.exceptions[0] from None


async def _follow(client: "JobClient", job: JobView, show: Show, ended: dict[str, str]) -> None:
    async with aclosing(client.events(job.job_id)) as events:
        async for event in events:
            show.event(job, event)
            if event.type == "done":
                ended[job.job_id] = event.data["status"]


def _show(jobs: Sequence[JobView], *, as_json: bool) -> Show:
    if as_json:
        return JsonShow()
    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        return LineShow(jobs, out)
    from .bars import BarShow  # where there is no terminal, nobody waits for it to load

    return BarShow(jobs, out)


@contextmanager
def _saying_when_away(show: Show) -> Iterator[None]:
    """Say once that the server is away; the client's log tells of each try."""
    handler, logger = _Away(show), logging.getLogger("jobrunner.client")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Away(logging.Handler):
    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show
        self._until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Show what the client does, once for all streams and tries of one absence."""
        if record.created > self._until:
            self._show.note(f"the server is away; trying again for {LONG_PATIENCE:.0f} s")
            self._until = record.created + LONG_PATIENCE


def _say_they_go_on(job_ids: Sequence[str]) -> None:
    if job_ids:
        word = "goes" if len(job_ids) == 1 else "go"
        ids = " ".join(job_ids)
        complain(f"{ids} {word} on; see `jobrunner watch` and `jobrunner cancel`")
