"""Handlers in threads, and callers from other threads (T10, T11, T15)."""

import asyncio
import linecache
import re
import selectors
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from jobrunner import JobContext, JobHandle, JobRunner, Limits, WrongLoop
from jobrunner.inbox import Inbox


async def test_t10_many_functions_run_side_by_side() -> None:
    """No pool limits them but the runner's own workers."""
    runner, together = JobRunner(workers=40), threading.Barrier(40)

    @runner.job
    def meet() -> None:
        together.wait(5.0)

    async with runner:
        jobs = [await runner.submit(meet) for _ in range(40)]
        done, pending = await runner.wait([job.id for job in jobs], timeout=5.0)
    assert ([view.status for view in done], pending) == (["completed"] * 40, [])


async def test_t10_a_thread_that_ends_after_its_loop_was_closed_does_no_harm() -> None:
    """A stuck thread outlives the runner, and nobody is left to be told."""
    release, ended = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def run_app() -> None:
        async def app() -> None:
            runner = JobRunner(cancel_grace=0.0, shutdown_timeout=0.0)

            @runner.job
            def stubborn() -> None:
                threads.append(threading.current_thread())
                ended.set()
                release.wait()

            async with runner:
                await runner.submit(stubborn)
                await asyncio.to_thread(ended.wait)

        asyncio.run(app())

    await asyncio.wait_for(asyncio.to_thread(run_app), 5.0)
    release.set()
    await asyncio.to_thread(threads[0].join)
    assert not threads[0].is_alive()


@pytest.mark.slow
def test_t10_a_thread_asleep_for_an_hour_does_not_hold_up_the_exit() -> None:
    """A thread can't be cancelled, so the interpreter leaves without it (slow: starts one)."""
    app = """
        import asyncio, time
        from jobrunner import JobRunner

        runner = JobRunner(cancel_grace=0.05, shutdown_timeout=0.05)

        @runner.job
        def sleep() -> None:
            time.sleep(3600)

        async def main() -> None:
            async with runner:
                job = await runner.submit(sleep)
                async for event in job.events():
                    if event.data["status"] == "running":
                        break
            view = await runner.get(job.id)
            print(view.status, view.error.reason)

        asyncio.run(main())
        print("left")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(app)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=10.0,
    )
    assert (done.stdout, done.returncode) == ("failed stuck\nleft\n", 0)


async def test_t10_threads_that_never_end_are_bounded() -> None:
    """Handlers that ignore their cancellation must not fill the machine with threads."""
    runner = JobRunner(workers=1, cancel_grace=0.0, limits=Limits(max_threads=2))
    release = threading.Event()

    @runner.job(timeout=0.01)
    def ignore() -> None:
        release.wait()

    async with runner:
        views = [await (await runner.submit(ignore)).wait() for _ in range(3)]
        release.set()
    errors = [view.error.title for view in views if view.error is not None]
    assert errors[:2] == ["timed out after 0.01 s, and the handler did not end within 0 s"] * 2
    assert errors[2].startswith("2 threads of handlers still run, the limit; a handler that is")


async def test_t10_a_thread_sees_that_it_is_to_stop() -> None:
    """A thread can't be cancelled, so it has to look; then its job is cancelled at once."""
    runner = JobRunner()
    begun, asked = threading.Event(), threading.Event()

    @runner.job
    def crawl(ctx: JobContext) -> str:
        begun.set()
        asked.wait()
        ctx.check_cancelled()
        return "not reached"

    async with runner:
        job = await runner.submit(crawl)
        await asyncio.to_thread(begun.wait)
        assert (await job.cancel("enough")).status == "running"
        asked.set()
        view = await job.wait(timeout=5.0)
    assert (view.status, view.cancel_note, view.error) == ("cancelled", "enough", None)


async def test_t10_a_thread_may_return_early_when_it_is_to_stop() -> None:
    """A result that was reached in spite of the cancel is worth more than the cancel."""
    runner = JobRunner()
    begun, asked = threading.Event(), threading.Event()

    @runner.job
    def crawl(ctx: JobContext) -> bool:
        begun.set()
        asked.wait()
        return ctx.cancel_requested

    async with runner:
        job = await runner.submit(crawl)
        await asyncio.to_thread(begun.wait)
        await job.cancel()
        asked.set()
        assert await job.result(timeout=5.0) is True


async def test_t9_a_job_that_blocks_the_loop_is_told_so_with_its_line() -> None:
    """Whoever watches the job sees what holds up everybody, and where it stands."""
    runner = JobRunner(watchdog=0.05)

    @runner.job
    async def block() -> str:
        time.sleep(0.2)  # noqa: ASYNC251  # as careless code does
        return "done"

    async with runner:
        job = await runner.submit(block)
        await job.wait(timeout=20.0)
        (said,) = [event.data async for event in job.events() if event.type == "log"]
        assert runner.stats().blocked == 1
    fields = said["fields"]
    assert re.match(r"blocked the event loop for [0-9.]+ s$", said["text"])
    assert (fields["function"].rpartition(".")[2], fields["file"]) == ("block", __file__)
    assert "time.sleep(0.2)" in linecache.getline(__file__, fields["line"])


