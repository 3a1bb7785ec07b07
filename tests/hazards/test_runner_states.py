"""New, running, draining, stopped: each operation has an answer in each state (T16)."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobrunner import (
    BatchNotFound,
    DeliveryNotFound,
    InvalidOption,
    JobHandle,
    JobNotFound,
    JobRunner,
    JobStatus,
    NotWaitingForInput,
    QuestionNotFound,
    Retention,
    RunnerNotStarted,
    RunnerStopped,
    WrongLoop,
)
from jobrunner.tally import Tally
from jobrunner.testing import simulate, virtual_time
from tests.runners import new_runner

Operation = Callable[[JobRunner, str], Awaitable[Any]]


async def call(function: Callable[[], Any]) -> Any:
    return function()


async def enter(runner: JobRunner) -> None:
    async with runner:
        pass


async def another() -> None:
    """Be a job type that is registered late."""


async def live(runner: JobRunner) -> None:
    async with runner.lifespan():
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
    "deliveries": lambda runner, job_id: runner.deliveries(job_id),
    "resend": lambda runner, job_id: runner.resend(job_id, "msg_0"),
    "answer": lambda runner, job_id: runner.answer(job_id, "q1", True),
    "answer_by_token": lambda runner, _: runner.answer_by_token("token", True),
    "question_by_token": lambda runner, _: call(lambda: runner.question_by_token("token")),
    "pause": lambda runner, _: call(runner.pause),
    "resume": lambda runner, _: call(runner.resume),
    "resize": lambda runner, _: call(lambda: runner.resize(2)),
    "stats": lambda runner, _: call(runner.stats),
    "stop": lambda runner, _: runner.stop(),
    "enter": lambda runner, _: enter(runner),
    "lifespan": lambda runner, _: live(runner),
    "events": lambda runner, _: call(runner.events),
    "feed": lambda runner, _: call(runner.feed),
    "tally": lambda runner, _: call(runner.tally),
    "add_witness": lambda runner, _: call(lambda: runner.add_witness(Tally())),
    "submit_batch": lambda runner, _: runner.submit_batch("slow", [{}]),
    "batch": lambda runner, _: call(lambda: runner.batch("batch_0")),
    "batch_record": lambda runner, _: call(lambda: runner.batch_record("batch_0")),
    "cancel_batch": lambda runner, _: runner.cancel_batch("batch_0"),
    "poll_batch_after": lambda runner, _: call(lambda: runner.poll_batch_after("batch_0")),
    "page": lambda runner, _: call(runner.page),
    "record": lambda runner, job_id: call(lambda: runner.record(job_id)),
    "owner_of": lambda runner, job_id: call(lambda: runner.owner_of(job_id)),
    "room": lambda runner, _: call(lambda: runner.room("slow")),
    "poll_after": lambda runner, job_id: call(lambda: runner.poll_after(job_id)),
    "retry_failed": lambda runner, _: runner.retry_failed(),
    "check_loop": lambda runner, _: call(runner.check_loop),
    "job": lambda runner, _: call(lambda: runner.job(another)),
    "command_job": lambda runner, _: call(lambda: runner.command_job("say", "echo {{word}}")),
    "job_types": lambda runner, _: call(lambda: runner.job_types),
    "toolbox": lambda runner, _: call(runner.toolbox),
    "tools": lambda runner, _: call(runner.tools),
    "execute_tool": lambda runner, _: runner.execute_tool("slow_background"),
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
    "deliveries": (JobNotFound, None, None, None),
    "resend": (RunnerNotStarted, DeliveryNotFound, RunnerStopped, RunnerStopped),
    "answer": (JobNotFound, NotWaitingForInput, NotWaitingForInput, NotWaitingForInput),
    "answer_by_token": (QuestionNotFound,) * 4,
    "question_by_token": (QuestionNotFound,) * 4,
    "pause": (None, None, None, None),
    "resume": (None, None, None, None),
    "resize": (None, None, None, None),
    "stats": (None, None, None, None),
    "stop": (None, None, None, None),
    "enter": (None, InvalidOption, InvalidOption, None),
    "lifespan": (None, InvalidOption, InvalidOption, None),
    "events": (None, None, None, None),
    "feed": (None, None, None, RunnerStopped),
    "tally": (None, None, None, None),
    "add_witness": (None, None, None, None),
    "submit_batch": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "batch": (BatchNotFound,) * 4,
    "batch_record": (BatchNotFound,) * 4,
    "cancel_batch": (BatchNotFound,) * 4,
    "poll_batch_after": (BatchNotFound,) * 4,
    "page": (None, None, None, None),
    "record": (JobNotFound, None, None, None),
    "owner_of": (None, None, None, None),
    "room": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "poll_after": (JobNotFound, None, None, None),
    "retry_failed": (RunnerNotStarted, None, RunnerStopped, RunnerStopped),
    "check_loop": (None, None, None, None),
    "job": (None, None, None, None),
    "command_job": (None, None, None, None),
    "job_types": (None, None, None, None),
    "toolbox": (None, None, None, None),
    "tools": (None, None, None, None),
    "execute_tool": (None, None, None, None),
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


def test_t16_the_table_has_every_operation() -> None:
    """One that is added needs an answer in each state too."""
    public = {name for name in dir(JobRunner) if not name.startswith("_")}
    assert public | {"enter"} == OPERATIONS.keys() == ANSWERS.keys()


@pytest.mark.parametrize("state", ["new", "running", "draining", "stopped"])
@pytest.mark.parametrize("operation", OPERATIONS)
@virtual_time
async def test_t16_every_operation_has_an_answer_in_every_state(operation: str, state: str) -> None:
    """Never started, stopping, stopped: each says what it can do and what it can't."""
    expected = ANSWERS[operation][("new", "running", "draining", "stopped").index(state)]

    async def use(runner: JobRunner, job_id: str) -> Any:
        assert runner.stats().state == state
        return await OPERATIONS[operation](runner, job_id)

    if expected is None:
        await in_state(state, use)
    else:
        with pytest.raises(expected):
            await in_state(state, use)


