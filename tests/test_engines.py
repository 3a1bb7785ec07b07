"""Handlers in this process: coroutines and generators in the loop, functions in threads."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner, JobView, Limits, RetryPolicy
from tests.simulation.loop import unix_now, virtual_time

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Local:
    """Something that a handler holds in a local variable."""


async def ended(handler: Callable[..., Any]) -> JobView:
    """Run one job and return it as it ended."""
    runner = JobRunner()
    runner.job(handler)
    async with runner:
        view: JobView = await (await runner.submit(handler)).wait(timeout=5.0)
    return view


async def test_a_coroutine_runs_in_the_event_loop() -> None:
    """It shares connections with the app that embeds the runner."""

    async def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert (await ended(where)).result is True


async def test_a_function_runs_in_a_thread_of_its_own() -> None:
    """Blocking code doesn't stop the loop, and the thread says whose it is."""

    def where(ctx: JobContext) -> bool:
        return threading.current_thread().name == ctx.job_id

    assert (await ended(where)).result is True


async def test_many_functions_run_side_by_side() -> None:
    """T10: no pool limits them but the runner's own workers."""
    runner, together = JobRunner(workers=40), threading.Barrier(40)

    @runner.job
    def meet() -> None:
        together.wait(5.0)

    async with runner:
        jobs = [await runner.submit(meet) for _ in range(40)]
        done, pending = await runner.wait([job.id for job in jobs], timeout=5.0)
    assert ([view.status for view in done], pending) == (["completed"] * 40, [])


@virtual_time
async def test_what_a_generator_yields_is_emitted() -> None:
    """An agent that streams its thoughts needs no context for it."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(1.0)
        yield "two"

    async with runner:
        job = await runner.submit(think)
        assert (await job.wait()).result is None
        pieces = [e.data["text"] async for e in job.events() if e.type == "output"]
    assert pieces == ["one ", "two"]


@virtual_time
async def test_a_generator_that_is_cancelled_cleans_up() -> None:
    """Its `finally` has run when the job says that it was cancelled."""
    runner, steps = JobRunner(now=unix_now), []

    @runner.job
    async def think() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(1.0)
            steps.append("closed")

    async with runner:
        job = await runner.submit(think)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert (await job.wait()).status == "cancelled"
        assert steps == ["closed"]


@virtual_time
async def test_a_generator_is_closed_when_a_piece_of_it_can_not_be_emitted() -> None:
    """What it yields may be hostile; its `finally` runs all the same, and the job fails."""
    runner, steps = JobRunner(now=unix_now), []

    class Hostile:
        def __repr__(self) -> str:
            raise LookupError("no text")

    @runner.job
    async def think() -> AsyncIterator[Hostile]:
        try:
            yield Hostile()
        finally:
            await asyncio.sleep(1.0)
            steps.append("closed")

    async with runner:
        view = await (await runner.submit(think)).wait()
        assert steps == ["closed"]
    assert view.error is not None
    assert (view.status, "no text" in view.error.detail) == ("failed", True)


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_local_of_a_failed_handler_is_free_when_the_job_has_ended(kind: str) -> None:
    """T12: kept exceptions pinned all that their frames held; 20 failures held 20 MB."""
    refs: list[weakref.ref[Local]] = []
    threads: list[threading.Thread] = []

    def fail() -> None:
        threads.append(threading.current_thread())
        local = Local()
        refs.append(weakref.ref(local))
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904  # the context is what is tested

    async def fail_in_loop() -> None:
        fail()

    gc.disable()  # the job lets go by itself, not when a collection happens to come
    try:
        view = await ended(fail if kind == "thread" else fail_in_loop)
        if kind == "thread":
            await asyncio.to_thread(threads[0].join)
        assert (view.status, [ref() for ref in refs]) == ("failed", [None])
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_job_sees_the_context_of_its_submit(kind: str) -> None:
    """T14: two owners, interleaved; each job acts for the one who submitted it."""
    runner = JobRunner(workers=2)

    @runner.job
    def sync() -> str:
        return tenant.get()

    @runner.job
    async def in_loop() -> str:
        await asyncio.sleep(0)
        return tenant.get()

    async with runner:
        jobs = []
        for owner in ("ann", "bob", "ann", "bob"):
            tenant.set(owner)
            jobs.append(await runner.submit(sync if kind == "thread" else in_loop))
        tenant.set("somebody else")
        assert [await job.result() for job in jobs] == ["ann", "bob", "ann", "bob"]


@virtual_time
async def test_context_does_not_leak_between_attempts() -> None:
    """T14: what one attempt sets, neither the next one, the next job nor the submitter sees."""
    runner = JobRunner(workers=1, retry=RetryPolicy(max_attempts=2), now=unix_now)
    seen = []

    @runner.job
    async def leaky() -> None:
        seen.append(tenant.get())
        tenant.set("leaked")
        raise ValueError

    async with runner:
        tenant.set("ann")
        for _ in range(2):
            await (await runner.submit(leaky)).wait()
    assert (seen, tenant.get()) == (["ann"] * 4, "ann")


async def test_a_thread_that_ends_after_its_loop_was_closed_does_no_harm() -> None:
    """T10: a stuck thread outlives the runner, and nobody is left to be told."""
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
def test_a_thread_asleep_for_an_hour_does_not_hold_up_the_exit() -> None:
    """T10: a thread can't be cancelled, so the interpreter leaves without it (slow: starts one)."""
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


async def test_an_engine_gets_the_handler_its_context_and_its_arguments() -> None:
    """The seam is one method: where a handler runs is all that an engine decides."""
    runner, seen = JobRunner(), []

    @runner.job
    async def add(ctx: JobContext, a: int, b: int = 2) -> int:
        arguments: Mapping[str, Any] = {"a": a, "b": b}
        seen.append((ctx.type, arguments))
        return a + b

    async with runner:
        assert await (await runner.submit(add, {"a": "1"})).result() == 3
    assert seen == [("add", {"a": 1, "b": 2})]


@virtual_time
async def test_what_a_generator_yields_is_text_or_becomes_json() -> None:
    """A model's pieces are often objects; a watcher gets JSON, not Python's way to show them."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def think() -> AsyncIterator[Any]:
        yield "text"
        yield {"token": "a", "n": 1}

    async with runner:
        job = await runner.submit(think)
        said = [event.data["text"] async for event in job.events() if event.type == "output"]
    assert said == ["text", '{"token":"a","n":1}']


async def test_threads_that_never_end_are_bounded() -> None:
    """T10: handlers that ignore their cancellation must not fill the machine with threads."""
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


async def test_threads_that_have_ended_make_room() -> None:
    """The limit counts what runs, however it came to its end."""
    runner = JobRunner(limits=Limits(max_threads=1), workers=1)

    @runner.job
    def quick(n: int) -> int:
        return n

    async with runner:
        assert [await (await runner.submit(quick, {"n": n})).result() for n in range(3)] == [
            0,
            1,
            2,
        ]


def test_a_handler_that_ignores_every_cancel_does_not_keep_the_process() -> None:
    """T3: `asyncio.run` waits for its tasks for ever; one that was given up is none of them."""
    program = """
import asyncio
from jobrunner import JobRunner

async def main():
    runner = JobRunner(cancel_grace=0.01, shutdown_timeout=0.0)

    @runner.job
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(0)
    print(job.status, job.view().error.reason)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "failed stuck\n")
    assert "Task was destroyed" not in done.stderr
