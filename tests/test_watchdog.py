"""The watchdog: what blocks the event loop is named, and what does not isn't."""

import asyncio
import gc
import math
import re
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jobrunner
from jobrunner.sight import Sight, uncollected
from jobrunner.watchdog import Blockage, Watchdog
from tests.watched import LIMIT, Watched, block, busy, never_noticed, recorded, turn, watched

HERE = __file__


def line_of(comment: str) -> int:
    """Return the number of the line that ends in a comment."""
    lines = Path(HERE).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


# What it costs


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't show a thread's time")
async def test_t9_a_busy_loop_lets_the_thread_look() -> None:
    """Else they fight for the interpreter through a tenth of a second, which costs 5 % of it."""
    with watched() as dog:
        dog.watchdog.watch()
        [thread] = [t for t in threading.enumerate() if t.name == "jobrunner watchdog"]
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        before = time.clock_gettime(clock)
        while time.clock_gettime(clock) == before:
            sum(range(2_000_000))  # keeps the interpreter for itself, past the thread's time
            dog.watchdog.watch()


# What is named


@pytest.mark.slow  # the hazard's own times
async def test_t9_a_blocking_handler_is_named_within_half_a_second() -> None:
    """The log says it while the loop can't: job, function, file, line, and for how long."""
    with watched(limit=0.25) as dog:

        async def handler() -> None:
            time.sleep(0.8)  # noqa: ASYNC251  # line of the handler

        began = time.monotonic()
        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [said - began < 0.5 for said in dog.records.times] == [True]
    name = "test_t9_a_blocking_handler_is_named_within_half_a_second.<locals>.handler"
    place = f"{name} ({HERE}:{line_of('line of the handler')})"
    pattern = rf"task job_1 blocks the event loop, for 0\.[234]\d s until now: {re.escape(place)}"
    assert re.fullmatch(pattern, dog.records.lines[0])
    assert dog.records.threads == ["jobrunner watchdog"]
    [report] = dog.reports
    assert report[1:4] == (name, HERE, line_of("line of the handler"))
    assert 0.6 < report.seconds < 1.0


async def test_t9_a_loop_that_computes_is_named() -> None:
    """Blocking is not only waiting: a loop over numbers stops every stream as well."""
    with watched() as dog:
        said = dog.said

        async def handler() -> None:
            while not said.is_set():
                pass

        task = asyncio.create_task(handler(), name="job_1")
        await task
        await turn()
    assert [(r.task, r.function.rpartition(".")[2], r.file) for r in dog.reports] == [
        (task, "handler", HERE)
    ]


@pytest.mark.slow  # a regular expression that takes its time
async def test_t9_code_that_lets_no_thread_run_is_named_afterwards() -> None:
    """A regular expression stops the watchdog's thread too: the most frequent of all culprits."""
    with watched() as dog:

        async def handler() -> None:
            re.match("(a+)+$", "a" * 23 + "b")  # line of the expression
            await asyncio.to_thread(dog.said.wait, 20)

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [(r.line, r.seconds > LIMIT) for r in dog.reports] == [
        (line_of("line of the expression"), True)
    ]


async def test_t9_a_task_of_a_handler_is_named_itself() -> None:
    """Which of a handler's tasks blocks can't be seen from the job's id."""
    with watched() as dog:

        async def handler() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(block(dog.said), name="the other")

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [r.task and r.task.get_name() for r in dog.reports] == ["the other"]
    assert dog.records.lines[0].startswith("task the other blocks the event loop, for ")


async def test_t9_a_callback_has_no_task() -> None:
    """What others put into the loop blocks as well, and belongs to no job."""
    with watched() as dog:
        asyncio.get_running_loop().call_soon(lambda: dog.said.wait(20))
        await turn()
        await turn()
    assert [(r.task, r.file) for r in dog.reports] == [(None, HERE)]
    assert dog.records.lines[0].startswith("a callback blocks the event loop, for ")


async def test_t9_a_callback_in_c_is_seen_too() -> None:
    """It has no frame of its own; the loop's own step stands for it."""
    with watched() as dog:
        lock = threading.Lock()
        lock.acquire()
        with ThreadPoolExecutor(1) as pool:

            def release() -> None:
                dog.said.wait(20)
                lock.release()

            pool.submit(release)
            asyncio.get_running_loop().call_soon(lock.acquire)
            await turn()
            await turn()
    assert [(r.task, r.function) for r in dog.reports] == [(None, "Handle._run")]


async def test_t9_the_innermost_line_of_the_user_is_the_place() -> None:
    """A line in the standard library is nobody's fault; it is said beside the one that called."""
    with watched() as dog:

        async def handler() -> None:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(dog.said.wait, 20).result()  # line of the pool

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [(r.file, r.line) for r in dog.reports] == [(HERE, line_of("line of the pool"))]
    assert re.search(r", in Condition\.wait \(.+threading\.py:\d+\)$", dog.records.lines[0])


async def test_t9_a_selector_of_the_handler_s_own_is_not_the_loop_s() -> None:
    """`subprocess.run` waits in a selector, as an idle loop does."""
    with watched() as dog:

        async def handler() -> None:
            with selectors.DefaultSelector() as own:
                while not dog.said.is_set():
                    own.select(0.05)

        await asyncio.create_task(handler(), name="job_1")
        await turn()
    assert [r.task and r.task.get_name() for r in dog.reports] == ["job_1"]


