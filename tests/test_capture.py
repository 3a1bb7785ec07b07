"""What handlers log, warn of and print is kept with their jobs, and stays where it went before."""

import asyncio
import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobHandle, JobRunner, Limits, RetryPolicy
from tests import said_handlers
from tests.runners import runner_with, swallow
from tests.simulation.loop import virtual_time

mine = logging.getLogger("tests.capture")
Said = list[tuple[str, str]]


class Place:
    """What the process has where taps are put."""

    def __init__(self) -> None:
        root = logging.getLogger()
        self.now = (sys.stdout, list(root.handlers), warnings.showwarning)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test leaves the process as it was."""
    before = Place().now
    yield
    assert Place().now == before


def capturing(**options: Any) -> JobRunner:
    return JobRunner(capture_logs=True, **options)


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


async def test_what_is_printed_logged_and_warned_of_is_kept_in_its_order(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks at a job sees what its libraries had to say; so does the terminal."""
    runner = capturing()

    @runner.job
    async def handler(ctx: JobContext) -> None:
        print("one", 2)
        mine.warning("three %d", 3)
        ctx.log("four")
        warnings.warn("five", stacklevel=1)
        print("six")

    with pytest.warns(UserWarning, match="five"):
        kept = await ran(runner, handler)
    assert kept == [
        ("output", "one 2\n"), ("log", "three 3"), ("log", "four"), ("log", "UserWarning: five"),
        ("output", "six\n"),
    ]  # fmt: skip
    assert capsys.readouterr().out == "one 2\nsix\n"
    assert caplog.messages == ["three 3"]


async def test_a_record_is_kept_with_its_fields_and_without_secrets() -> None:
    """As a line of `ctx.log`; the traceback of a record is part of its text."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        mine.warning("a line", extra={"api_key": "k", "size": 3, "odd": object})
        try:
            raise ValueError("wrong")
        except ValueError:
            mine.exception("caught", stack_info=True)

    async with runner:
        job = await runner.submit(handler)
        first, second = [e.data async for e in job.events() if e.type == "log"]
    assert first == {
        "text": "a line",
        "fields": {"level": "WARNING", "logger": "tests.capture", "api_key": "**********",
                   "size": 3, "odd": "<class 'object'>"},
    }  # fmt: skip
    assert second["text"].startswith("caught\nTraceback (most recent call last):")
    assert "ValueError: wrong\n" in second["text"]
    assert "Stack (most recent call last)" in second["text"]


async def test_threads_of_plain_functions_are_heard() -> None:
    """Most libraries that print are blocking ones."""
    runner = capturing()

    @runner.job
    def handler() -> None:
        for n in range(3):
            print("line", n)
            mine.warning("record %d", n)
        print("not ended", end="")

    kept = await ran(runner, handler)
    assert kept == [
        item
        for n in range(3)
        for item in (("output", f"line {n}\n"), ("log", f"record {n}"))
    ] + [("output", "not ended")]  # fmt: skip


async def test_what_a_coroutine_calls_in_threads_is_heard() -> None:
    """`asyncio.to_thread` hands the context on; a bare thread has none of it."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        await asyncio.to_thread(print, "to_thread")
        await asyncio.create_task(asyncio.to_thread(mine.warning, "in a task"))

    assert await ran(runner, handler) == [("output", "to_thread\n"), ("log", "in a task")]


async def test_lines_of_threads_are_whole() -> None:
    """Half a line of one in the middle of another's can't be read."""
    runner = capturing()

    def talk(who: str) -> None:
        for _ in range(50):
            print(who, who, who)

    @runner.job
    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            for who in "abcd":
                group.create_task(asyncio.to_thread(talk, who))

    with contextlib.redirect_stdout(io.StringIO()):
        kept = await ran(runner, handler)
    lines = "".join(text for _, text in kept).splitlines()
    assert sorted(lines) == sorted(f"{who} {who} {who}" for who in "abcd" for _ in range(50))


