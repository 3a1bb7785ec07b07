"""JobRunner: its states, what each of them answers, and what it does for a job."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    IdempotencyKeyReused,
    InvalidOption,
    JobCancelled,
    JobContext,
    JobFailed,
    JobGone,
    JobHandle,
    JobNotFinal,
    JobNotFound,
    JobNotRetryable,
    JobRunner,
    JobStatus,
    Limits,
    QueueFull,
    Retention,
    RetryPolicy,
    RunnerNotStarted,
    RunnerStopped,
    Stats,
    WrongLoop,
)
from tests.simulation.loop import EPOCH, simulate, unix_now, virtual_time


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with a job type that takes ten seconds, and one that notes its order."""
    runner = JobRunner(now=unix_now, **options)

    @runner.job
    async def slow(n: int = 1) -> int:
        await asyncio.sleep(10.0)
        return n

    return runner


def noting(runner: JobRunner) -> list[str]:
    """Register a job type that notes its name when it runs."""
    order: list[str] = []

    @runner.job
    async def note(name: str) -> None:
        order.append(name)

    return order


# --- states -------------------------------------------------------------------------------------

Operation = Callable[[JobRunner, str], Awaitable[Any]]


async def call(function: Callable[[], Any]) -> Any:
    return function()


async def enter(runner: JobRunner) -> None:
    async with runner:
        pass


OPERATIONS: dict[str, Operation] = {
    "submit": lambda runner, _: runner.submit("slow"),
    "submit_threadsafe": lambda runner, _: call(lambda: runner.submit_threadsafe("slow")),
    "get": lambda runner, job_id: runner.get(job_id),
    "handle": lambda runner, job_id: call(lambda: runner.handle(job_id)),
    "list": lambda runner, _: runner.list(),
    "wait": lambda runner, job_id: runner.wait([job_id], timeout=1.0),
    "drain": lambda runner, _: runner.drain(),
    "cancel": lambda runner, job_id: runner.cancel(job_id),
    "retry": lambda runner, job_id: runner.retry(job_id),
    "forget": lambda runner, job_id: runner.forget(job_id),
    "pause": lambda runner, _: call(runner.pause),
    "resume": lambda runner, _: call(runner.resume),
    "resize": lambda runner, _: call(lambda: runner.resize(2)),
    "stats": lambda runner, _: call(runner.stats),
    "stop": lambda runner, _: runner.stop(),
    "enter": lambda runner, _: enter(runner),
}
ANSWERS = {  # operation: new, running, draining, stopped; the job has ended in the last three
    "submit": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "submit_threadsafe": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "get": (JobNotFound, None, None, None),
    "handle": (JobNotFound, None, None, None),
    "list": (None, None, None, None),
    "wait": (JobNotFound, None, None, None),
    "drain": (None, None, None, None),
    "cancel": (JobNotFound, None, None, None),
    "retry": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "forget": (JobNotFound, None, None, None),
    "pause": (None, None, None, None),
    "resume": (None, None, None, None),
    "resize": (None, None, None, None),
    "stats": (None, None, None, None),
    "stop": (None, None, None, None),
    "enter": (None, InvalidOption, InvalidOption, None),
}


async def in_state(state: str, use: Callable[[JobRunner, str], Awaitable[Any]]) -> Any:
    """Use a runner in one of its states, with the id of a job that has ended."""
    runner = new_runner(shutdown_timeout=30.0)
    if state == "new":
        return await use(runner, "job_0")
    async with runner:
        ended = await runner.submit("slow")
        await ended.wait()
        if state == "running":
            return await use(runner, ended.id)
        await runner.submit("slow")
        await asyncio.sleep(1.0)
        stopping = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        if state == "draining":
            try:
                return await use(runner, ended.id)
            finally:
                await stopping
        await stopping
    return await use(runner, ended.id)


