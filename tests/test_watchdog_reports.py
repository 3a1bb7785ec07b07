"""The watchdog: how often it reports and when, what it costs, and what it leaves."""

import asyncio
import gc
import logging
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from jobrunner.watchdog import Watchdog
from tests.watched import LIMIT, TRIES, block, busy, recorded, threads, turn, watched


def switches(thread: threading.Thread) -> list[str]:
    """Return how often a thread has gone to sleep, and how often another took its place."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return re.findall(r"ctxt_switches:\s+(\d+)", status)


# How often, and when


@pytest.mark.slow  # twice as long as the limit, twice
async def test_t9_each_blockage_is_reported_once() -> None:
    """A handler that stands in a debugger for minutes is one line, not four a second."""
    with watched() as dog:

        async def handler() -> None:
            await block(dog.said)
            threading.Event().wait(2 * LIMIT)
            await turn()

        for number in (1, 2):
            dog.said.clear()
            await asyncio.create_task(handler(), name=f"job_{number}")
            await turn()
    assert [r.task and r.task.get_name() for r in dog.reports] == ["job_1", "job_2"]
    assert [line.split()[1] for line in dog.records.lines] == ["job_1", "job_2"]
    assert all(r.seconds > 2 * LIMIT for r in dog.reports)


async def test_t9_a_report_can_be_had_before_the_task_ends() -> None:
    """A handler that blocks and returns would have ended before the loop turns."""
    with watched() as dog:

        async def handler() -> int:
            await block(dog.said)
            dog.watchdog.flush()
            return len(dog.reports)

        assert await asyncio.create_task(handler()) == 1
        await turn()
    assert len(dog.reports) == 1


async def test_t9_a_report_comes_in_the_loop() -> None:
    """It changes the job, which only the loop's thread may do (T11)."""
    loop, where = asyncio.get_running_loop(), list[object]()
    watchdog = Watchdog(limit=LIMIT, report=lambda _: where.append(asyncio.get_running_loop()))
    with recorded() as records:
        watchdog.open(loop)
        watchdog.watch()
        await block(records.said)
        await turn()
        watchdog.close()
    assert where == [loop]


async def test_t9_a_log_that_takes_its_time_is_no_blockage() -> None:
    """The thread comes back late from it, and the loop has worked meanwhile."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert go.wait(20)

    go, slow = threading.Event(), Slow()
    with watched() as dog:
        logging.getLogger("jobrunner.watchdog").addHandler(slow)
        try:
            await asyncio.create_task(block(dog.said))
            await busy(2 * LIMIT)
            go.set()
            await busy(LIMIT)
        finally:
            logging.getLogger("jobrunner.watchdog").removeHandler(slow)
    assert len(dog.reports) == len(dog.records.lines) == 1


async def test_t9_nothing_is_reported_after_the_end() -> None:
    """A report changes a job, and there are no more jobs."""
    with watched() as dog:
        await block(dog.said)
        dog.watchdog.close()
        await turn()
    assert (len(dog.records.lines), dog.reports) == (1, [])


async def test_t9_a_filter_that_raises_ends_nothing() -> None:
    """The log is configured by others; the next blockage has to be seen all the same."""

    class Raises(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            said.set()
            raise ValueError

    said, raises = threading.Event(), Raises()
    logging.getLogger("jobrunner.watchdog").addFilter(raises)
    try:
        with watched() as dog:
            for _ in range(2):
                said.clear()
                await asyncio.create_task(block(said))
                await turn()
    finally:
        logging.getLogger("jobrunner.watchdog").removeFilter(raises)
    assert len(dog.reports) == 2


# What it costs, and what it leaves


class Counting(asyncio.SelectorEventLoop):
    """Counts how often another thread has woken it."""

    woken = 0

    def _write_to_self(self) -> None:
        self.woken += 1
        super()._write_to_self()  # type: ignore[misc]  # typeshed hides how a loop is woken


def test_t9_an_idle_loop_is_not_woken() -> None:
    """A laptop that waits for work sleeps."""
    with asyncio.Runner(loop_factory=Counting) as runner:

        async def idle() -> int:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, Counting)
            before = loop.woken
            with watched():
                await asyncio.sleep(2 * LIMIT)
                return loop.woken - before

        assert 0 in (runner.run(idle()) for _ in range(TRIES))  # a busy machine stops it, too


@pytest.mark.slow  # the thread sleeps after a second
async def test_t9_the_thread_sleeps_after_a_rest_and_is_woken_by_work() -> None:
    """Nothing ticks in a process that has nothing to do."""
    with watched() as dog:
        dog.watchdog.rest()
        [thread] = threads()
        await asyncio.sleep(1.5)
        before = switches(thread)
        await asyncio.sleep(0.3)
        assert switches(thread) == before
        dog.watchdog.watch()
        await asyncio.create_task(block(dog.said))
        await turn()
    assert len(dog.reports) == 1


async def test_t9_no_thread_starts_or_stops_with_each_job() -> None:
    """Thousands of short jobs a second begin and end."""
    with watched() as dog:
        before = threads()
        for _ in range(10_000):
            dog.watchdog.rest()
            dog.watchdog.watch()
        assert threads() == before


async def test_t9_the_thread_starts_with_the_first_work_and_ends_with_the_watchdog() -> None:
    """A runner that is left leaves nothing behind, and may be entered again."""
    watchdog = Watchdog(limit=LIMIT, report=lambda _: None)
    seen = [len(threads())]
    for _ in range(2):
        watchdog.open(asyncio.get_running_loop())
        seen.append(len(threads()))
        watchdog.watch()
        seen.append(len(threads()))
        watchdog.close()
        seen.append(len(threads()))
    assert seen == [0, 0, 1, 0, 0, 1, 0]


async def test_t9_no_task_is_kept() -> None:
    """A task holds its frames, and they whatever the handler worked on (T12)."""
    reports: list[str] = []
    watchdog = Watchdog(limit=LIMIT, report=lambda b: reports.append(b.function))
    with recorded() as records:
        watchdog.open(asyncio.get_running_loop())
        watchdog.watch()
        task = asyncio.create_task(block(records.said))
        kept = weakref.ref(task)
        await task
        del task
        await turn()
        watchdog.rest()
        gc.collect()
        assert (reports, kept()) == (["block"], None)
        watchdog.close()


PROGRAM = """
import asyncio, os, sys, threading
from jobrunner.watchdog import Watchdog

async def main():
    watchdog = Watchdog(limit=0.08, report=lambda blockage: print("reported"))
    watchdog.open(asyncio.get_running_loop())
    watchdog.watch()
    if (child := os.fork()) == 0:
        watchdog.close()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""


@pytest.mark.slow  # a process of its own
def test_t9_a_fork_has_no_thread_to_wait_for() -> None:
    """The copy of a process has the watchdog, but not its thread."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines()[0] == "7"


def test_t9_a_loop_that_is_closed_ends_the_thread() -> None:
    """Who never closes the watchdog has no thread left after the loop."""
    watchdog = Watchdog(limit=LIMIT, report=lambda _: None)

    async def main() -> None:
        watchdog.open(asyncio.get_running_loop())
        watchdog.watch()

    asyncio.run(main())
    for thread in threads():
        thread.join(20)
    assert threads() == []
