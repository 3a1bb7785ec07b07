"""The watchdog: what blocks the event loop is named while it does, and reported once."""

import asyncio
import gc
import logging
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobrunner.watchdog import Blockage, Watchdog

HERE = __file__
LIMIT = 0.08
"""Seconds: what blocks has to be noticed on a machine that is busy, without taking long."""


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


async def turn() -> None:
    """Let the loop turn, with what other threads have put into it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def block(until: threading.Event) -> None:
    """Block the loop until it was noticed: no longer than needed, however busy the machine."""
    assert until.wait(20)  # line of `block`


def line_of(comment: str) -> int:
    """Return the number of the line that ends in a comment."""
    lines = Path(HERE).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


def switches(thread: threading.Thread) -> list[str]:
    """Return how often a thread has gone to sleep, and how often another took its place."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return re.findall(r"ctxt_switches:\s+(\d+)", status)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jobrunner watchdog"]


# What is named


@pytest.mark.slow  # the hazard's own times
async def test_t9_a_blocking_handler_is_named_within_half_a_second() -> None:
    """The log says it while the loop can't: job, function, file, line, and for how long."""
    with watched(limit=0.25) as dog:

        async def handler() -> None:
            time.sleep(0.8)  # noqa: ASYNC251  # line of the handler

        began = time.monotonic()
        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [said - began < 0.5 for said in dog.records.times] == [True]
    name = "test_t9_a_blocking_handler_is_named_within_half_a_second.<locals>.handler"
    place = f"{name} ({HERE}:{line_of('line of the handler')})"
    pattern = rf"task job_1 blocks the event loop, for 0\.[234]\d s until now: {re.escape(place)}"
    assert re.fullmatch(pattern, dog.records.lines[0])
    assert dog.records.threads == ["jobrunner watchdog"]
    [report] = dog.reports
    assert report[1:4] == (name, HERE, line_of("line of the handler"))
    assert 0.6 < report.seconds < 1.0


async def test_t9_a_loop_that_computes_is_named() -> None:
    """Blocking is not only waiting: a loop over numbers stops every stream as well."""
    with watched() as dog:
        said = dog.said

        async def handler() -> None:
            while not said.is_set():
                pass

        task = asyncio.create_task(handler(), name="job_1")
        await task
        await turn()
    assert [(r.task, r.function.rpartition(".")[2], r.file) for r in dog.reports] == [
        (task, "handler", HERE)
    ]


@pytest.mark.slow  # a regular expression that takes its time
async def test_t9_code_that_lets_no_thread_run_is_named_afterwards() -> None:
    """A regular expression stops the watchdog's thread too: the most frequent of all culprits."""
    with watched() as dog:

        async def handler() -> None:
            re.match("(a+)+$", "a" * 23 + "b")  # line of the expression
            await asyncio.to_thread(dog.said.wait, 20)

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [(r.line, r.seconds > LIMIT) for r in dog.reports] == [
        (line_of("line of the expression"), True)
    ]


async def test_t9_a_task_of_a_handler_is_named_itself() -> None:
    """Which of a handler's tasks blocks can't be seen from the job's id."""
    with watched() as dog:

        async def handler() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(block(dog.said), name="the other")

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [r.task and r.task.get_name() for r in dog.reports] == ["the other"]
    assert dog.records.lines[0].startswith("task the other blocks the event loop, for ")


async def test_t9_a_callback_has_no_task() -> None:
    """What others put into the loop blocks as well, and belongs to no job."""
    with watched() as dog:
        asyncio.get_running_loop().call_soon(lambda: dog.said.wait(20))
        await turn()
        await turn()
    assert [(r.task, r.file) for r in dog.reports] == [(None, HERE)]
    assert dog.records.lines[0].startswith("a callback blocks the event loop, for ")


async def test_t9_a_callback_in_c_is_seen_too() -> None:
    """It has no frame of its own; the loop's own step stands for it."""
    with watched() as dog:
        lock = threading.Lock()
        lock.acquire()
        with ThreadPoolExecutor(1) as pool:

            def release() -> None:
                dog.said.wait(20)
                lock.release()

            pool.submit(release)
            asyncio.get_running_loop().call_soon(lock.acquire)
            await turn()
            await turn()
    assert [(r.task, r.function) for r in dog.reports] == [(None, "Handle._run")]


async def test_t9_the_innermost_line_of_the_user_is_the_place() -> None:
    """A line in the standard library is nobody's fault; it is said beside the one that called."""
    with watched() as dog:

        async def handler() -> None:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(dog.said.wait, 20).result()  # line of the pool

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [(r.file, r.line) for r in dog.reports] == [(HERE, line_of("line of the pool"))]
    assert re.search(r", in Condition\.wait \(.+threading\.py:\d+\)$", dog.records.lines[0])