@pytest.mark.parametrize("state", ["new", "running", "draining", "stopped"])
@pytest.mark.parametrize("operation", OPERATIONS)
@virtual_time
async def test_every_operation_has_an_answer_in_every_state(operation: str, state: str) -> None:
    """T16: never started, stopping, stopped: each says what it can do and what it can't."""
    expected = ANSWERS[operation][("new", "running", "draining", "stopped").index(state)]

    async def use(runner: JobRunner, job_id: str) -> Any:
        assert runner.stats().state == state
        return await OPERATIONS[operation](runner, job_id)

    if expected is None:
        await in_state(state, use)
    else:
        with pytest.raises(expected):
            await in_state(state, use)


def test_a_runner_that_was_never_started_says_how_to_start_it() -> None:
    """S2: the lifespan of a mounted app never runs, and nobody notices until the first submit."""
    with pytest.raises(RunnerNotStarted) as caught:
        simulate(lambda: new_runner().submit("slow"))
    assert str(caught.value) == (
        "the runner has not been started: use `async with runner:`, or give "
        "lifespan=runner.lifespan to the outermost app (a mounted app's lifespan never runs, nor "
        "does any under TestClient without `with`)"
    )


@virtual_time
async def test_a_stopped_runner_names_its_state() -> None:
    """T16: whoever submits while the app shuts down gets a reason."""
    runner = new_runner()
    async with runner:
        pass
    with pytest.raises(RunnerStopped, match=r"^the runner is stopped and takes no more jobs$"):
        await runner.submit("slow")


@virtual_time
async def test_a_running_runner_can_not_be_entered_again() -> None:
    """T16: two pools on one queue would be two runners in one."""
    async with new_runner() as runner:
        with pytest.raises(InvalidOption) as caught:
            await enter(runner)
    assert str(caught.value) == ("the runner is running; enter it again when it has stopped")


@virtual_time
async def test_a_stopped_runner_can_be_started_again() -> None:
    """T16: what it kept is still there, and new jobs run."""
    runner = new_runner()
    async with runner:
        first = await runner.submit("slow", {"n": 1})
        await first.wait()
    async with runner:
        second = await runner.submit("slow", {"n": 2})
        assert await second.result() == 2
        listed = [view.job_id for view in (await runner.list()).jobs]
    assert listed == [second.id, first.id]


def test_a_runner_works_in_one_event_loop_after_the_other() -> None:
    """T16: a test suite has a loop for each test, and a module-level runner."""
    runner = new_runner(retention=Retention(max_age=100.0))

    async def use(n: int) -> Any:
        async with runner:
            return await (await runner.submit("slow", {"n": n})).result()

    assert [simulate(lambda n=n: use(n)) for n in (1, 2, 3)] == [1, 2, 3]  # type: ignore[misc]  # bound
    assert runner.stats().jobs[JobStatus.COMPLETED] == 3


@virtual_time
async def test_a_paused_runner_is_still_paused_when_it_is_started_again() -> None:
    """Whoever paused it meant it."""
    runner = new_runner()
    runner.pause()
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(60.0)
        assert (job.status, runner.stats().paused) == ("pending", True)
        runner.resume()
        assert await job.result() == 1


@virtual_time
async def test_a_lifespan_runs_the_runner() -> None:
    """S2: Starlette and FastAPI take it as it is."""
    runner = new_runner()
    async with runner.lifespan(object()):
        assert runner.stats().state == "running"
    assert runner.stats().state == "stopped"


@virtual_time
async def test_leaving_with_an_error_waits_for_no_job() -> None:
    """The program is going down; jobs are interrupted at once."""
    runner = new_runner(shutdown_timeout=60.0)
    with pytest.raises(KeyError):
        async with runner:
            job = await runner.submit("slow")
            await asyncio.sleep(1.0)
            raise KeyError
    assert (asyncio.get_running_loop().time(), job.status) == (1.0, "failed")


