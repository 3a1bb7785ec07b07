"""Which job is at work: for lines of the log that are written while a handler runs.

It is a context variable, so tasks, `asyncio.to_thread` and the threads of plain functions have it.
It is set for each attempt, once anybody wants to know; until then no job pays for it.
"""

import logging
from contextvars import Context, ContextVar
from typing import Final

from .context import JobContext

NONE: Final = "-"
"""What records have that belong to no job."""
_current: ContextVar[JobContext] = ContextVar("jobrunner job")
_wanted = False


def want() -> None:
    """Have attempts marked that begin from now on."""
    global _wanted
    _wanted = True


def is_wanted() -> bool:
    """Return whether attempts are to be marked."""
    return _wanted


def mark(context: JobContext, within: Context | None = None) -> None:
    """Say in `within`, or in the context that this runs in, which attempt is at work there."""
    if within is None:  # pragma: no cover  # in the process of a handler
        _current.set(context)
    else:
        within.run(_current.set, context)


def current_job() -> JobContext | None:
    """Return the attempt that is at work here, or was; None outside of handlers."""
    return _current.get(None)


class JobLogFilter(logging.Filter):
    """Puts `job_id` and `job_type` on records, of whatever logger, made while a handler runs.

    Add it to a handler of `logging`; as a filter of a logger it would see that logger's own records
    only. Then a format may have `%(job_id)s` and `%(job_type)s`, which are "-" outside of jobs.
    Jobs that began before the first filter was made have none. A thread that a handler starts by
    `threading.Thread` or an executor has no job, unless it runs in a copy of the context.

    Args:
        name: As for `logging.Filter`: only records of this logger, and those below it.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        want()

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; what names a job already is left as it is."""
        job = None if is_own(record.name) else current_job()
        found = vars(record)
        if "job_id" not in found:
            found["job_id"] = NONE if job is None else job.job_id
            found["job_type"] = NONE if job is None else job.type
        found.setdefault("job_type", NONE)
        return bool(super().filter(record))


def is_own(logger: str) -> bool:
    """Return whether a logger is the library's: its lines name their job, wherever they are."""
    return logger == "jobrunner" or logger.startswith("jobrunner.")