async def test_a_flush_shows_what_stands_in_the_line() -> None:
    """Dots of progress are flushed one by one, and worth seeing before the end of the line."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        for _ in range(3):
            print(".", end="", flush=True)
        print(" done")

    assert await ran(runner, handler) == [("output", ".")] * 3 + [("output", " done\n")]


@virtual_time
async def test_jobs_side_by_side_hear_only_themselves() -> None:
    """Somebody else's secrets may be in their lines."""
    runner = runner_with(workers=3, capture_logs=True)

    @runner.job
    async def talk(n: int) -> None:
        for _ in range(3):
            print("job", n)
            mine.warning("job %d", n)
            await asyncio.sleep(0.1 * (n % 3 + 1))

    @runner.job(capture_logs=False)
    async def quiet() -> None:
        print("private")
        await asyncio.sleep(0.2)
        mine.warning("private")

    async with runner:
        jobs = [await runner.submit(talk, {"n": n}) for n in range(5)]
        silent = [await runner.submit(quiet) for _ in range(3)]
        print("of nobody")
        await runner.drain()
        heard = [await said(job) for job in jobs]
        assert [await said(job) for job in silent] == [[]] * 3
    for n in range(5):
        assert heard[n] == [("output", f"job {n}\n"), ("log", f"job {n}")] * 3


@virtual_time
async def test_a_sub_job_is_not_heard_as_its_parent() -> None:
    """It has a log of its own, if it wants one."""
    runner = runner_with()

    @runner.job
    async def leaf() -> None:
        print("leaf")

    @runner.job(capture_logs=True)
    async def root(ctx: JobContext) -> None:
        await (await ctx.submit("leaf")).result()
        print("root")

    assert await ran(runner, root) == [("output", "root\n")]


async def test_a_type_says_for_itself_and_the_runner_for_the_others() -> None:
    """Nothing is kept of who didn't ask for it."""
    runner = JobRunner()

    @runner.job(capture_logs=True)
    async def loud() -> None:
        print("loud")

    @runner.job
    async def usual() -> None:
        print("usual")

    async with runner:
        jobs = [await runner.submit(name) for name in ("loud", "usual")]
        assert [await said(job) for job in jobs] == [[("output", "loud\n")], []]


@pytest.mark.parametrize("value", [1, "yes"])
def test_what_is_no_truth_value_is_refused(value: Any) -> None:
    """`capture_logs="no"` would be true."""
    with pytest.raises(InvalidOption, match=r"capture_logs is .*; it must be True or False"):
        JobRunner(capture_logs=value)
    with pytest.raises(InvalidOption, match=r"capture_logs is .*; it must be True or False"):
        JobRunner().job(capture_logs=value)(lambda: None)


async def test_each_attempt_is_heard() -> None:
    """The log of a job is over all of its attempts."""
    runner = capturing(retry=RetryPolicy(max_attempts=2, base=0.0))

    @runner.job
    async def handler(ctx: JobContext) -> None:
        print("attempt", ctx.attempt, end="")
        raise OSError

    assert await ran(runner, handler) == [("output", "attempt 1"), ("output", "attempt 2")]


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


