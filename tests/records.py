"""Job records for tests of what stands below the runner."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jobrunner.events import EventLog
from jobrunner.jobs import Job


def make_job(number: int = 1, kind: type[Job] = Job, /, **fields: Any) -> Job:
    """Return a pending job as submit would have made it."""
    given: dict[str, Any] = {
        "id": f"job_{number:032x}",
        "number": number,
        "type": "work",
        "params": b"{}",
        "created_at": 1_000.0,
        "log": EventLog(),
    }
    return kind(**(given | fields))


def state_of(job: Job) -> Mapping[str, Any]:
    """Return everything that is in the record."""
    return {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