@virtual_time
async def test_what_waits_when_the_runner_stops_fails_with_the_reason() -> None:
    """Nothing is pending for ever in a runner that runs no more."""
    retry = RetryPolicy(max_attempts=2, base=1_000.0)
    runner = new_runner(workers=1, shutdown_timeout=60.0, retry=retry)

    @runner.job
    async def again() -> None:
        raise ValueError("first")

    async with runner:
        jobs = [
            await runner.submit(again),
            await runner.submit("slow"),
            await runner.submit("slow"),
        ]
        jobs.append(await runner.submit("slow", delay=3_600.0))
        await asyncio.sleep(1.0)
        statuses = [job.status for job in jobs]
        waiting = asyncio.ensure_future(jobs[2].wait())
    assert statuses == ["retrying", "running", "pending", "pending"]
    errors = [job.view().error for job in jobs]
    assert [error and error.reason for error in errors] == [
        "shutdown",
        None,
        "shutdown",
        "shutdown",
    ]
    assert (await waiting).status == "failed"


@virtual_time
async def test_a_second_stop_waits_for_the_first() -> None:
    """Whoever calls it may take the runner as stopped when it returns."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        await runner.submit("slow")
        await asyncio.sleep(1.0)
        first = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        await runner.stop()
        assert (runner.stats().state, unix_now()) == ("stopped", EPOCH + 10.0)
        await first


@virtual_time
async def test_a_second_stop_can_make_the_first_one_hurry() -> None:
    """The second Ctrl-C: what still runs is interrupted now."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        first = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        await runner.stop(timeout=0.0)
        await first
    assert (job.status, unix_now()) == ("failed", EPOCH + 2.0)