async def test_the_runner_s_and_the_loop_s_own_lines_are_not_kept() -> None:
    """They are about any job, wherever they are written."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        for name in ("jobrunner", "jobrunner.worker", "asyncio"):
            logging.getLogger(name).warning("not of the handler")
        logging.getLogger("jobrunners").warning("of the handler")

    assert await ran(runner, handler) == [("log", "of the handler")]


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


@virtual_time
async def test_a_stuck_handler_leaves_nothing_in_the_process() -> None:
    """Its job has ended, though it goes on."""
    before = Place().now
    runner = runner_with(cancel_grace=1.0)

    @runner.job(capture_logs=True, timeout=1.0)
    async def deaf() -> None:
        print("heard")
        await swallow(3)

    async with runner:
        job = await runner.submit(deaf)
        await job.wait()
        assert Place().now == before
        assert await said(job) == [("output", "heard\n")]


@virtual_time
async def test_the_taps_are_there_as_long_as_anybody_needs_them() -> None:
    """And not for a runner that has nothing to do."""
    before = Place().now
    runner = runner_with(capture_logs=True)

    @runner.job
    async def handler(seconds: float) -> None:
        await asyncio.sleep(seconds)
        print("heard")

    async with runner:
        jobs = [await runner.submit(handler, {"seconds": n}) for n in (1.0, 2.0)]
        await jobs[0].wait()
        assert Place().now != before
        await jobs[1].wait()
        assert Place().now == before
        assert [await said(job) for job in jobs] == [[("output", "heard\n")]] * 2


@contextlib.asynccontextmanager
async def one_that_prints(runner: JobRunner) -> AsyncIterator[JobHandle[None]]:
    """Have a job that prints once it is let go."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @runner.job
    async def handler() -> None:
        begun.set()
        await go_on.wait()
        print("printed")

    async with runner:
        job = await runner.submit(handler)
        await begun.wait()
        yield job
        go_on.set()
        await job.wait()
        lines = [line for line in await said(job) if "printed" in line[1]]
        assert len(lines) <= 1


async def test_what_others_have_put_in_front_stays_there() -> None:
    """Who replaces `sys.stdout` meanwhile gets it back as they left it, and so do we."""
    before, other = sys.stdout, io.StringIO()
    async with one_that_prints(capturing()) as job:
        tee, sys.stdout = sys.stdout, other
    assert sys.stdout is other
    assert other.getvalue() == "printed\n"
    assert await said(job) == []
    sys.stdout = tee  # as `redirect_stdout` puts back what it found
    print("heals")
    assert sys.stdout is before


async def test_what_others_put_back_is_theirs() -> None:
    """A block that began before the job and ends while it runs takes the taps with it."""
    before, other = sys.stdout, io.StringIO()
    sys.stdout = other
    async with one_that_prints(capturing()):
        sys.stdout = before
    assert sys.stdout is before
    assert other.getvalue() == ""


async def test_a_stream_around_ours_is_heard_once() -> None:
    """Progress bars put a stream of their own around what they find."""

    class Around(io.StringIO):
        def __init__(self, stream: Any) -> None:
            super().__init__()
            self.stream = stream

        def write(self, text: str) -> int:
            return int(self.stream.write(text))

    runner = capturing()
    before = sys.stdout

    @runner.job
    async def inner() -> None:
        print("inner")

    async with one_that_prints(runner):
        tee = sys.stdout
        sys.stdout = Around(tee)
        job = await runner.submit(inner)  # its taps go around it again
        await job.wait()
        assert await said(job) == [("output", "inner\n")]
        sys.stdout = tee
    assert sys.stdout is before


async def test_redirected_output_is_somebody_else_s() -> None:
    """A handler that catches what it prints wants to have it."""
    runner = capturing()

    @runner.job
    async def handler() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            print("caught")
        print("not caught")
        return text.getvalue()

    assert await ran(runner, handler) == [("output", "not caught\n")]


async def test_the_stream_is_as_it_was_but_for_what_is_written() -> None:
    """Programs ask it for its encoding, and whether it is a terminal."""
    runner = capturing()
    real = io.TextIOWrapper(io.BytesIO(), "utf-8")

    @runner.job
    async def handler() -> tuple[str, bool, int]:
        sys.stdout.writelines(["a\n", "b\n"])
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")  # type: ignore[arg-type]  # as a fault of somebody's
        return sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.write("c\n")

    with contextlib.redirect_stdout(real):
        async with runner:
            job = await runner.submit(handler)
            assert await job.result() == ("utf-8", False, 2)
            assert await said(job) == [("output", f"{line}\n") for line in "abc"]


