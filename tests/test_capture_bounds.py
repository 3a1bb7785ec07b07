"""What is kept of what handlers say is bounded, and keeping it harms and holds up nobody."""

import asyncio
import contextlib
import gc
import io
import logging
import threading
from collections.abc import Iterator

import pytest

from jobrunner import Limits
from jobrunner.capture import Captured
from tests.heard import Alone, Place, capturing, mine, ran, said
from tests.runners import runner_with
from tests.simulation.loop import virtual_time


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test leaves the process as it was."""
    before = Place().now
    yield
    assert Place().now == before


async def test_a_long_line_is_kept_in_pieces_and_a_record_is_cut() -> None:
    """Everything is bounded, by the same limits as what is said by the context."""
    runner = capturing(limits=Limits(max_events=50))

    @runner.job
    async def handler() -> None:
        print("x" * 40_000, end="")
        mine.warning("%s", "y" * 40_000)
        for n in range(200):
            print(n)

    with contextlib.redirect_stdout(io.StringIO()):
        async with runner:
            job = await runner.submit(handler)
            await job.wait()
    events = runner.record(job.id).log.read().events
    assert len(events) <= 50
    assert events[-2].data["text"].endswith("199\n")


async def test_pieces_of_a_line_without_an_end_are_no_longer_than_others() -> None:
    """A handler may print for ever and never end a line."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        for _ in range(40):
            print("x" * 1_000, end="")
        mine.warning("%s", "y" * 40_000)

    with contextlib.redirect_stdout(io.StringIO()):
        kept = await ran(runner, handler)
    assert "".join(text for kind, text in kept if kind == "output") == "x" * 40_000
    assert max(len(text) for _, text in kept) < 17_000
    assert [kind for kind, _ in kept] == ["output"] * 4 + ["log", "output"]
    assert "characters left out" in next(text for kind, text in kept if kind == "log")


class Hostile:
    def __str__(self) -> str:
        print("said by a line")
        raise RuntimeError("no text")

    __repr__ = __str__


async def test_a_line_that_can_t_be_formatted_fails_no_job() -> None:
    """What is logged is anybody's; and what it says while it is kept isn't kept again."""
    runner = capturing()

    @runner.job
    async def handler() -> str:
        mine.warning("odd %s", Hostile())
        mine.warning("%d", "x")
        mine.warning("fields", extra={"bad": Hostile()})
        print("lone \udc80")
        return "fine"

    quiet = logging.raiseExceptions
    logging.raiseExceptions = False  # pytest's own handler would raise
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            kept = await ran(runner, handler)
    finally:
        logging.raiseExceptions = quiet
    lines = [text for _, text in kept if "said by" not in text]  # that is by pytest's handler
    assert [text.split(":")[0] for text in lines] == [
        "a line that can't be formatted",
        "a line that can't be formatted",
        "fields",
        "lone ?\n",
    ]


async def test_what_keeping_itself_says_is_not_kept() -> None:
    """It would go on for ever."""
    clock = logging.getLogger("tests.clock")

    def now() -> float:
        print("tick")
        clock.warning("tick")
        return 1_700_000_000.0

    runner = capturing(now=now)

    @runner.job
    async def handler() -> None:
        print("once")
        mine.warning("twice")

    with contextlib.redirect_stdout(io.StringIO()):
        kept = await ran(runner, handler)
    assert [each for each in kept if "tick" not in each[1]] == [
        ("output", "once\n"), ("log", "twice")
    ]  # fmt: skip


async def test_a_flood_from_threads_waits_for_nobody_and_says_what_is_left_out() -> None:
    """A thread that logs may hold a lock that the loop needs; waiting for the loop would hang."""
    runner = capturing(watchdog=None)
    written, go_on = threading.Event(), threading.Event()

    @runner.job
    def flood() -> None:
        go_on.wait()
        for n in range(3_000):
            print("line", n)
        written.set()

    @runner.job
    async def block() -> None:
        go_on.set()
        assert written.wait(30.0), "the thread waits for the loop"

    with contextlib.redirect_stdout(io.StringIO()):
        async with runner:
            job = await runner.submit(flood)
            await (await runner.submit(block)).result()
            await job.wait()
            kept = await said(job)
    lines = "".join(text for kind, text in kept if kind == "output").splitlines()
    assert lines[:2] == ["line 0", "line 1"]
    assert kept[-1] == ("log", f"{3_000 - len(lines)} lines are left out here: they came too fast")


class Slow:
    """Has a text only when the loop has logged something."""

    def __init__(self) -> None:
        self.asked, self.logged = threading.Event(), threading.Event()

    def __str__(self) -> str:
        self.asked.set()
        return "in time" if self.logged.wait(5.0) else "too late"


async def test_a_record_that_takes_its_time_holds_up_nobody() -> None:
    """Its text is made by anybody's code, which may wait for the loop."""
    runner, slow = capturing(watchdog=None), Slow()

    @runner.job
    def thread() -> None:
        mine.warning("%s", slow)

    @runner.job
    async def loop() -> None:
        slow.asked.wait(5.0)
        mine.warning("logged")
        slow.logged.set()

    last, logging.lastResort = logging.lastResort, None
    try:
        with Alone():
            async with runner:
                job = await runner.submit(thread)
                await (await runner.submit(loop)).wait()
                assert await said(job) == [("log", "in time")]
    finally:
        logging.lastResort = last


def heard_now() -> int:
    return sum(type(each) is Captured for each in gc.get_objects())


async def test_nothing_of_an_attempt_is_left_for_the_collector() -> None:
    """A cycle for each job would stop everybody from time to time."""
    runner = capturing()
    gc.collect()
    gc.disable()
    before, during = heard_now(), []

    @runner.job
    async def handler() -> None:
        print("heard")
        during.append(heard_now())

    try:
        await ran(runner, handler)
        assert (during, heard_now()) == ([before + 1], before)
    finally:
        gc.enable()


@virtual_time
async def test_nothing_is_heard_after_the_end() -> None:
    """A task that outlives its handler speaks for itself."""
    runner = runner_with(capture_logs=True)
    outlived: list[asyncio.Task[None]] = []

    async def late() -> None:
        await asyncio.sleep(1.0)
        print("late")

    @runner.job
    async def handler() -> None:
        outlived.append(asyncio.create_task(late()))
        print("in time")

    async with runner:
        job = await runner.submit(handler)
        other = await runner.submit(handler)
        await asyncio.sleep(2.0)
        assert [await said(each) for each in (job, other)] == [[("output", "in time\n")]] * 2
    assert all(task.done() for task in outlived)