@virtual_time
async def test_t16_a_stopped_runner_names_its_state() -> None:
    """Whoever submits while the app shuts down gets a reason."""
    runner = new_runner()
    async with runner:
        pass
    with pytest.raises(RunnerStopped, match=r"^the runner is stopped and takes no more jobs$"):
        await runner.submit("slow")


@virtual_time
async def test_t16_a_running_runner_can_not_be_entered_again() -> None:
    """Two pools on one queue would be two runners in one."""
    async with new_runner() as runner:
        with pytest.raises(InvalidOption) as caught:
            await enter(runner)
    assert str(caught.value) == ("the runner is running; enter it again when it has stopped")


@virtual_time
async def test_t16_a_stopped_runner_can_be_started_again() -> None:
    """What it kept is still there, and new jobs run."""
    runner = new_runner()
    async with runner:
        first = await runner.submit("slow", {"n": 1})
        await first.wait()
    async with runner:
        second = await runner.submit("slow", {"n": 2})
        assert await second.result() == 2
        listed = [view.job_id for view in (await runner.list()).jobs]
    assert listed == [second.id, first.id]


def test_t16_a_runner_works_in_one_event_loop_after_the_other() -> None:
    """A test suite has a loop for each test, and a module-level runner."""
    runner = new_runner(retention=Retention(max_age=100.0))

    async def use(n: int) -> Any:
        async with runner:
            return await (await runner.submit("slow", {"n": n})).result()

    assert [simulate(lambda n=n: use(n)) for n in (1, 2, 3)] == [1, 2, 3]  # type: ignore[misc]  # bound
    assert runner.stats().jobs[JobStatus.COMPLETED] == 3


READS = {
    "get", "handle", "list", "page", "record", "owner_of", "poll_after", "stats", "job",
    "deliveries", "batch", "batch_record", "poll_batch_after",
    "command_job", "job_types", "submit_threadsafe", "toolbox", "tools",
    "execute_tool",  # it refuses in words, to a model
    "tally", "add_witness",  # for whoever sets a runner up, before it has a loop
}  # fmt: skip
TOUCHING = sorted(OPERATIONS.keys() - READS - {"enter", "lifespan"})


async def from_elsewhere(use: Callable[[JobRunner, JobHandle[Any]], Awaitable[Any]]) -> None:
    """Use a running runner from an event loop of another thread; it has to refuse."""

    async def foreign() -> None:
        with pytest.raises(WrongLoop, match="from another thread use submit_threadsafe"):
            await use(runner, job)

    runner = JobRunner(shutdown_timeout=0.0)
    running = asyncio.Event()

    @runner.job("slow")
    async def wait() -> None:
        running.set()
        await asyncio.Event().wait()

    async with runner:
        job = await runner.submit(wait)
        await running.wait()
        await asyncio.to_thread(lambda: asyncio.run(foreign()))
        assert (runner.stats().state, runner.stats().busy, job.status) == ("running", 1, "running")


@pytest.mark.parametrize("operation", TOUCHING)
async def test_t15_another_event_loop_is_refused(operation: str) -> None:
    """A call from a foreign loop would corrupt the state, or wake seconds late."""
    await from_elsewhere(lambda runner, job: OPERATIONS[operation](runner, job.id))


async def first_event(job: JobHandle[Any]) -> Any:
    return await anext(job.events())


@pytest.mark.parametrize("use", [JobHandle.wait, JobHandle.result, JobHandle.cancel, first_event])
async def test_t15_a_handle_is_refused_in_another_event_loop(
    use: Callable[[JobHandle[Any]], Awaitable[Any]],
) -> None:
    """It would wait for what nobody can wake there."""
    await from_elsewhere(lambda runner, job: use(job))


NEVER_LEFT = """
import asyncio
import contextlib
from jobrunner import JobRunner

runner = JobRunner(shutdown_timeout=0.0, cancel_grace=0.0)

async def enter():
    await runner.__aenter__()

async def stop():
    with contextlib.suppress(RuntimeError):  # its workers can't be ended: their loop is closed
        await runner.stop()
    async with runner:
        print(runner.stats().state)

asyncio.run(enter())
print(runner.stats().state)
asyncio.run(stop())
print(runner.stats().state)
"""


@pytest.mark.slow  # starts an interpreter, since what was never left complains when it is collected
def test_t16_a_runner_whose_loop_is_gone_can_be_entered_again() -> None:
    """A test that was torn down before it left the runner must not block all that come after."""
    done = subprocess.run([sys.executable, "-c", NEVER_LEFT], capture_output=True, timeout=60.0)
    assert done.stdout.decode().split() == ["running", "running", "stopped"]