async def test_a_program_without_an_output_has_none() -> None:
    """`sys.stdout` is None where there is no console."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        print("nowhere")
        mine.warning("logged")

    with contextlib.redirect_stdout(None):
        assert await ran(runner, handler) == [("log", "logged")]


async def test_others_may_take_the_taps_out_of_the_log() -> None:
    """A program that sets up its log anew removes all handlers; the next job puts ours back."""
    runner = capturing()

    @runner.job
    async def resets() -> None:
        root = logging.getLogger()
        kept, root.handlers[:] = list(root.handlers), []
        mine.warning("heard by nobody")
        root.handlers[:] = [each for each in kept if type(each).__module__ != "jobrunner.capture"]

    @runner.job
    async def handler() -> None:
        mine.warning("heard")

    async with runner:
        await (await runner.submit(resets)).result()
        job = await runner.submit(handler)
        assert await said(job) == [("log", "heard")]


class Alone:
    """Takes all handlers away from the log, as in a program that has none."""

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._kept, root.handlers[:] = list(root.handlers), []

    def __exit__(self, *raised: object) -> None:
        logging.getLogger().handlers[:] = self._kept


async def test_a_log_that_nobody_has_set_up_still_goes_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Python shows warnings where there is no handler; with ours there would be one."""
    runner = capturing()
    local = logging.getLogger("tests.capture.local")
    local.propagate = False
    handlers: list[logging.Handler] = []

    @runner.job
    async def handler() -> None:
        handlers.extend(logging.getLogger().handlers)
        mine.warning("shown")
        mine.info("not shown")

    with Alone():
        await ran(runner, handler)
        assert capfd.readouterr().err == "shown\n"
        assert len(handlers) == 1
        mine.addHandler(quiet := logging.NullHandler())
        try:
            assert await ran(runner, handler) == [("log", "shown")]
        finally:
            mine.removeHandler(quiet)
        assert capfd.readouterr().err == ""


async def test_warnings_that_go_to_the_log_are_kept_once() -> None:
    """`logging.captureWarnings` turns a warning into a record."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        warnings.warn("once", stacklevel=1)
        warnings.warn("of the collector", ResourceWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            kept = await ran(runner, handler)
        finally:
            logging.captureWarnings(False)
    assert [text for _, text in kept if "once" in text] == ["UserWarning: once"]


async def test_a_warning_block_that_outlives_the_job_leaves_nothing() -> None:
    """`catch_warnings` puts back what it found, which may have been ours."""
    shown: list[str] = []

    def show(message: Warning | str, *more: object) -> None:
        shown.append(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]  # it takes all of them
        block = warnings.catch_warnings()
        async with one_that_prints(capturing()):
            block.__enter__()
        block.__exit__(None, None, None)
        assert warnings.showwarning is not show
        warnings.showwarning("heals", UserWarning, "here.py", 1)
        assert (warnings.showwarning, shown) == (show, ["heals"])


@pytest.mark.slow  # starts a process
async def test_a_handler_in_a_process_is_heard_as_well() -> None:
    """Where it runs is no business of whoever looks at its log."""
    runner = capturing()
    runner.job(engine="process")(said_handlers.say_all)
    runner.job(engine="process", capture_logs=False)(said_handlers.print_only)
    async with runner:
        job = await runner.submit("say_all", {"n": 7})
        await job.result()
        quiet = await runner.submit("print_only")
        await quiet.result()
        events = [e async for e in job.events() if e.type in ("log", "output")]
        assert await said(quiet) == []
    assert [event.data["text"] for event in events] == [
        "by the context", "printed 7\n", "logged 7", "UserWarning: warned", "not ended"
    ]  # fmt: skip
    assert events[2].data["fields"]["api_key"] == "**********"


@virtual_time
async def test_what_is_captured_is_a_sign_of_life() -> None:
    """A handler that prints isn't stalled, any more than one that calls `ctx.log`."""
    runner = runner_with(capture_logs=True)

    @runner.job(stall_timeout=2.0)
    async def handler() -> None:
        for _ in range(5):
            await asyncio.sleep(1.5)
            print("alive")

    async with runner:
        assert (await (await runner.submit(handler)).wait()).status == "completed"
