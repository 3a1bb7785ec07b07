"""Virtual time: what passes at once, what time stands still for, and what is refused."""

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest

from jobrunner import JobRunner
from jobrunner.testing import (
    EPOCH,
    Deadlock,
    VirtualLoop,
    VirtualTimeError,
    simulate,
    unix_now,
    virtual_time,
)


@virtual_time
async def test_hours_pass_in_the_order_of_their_timers() -> None:
    """A test that waits for real is a test that nobody runs."""
    woken: list[tuple[float, str]] = []

    async def sleep(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((asyncio.get_running_loop().time(), name))

    async with asyncio.TaskGroup() as group:
        for name, seconds in ("day", 86_400.0), ("hour", 3_600.0), ("second", 1.0):
            group.create_task(sleep(name, seconds))
    assert woken == [(1.0, "second"), (3_600.0, "hour"), (86_400.0, "day")]
    assert unix_now() == EPOCH + 86_400.0


@virtual_time
async def test_time_stands_still_while_a_thread_works() -> None:
    """A thread takes real time; if the clock jumped meanwhile, its job would time out."""
    runner, go = JobRunner(now=unix_now, timeout=1.0), threading.Event()

    @runner.job
    def work() -> str:
        go.wait()
        return "done"

    async with runner:
        job = await runner.submit(work)
        await asyncio.sleep(0)
        threading.Timer(0.01, go.set).start()
        assert await job.result() == "done"
        assert asyncio.get_running_loop().time() == 0.0


@virtual_time
async def test_time_passes_while_a_pool_s_threads_wait_for_work() -> None:
    """A pool keeps its threads for the next call; they would hold the clock for ever."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor() as pool:
        assert await loop.run_in_executor(pool, str, 1) == "1"
        assert await asyncio.to_thread(str, 2) == "2"
        await asyncio.sleep(10.0)
    assert loop.time() == 10.0


async def _to_thread() -> None:
    await asyncio.to_thread(_work)


async def _anyio() -> None:
    await anyio.to_thread.run_sync(_work)


async def _given(pool: ThreadPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(pool, _work)


def _work() -> None:
    sum(range(20_000))


@pytest.mark.parametrize("call", [_to_thread, _anyio, _given])
def test_time_stands_still_while_a_pool_s_thread_works_again(call: Any) -> None:
    """A thread that has just been given work looks for a moment as if it waited for some."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_work).result()  # its thread was there before the loop
        given = [pool] if call is _given else []

        async def main() -> float:
            for _ in range(20):
                async with asyncio.timeout(3_600.0):
                    await call(*given)
            return asyncio.get_running_loop().time()

        assert simulate(main) == 0.0


@virtual_time
async def test_calls_that_a_pool_drops_hold_no_clock() -> None:
    """Nobody will ever carry them out."""
    loop, go = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first, second, third = (loop.run_in_executor(pool, go.wait) for _ in range(3))
        second.cancel()
        await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        go.set()
        assert await first
        await asyncio.sleep(10.0)
    assert (second.cancelled(), third.cancelled(), loop.time()) == (True, True, 10.0)


def test_an_executor_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have no thread that could be named, and would be waited for in vain."""
    monkeypatch.setattr("jobrunner.testing.clock.PATIENCE", 0.02)

    class Silent(Executor):
        def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
            return Future()

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(Silent(), _work)

    with pytest.raises(VirtualTimeError, match=r"an executor still works after 0.02 s"):
        simulate(main)


def test_a_thread_that_goes_on_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock did then would be a guess, and the test's result with it."""
    monkeypatch.setattr("jobrunner.testing.clock.PATIENCE", 0.02)
    end = threading.Event()

    async def main() -> None:
        threading.Thread(target=end.wait, name="endless", daemon=True).start()
        await asyncio.sleep(1.0)

    with pytest.raises(VirtualTimeError, match=r"thread 'endless' still works after 0.02 s"):
        simulate(main)
    end.set()


def test_what_can_never_happen_is_a_deadlock() -> None:
    """A test that hangs says nothing; one that ends says where."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer is set"):
        simulate(main)


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _serve() -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def _spawn() -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-V", stdout=subprocess.DEVNULL)


async def _pipe() -> None:
    await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, sys.stdin)


@pytest.mark.parametrize(
    ("call", "what"),
    [(_connect, "sockets"), (_serve, "sockets"), (_spawn, "subprocesses"), (_pipe, "pipes")],
)
@pytest.mark.parametrize("caught", [False, True])
def test_what_virtual_time_has_not_is_an_error(call: Any, what: str, caught: bool) -> None:
    """A webhook that failed for want of sockets would look like a receiver that is down."""

    async def main() -> None:
        try:
            await call()
        except VirtualTimeError:
            if not caught:
                raise

    with pytest.raises(VirtualTimeError, match=f"there are no {what} in virtual time"):
        simulate(main)


def test_what_could_not_be_done_is_raised_once() -> None:
    """A loop may run several examples of a test, and only one of them did it."""
    loop = VirtualLoop()
    loop.refuse("sockets")
    with pytest.raises(VirtualTimeError):
        loop.check()
    loop.check()
    loop.close()


def test_a_command_is_an_error_in_virtual_time() -> None:
    """Its process would be real, and the limits around it not."""
    runner = JobRunner(now=unix_now)
    runner.command_job("ls", ["ls"])

    async def main() -> None:
        async with runner:
            await (await runner.submit("ls")).wait()

    with pytest.raises(VirtualTimeError):
        simulate(main)


def test_a_seed_shuffles_what_is_ready_and_repeats() -> None:
    """An order that is found once has to be found again."""

    def order(seed: int | None) -> list[int]:
        async def main() -> list[int]:
            found: list[int] = []
            for n in range(10):
                asyncio.get_running_loop().call_soon(found.append, n)
            await asyncio.sleep(1.0)
            return found

        return simulate(main, seed=seed)

    assert order(None) == list(range(10))
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


async def test_a_usual_loop_has_the_usual_time() -> None:
    """The same runner serves both kinds of tests."""
    assert abs(unix_now() - time.time()) < 60.0


def test_timers_are_what_is_set_to_happen() -> None:
    """Whoever wants to know whether anything is due can look."""
    loop = VirtualLoop()
    kept, dropped = loop.call_later(5.0, print), loop.call_later(6.0, print)
    dropped.cancel()
    assert loop.timers() == [kept]
    loop.close()


def test_time_does_not_pass_while_something_is_ready() -> None:
    """A thread may say something and end between two looks: what it said comes first."""
    loop = VirtualLoop()
    loop.call_soon_threadsafe(print)
    loop.pass_time(5.0)
    assert loop.time() == 0.0
    loop.pass_time(None)  # nor is it a deadlock
    loop.close()


@virtual_time
async def test_a_watchdog_holds_no_clock() -> None:
    """Its thread looks on for as long as jobs run, and is no part of them."""
    runner = JobRunner(now=unix_now, watchdog=0.25)

    @runner.job
    async def nap() -> None:
        await asyncio.sleep(300.0)

    async with runner:
        await (await runner.submit(nap)).wait()
    assert asyncio.get_running_loop().time() == 300.0
