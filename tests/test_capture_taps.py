"""What is put into the process to hear handlers is taken out again, whoever else is there."""

import asyncio
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jobrunner import JobHandle, JobRunner
from tests.heard import Alone, Place, capturing, mine, ran, said
from tests.runners import runner_with, swallow
from tests.simulation.loop import virtual_time


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test leaves the process as it was."""
    before = Place().now
    yield
    assert Place().now == before


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


class Takes:
    """A stream of somebody's own, which takes everything."""

    def __init__(self) -> None:
        self.taken: list[object] = []

    def write(self, thing: object) -> int:
        self.taken.append(thing)
        return 1


async def test_what_is_no_text_goes_where_it_went() -> None:
    """Who puts an odd stream there knows what it takes."""
    runner, odd = capturing(), Takes()

    @runner.job
    async def handler() -> None:
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]  # that is the point

    with contextlib.redirect_stdout(odd):  # type: ignore[type-var]  # likewise
        assert await ran(runner, handler) == []
    assert odd.taken == [b"bytes"]


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


async def test_a_log_that_nobody_has_set_up_still_goes_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Python shows warnings where there is no handler; with ours there would be one."""
    runner = capturing()
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
    assert [text for _, text in kept] == ["UserWarning: once"]


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


async def test_a_warning_function_of_somebody_s_own_stays() -> None:
    """What was put there while a job was heard isn't ours to take out."""

    def show(message: Warning | str, *more: object) -> None:
        pass

    with warnings.catch_warnings():
        async with one_that_prints(capturing()):
            warnings.showwarning = show  # type: ignore[assignment]  # it takes all of them
        assert warnings.showwarning is show


async def test_a_function_around_the_tap_hears_each_warning_once() -> None:
    """What a handler puts there leads to the tap, and stays for the jobs that come after."""
    shown: list[str] = []
    runner = capturing()

    @runner.job
    async def wraps() -> None:
        before = warnings.showwarning

        def show(message: Warning | str, *more: Any) -> None:
            shown.append(str(message))
            before(message, *more)

        warnings.showwarning = show  # type: ignore[assignment]  # it takes all of them

    @runner.job
    async def warns() -> None:
        warnings.warn("once", stacklevel=1)

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        async with runner:
            for handler in (wraps, warns, warns):
                job = await runner.submit(handler)
                assert (await job.wait()).status == "completed"
        kept = await said(job)
    assert (shown, [text for _, text in kept]) == (["once", "once"], ["UserWarning: once"])
