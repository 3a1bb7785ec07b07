"""What ends a job for its time: an attempt's limit, silence, a deadline, an expiry."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from jobrunner import JobContext, JobRunner, JobStatus, JobView, RetryPolicy
from tests.simulation.loop import EPOCH, unix_now, virtual_time

AGAIN = RetryPolicy(max_attempts=3, base=0.0)


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with a type that takes a minute, and one that never says anything."""
    runner = JobRunner(**{"now": unix_now, "seed": 1, **options})

    @runner.job
    async def slow(seconds: float = 60.0) -> str:
        await asyncio.sleep(seconds)
        return "value"

    return runner


def by_name(option: str, value: float | None) -> Any:
    """Return an option whose name is a parameter of the test."""
    return {option: value}


def told(view: JobView) -> tuple[str, str] | None:
    """Return the reason and the sentence of a job's error."""
    return None if view.error is None else (view.error.reason, view.error.detail)


def seconds_of(view: JobView) -> float:
    """Return how long after the simulation's begin the job ended."""
    assert view.finished_at is not None
    return round(view.finished_at.timestamp() - EPOCH, 3)


# --- each limit by its name ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"timeout": 5.0}, ("timeout", "timed out after 5 s")),
        ({"stall_timeout": 5.0}, ("stalled", "stalled: no sign of life for 5 s")),
        ({"deadline": 5.0}, ("deadline", "missed its deadline of 5 s")),
    ],
)
@virtual_time
async def test_each_limit_of_a_running_job_has_its_own_reason(
    options: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Whoever looks at the failure has to know which number to change."""
    async with new_runner() as runner:
        view = await (await runner.submit("slow", **options)).wait()
    assert (view.status, told(view), seconds_of(view)) == ("failed", expected, 5.0)


@pytest.mark.parametrize("option", ["timeout", "stall_timeout", "deadline"])
@virtual_time
async def test_a_limit_of_the_type_is_its_jobs_limit(option: str) -> None:
    """Decided once, where the handler is; a submit may still say otherwise, or none."""
    runner, no_options = new_runner(workers=3, timeout=None), cast(Any, {})

    @runner.job("limited", **by_name(option, 5.0))
    async def limited() -> None:
        await asyncio.sleep(60.0)

    async with runner:
        jobs = [
            await runner.submit("limited", **options)
            for options in (no_options, by_name(option, 9.0), by_name(option, None))
        ]
        views = [await job.wait() for job in jobs]
    assert [seconds_of(view) for view in views] == [5.0, 9.0, 60.0]
    assert views[2].status == "completed"


@virtual_time
async def test_a_job_that_waits_too_long_for_a_worker_expires() -> None:
    """A chat answer that comes after ten minutes is no answer; it isn't begun."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        view = await (await runner.submit("slow", expires=5.0)).wait()
    assert told(view) == ("expired", "it expired before a worker was free")
    assert (view.started_at, view.attempt, seconds_of(view)) == (None, 0, 5.0)


@virtual_time
async def test_a_job_that_has_started_does_not_expire() -> None:
    """It is a limit of the waiting, not of the work."""
    async with new_runner() as runner:
        view = await (await runner.submit("slow", expires=5.0)).wait()
    assert (view.status, seconds_of(view)) == ("completed", 60.0)


@virtual_time
async def test_a_job_that_waits_for_its_second_attempt_does_not_expire() -> None:
    """What was begun in time is finished."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, retry_on=(OSError,)))
    async def flaky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            runner.pause()
            raise OSError("first")
        return ctx.attempt

    async with runner:
        job = await runner.submit(flaky, expires=5.0)
        await asyncio.sleep(20.0)
        assert job.status == "retrying"
        runner.resume()
        assert await job.result() == 2


@virtual_time
async def test_an_interrupted_job_does_not_expire() -> None:
    """It had started; that a shutdown took its attempt away is told as the shutdown it was."""
    runner = new_runner(workers=2, shutdown_timeout=0.0)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(4.0)
            raise

    async with runner:
        job = await runner.submit("slow", expires=3.0)
        await runner.submit(stubborn)
        await asyncio.sleep(1.0)
        await runner.stop()
    assert told(job.view()) == ("shutdown", "the runner was shut down before the job had ended")
    assert seconds_of(job.view()) == 5.0


# --- deadlines ----------------------------------------------------------------------------------


@virtual_time
async def test_a_deadline_ends_a_job_that_waits() -> None:
    """It is of no use any more, so no worker is spent on it."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        view = await (await runner.submit("slow", deadline=5.0)).wait()
    assert told(view) == ("deadline", "missed its deadline of 5 s")
    assert (view.started_at, seconds_of(view)) == (None, 5.0)


@virtual_time
async def test_a_deadline_ends_a_job_that_waits_for_a_retry() -> None:
    """The deadline is over the whole job, and the queue may be long behind a first attempt."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def flaky() -> None:
        runner.pause()
        raise OSError("first")

    async with runner:
        job = await runner.submit(flaky, deadline=5.0)
        await asyncio.sleep(1.0)
        assert job.status == "retrying"
        view = await job.wait()
    assert (told(view), seconds_of(view)) == (("deadline", "missed its deadline of 5 s"), 5.0)
    assert view.next_attempt_at is None


@virtual_time
async def test_a_missed_deadline_is_never_tried_again() -> None:
    """A timeout is: another attempt may be faster. Nothing brings a deadline back."""
    async with new_runner(retry=AGAIN) as runner:
        timed_out = await (await runner.submit("slow", timeout=5.0)).wait()
        missed = await (await runner.submit("slow", deadline=5.0)).wait()
    assert (timed_out.attempt, missed.attempt) == (3, 1)


@virtual_time
async def test_a_deadline_is_over_all_attempts() -> None:
    """Three attempts of four seconds don't fit into ten."""
    async with new_runner(retry=AGAIN) as runner:
        view = await (await runner.submit("slow", timeout=4.0, deadline=10.0)).wait()
    assert (told(view), view.attempt) == (("deadline", "missed its deadline of 10 s"), 3)
    assert seconds_of(view) == 10.0


@virtual_time
async def test_a_retry_past_the_deadline_is_not_waited_for() -> None:
    """The job fails at once, with what really went wrong."""
    runner = new_runner()

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, budget=None))
    async def throttled() -> None:
        raise RetryLater("busy")

    class RetryLater(Exception):
        retry_after = 30.0
        status_code = 503
        headers = {"retry-after": "30"}  # noqa: RUF012  # as an HTTP client's error has it

    async with runner:
        late = await (await runner.submit(throttled, deadline=30.0)).wait()
        job = await runner.submit(throttled, deadline=31.0)
        await asyncio.sleep(1.0)
        assert job.status == "retrying"
    assert (told(late), seconds_of(late)) == (("error", "busy"), 0.0)


