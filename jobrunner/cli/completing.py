"""What the shell completes: job ids and job types of the server, when it answers at once."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import JobRunnerError

if TYPE_CHECKING:
    from ..client import SyncJobClient

SOON = 1.0
"""Seconds that somebody who has pressed Tab may wait."""


def complete_job(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the newest jobs that begin so, each with what it is."""
    from .stripping import one_line

    try:
        with _client() as server:
            for job in server.list(limit=100).jobs:
                if job.job_id.startswith(incomplete):
                    yield job.job_id, f"{one_line(job.type, 40)} {job.status}"
    except JobRunnerError:  # no server, no help
        return


def complete_type(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the job types that begin so, each with what it does."""
    from .stripping import one_line

    try:
        with _client() as server:
            for each in server.types():
                if each.type.startswith(incomplete):
                    yield each.type, one_line(each.description.partition("\n")[0], 80)
    except JobRunnerError:
        return


def _client() -> "SyncJobClient":
    from ..client import SyncJobClient
    from .remote import find

    url, token = find(os.environ.get("JOBRUNNER_URL"), os.environ.get("JOBRUNNER_TOKEN"))
    return SyncJobClient(url, token=token, timeout=SOON, retry_for=0.0)