@virtual_time
async def test_a_stop_that_is_cancelled_leaves_no_job_open() -> None:
    """Whatever still runs is given up, and who waits for it is told."""
    runner = new_runner(shutdown_timeout=60.0)
    async with runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        stopping = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(1.0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        view = await job.wait(timeout=0.0)
    assert (view.status, runner.stats().state, runner.stats().busy) == ("failed", "stopped", 0)


@pytest.mark.parametrize("seed", range(40))
def test_a_stop_that_is_cancelled_around_a_start_leaves_no_job_open(seed: int) -> None:
    """T2: also a job that a worker has just taken, whatever the order of what is ready."""

    async def main() -> tuple[str, int]:
        runner = new_runner(shutdown_timeout=60.0)
        async with runner:
            job = await runner.submit("slow")
            stopping = asyncio.ensure_future(runner.stop())
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
        return job.status.value, runner.stats().busy

    ended = simulate(main, seed=seed)
    assert ended in [("failed", 0), ("completed", 0)]  # completed: cancelled before it began


@virtual_time
async def test_a_handler_may_stop_the_runner() -> None:
    """An admin job that shuts the app down is interrupted like any other, and nothing hangs."""
    runner = new_runner(shutdown_timeout=2.0)

    @runner.job
    async def shut_down() -> None:
        await runner.stop()

    async with runner:
        job = await runner.submit(shut_down)
        await job.wait(timeout=60.0)
    assert (job.status, runner.stats().state) == ("failed", "stopped")


@virtual_time
async def test_stats_count_what_there_is() -> None:
    """One look says how a runner does."""
    runner = new_runner(workers=1, retention=Retention(max_jobs=1))
    async with runner:
        for _ in range(3):
            await runner.submit("slow")
        await asyncio.sleep(25.0)
        stats = runner.stats()
    jobs = dict.fromkeys(JobStatus, 0) | {JobStatus.RUNNING: 1, JobStatus.COMPLETED: 1}
    assert stats == Stats(
        state="running", paused=False, workers=1, busy=1, stuck=0, stuck_total=0, blocked=0,
        worker_restarts=0, unready=None, jobs=jobs, pruned=1,
    )  # fmt: skip


# --- threads and loops --------------------------------------------------------------------------


async def test_a_job_can_be_submitted_from_another_thread() -> None:
    """T15: it starts at once, not when the loop happens to wake."""
    runner = JobRunner()

    @runner.job
    async def double(n: int) -> int:
        return 2 * n

    def in_thread() -> JobHandle[Any]:
        return runner.submit_threadsafe("double", {"n": 21}, session_id="s1").result(5.0)

    async with runner:
        job = await asyncio.to_thread(in_thread)
        assert (await job.result(timeout=5.0), job.view().session_id) == (42, "s1")


async def test_an_error_of_a_submit_from_another_thread_is_in_the_future() -> None:
    """T15: the thread gets what the loop would have got."""
    async with JobRunner() as runner:
        failed = await asyncio.to_thread(lambda: runner.submit_threadsafe("nothing").exception(5.0))
    assert str(failed) == "there is no job type 'nothing'; none is registered yet"


@pytest.mark.parametrize("operation", ["submit", "cancel", "retry"])
async def test_another_event_loop_is_refused(operation: str) -> None:
    """T15: a call from a foreign loop would corrupt the state, or wake seconds late."""
    runner = JobRunner()

    @runner.job("slow")
    async def quick() -> None: ...

    async def foreign(job_id: str) -> None:
        await OPERATIONS[operation](runner, job_id)

    async with runner:
        job = await runner.submit(quick)
        await job.wait()
        with pytest.raises(WrongLoop, match="from another thread use submit_threadsafe"):
            await asyncio.to_thread(lambda: asyncio.run(foreign(job.id)))


# --- order and time -----------------------------------------------------------------------------


@virtual_time
async def test_jobs_run_in_the_order_of_their_priority() -> None:
    """A user who waits goes before a nightly report."""
    runner = new_runner(workers=1)
    order = noting(runner)
    async with runner:
        for name, priority in (("report", -5), ("usual", 0), ("user", 5), ("also usual", 0)):
            await runner.submit("note", {"name": name}, priority=priority)
        await runner.drain()
    assert order == ["user", "usual", "also usual", "report"]


@virtual_time
async def test_a_job_that_has_waited_long_enough_goes_first() -> None:
    """Q4: a point of priority is worth a minute, so nothing waits for ever."""
    runner = new_runner(workers=1)
    order = noting(runner)
    async with runner:
        runner.pause()
        await runner.submit("note", {"name": "old"})
        await asyncio.sleep(59.0)
        await runner.submit("note", {"name": "important"}, priority=1)
        await asyncio.sleep(2.0)
        await runner.submit("note", {"name": "important, too late"}, priority=1)
        runner.resume()
        await runner.drain()
    assert order == ["important", "old", "important, too late"]


@virtual_time
async def test_a_delayed_job_starts_when_it_is_due() -> None:
    """The delay is seconds, and the view says when."""
    async with new_runner() as runner:
        job = await runner.submit("slow", delay=3_600.0)
        assert job.view().run_at == datetime.fromtimestamp(EPOCH + 3_600.0, UTC)
        view = await job.wait()
    assert view.started_at == view.run_at


@virtual_time
async def test_a_job_can_be_given_a_moment() -> None:
    """`run_at` is a datetime with a time zone; one that has passed is now."""
    async with new_runner() as runner:
        later = await runner.submit("slow", run_at=datetime.fromtimestamp(EPOCH + 60.0, UTC))
        past = await runner.submit("slow", run_at=datetime.fromtimestamp(EPOCH - 60.0, UTC))
        await runner.drain()
    started = [job.view().started_at for job in (later, past)]
    assert started == [
        datetime.fromtimestamp(EPOCH + 60.0, UTC),
        datetime.fromtimestamp(EPOCH, UTC),
    ]


@virtual_time
async def test_pausing_starts_no_job_and_stops_none() -> None:
    """What runs goes on, what is submitted waits."""
    async with new_runner(workers=2) as runner:
        running = await runner.submit("slow")
        await asyncio.sleep(1.0)
        runner.pause()
        waiting = await runner.submit("slow")
        await asyncio.sleep(60.0)
        assert (running.status, waiting.status) == ("completed", "pending")
        runner.resume()
        assert await waiting.result() == 1


@virtual_time
async def test_draining_waits_for_delayed_and_retried_jobs() -> None:
    """A test that drains has seen everything."""
    runner = new_runner(retry=RetryPolicy(max_attempts=3, base=100.0))

    @runner.job
    async def flaky(ctx: JobContext) -> None:
        if ctx.attempt < 3:
            raise ValueError

    async with runner:
        jobs = [await runner.submit(flaky), await runner.submit("slow", delay=1_000.0)]
        await runner.drain()
    assert [job.status for job in jobs] == ["completed", "completed"]


@virtual_time
async def test_waiting_for_any_comes_back_with_the_first() -> None:
    """The others are in `pending`, and go on."""
    async with new_runner() as runner:
        first, second = await runner.submit("slow"), await runner.submit("slow", delay=5.0)
        done, pending = await runner.wait([second.id, first.id], mode="any")
        assert ([v.job_id for v in done], [v.job_id for v in pending]) == ([first.id], [second.id])
        done, pending = await runner.wait([second.id, first.id])
        assert ([v.job_id for v in done], pending) == ([second.id, first.id], [])


@virtual_time
async def test_waiting_never_raises_for_time() -> None:
    """A poll wants to know what has ended by now."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        done, pending = await runner.wait([job.id], timeout=3.0)
        assert (done, [view.status for view in pending], unix_now()) == (
            [],
            ["running"],
            EPOCH + 3.0,
        )


# --- what is taken, and what is kept ------------------------------------------------------------


@virtual_time
async def test_a_thousand_submits_with_one_key_run_once() -> None:
    """Q1: two submits with one key ran twice or thrice in a quarter of the orders."""
    runner = new_runner()
    order = noting(runner)
    async with runner:
        jobs = await asyncio.gather(
            *[runner.submit("note", {"name": "x"}, idempotency_key="k") for _ in range(1_000)]
        )
        await runner.drain()
    assert (order, len({job.id for job in jobs})) == (["x"], 1)
    assert sum(job.outcome == "created" for job in jobs) == 1


@virtual_time
async def test_a_key_that_comes_again_with_another_request_is_refused() -> None:
    """The client has mixed up its keys; neither answer would be right."""
    async with new_runner() as runner:
        job = await runner.submit("slow", {"n": 1}, idempotency_key="k")
        with pytest.raises(IdempotencyKeyReused, match=f"for job {job.id}"):
            await runner.submit("slow", {"n": 2}, idempotency_key="k")


@virtual_time
async def test_a_key_is_free_when_its_job_is_forgotten() -> None:
    """The promise is kept for as long as the job is."""
    async with new_runner() as runner:
        first = await runner.submit("slow", idempotency_key="k")
        await first.wait()
        await runner.forget(first.id)
        second = await runner.submit("slow", idempotency_key="k")
        assert (second.outcome, second.id != first.id) == ("created", True)


@virtual_time
async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    """Q10: the caller hears of it, instead of the memory filling up."""
    runner = new_runner(workers=1, limits=Limits(max_pending=2))
    async with runner:
        jobs = [await runner.submit("slow")]
        await asyncio.sleep(1.0)
        jobs += [await runner.submit("slow"), await runner.submit("slow", delay=60.0)]
        with pytest.raises(
            QueueFull, match=r"^2 jobs wait already, 2 of them of type 'slow'; there is no room"
        ):
            await runner.submit("slow")
        await runner.drain()
    assert [job.status for job in jobs] == ["completed"] * 3


@virtual_time
async def test_session_and_metadata_stay_with_the_job() -> None:
    """Whoever lists a conversation's jobs finds them, and what was said about them."""
    async with new_runner() as runner:
        job = await runner.submit("slow", session_id="s1", metadata={"user": "u1"})
        await runner.submit("slow", session_id="s2")
        listed = (await runner.list(session_id="s1")).jobs
    assert [(view.job_id, view.session_id, view.metadata) for view in listed] == [
        (job.id, "s1", {"user": "u1"})
    ]


@virtual_time
async def test_a_pruned_job_is_gone_and_not_unknown() -> None:
    """A client that comes back late is told the truth."""
    runner = new_runner(retention=Retention(max_age=60.0, max_tombstones=1))
    async with runner:
        first, second = await runner.submit("slow"), await runner.submit("slow", delay=1.0)
        await runner.drain()
        await asyncio.sleep(61.0)
        with pytest.raises(JobGone, match=f"^job {second.id} has ended and is no longer kept$"):
            await runner.get(second.id)
        with pytest.raises(JobNotFound):  # even the memory of ids is bounded
            await runner.get(first.id)


@virtual_time
async def test_a_job_can_be_forgotten_when_it_has_ended() -> None:
    """A user may delete what a job said; its id answers "gone"."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        with pytest.raises(JobNotFinal):
            await runner.forget(job.id)
        await job.wait()
        await runner.forget(job.id)
        with pytest.raises(JobGone):
            await runner.get(job.id)


# --- cancel and retry ---------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 60.0])
@virtual_time
async def test_a_job_that_waits_is_cancelled_at_once(delay: float) -> None:
    """For a worker or for its time: nothing of it runs."""
    async with new_runner(workers=1) as runner:
        await runner.submit("slow")
        job = await runner.submit("slow", delay=delay)
        view = await runner.cancel(job.id, "not needed")
        again = await runner.cancel(job.id, "twice is the same as once")
        await runner.drain()
    assert view == again == job.view()
    assert (view.status, view.started_at, view.cancel_reason, view.cancel_note) == (
        "cancelled",
        None,
        "user",
        "not needed",
    )


@virtual_time
async def test_a_job_that_runs_is_cancelled_when_it_has_stopped() -> None:
    """The answer tells the truth: it still runs, and it was asked to stop."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        await asyncio.sleep(1.0)
        asked = await runner.cancel(job.id)
        ended = await job.wait()
    assert (asked.status, ended.status) == ("running", "cancelled")
    assert asked.cancel_requested_at == datetime.fromtimestamp(EPOCH + 1.0, UTC)


@virtual_time
async def test_a_job_that_waits_for_a_retry_is_cancelled_at_once() -> None:
    """Its last failure is kept with it."""
    runner = new_runner(retry=RetryPolicy(max_attempts=2, base=100.0))

    @runner.job
    async def flaky() -> None:
        raise ValueError("first")

    async with runner:
        job = await runner.submit(flaky)
        await asyncio.sleep(0.001)
        assert job.status == "retrying"
        view = await job.cancel()
        await runner.drain()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.title) == ("cancelled", 1, "first")