@virtual_time
async def test_a_retry_that_the_budget_puts_past_the_deadline_is_not_waited_for() -> None:
    """A crowd's retries are spaced; who would come too late needn't wait to hear it."""
    runner = new_runner(workers=3)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0, budget=0.1))
    async def failing() -> None:
        raise OSError("down")

    async with runner:
        jobs = [await runner.submit(failing, deadline=15.0) for _ in range(3)]
        await asyncio.sleep(0.1)
        for job in jobs:
            due, by = job.view().next_attempt_at, job.view().deadline_at
            assert by is not None
            assert job.status == "failed" or (due is not None and due < by)
        assert "failed" in {job.status for job in jobs}


@virtual_time
async def test_a_value_that_comes_after_the_deadline_is_dropped() -> None:
    """Whoever set the deadline has gone on without it."""
    runner = new_runner()

    @runner.job
    async def late() -> str:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(1.0)
        return "too late"

    async with runner:
        view = await (await runner.submit(late, deadline=5.0)).wait()
    assert (view.status, view.result, seconds_of(view)) == ("failed", None, 6.0)
    assert told(view) == ("deadline", "missed its deadline of 5 s")


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"deadline": 5.0, "timeout": 3.0}, "deadline"), ({"timeout": 3.0}, "timeout")],
)
async def test_a_handler_that_blocks_its_own_timers_is_late_all_the_same(
    options: dict[str, float], expected: str
) -> None:
    """T9: blocking code holds up the timer that would have stopped it, and returns first."""
    scale = 0.01
    runner = JobRunner(workers=1, watchdog=None)

    @runner.job
    async def blocking() -> str:
        threading.Event().wait(8.0 * scale)
        return "value"

    async with runner:
        given: Any = {name: value * scale for name, value in options.items()}
        view = await (await runner.submit(blocking, **given)).wait()
    assert (view.status, (told(view) or ("",))[0]) == ("failed", expected)