def library(path: str, source: str) -> Any:
    """Return `wait` of a module that stands where a library would."""
    names: dict[str, Any] = {}
    exec(compile(source, path, "exec"), names)
    return names["wait"]


@pytest.mark.parametrize("folder", ["/usr/lib/site-packages", str(Path(jobrunner.__file__).parent)])
async def test_t9_a_line_of_a_library_is_not_the_user_s(folder: str) -> None:
    """Which of the user's lines called the library is what helps."""
    wait = library(f"{folder}/wait.py", "def wait(said): said.wait(20)")
    with watched() as dog:

        async def handler() -> None:
            wait(dog.said)  # line of the library's call

        await asyncio.create_task(handler())
        await turn()
    assert [(r.file, r.line) for r in dog.reports] == [
        (HERE, line_of("line of the library's call"))
    ]


async def test_t9_a_library_alone_is_the_place() -> None:
    """A task that a library has started: its line says more than the standard library's."""
    file = f"{sysconfig.get_path('stdlib')}/site-packages/wait.py"
    wait = library(file, "async def wait(said): said.wait(20)")
    with watched() as dog:
        await asyncio.create_task(wait(dog.said))
        await turn()
    assert [(r.function, r.file, r.line) for r in dog.reports] == [("wait", file, 1)]


# What isn't


async def test_t9_many_short_callbacks_are_no_blockage() -> None:
    """Each turn of this loop takes longer than the limit, and nobody is to blame."""

    async def scene(_dog: Watched) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def step() -> None:
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass

        for _ in range(200):
            loop.call_soon(step)
        loop.call_soon(done.set_result, None)
        await done

    await never_noticed(scene)


async def test_t9_a_task_that_works_in_short_steps_is_no_blockage() -> None:
    """It is in the same task at each look, and yet everybody has a turn."""

    async def scene(_dog: Watched) -> None:
        await busy(0.2)

    await never_noticed(scene)


async def test_t9_nothing_is_said_while_it_rests() -> None:
    """The time before counts for nothing either when it watches again."""

    async def scene(dog: Watched) -> None:
        dog.watchdog.rest()
        await busy(2 * LIMIT)
        dog.watchdog.watch()
        await busy(LIMIT)

    await never_noticed(scene)


async def test_t9_another_loop_in_the_thread_is_not_its_business() -> None:
    """A loop that was left open by whoever came before must not be taken for one that blocks."""
    reports: list[Blockage] = []
    with recorded() as records:

        def other() -> None:
            first = asyncio.new_event_loop()
            watchdog = Watchdog(limit=LIMIT, report=reports.append)
            watchdog.open(first)
            watchdog.watch()

            async def blocks() -> None:
                threading.Event().wait(2 * LIMIT)

            asyncio.run(blocks())
            watchdog.close()
            first.close()

        await asyncio.to_thread(other)
    assert (reports, records.lines) == ([], [])


SUSPENDED = """
import asyncio, sys, time
from jobrunner.watchdog import Watchdog

async def handler(before):
    time.sleep(before)
    print("ready", flush=True)
    sys.stdin.readline()

async def main():
    watchdog = Watchdog(limit=1.0, report=lambda blockage: print(blockage))
    watchdog.open(asyncio.get_running_loop())
    watchdog.watch()
    await asyncio.create_task(handler(float(sys.argv[1])))
    await asyncio.sleep(0.3)

asyncio.run(main())
"""


@pytest.mark.slow  # a process of its own, that has to be asleep for longer than the limit
@pytest.mark.parametrize("before", ["0", "0.4"])
def test_t9_a_machine_that_was_asleep_is_no_blockage(before: str) -> None:
    """Nobody's code is at fault for a closed lid, whether it was seen before or not."""
    with subprocess.Popen(
        [sys.executable, "-c", SUSPENDED, before],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        assert process.communicate("\n")[0] == ""


@pytest.mark.slow  # burns a quarter of a second
@pytest.mark.parametrize(("turned", "blamed"), [("lately", False), ("never", True)])
async def test_t9_who_gets_no_time_to_look_blames_nobody_while_jobs_begin(
    turned: str, blamed: bool
) -> None:
    """On a busy machine the thread is late, which looks like code that lets no thread run."""
    sight, first, again = Sight(asyncio.get_running_loop()), threading.Event(), threading.Event()

    def look_twice() -> float:
        sight.look(0.001)
        first.set()
        again.wait(10.0)
        sight.look(0.001, time.monotonic() if turned == "lately" else -math.inf)
        return sight.seen

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look_twice)
        first.wait(10.0)
        await asyncio.sleep(0)  # another callback than the one that was seen
        burnt = time.thread_time() + 0.25
        while time.thread_time() < burnt:
            pass
        again.set()
        while not looking.done():
            pass
        assert (looking.result() > 0.2) is blamed


@pytest.mark.parametrize("wanted", [True, False])
def test_no_garbage_is_collected_while_another_thread_s_frames_are_walked(wanted: bool) -> None:
    """Python 3.11 crashes if it is, once in a million looks; who wants no collector gets none."""
    was = gc.isenabled()
    (gc.enable if wanted else gc.disable)()
    try:
        with uncollected():
            within = gc.isenabled()
        after = gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()
    assert (within, after) == (wanted and sys.version_info >= (3, 12), wanted)