async def test_t9_a_callback_that_blocks_the_loop_is_counted_and_told_to_no_job() -> None:
    """The job that runs beside it has done nothing wrong."""
    runner, go_on = JobRunner(watchdog=0.05), asyncio.Event()

    @runner.job
    async def wait() -> None:
        await go_on.wait()

    async with runner:
        job = await runner.submit(wait)
        await anext(event async for event in job.events() if event.data["status"] == "running")
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)
        asyncio.get_running_loop().call_soon(go_on.set)
        await job.wait(timeout=20.0)
        assert [event async for event in job.events() if event.type == "log"] == []
        assert runner.stats().blocked == 1


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often a thread wakes it."""

    woken = 0

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]  # generic there
        self.woken += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_t11_calls_that_come_together_wake_the_loop_once() -> None:
    """A wake-up is a write to a socket: one for each call would cost more than the call."""

    async def main() -> tuple[int, int]:
        loop, done = asyncio.get_running_loop(), list[int]()
        assert isinstance(loop, CountingLoop)
        inbox = Inbox(loop)

        def work() -> None:
            for number in range(100):
                inbox.do(partial(done.append, number))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()  # the loop is held on purpose: it takes nothing meanwhile
        await asyncio.sleep(0)
        return loop.woken, len(done)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) == (1, 100)


@pytest.mark.slow
async def test_t11_eight_threads_lose_nothing() -> None:
    """80,000 calls from eight threads, in order in each, in the loop's debug mode (slow)."""
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 60.0
    runner = JobRunner(timeout=None, limits=Limits(max_events=100_000))
    threads, calls = 8, 10_000

    @runner.job
    def busy(ctx: JobContext) -> None:
        def count(name: int) -> None:
            for i in range(calls):
                ctx.progress(i / 100, f"{name} {i}")

        workers = [threading.Thread(target=count, args=(name,)) for name in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    async with runner:
        job = await runner.submit(busy)
        await job.result(timeout=60.0)
        events = [event async for event in job.events() if event.type == "progress"]
    by_thread: dict[str, list[int]] = {str(name): [] for name in range(threads)}
    for event in events:
        name, i = event.data["progress_message"].split()
        by_thread[name].append(int(i))
    assert by_thread == {str(name): list(range(calls)) for name in range(threads)}


class Idle(selectors.DefaultSelector):
    """Says when its loop waits for nothing that is near."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 1.0:
            self.entered.set()
        return super().select(timeout)


def test_t15_a_submit_from_a_thread_wakes_an_idle_loop() -> None:
    """Nothing else does: no timer is near, and the thread goes on until the job has run."""
    idle, left = Idle(), threading.Event()

    async def main() -> None:
        runner, ran = JobRunner(watchdog=None, timeout=None), asyncio.Event()

        @runner.job
        async def note() -> None:
            ran.set()

        def in_thread() -> None:
            idle.entered.wait(20.0)
            runner.submit_threadsafe("note")
            left.wait(20.0)

        async with runner:
            idle.entered.clear()
            thread = threading.Thread(target=in_thread, daemon=True)
            thread.start()
            async with asyncio.timeout(10.0):  # were nobody to wake it, this would, and fail
                await ran.wait()
            left.set()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(idle)) as runner:
        runner.run(main())


async def test_t15_a_job_can_be_submitted_from_another_thread() -> None:
    """It starts at once, not when the loop happens to wake."""
    runner = JobRunner()

    @runner.job
    async def double(n: int) -> int:
        return 2 * n

    def in_thread() -> JobHandle[Any]:
        return runner.submit_threadsafe("double", {"n": 21}, session_id="s1").result(5.0)

    async with runner:
        job = await asyncio.to_thread(in_thread)
        assert (await job.result(timeout=5.0), job.view().session_id) == (42, "s1")


async def test_t15_an_error_of_a_submit_from_another_thread_is_in_the_future() -> None:
    """The thread gets what the loop would have got."""
    async with JobRunner() as runner:
        failed = await asyncio.to_thread(lambda: runner.submit_threadsafe("nothing").exception(5.0))
    assert str(failed) == "there is no job type 'nothing'; none is registered yet"


@pytest.mark.parametrize("act", [JobRunner.pause, JobRunner.resume, lambda r: r.resize(2)])
async def test_t15_a_thread_without_a_loop_is_told_so(act: Callable[[JobRunner], object]) -> None:
    """From another thread these would change the queue under the loop's feet."""
    async with JobRunner() as runner:
        with pytest.raises(WrongLoop, match="the runner belongs to another event loop"):
            await asyncio.to_thread(act, runner)