@virtual_time
async def test_a_deadline_while_a_handler_stops_for_its_timeout_wins() -> None:
    """The attempt can't be tried again, whatever it was stopped for first."""
    runner = new_runner(retry=AGAIN)

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise

    async with runner:
        view = await (await runner.submit(stubborn, timeout=4.0, deadline=5.0)).wait()
    assert (told(view), view.attempt) == (("deadline", "missed its deadline of 5 s"), 1)
    assert seconds_of(view) == 7.0


@virtual_time
async def test_a_cancel_wins_over_a_deadline() -> None:
    """What somebody wanted to end has been cancelled, though it stopped late."""
    runner = new_runner()

    @runner.job
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise

    async with runner:
        job = await runner.submit(stubborn, deadline=5.0)
        await asyncio.sleep(4.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, view.error, seconds_of(view)) == ("cancelled", None, 7.0)


@pytest.mark.parametrize(("option", "reason"), [("deadline", "deadline"), ("expires", "expired")])
@virtual_time
async def test_with_a_delay_a_limit_counts_from_when_the_job_is_due(
    option: str, reason: str
) -> None:
    """A job for tomorrow with a deadline of a minute has that minute tomorrow."""
    async with new_runner(workers=1) as runner:
        runner.pause()
        job = await runner.submit("slow", delay=100.0, **by_name(option, 5.0))
        shown = job.view().deadline_at or job.view().expires_at
        assert shown is not None
        view = await job.wait()
    assert ((told(view) or ("",))[0], seconds_of(view)) == (reason, 105.0)
    assert shown.timestamp() == EPOCH + 105.0


@virtual_time
async def test_a_job_that_ended_in_time_leaves_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """A deadline of an hour must not hold a job that took a second, nor ring for it (Q10)."""
    async with new_runner() as runner:
        job = await runner.submit("slow", {"seconds": 1.0}, deadline=5.0, expires=3.0)
        await job.wait()
        assert runner.record(job.id).alarms == ()
        await asyncio.sleep(10.0)
    assert (job.view().status, caplog.records) == ("completed", [])


@virtual_time
async def test_a_deadline_is_not_moved_by_the_wall_clock() -> None:
    """Q6: somebody sets the clock, and no job is early or late for it."""
    jump = 0.0
    runner = new_runner(now=lambda: unix_now() + jump)
    async with runner:
        job = await runner.submit("slow", deadline=5.0)
        jump = -86_400.0
        began = asyncio.get_running_loop().time()
        await job.wait()
        assert asyncio.get_running_loop().time() - began == 5.0


@pytest.mark.parametrize("limit", ["deadline", "expires"])
@virtual_time
async def test_t17_a_fault_as_a_limit_strikes_ends_the_job_all_the_same(limit: str) -> None:
    """Nobody would look at the job again: its alarm has rung, and who waits for it waits on."""
    faulty = False

    def now() -> float:
        nonlocal faulty
        if faulty:
            faulty = False
            raise OSError("no clock")
        return unix_now()

    runner = new_runner(now=now, workers=1)
    async with runner:
        await runner.submit("slow")
        job = await runner.submit("slow", **by_name(limit, 5.0))
        await asyncio.sleep(4.0)
        faulty = True
        view = await job.wait(timeout=2.0)
        assert await (await runner.submit("slow")).result() == "value"
    assert told(view) == ("lost", "a fault when its time was over: OSError: no clock")