@virtual_time
async def test_a_note_is_cut() -> None:
    """Q10: whoever cancels can't fill the memory either."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        view = await runner.cancel(job.id, "x" * 5_000, reason="superseded")
    assert view.cancel_note is not None
    assert (len(view.cancel_note) < 1_100, view.cancel_reason) == (True, "superseded")


@virtual_time
async def test_a_job_that_has_ended_stays_as_it_is() -> None:
    """A cancel that comes too late is no error, and changes nothing."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        before = await job.wait()
        assert await runner.cancel(job.id) == before


@virtual_time
async def test_a_final_job_can_be_run_again() -> None:
    """It is a new job, of the same params and for the same session."""
    async with new_runner() as runner:
        job = await runner.submit(
            "slow", {"n": 7}, priority=3, timeout=50.0, session_id="s1", metadata={"a": 1}
        )
        await job.wait()
        again = await runner.retry(job.id)
        assert await again.result() == 7
        old, new = job.view(), again.view()
    kept = ("type", "params", "priority", "timeout", "session_id", "metadata", "result")
    assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert (new.retry_of, old.retry_of, new.job_id != old.job_id) == (job.id, None, True)


@virtual_time
async def test_a_job_without_session_is_run_again_without_one() -> None:
    """What wasn't given isn't made up."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        await job.wait()
        again = (await runner.retry(job.id)).view()
    assert (again.session_id, again.metadata) == (None, {})


@virtual_time
async def test_a_job_that_runs_is_not_run_again() -> None:
    """There would be two of it."""
    async with new_runner() as runner:
        job = await runner.submit("slow")
        with pytest.raises(JobNotFinal) as caught:
            await runner.retry(job.id)
    assert str(caught.value) == (f"job {job.id} is pending; it can be run again when it has ended")


@virtual_time
async def test_a_job_with_secrets_is_not_run_again() -> None:
    """Secrets are not kept, so running it again would send stars to somebody's API."""
    runner = new_runner()

    @runner.job
    async def login(password: SecretStr) -> str:
        return password.get_secret_value()

    async with runner:
        job = await runner.submit(login, {"password": "s3cret"})
        assert await job.result() == "s3cret"
        assert job.view().params == {"password": "**********"}
        with pytest.raises(JobNotRetryable, match="held secrets; submit it anew"):
            await runner.retry(job.id)


