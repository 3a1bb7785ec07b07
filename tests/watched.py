"""A watchdog of the running loop, with all that it says, and what it is to notice or not."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from jobrunner.watchdog import Blockage, Watchdog

LIMIT = 0.08
"""Seconds: what blocks has to be noticed on a machine that is busy, without taking long."""


TRIES = 5


class Records(logging.Handler):
    """Keeps what was said, by whom and when; and calls back in the thread that says it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.times: list[float] = []
        self.threads: list[str] = []
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.times.append(time.monotonic())
        self.threads.append(threading.current_thread().name)
        self.said.set()


@contextmanager
def recorded() -> Iterator[Records]:
    """Keep what the watchdog says in the log."""
    records, logger = Records(), logging.getLogger("jobrunner.watchdog")
    logger.addHandler(records)
    try:
        yield records
    finally:
        logger.removeHandler(records)


class Watched:
    """A watchdog of the running loop, and all that it said."""

    def __init__(self, watchdog: Watchdog, records: Records, reports: list[Blockage]) -> None:
        self.watchdog = watchdog
        self.records = records
        self.reports = reports

    @property
    def said(self) -> threading.Event:
        return self.records.said


@contextmanager
def watched(*, limit: float = LIMIT) -> Iterator[Watched]:
    """Watch the running loop."""
    reports: list[Blockage] = []
    watchdog = Watchdog(limit=limit, report=reports.append)
    with recorded() as records:
        watchdog.open(asyncio.get_running_loop())
        watchdog.watch()
        try:
            yield Watched(watchdog, records, reports)
        finally:
            watchdog.close()


async def never_noticed(scene: Callable[[Watched], Awaitable[None]]) -> None:
    """Check that nothing is said of a scene.

    It is played again where something was: a machine that is busy may stop the process for longer
    than the limit, which is a blockage, and no fault of the scene's.
    """
    for _ in range(TRIES):
        with watched() as dog:
            await scene(dog)
        if not dog.reports and not dog.records.lines:
            return
    raise AssertionError(f"each of {TRIES} times: {dog.reports} {dog.records.lines}")


async def turn() -> None:
    """Let the loop turn, with what other threads have put into it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def busy(seconds: float) -> None:
    """Work in short steps."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await turn()


async def block(until: threading.Event) -> None:
    """Block the loop until it was noticed: no longer than needed, however busy the machine."""
    assert until.wait(20)  # line of `block`


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jobrunner watchdog"]