# --- signs of life ------------------------------------------------------------------------------

SIGNS: dict[str, Callable[[JobContext], None]] = {
    "progress": lambda ctx: ctx.progress(10, "the same"),
    "step": lambda ctx: ctx.step(1, 4),
    "log": lambda ctx: ctx.log("the same"),
    "emit": lambda ctx: ctx.emit("x"),
}


@pytest.mark.parametrize("sign", SIGNS)
@virtual_time
async def test_whatever_a_handler_says_is_a_sign_of_life(sign: str) -> None:
    """Also the same progress again: it is no news for watchers, but somebody has said it."""
    runner = new_runner()

    @runner.job
    async def lively(ctx: JobContext) -> None:
        for _ in range(10):
            SIGNS[sign](ctx)
            await asyncio.sleep(4.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(lively, stall_timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (
        ("stalled", "stalled: no sign of life for 5 s"), 36.0 + 5.0,
    )  # fmt: skip


@virtual_time
async def test_silence_is_measured_in_each_attempt_anew() -> None:
    """And a stalled attempt may be tried again."""
    async with new_runner(retry=AGAIN) as runner:
        view = await (await runner.submit("slow", stall_timeout=5.0)).wait()
    assert (view.attempt, seconds_of(view)) == (3, 15.0)


@virtual_time
async def test_signs_of_life_do_not_hold_up_a_time_limit() -> None:
    """Both limits hold, and the one that is over first counts."""
    runner = new_runner()

    @runner.job
    async def talking(ctx: JobContext) -> None:
        while True:
            ctx.log("still here")
            await asyncio.sleep(1.0)

    async with runner:
        view = await (await runner.submit(talking, timeout=20.5, stall_timeout=5.0)).wait()
    assert told(view) == ("timeout", "timed out after 20.5 s")


@pytest.mark.slow
async def test_the_output_of_a_command_is_a_sign_of_life() -> None:
    """A build that prints is not stuck; one that is silent may be. Real processes take a while."""
    runner = JobRunner()

    @runner.job
    async def build(ctx: JobContext, script: str) -> None:
        await ctx.run_command(["/bin/sh", "-c", script])

    async with runner:
        talks = await runner.submit(
            build, {"script": "while :; do echo x; sleep 0.1; done"}, timeout=1.6, stall_timeout=1.2
        )
        silent = await runner.submit(build, {"script": "sleep 30"}, stall_timeout=0.3)
        views = [await job.wait() for job in (talks, silent)]
    assert [told(view) for view in views] == [
        ("timeout", "timed out after 1.6 s"),
        ("stalled", "stalled: no sign of life for 0.3 s"),
    ]


async def test_a_thread_shows_signs_of_life_too() -> None:
    """What a thread says counts when it says it, whenever the loop hears of it."""
    runner = JobRunner()

    @runner.job(stall_timeout=0.15)
    def lively(ctx: JobContext) -> str:
        for _ in range(10):
            ctx.progress(5)
            pause(0.02)
        return "value"

    async with runner:
        assert await (await runner.submit(lively)).result() == "value"


def pause(seconds: float) -> None:
    """Take time in a thread, as work would."""
    threading.Event().wait(seconds)


# --- extend_timeout -----------------------------------------------------------------------------


@virtual_time
async def test_a_handler_can_give_itself_more_time() -> None:
    """It knows that the file is larger than usual, and says so; the sentence has the sum."""
    runner = new_runner()

    @runner.job
    async def careful(ctx: JobContext) -> None:
        ctx.extend_timeout(10.0)
        await asyncio.sleep(8.0)
        ctx.extend_timeout(2.5)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(careful, timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (("timeout", "timed out after 17.5 s"), 17.5)


@virtual_time
async def test_more_time_is_for_one_attempt() -> None:
    """The next one begins with the limit that the job was given."""
    runner = new_runner(retry=AGAIN)

    @runner.job
    async def careful(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            ctx.extend_timeout(10.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(careful, timeout=5.0)).wait()
    assert (told(view), seconds_of(view)) == (("timeout", "timed out after 5 s"), 25.0)


@virtual_time
async def test_more_time_does_not_move_the_deadline() -> None:
    """The deadline is the submitter's, not the handler's."""
    runner = new_runner()

    @runner.job
    async def greedy(ctx: JobContext) -> None:
        ctx.extend_timeout(1_000.0)
        await asyncio.sleep(60.0)

    async with runner:
        view = await (await runner.submit(greedy, timeout=5.0, deadline=7.0)).wait()
    assert (told(view), seconds_of(view)) == (("deadline", "missed its deadline of 7 s"), 7.0)


@virtual_time
async def test_more_time_after_a_stop_has_no_effect() -> None:
    """What was asked to stop is given up after its graces, whatever it asks for then."""
    runner = new_runner(cancel_grace=2.0)

    @runner.job
    async def greedy(ctx: JobContext) -> None:
        while True:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                ctx.extend_timeout(1_000.0)

    async with runner:
        view = await (await runner.submit(greedy, timeout=5.0)).wait()
    assert seconds_of(view) == 9.0
    assert told(view) == (
        "timeout", "timed out after 5 s, and the handler did not end within 4 s",
    )  # fmt: skip


@virtual_time
async def test_more_time_without_a_limit_has_no_effect() -> None:
    """A handler needn't know whether it has a limit."""
    runner = new_runner(timeout=None)

    @runner.job
    async def careful(ctx: JobContext) -> str:
        ctx.extend_timeout(1.0)
        await asyncio.sleep(60.0)
        return "value"

    async with runner:
        assert await (await runner.submit(careful)).result() == "value"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5", True])
@virtual_time
async def test_more_time_has_to_be_time(seconds: Any) -> None:
    """A handler that computes nonsense hears of it where it computes it."""
    runner = new_runner()

    @runner.job
    async def confused(ctx: JobContext) -> None:
        ctx.extend_timeout(seconds)

    async with runner:
        view = await (await runner.submit(confused)).wait()
    assert view.error is not None
    assert (view.error.type, view.error.detail.startswith("seconds is ")) == ("InvalidOption", True)


async def test_a_thread_can_give_itself_more_time() -> None:
    """A plain function has no other way to say that it needs longer."""
    runner = JobRunner()

    @runner.job(timeout=0.06)
    def careful(ctx: JobContext) -> str:
        ctx.extend_timeout(30.0)
        pause(0.12)
        ctx.check_cancelled()
        return "value"

    async with runner:
        assert await (await runner.submit(careful)).result() == "value"


async def test_a_thread_that_is_asked_to_stop_gets_no_more_time() -> None:
    """It is told by `cancel_requested`, and what it says after that is too late."""
    runner = JobRunner()

    @runner.job(timeout=0.02)
    def greedy(ctx: JobContext) -> None:
        while not ctx.cancel_requested:
            pause(0.002)
        ctx.extend_timeout(30.0)
        ctx.check_cancelled()

    async with runner:
        view = await (await runner.submit(greedy)).wait()
    assert told(view) == ("timeout", "timed out after 0.02 s")


# --- many at once -------------------------------------------------------------------------------


@virtual_time
async def test_a_crowd_of_deadlines_in_one_moment_all_strike() -> None:
    """Q5: a morning's jobs that nobody could run end together, each once."""
    runner = new_runner()
    runner.pause()
    async with runner:
        jobs = [await runner.submit("slow", deadline=5.0) for _ in range(500)]
        await runner.wait(job.id for job in jobs)
        assert runner.stats().jobs[JobStatus.FAILED] == 500
    assert {(told(job.view()) or ("",))[0] for job in jobs} == {"deadline"}