async def test_t9_a_selector_of_the_handler_s_own_is_not_the_loop_s() -> None:
    """`subprocess.run` waits in a selector, as an idle loop does."""
    with watched() as dog:

        async def handler() -> None:
            with selectors.DefaultSelector() as own:
                while not dog.said.is_set():
                    own.select(0.05)

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [r.task and r.task.get_name() for r in dog.reports] == ["job_1"]


# What isn't


async def test_t9_many_short_callbacks_are_no_blockage() -> None:
    """Each turn of this loop takes longer than the limit, and nobody is to blame."""
    with watched() as dog:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def step() -> None:
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass

        for _ in range(200):
            loop.call_soon(step)
        loop.call_soon(done.set_result, None)
        await done
    assert (dog.reports, dog.records.lines) == ([], [])


async def test_t9_a_task_that_works_in_short_steps_is_no_blockage() -> None:
    """It is in the same task at each look, and yet everybody has a turn."""
    with watched() as dog:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            await turn()
    assert (dog.reports, dog.records.lines) == ([], [])


async def test_t9_nothing_is_said_while_it_rests() -> None:
    """The time before counts for nothing either when it watches again."""
    with watched() as dog:
        dog.watchdog.rest()
        threading.Event().wait(2 * LIMIT)
        await turn()
        dog.watchdog.watch()
        end = time.monotonic() + LIMIT / 3
        while time.monotonic() < end:
            pass
        await turn()
    assert (dog.reports, dog.records.lines) == ([], [])


async def test_t9_another_loop_in_the_thread_is_not_its_business() -> None:
    """A loop that was left open by whoever came before must not be taken for one that blocks."""
    reports: list[Blockage] = []
    with recorded() as records:

        def other() -> None:
            first = asyncio.new_event_loop()
            watchdog = Watchdog(limit=LIMIT, report=reports.append)
            watchdog.open(first)
            watchdog.watch()

            async def blocks() -> None:
                threading.Event().wait(2 * LIMIT)

            asyncio.run(blocks())
            watchdog.close()
            first.close()

        await asyncio.to_thread(other)
    assert (reports, records.lines) == ([], [])


SUSPENDED = """
import asyncio, sys, time
from jobrunner.watchdog import Watchdog

async def handler(before):
    time.sleep(before)
    print("ready", flush=True)
    sys.stdin.readline()

async def main():
    watchdog = Watchdog(limit=1.0, report=lambda blockage: print(blockage))
    watchdog.open(asyncio.get_running_loop())
    watchdog.watch()
    await asyncio.create_task(handler(float(sys.argv[1])))
    await asyncio.sleep(0.3)

asyncio.run(main())
"""


@pytest.mark.slow  # a process of its own, that has to be asleep for longer than the limit
@pytest.mark.parametrize("before", ["0", "0.4"])
def test_t9_a_machine_that_was_asleep_is_no_blockage(before: str) -> None:
    """Nobody's code is at fault for a closed lid, whether it was seen before or not."""
    with subprocess.Popen(
        [sys.executable, "-c", SUSPENDED, before],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        assert process.communicate("\n")[0] == ""


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
            with watched():
                await asyncio.sleep(2 * LIMIT)
                return loop.woken

        assert runner.run(idle()) == 0


@pytest.mark.slow  # the thread sleeps after a second
async def test_t9_the_thread_sleeps_after_a_rest_and_is_woken_by_work() -> None:
    """Nothing ticks in a process that has nothing to do."""
    with watched() as dog:
        dog.watchdog.rest()
        [thread] = threads()
        await asyncio.sleep(1.3)
        before = switches(thread)
        await asyncio.sleep(0.3)
        assert switches(thread) == before
        dog.watchdog.watch()
        await asyncio.create_task(block(dog.said))
        await turn()
    assert len(dog.reports) == 1


async def test_t9_to_watch_and_to_rest_costs_next_to_nothing() -> None:
    """Thousands of short jobs a second begin and end; no thread starts or stops with them."""
    with watched() as dog:
        watch, rest, before = dog.watchdog.watch, dog.watchdog.rest, threads()

        def each(calls: Callable[[], object]) -> float:
            began = time.perf_counter()
            for _ in range(10_000):
                calls()
            return (time.perf_counter() - began) / 10_000

        assert min(each(watch) for _ in range(5)) < 1e-6
        assert min(each(lambda: (rest(), watch())) for _ in range(5)) < 4e-6
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
