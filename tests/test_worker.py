"""One attempt: whatever the handler does, the job ends, once, and the pool goes on."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobrunner import (
    JobContext,
    JobHandle,
    JobRunner,
    JobView,
    Limits,
    PermanentError,
    RetryableError,
    RetryPolicy,
)
from tests.simulation.loop import unix_now, virtual_time

KINDS = ("coroutine", "thread", "generator")


def runner_with(**options: Any) -> JobRunner:
    return JobRunner(now=unix_now, **options)


def raising(kind: str, error: BaseException) -> Callable[[], Any]:
    """Return a handler of that kind that raises `error`."""

    async def in_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    async def generator() -> AsyncIterator[str]:
        yield "piece"
        raise error

    return {"coroutine": in_loop, "thread": in_thread, "generator": generator}[kind]


def reason(view: JobView) -> str | None:
    return None if view.error is None else view.error.reason


async def test_t1_an_exception_that_raises_when_asked_for_its_class_is_a_failure() -> None:
    """`isinstance` reads `__class__`, and what that raises would leave the job's task."""

    def refuse(self: object) -> None:
        raise SystemExit("none of your business")

    async with JobRunner() as runner:

        @runner.job
        async def lie() -> None:
            raise type("Liar", (Exception,), {"__class__": property(refuse)})

        view = await (await runner.submit(lie)).wait(timeout=10.0)
        assert (view.status, reason(view), runner.stats().worker_restarts) == ("failed", "error", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        SystemExit("bad"),
        KeyboardInterrupt("bad"),
        GeneratorExit("bad"),
        asyncio.CancelledError("bad"),
        ExceptionGroup("bad", [ValueError("worse")]),
        BaseExceptionGroup("bad", [SystemExit("worse")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_nothing_that_a_handler_raises_harms_the_pool(
    error: BaseException, kind: str
) -> None:
    """T1: SystemExit in a job ended the whole server; here the job fails and the next one runs."""
    runner = JobRunner(workers=1)
    bad = raising(kind, error)
    runner.job("bad")(bad)

    @runner.job
    async def good() -> str:
        return "still here"

    async with runner:
        failed = await (await runner.submit("bad")).wait(timeout=5.0)
        assert await (await runner.submit(good)).result(timeout=5.0) == "still here"
    assert (failed.status, reason(failed)) == ("failed", "error")
    assert failed.error is not None
    assert failed.error.type == type(error).__name__


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_stop_iteration_is_a_failure_like_any_other(kind: str) -> None:
    """T1: Python makes a RuntimeError of it, and neither of them reaches the loop."""
    runner = JobRunner(workers=1)
    runner.job("bad")(raising(kind, StopIteration("bad")))
    async with runner:
        view = await (await runner.submit("bad")).wait(timeout=5.0)
    assert view.error is not None
    assert (view.status, view.error.type) == ("failed", "RuntimeError")


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_a_cancel_around_the_result_ends_the_job_once(ticks: int) -> None:
    """T2: on 3.11 a cancel in the tick of the result was swallowed, and stop() hung."""
    runner = runner_with(workers=1)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        job = await runner.submit(short)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await job.cancel()
        view = await job.wait(timeout=1.0)
        ends = [event async for event in job.events() if event.type == "done"]
    assert (view.status, view.result, len(ends)) in [
        ("cancelled", None, 1),
        ("completed", "value", 1),
    ]


@pytest.mark.parametrize("ticks", range(21))
@virtual_time
async def test_a_stop_around_the_result_never_hangs(ticks: int) -> None:
    """T2: whatever a worker is about to do when the runner stops, it ends."""
    runner = runner_with(workers=2, shutdown_timeout=0.0)

    @runner.job
    async def short() -> str:
        for _ in range(8):
            await asyncio.sleep(0)
        return "value"

    async with runner:
        jobs = [await runner.submit(short) for _ in range(5)]
        for _ in range(ticks):
            await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await runner.stop()
        assert asyncio.get_running_loop().time() == began
    outcomes = {(job.status, reason(job.view())) for job in jobs}
    assert outcomes <= {("completed", None), ("failed", "shutdown")}


async def swallow(times: float) -> None:
    """Ignore so many cancellations, and then end."""
    while times >= 0:
        try:
            await asyncio.sleep(3_600.0)
            return
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def ended_after(seconds: float, job: JobHandle[Any]) -> JobView:
    """Return the job as it ended, after exactly so many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    view = await job.wait()
    assert round(loop.time() - began, 6) == seconds
    return view


@pytest.mark.parametrize(("times", "seconds"), [(0, 0.0), (1, 5.0)])
@virtual_time
async def test_a_handler_that_ignores_a_cancel_is_asked_again(times: int, seconds: float) -> None:
    """T3: it is cancelled at once, and again after the grace of five seconds."""
    runner = runner_with()

    @runner.job
    async def stubborn() -> None:
        await swallow(times)

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel("stop it")
        view = await ended_after(seconds, job)
    assert (view.status, view.cancel_note, view.error) == ("cancelled", "stop it", None)


@pytest.mark.parametrize("times", [2, 3, 1_000_000])
@virtual_time
async def test_a_handler_that_ignores_every_cancel_is_given_up(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """T3: after two graces the job ends as stuck, its slot is free, its stack is in the log."""
    runner = runner_with(workers=1)
    release = asyncio.Event()

    @runner.job
    async def stubborn() -> None:
        for _ in range(times):
            try:
                await release.wait()
                return
            except asyncio.CancelledError:
                pass
        await release.wait()

    @runner.job
    async def good() -> str:
        return "my turn"

    async with runner:
        job, behind = await runner.submit(stubborn), await runner.submit(good)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await ended_after(10.0, job)
        assert await behind.result() == "my turn"
        assert (runner.stats().busy, runner.stats().stuck) == (0, 1)
        release.set()
        await asyncio.sleep(1.0)
        assert runner.stats().stuck == 0
    assert view.error is not None
    assert (view.status, view.error.reason, view.error.title) == (
        "failed",
        "stuck",
        "cancelled, and the handler did not end within 10 s",
    )
    assert "in stubborn" in (view.error.traceback or "")
    assert f"job {job.id} is stuck" in caplog.text
    assert f"job {job.id} was stuck and has ended now; its value is dropped" in caplog.text


@virtual_time
async def test_a_late_value_of_a_stuck_handler_changes_nothing() -> None:
    """T3: its job has ended, and a final job never changes again."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job
    async def stubborn(ctx: JobContext) -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.sleep(0.5))
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            await asyncio.sleep(50.0)
        ctx.progress(99, "late")
        return "late"

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel()
        before = await job.wait()
        assert reason(before) == "stuck"
        await asyncio.sleep(200.0)
        assert runner.stats().stuck == 0
        assert job.view() == before


@virtual_time
async def test_a_handler_that_waits_in_finally_is_given_up() -> None:
    """T3: a cleanup that never ends holds the job no longer than the graces."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            for _ in range(3):
                try:
                    await asyncio.sleep(100.0)
                except asyncio.CancelledError:
                    pass

    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await job.cancel()
        assert reason(await ended_after(2.0, job)) == "stuck"


@virtual_time
async def test_a_cleanup_within_the_grace_is_waited_for() -> None:
    """`cancelled` is said when nothing of the job runs any more."""
    runner, steps = runner_with(), []

    @runner.job
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)
            steps.append("tidied")

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(1.0)
        assert (await job.cancel()).status == "running"
        view = await ended_after(3.0, job)
    assert (view.status, steps) == ("cancelled", ["tidied"])


async def leak_by_raising() -> None:
    raise asyncio.CancelledError


async def leak_from_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def leak_from_a_task() -> None:
    task = asyncio.create_task(asyncio.sleep(60.0))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


@pytest.mark.parametrize("leak", [leak_by_raising, leak_from_a_future, leak_from_a_task])
@virtual_time
async def test_a_leaked_cancellation_is_a_failure(leak: Callable[[], Awaitable[None]]) -> None:
    """T4: it ended the worker silently; nobody cancelled the job, so it has failed."""
    runner = runner_with(workers=1)

    @runner.job
    async def leaky() -> None:
        await leak()

    @runner.job
    async def good() -> str:
        return "still here"

    async with runner:
        view = await (await runner.submit(leaky)).wait()
        assert await (await runner.submit(good)).result() == "still here"
    assert view.error is not None
    assert (view.status, view.error.type, view.error.title) == (
        "failed",
        "CancelledError",
        "the handler raised CancelledError, but nobody had cancelled the job",
    )


@virtual_time
async def test_a_leaked_cancellation_may_be_tried_again() -> None:
    """T4: a cancelled connection pool is gone in the next attempt."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2))

    @runner.job
    async def leaky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise asyncio.CancelledError
        return ctx.attempt

    async with runner:
        assert await (await runner.submit(leaky)).result() == 2


@pytest.mark.parametrize("first", ["cancel", "stop"])
@virtual_time
async def test_a_cancel_beats_a_shutdown(first: str) -> None:
    """T5: in the same tick, in either order: a cancelled job is not given back to the queue."""
    runner = runner_with(shutdown_timeout=0.0)

    @runner.job
    async def long() -> None:
        try:
            await asyncio.sleep(3_600.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(long)
        await asyncio.sleep(1.0)
        acts = [job.cancel(), runner.stop()]
        if first == "stop":
            acts.reverse()
        await asyncio.gather(*acts)
    view = job.view()
    assert (view.status, view.attempt, view.error) == ("cancelled", 1, None)


@virtual_time
async def test_a_cancel_beats_a_time_limit() -> None:
    """T5: a job that runs out of time while it is asked to stop was cancelled."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5))

    @runner.job(timeout=10.0)
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(11.0)  # it is out of time, and cleans up
        await job.cancel()
        assert (await ended_after(2.0, job)).status == "cancelled"


@virtual_time
async def test_a_result_beats_a_time_limit_that_comes_second() -> None:
    """T5: the value was there in the same tick, and first."""
    runner = runner_with()

    @runner.job(timeout=10.0)
    async def just_in_time() -> str:
        await asyncio.sleep(9.999_999_999)
        return "value"

    async with runner:
        job = await runner.submit(just_in_time)
        assert await job.result() == "value"
        await asyncio.sleep(10.0)
        assert job.status == "completed"


@virtual_time
async def test_a_result_beats_a_cancel() -> None:
    """T5: a handler that goes on to its value though it was asked to stop has completed."""
    runner = runner_with()

    @runner.job
    async def eager() -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            return "value"
        return "not reached"

    async with runner:
        job = await runner.submit(eager)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, view.result, view.cancel_requested_at is not None) == (
        "completed",
        "value",
        True,
    )


@virtual_time
async def test_an_error_while_stopping_is_kept_with_the_cancelled_job() -> None:
    """What went wrong in a cleanup is worth knowing, and doesn't undo the cancel."""
    runner = runner_with()

    @runner.job
    async def clumsy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            raise ValueError("cleanup failed")

    async with runner:
        job = await runner.submit(clumsy)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert view.error is not None
    assert (view.status, view.error.title) == ("cancelled", "cleanup failed")


@virtual_time
async def test_a_handler_that_cancels_its_own_job_is_cancelled() -> None:
    """T6: a handler may decide that its own job is no longer wanted."""
    runner = runner_with()

    @runner.job
    async def suicidal(ctx: JobContext) -> None:
        await runner.cancel(ctx.job_id, "no longer wanted")
        await asyncio.sleep(100.0)

    async with runner:
        view = await (await runner.submit(suicidal)).wait()
    assert (view.status, view.cancel_note) == ("cancelled", "no longer wanted")


@virtual_time
async def test_a_time_limit_fails_the_job_and_names_itself() -> None:
    """The message says what the limit was."""
    runner = runner_with()

    @runner.job(timeout=2.5)
    async def slow() -> None:
        await asyncio.sleep(100.0)

    async with runner:
        view = await ended_after(2.5, await runner.submit(slow))
    assert view.error is not None
    assert (view.status, view.error.reason, view.error.type, view.error.title) == (
        "failed",
        "timeout",
        "TimeoutError",
        "timed out after 2.5 s",
    )


@virtual_time
async def test_a_value_after_the_time_limit_does_not_count() -> None:
    """The promise is a value within the limit, or a timeout."""
    runner = runner_with()

    @runner.job(timeout=2.0)
    async def slow() -> str:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            pass
        return "too late"

    async with runner:
        view = await (await runner.submit(slow)).wait()
    assert (view.status, view.result, reason(view)) == ("failed", None, "timeout")


@virtual_time
async def test_a_handler_that_ignores_its_time_limit_has_timed_out() -> None:
    """T3: the reason is the limit, and the detail says that the handler is stuck."""
    runner = runner_with(cancel_grace=1.0)

    @runner.job(timeout=2.0)
    async def stubborn() -> None:
        await swallow(3)

    async with runner:
        view = await ended_after(4.0, await runner.submit(stubborn))
    assert view.error is not None
    assert (view.error.reason, view.error.detail) == (
        "timeout",
        "timed out after 2 s, and the handler did not end within 2 s",
    )


@virtual_time
async def test_a_handlers_own_timeout_is_an_error_and_no_limit() -> None:
    """A request that timed out within the job is told apart from the job's own limit."""
    runner = runner_with()

    @runner.job
    async def request() -> None:
        async with asyncio.timeout(1.0):
            await asyncio.sleep(100.0)

    async with runner:
        view = await (await runner.submit(request)).wait()
    assert reason(view) == "error"


@virtual_time
async def test_an_attempt_that_timed_out_is_tried_again() -> None:
    """Each attempt has the whole limit to itself."""
    runner = runner_with(retry=RetryPolicy(max_attempts=3, base=0.0))

    @runner.job(timeout=2.0)
    async def slow(ctx: JobContext) -> int:
        await asyncio.sleep(1.5 if ctx.attempt == 3 else 100.0)
        return ctx.attempt

    async with runner:
        assert await (await runner.submit(slow)).result() == 3


@virtual_time
async def test_a_failed_attempt_is_tried_again_when_it_is_due() -> None:
    """`retrying` is visible, with its error and the next time."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2, base=0.0))

    @runner.job
    async def limited(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise RetryableError("rate limit", retry_after=30.0)
        return ctx.attempt

    async with runner:
        job = await runner.submit(limited)
        await asyncio.sleep(10.0)
        view = job.view()
        assert view.error is not None and view.next_attempt_at is not None
        assert (view.status, view.attempt, view.error.title, view.error.retryable) == (
            "retrying",
            1,
            "rate limit",
            True,
        )
        assert view.next_attempt_at.timestamp() == unix_now() + 20.0
        done = await ended_after(20.0, job)
        events = [e.data["status"] async for e in job.events() if e.type in ("status", "done")]
    assert (done.result, done.attempt, done.error, done.next_attempt_at) == (2, 2, None, None)
    assert events == ["pending", "running", "retrying", "running", "completed"]


@virtual_time
async def test_a_permanent_error_is_not_tried_again() -> None:
    """A refused prompt is refused again, whatever attempts are left."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5))

    @runner.job
    async def refused() -> None:
        raise PermanentError("content policy")

    async with runner:
        view = await (await runner.submit(refused)).wait()
    assert view.error is not None
    assert (view.attempt, view.max_attempts, view.error.retryable) == (1, 5, False)


@virtual_time
async def test_a_types_own_policy_goes_before_the_runners() -> None:
    """Only a handler's author knows whether a second attempt is safe."""
    runner = runner_with(retry=RetryPolicy(max_attempts=5, base=0.0))

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def flaky() -> None:
        raise ValueError

    async with runner:
        view = await (await runner.submit(flaky)).wait()
    assert (view.attempt, view.max_attempts) == (2, 2)


@virtual_time
async def test_a_shutdown_gives_the_attempt_back() -> None:
    """It wasn't the job's fault: the attempt doesn't count, and the job says why it ended."""
    runner = runner_with(shutdown_timeout=1.0)

    @runner.job
    async def long() -> None:
        await asyncio.sleep(3_600.0)

    async with runner:
        job = await runner.submit(long)
        await asyncio.sleep(1.0)
    view = job.view()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.reason) == ("failed", 0, "shutdown")


@virtual_time
async def test_a_handler_that_ignores_a_shutdown_is_given_up() -> None:
    """T3: leaving the runner takes the shutdown's time and two graces, and not a second more."""
    runner = runner_with(shutdown_timeout=1.0, cancel_grace=2.0)

    @runner.job
    async def stubborn() -> None:
        await swallow(3)

    loop = asyncio.get_running_loop()
    async with runner:
        job = await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        began = loop.time()
    view = job.view()
    assert view.error is not None
    assert (loop.time() - began, view.error.reason, view.error.detail) == (
        5.0,
        "stuck",
        "the runner is shutting down, and the handler did not end within 4 s",
    )


@pytest.mark.parametrize(
    ("value", "why", "title"),
    [
        (
            {"a": [1, object()]},
            "result_not_serialisable",
            "result['a'][1] (object) can't be JSON: Unable to serialize unknown type: "
            "<class 'object'>",
        ),
        ("x" * 100, "too_large", "the result is 102 bytes of JSON; the limit is 50"),
    ],
)
@virtual_time
async def test_a_value_that_can_not_be_kept_fails_the_job(value: Any, why: str, title: str) -> None:
    """Q9: once, at the end, and with the place, instead of on every later request."""
    runner = runner_with(limits=Limits(max_result=50), retry=RetryPolicy(max_attempts=3))

    @runner.job
    async def make() -> Any:
        return value

    async with runner:
        view = await (await runner.submit(make)).wait()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.reason, view.error.title) == (
        "failed",
        1,
        why,
        title,
    )


@pytest.mark.parametrize(
    ("broken", "outcome"),
    [
        (1, ("failed", "lost")),
        (2, ("failed", "lost")),
        (3, ("failed", "lost")),
        (4, ("completed", None)),
    ],
    ids=["at the start", "when the start is saved", "at the end", "when the end is saved"],
)
@virtual_time
async def test_a_fault_of_the_runner_ends_the_job_and_replaces_the_worker(
    broken: int, outcome: tuple[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    """T17: the clock raises once, at each of the calls in turn; no job hangs, and work goes on."""
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == broken + 2:  # a submit reads it twice
            raise OSError("no time")
        return unix_now()

    runner = JobRunner(workers=1, now=clock)

    @runner.job
    async def work() -> str:
        await asyncio.sleep(1.0)
        return "value"

    async with runner:
        first = await runner.submit(work)
        view = await first.wait(timeout=10.0)
        assert await (await runner.submit(work)).result(timeout=10.0) == "value"
        assert runner.stats().worker_restarts == 1
    assert (view.status, reason(view)) == outcome
    assert "a worker died and is replaced" in caplog.text


@virtual_time
async def test_the_log_names_the_job_and_never_its_params(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure can be found in the server's log, and secrets can't."""
    caplog.set_level(logging.DEBUG, "jobrunner")
    runner = runner_with()

    @runner.job
    async def login(password: str) -> None:
        raise ValueError(password)

    async with runner:
        job = await runner.submit(login, {"password": "s3cret"})
        await job.wait()
    assert [record.getMessage() for record in caplog.records if record.name[:3] == "job"] == [
        f"job {job.id} (login) failed in attempt 1: ValueError"
    ]


@pytest.mark.parametrize("ticks", range(6))
@virtual_time
async def test_an_acknowledged_cancel_keeps_the_handler_from_running(ticks: int) -> None:
    """Q2: also when a worker has the job in hand already; 16 of 100 ran all the same."""
    runner, ran = runner_with(workers=1), []

    @runner.job
    async def note() -> None:
        ran.append("ran")

    async with runner:
        job = await runner.submit(note)
        for _ in range(ticks):
            await asyncio.sleep(0)
        before = list(ran)
        await job.cancel()
        view = await job.wait()
    assert ran == before
    assert view.status == ("completed" if ran else "cancelled")


@virtual_time
async def test_being_asked_to_stop_is_an_event() -> None:
    """Whoever watches sees that a job is being stopped, and by whom, before it has stopped."""
    runner = runner_with()

    @runner.job
    async def tidy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(2.0)

    async with runner:
        job = await runner.submit(tidy)
        await asyncio.sleep(1.0)
        await job.cancel("enough")
        await job.cancel("once more")
        events = [event async for event in job.events()]
    assert [(event.type, event.data["status"]) for event in events] == [
        ("status", "pending"), ("status", "running"), ("status", "running"), ("done", "cancelled"),
    ]  # fmt: skip
    asked = dict(events[2].data)
    assert (asked["cancel_reason"], asked["cancel_note"]) == ("user", "enough")
    assert asked["cancel_requested_at"] == "2023-11-14T22:13:21.000Z"


@virtual_time
async def test_an_attempt_begins_with_no_progress() -> None:
    """A bar that shows the failed attempt's 90 % lies about the one that runs."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2))
    seen: list[tuple[float, str | None, object]] = []

    @runner.job
    async def flaky(ctx: JobContext) -> None:
        view = await runner.get(ctx.job_id)
        seen.append((view.progress, view.progress_message, view.step))
        ctx.step(9, 10, "nearly")
        if ctx.attempt == 1:
            raise ConnectionError

    async with runner:
        await (await runner.submit(flaky)).result()
    assert seen == [(0, None, None), (0, None, None)]


async def test_a_value_that_comes_after_the_limit_does_not_count() -> None:
    """A handler that blocks the loop stops its own timer; the clock goes on all the same (T9)."""
    runner = JobRunner()

    @runner.job(timeout=0.01)
    async def block() -> int:
        time.sleep(0.05)  # noqa: ASYNC251  # as careless code does
        return 5

    async with runner:
        view = await (await runner.submit(block)).wait()
    assert (view.status, reason(view)) == ("failed", "timeout")


@virtual_time
async def test_what_goes_wrong_while_a_handler_stops_is_told_with_its_timeout() -> None:
    """The limit is why the job failed; the traceback says what the clean-up made of it."""
    runner = runner_with()

    @runner.job(timeout=1.0)
    async def clumsy() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            raise OSError("the disk is full")

    async with runner:
        view = await (await runner.submit(clumsy)).wait()
    assert view.error is not None
    assert (view.error.reason, view.error.detail) == ("timeout", "timed out after 1 s")
    assert "the disk is full" in (view.error.traceback or "")