@virtual_time
async def test_a_seed_makes_ids_repeatable() -> None:
    """A test can compare whole outputs."""

    async def ids() -> list[str]:
        async with new_runner(seed=7) as runner:
            return [(await runner.submit("slow", delay=60.0)).id for _ in range(3)]

    assert await ids() == await ids()


@virtual_time
async def test_all_jobs_together_can_be_watched() -> None:
    """One reader sees statuses and ends of every job, until the runner stops."""
    runner = new_runner()
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for event in runner.events():
            seen.append((event.type, event.data["status"]))

    async with runner:
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        await (await runner.submit("slow")).wait()
    await watching
    assert seen == [("status", "pending"), ("status", "running"), ("done", "completed")]


def test_the_result_type_follows_the_function() -> None:
    """mypy reads this test: what a handler returns is what its handle gives."""
    runner = JobRunner()

    @runner.job
    async def text() -> str:
        return "x"

    @runner.job
    def number() -> int:
        return 1

    async def use() -> tuple[str, int]:
        async with runner:
            first: JobHandle[str] = await runner.submit(text)
            second: JobHandle[int] = await runner.submit(number)
            return await first.result(), await second.result()

    assert asyncio.run(use()) == ("x", 1)


@virtual_time
async def test_the_ways_a_job_can_end_are_told_apart() -> None:
    """A caller catches what it can deal with."""
    runner = new_runner()

    @runner.job
    async def fail() -> None:
        raise ValueError

    async with runner:
        failed, cancelled = await runner.submit(fail), await runner.submit("slow")
        await cancelled.cancel()
        with pytest.raises(JobFailed):
            await failed.result()
        with pytest.raises(JobCancelled):
            await cancelled.result()


async def test_no_task_is_left_when_the_runner_has_stopped() -> None:
    """Whatever it has begun ends with it."""
    runner = JobRunner(workers=3)

    @runner.job
    def in_thread() -> None: ...

    async with runner:
        await (await runner.submit(in_thread)).wait(timeout=5.0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("act", [JobRunner.pause, JobRunner.resume, lambda r: r.resize(2)])
async def test_a_thread_without_a_loop_is_told_so(act: Callable[[JobRunner], object]) -> None:
    """T15: from another thread these would change the queue under the loop's feet."""
    async with JobRunner() as runner:
        with pytest.raises(WrongLoop, match="the runner belongs to another event loop"):
            await asyncio.to_thread(act, runner)
