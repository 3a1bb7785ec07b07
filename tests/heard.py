"""Runners that keep what handlers say, and what is kept of it."""

import logging
import sys
import warnings
from typing import Any

from jobrunner import JobHandle, JobRunner

mine = logging.getLogger("tests.capture")
Said = list[tuple[str, str]]


class Place:
    """What the process has where taps are put."""

    def __init__(self) -> None:
        root = logging.getLogger()
        self.now = (sys.stdout, list(root.handlers), warnings.showwarning)


def capturing(**options: Any) -> JobRunner:
    """Return a runner that keeps what is said; a busy machine's stops aren't among it."""
    return JobRunner(**{"capture_logs": True, "watchdog": None, **options})


async def said(job: JobHandle[Any]) -> Said:
    """Return what is kept of what a job has said."""
    return [
        (event.type, event.data["text"])
        async for event in job.events()
        if event.type in ("log", "output")
    ]


async def ran(runner: JobRunner, handler: Any, *params: Any) -> Said:
    async with runner:
        job = await runner.submit(handler, *params)
        await job.wait()
        return await said(job)


class Alone:
    """Takes all handlers away from the log, as in a program that has none."""

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._kept, root.handlers[:] = list(root.handlers), []

    def __exit__(self, *raised: object) -> None:
        logging.getLogger().handlers[:] = self._kept
