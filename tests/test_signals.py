"""SIGTERM and SIGINT stop the runner beside whatever else they do, and nothing of it stays."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobrunner import JobContext, JobHandle, JobRunner
from jobrunner.output import StreamName
from jobrunner.signals import ECHO, LAST_BYTES, ending_on_signals
from tests.processes import ends
from tests.serving import GONE_ON, Heard, signals_heard

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def server() -> Iterator[Heard]:
    """A handler for both signals."""
    with signals_heard() as heard:
        yield heard


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in BOTH]


async def held(runner: JobRunner) -> JobHandle[None]:
    """Return a job that runs until it is stopped."""
    reached = asyncio.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.Event().wait()

    runner.job(hold)
    job = await runner.submit(hold)
    await reached.wait()
    return job


def reason(job: JobHandle[None]) -> str:
    error = job.view().error
    assert error is not None
    return error.reason


async def ended(*jobs: JobHandle[None]) -> list[str]:
    """Return why each job failed, which it does in time."""
    async with asyncio.timeout(GONE_ON):
        for job in jobs:
            await job.wait()
    return [reason(job) for job in jobs]


@pytest.mark.parametrize("number", BOTH)
async def test_s1_a_signal_stops_the_runner_and_is_passed_on(server: Heard, number: int) -> None:
    """The server waits for streams, and they for their jobs: somebody has to end those first."""
    runner = JobRunner(shutdown_timeout=0.0)
    with ending_on_signals(runner):
        async with runner:
            job = await held(runner)
            signal.raise_signal(number)
            assert server.numbers == [number]
            assert await ended(job) == ["shutdown"]


async def test_s1_a_signal_lets_running_jobs_the_time_that_they_have(server: Heard) -> None:
    """The first one is a request: what ends within `shutdown_timeout` is completed."""
    runner, go = JobRunner(shutdown_timeout=GONE_ON), asyncio.Event()

    @runner.job
    async def wait() -> str:
        await go.wait()
        return "done"

    with ending_on_signals(runner):
        async with runner:
            job = await runner.submit(wait)
            await asyncio.sleep(0)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert runner.stats().state == "draining"
            go.set()
            assert await job.result() == "done"


@pytest.mark.parametrize("first", BOTH)
async def test_s1_ctrl_c_after_a_signal_makes_it_hurry(server: Heard, first: int) -> None:
    """The server isn't told yet: it would break each stream before its end is sent."""
    runner = JobRunner(shutdown_timeout=GONE_ON)
    with ending_on_signals(runner):
        async with runner:
            job = await held(runner)
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGINT)
            async with asyncio.timeout(GONE_ON / 2):
                assert await ended(job) == ["shutdown"]
    assert server.numbers == [first]


async def test_s1_ctrl_c_after_a_signal_kills_commands_in_the_handler(server: Heard) -> None:
    """The loop may be busy for ever, and what ends the process then leaves no time to it."""
    runner, pids = JobRunner(shutdown_timeout=GONE_ON), asyncio.Queue[int]()

    @runner.job
    async def tree(ctx: JobContext) -> None:
        command = "trap '' TERM; sleep 100 & echo $$ $!; sleep 100"
        await ctx.run_command(["sh", "-c", command], on_line=said)

    def said(_: StreamName, line: str) -> None:
        for pid in line.split():
            pids.put_nowait(int(pid))

    with ending_on_signals(runner):
        async with runner:
            await runner.submit(tree)
            leader, child = await pids.get(), await pids.get()
            signal.raise_signal(signal.SIGTERM)
            assert not ends(child, within=0.0)
            signal.raise_signal(signal.SIGINT)
            assert ends(leader) and ends(child)


class Noted:
    """Something that can be stopped, and notes how it was."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    async def stop(self, *, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)


class Ahead(asyncio.SelectorEventLoop):
    """A loop whose clock can be set."""

    by = 0.0

    def time(self) -> float:
        return super().time() + self.by


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize(("later", "hurries"), [(0.0, False), (ECHO + 0.1, True)])
def test_s1_another_sigterm_hurries_unless_it_is_an_echo(
    server: Heard, first: int, later: float, hurries: bool
) -> None:
    """A supervisor passes on what the group was sent already; that isn't impatience."""

    noted = Noted()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Ahead)
        with ending_on_signals(noted):
            signal.raise_signal(first)
            loop.by = later
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=Ahead) as loop:
        loop.run(scenario())
    assert noted.timeouts == ([None, 0.0] if hurries else [None])
    assert server.numbers == [first, signal.SIGTERM][: 1 if hurries else 2]


@pytest.mark.parametrize("left", [False, True])
def test_s1_the_second_signal_is_passed_on_when_the_last_bytes_had_their_time(
    server: Heard, left: bool
) -> None:
    """A dead reader can't hold uvicorn for ever; and where all has ended, nobody need be told."""

    async def scenario() -> None:
        runner, loop = JobRunner(shutdown_timeout=GONE_ON), asyncio.get_running_loop()
        assert isinstance(loop, Ahead)
        with ExitStack() as lifespan:
            lifespan.enter_context(ending_on_signals(runner))
            await hurried(runner)
            if left:
                lifespan.close()
            assert server.numbers == [signal.SIGTERM]
            loop.by = LAST_BYTES
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def hurried(runner: JobRunner) -> None:
        async with runner:
            job = await held(runner)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            await ended(job)
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    with asyncio.Runner(loop_factory=Ahead) as loop:
        loop.run(scenario())
    assert server.numbers == [signal.SIGTERM] + [signal.SIGINT] * (not left)


