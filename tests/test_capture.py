"""What handlers log, warn of and print is kept with their jobs, and stays where it went before."""

import asyncio
import contextlib
import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobRunner, RetryPolicy
from tests import said_handlers
from tests.heard import Place, capturing, mine, ran, said
from tests.runners import runner_with
from tests.simulation.loop import virtual_time


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test leaves the process as it was."""
    before = Place().now
    yield
    assert Place().now == before


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


async def test_a_line_that_a_thread_has_begun_is_its_own() -> None:
    """What others print meanwhile comes before it, and not in its middle."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        print("begun ", end="")
        await asyncio.to_thread(print, "of another")
        print("and ended")

    assert await ran(runner, handler) == [
        ("output", "of another\n"),
        ("output", "begun and ended\n"),
    ]


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
        print("private", flush=True)
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


async def test_the_runner_s_and_the_loop_s_own_lines_are_not_kept() -> None:
    """They are about any job, wherever they are written."""
    runner = capturing()

    @runner.job
    async def handler() -> None:
        for name in ("jobrunner", "jobrunner.worker", "asyncio"):
            logging.getLogger(name).warning("not of the handler")
        logging.getLogger("jobrunners").warning("of the handler")

    assert await ran(runner, handler) == [("log", "of the handler")]


FRESH = """
import asyncio
from jobrunner import JobRunner

runner = JobRunner()

@runner.job(capture_logs=True)
async def handler() -> None:
    print("heard")

async def main() -> None:
    async with runner:
        job = await runner.submit(handler)
        print([event.data["text"] async for event in job.events() if event.type == "output"])

asyncio.run(main())
"""


@pytest.mark.slow  # starts an interpreter
def test_a_single_type_that_asks_is_enough() -> None:
    """In a process in which nobody else has wanted to know which job is at work."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("heard\n['heard\\n']\n", "")


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
