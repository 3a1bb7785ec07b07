"""A runner whose jobs take their time, and how they ended."""

import asyncio
import threading
from typing import Any

from jobrunner import JobRunner, JobView, RetryPolicy
from jobrunner.testing import EPOCH, unix_now

AGAIN = RetryPolicy(max_attempts=3, base=0.0)


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with a type that takes a minute, and one that never says anything."""
    runner = JobRunner(**{"now": unix_now, "seed": 1, **options})

    @runner.job
    async def slow(seconds: float = 60.0) -> str:
        await asyncio.sleep(seconds)
        return "value"

    return runner


def by_name(option: str, value: float | None) -> Any:
    """Return an option whose name is a parameter of the test."""
    return {option: value}


def told(view: JobView) -> tuple[str, str] | None:
    """Return the reason and the sentence of a job's error."""
    return None if view.error is None else (view.error.reason, view.error.detail)


def seconds_of(view: JobView) -> float:
    """Return how long after the simulation's begin the job ended."""
    assert view.finished_at is not None
    return round(view.finished_at.timestamp() - EPOCH, 3)


def pause(seconds: float) -> None:
    """Take time in a thread, as work would."""
    threading.Event().wait(seconds)