async def test_s1_a_third_signal_is_passed_on_at_once(server: Heard) -> None:
    """Whoever presses Ctrl-C again has waited enough, whatever the loop is busy with."""
    with ending_on_signals(JobRunner()):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert server.numbers == [signal.SIGINT] * 2


async def test_s1_two_runners_hurry_at_once(server: Heard) -> None:
    """The signal goes through all of them; only the server's turn comes later."""
    runners = [Noted(), Noted()]
    with ending_on_signals(runners[0]), ending_on_signals(runners[1]):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [noted.timeouts for noted in runners] == [[None, 0.0]] * 2
    assert server.numbers == [signal.SIGINT]


async def test_s1_a_signal_before_the_start_has_ended_stops_what_is_started(server: Heard) -> None:
    """A deploy that is taken back at once must not leave a runner that never heard of it."""
    runner = JobRunner(shutdown_timeout=0.0)
    with ending_on_signals(runner):
        signal.raise_signal(signal.SIGTERM)
        async with runner:
            assert await ended(await held(runner)) == ["shutdown"]


async def test_s1_signals_are_heard_while_a_lifespan_ends(server: Heard) -> None:
    """With no stream to wait for, uvicorn is there at once; the jobs may have minutes still."""
    runner = JobRunner(shutdown_timeout=GONE_ON)

    async def press_twice() -> None:
        assert runner.stats().state == "draining"
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    async with asyncio.timeout(GONE_ON / 2):
        async with runner.lifespan():
            job = await held(runner)
            pressing = asyncio.create_task(press_twice())
        await pressing
    assert reason(job) == "shutdown"
    assert handlers() == [server] * 2


async def test_s1_one_signal_stops_all_runners(server: Heard) -> None:
    """Two in one process, one lifespan within the other: each is told, and the server once."""
    runners = [JobRunner(shutdown_timeout=0.0) for _ in range(2)]
    with ending_on_signals(runners[0]), ending_on_signals(runners[1]):
        async with runners[0], runners[1]:
            jobs = [await held(runner) for runner in runners]
            signal.raise_signal(signal.SIGTERM)
            assert await ended(*jobs) == ["shutdown"] * 2
    assert server.numbers == [signal.SIGTERM]


async def test_s1_a_runner_that_has_stopped_stays_as_it_is(server: Heard) -> None:
    """The lifespan goes on for what the server still does; a signal then ends nothing twice."""
    runner = JobRunner()
    with ending_on_signals(runner):
        async with runner:
            pass
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert runner.stats().state == "stopped"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_s1_a_handler_of_the_loop_is_still_called() -> None:
    """gunicorn's workers install theirs with `add_signal_handler`, and hypercorn that has none."""
    runner, called = JobRunner(shutdown_timeout=0.0), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, called.set)
    try:
        with ending_on_signals(runner):
            async with runner:
                job = await held(runner)
                signal.raise_signal(signal.SIGTERM)
                async with asyncio.timeout(GONE_ON):
                    await called.wait()
                assert await ended(job) == ["shutdown"]
            called.clear()
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(GONE_ON):
            await called.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_s1_ctrl_c_still_raises_where_it_did() -> None:
    """In a plain program the signal is an exception, and the runner's end comes with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ending_on_signals(JobRunner()):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("default", [signal.SIG_DFL, signal.SIG_IGN])
async def test_what_nobody_handles_stays_so(default: signal.Handlers) -> None:
    """`nohup` and the shell's `&` have their reasons, and death by SIGTERM is a way out."""
    before = {number: signal.signal(number, default) for number in BOTH}
    try:
        with ending_on_signals(JobRunner()):
            assert handlers() == [default] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def test_the_handlers_are_as_before_when_it_is_left(server: Heard) -> None:
    """A test suite enters hundreds of lifespans; none may stay in the chain."""
    with pytest.raises(ZeroDivisionError), ending_on_signals(JobRunner()):
        assert server not in handlers()
        with ending_on_signals(JobRunner()):
            pass
        raise ZeroDivisionError
    assert handlers() == [server] * 2


async def test_the_handlers_are_as_before_when_two_are_left_in_another_order(server: Heard) -> None:
    """Two servers in one loop end when they like."""
    first, second = ending_on_signals(JobRunner()), ending_on_signals(JobRunner())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    second.__exit__(None, None, None)
    assert (handlers(), server.numbers) == ([server] * 2, [signal.SIGTERM])


async def test_a_handler_that_came_later_is_not_taken_away(server: Heard) -> None:
    """It may call ours, too, after we have left: then only what was there before is called."""
    later, runner = Heard(), JobRunner(shutdown_timeout=0.0)
    async with runner:
        with ending_on_signals(runner):
            ours = signal.signal(signal.SIGTERM, later)
        assert signal.getsignal(signal.SIGTERM) is later
        assert callable(ours)
        ours(signal.SIGTERM, None)
        await asyncio.sleep(0)
        assert runner.stats().state == "running"
    assert server.numbers == [signal.SIGTERM]


def test_a_loop_that_was_left_behind_is_not_called(server: Heard) -> None:
    """Whoever drops a lifespan without ending it can still be stopped."""

    async def enter() -> object:
        ending = ending_on_signals(JobRunner())
        ending.__enter__()
        return ending

    ending = asyncio.run(enter())
    signal.raise_signal(signal.SIGTERM)
    assert (ending is not None, server.numbers) == (True, [signal.SIGTERM])


async def test_another_thread_installs_nothing(server: Heard) -> None:
    """Signals belong to the main thread; a TestClient runs the lifespan in another one."""

    async def seen() -> list[object]:
        with ending_on_signals(JobRunner()):
            return handlers()

    assert await asyncio.to_thread(asyncio.run, seen()) == [server] * 2
