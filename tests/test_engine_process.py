"""Handlers in child processes: what crosses, what a death says, and that nothing is left."""

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from jobrunner import (
    InvalidHandler,
    InvalidResult,
    JobContext,
    JobRunner,
    PayloadTooLarge,
    PermanentError,
    RetryableError,
    RetryPolicy,
)
from jobrunner.context import Desk
from jobrunner.engines.process import ProcessEngine, check_importable
from jobrunner.errors import ProcessDied
from jobrunner.jobs import Job, JobError
from jobrunner.results import Refused
from jobrunner.signatures import make_handler
from tests import process_handlers as handlers
from tests import processes
from tests.records import make_job

one_loop = pytest.mark.asyncio(loop_scope="module")
"""An engine belongs to a loop, and its children are started once for all tests."""


class Run:
    """One run of a handler by an engine, with what it said."""

    def __init__(
        self, engine: ProcessEngine, function: Callable[..., Any], /, params: Any = None, **job: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.said: asyncio.Queue[str] = asyncio.Queue()
        handler = make_handler(function)
        arguments, raw = handler.validate(params or {})
        self.job: Job = make_job(
            **{"type": handler.name, "params": raw, "arguments": arguments, "attempt": 1} | job
        )
        self.extended: list[float] = []
        desk = Desk(loop, record=self._record, extend=lambda _, more: self.extended.append(more))
        context = JobContext(self.job, desk)
        self.task = loop.create_task(self._guarded(engine.run(handler, context, arguments)))

    async def _guarded(self, running: Awaitable[Any]) -> tuple[Any, BaseException | None]:
        """Let nothing out of the task, as the worker does (T1)."""
        try:
            return await running, None
        except BaseException as error:
            return None, error

    def _record(self, job: Job, kind: str, data: Mapping[str, Any]) -> None:
        self.events.append((kind, data))
        if kind == "output":
            self.said.put_nowait(data["text"])

    async def ended(self) -> Any:
        """Return what the run returned, or raise what it raised."""
        done, _ = await asyncio.wait([self.task], timeout=60.0)
        assert done, "the run doesn't end"
        value, error = self.task.result()
        if error is not None:
            raise error
        return value

    async def refused(self) -> BaseException:
        """Return why what the handler returned can't be a result."""
        value = await self.ended()
        assert type(value) is Refused
        return value.error

    async def failed(self) -> BaseException:
        """Return what the run raised."""
        try:
            value = await self.ended()
        except BaseException as error:  # of every kind
            return error
        raise AssertionError(f"it returned {value!r}")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine() -> AsyncIterator[ProcessEngine]:
    """An engine with a warm child, for all tests that leave one behind."""
    shared = ProcessEngine(max_idle=1)
    await Run(shared, handlers.pid).ended()
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[ProcessEngine]:
    """An engine of the test's own, cold."""
    engine = ProcessEngine()
    yield engine
    await engine.close()


async def ended(pid: int) -> bool:
    """Return whether a process ends soon; the engine may have to see to it yet."""
    return await asyncio.to_thread(processes.ends, pid)


# Handlers


@one_loop
@pytest.mark.parametrize(
    ("function", "params", "value"),
    [
        (handlers.add, {"a": 1}, 3),
        (handlers.add, {"a": "1", "b": 5}, 6),
        (handlers.add_in_loop, {"a": 1, "b": 2}, 3),
        (handlers.think, {}, None),
        (handlers.Methods.static, {}, "static"),
        (handlers.Methods.of_class, {}, "Methods"),
        (handlers.registered[0], {}, "below"),
        (handlers.use_thread, {}, int),
    ],
    ids=["def", "texts", "async def", "generator", "static", "class", "decorated", "executor"],
)
async def test_a_handler_of_each_kind_runs(
    engine: ProcessEngine, function: Callable[..., Any], params: Any, value: Any
) -> None:
    """What may be a handler may be one in a process, if it has a name to be found by."""
    result = await Run(engine, function, params).ended()
    assert result == value or (type(result), value) == (int, int)


@one_loop
async def test_a_handler_runs_in_a_session_of_its_own(engine: ProcessEngine) -> None:
    """Its group can be killed without killing ours."""
    where = await Run(engine, handlers.where).ended()
    assert where["pid"] != os.getpid()
    assert where == dict.fromkeys(("pid", "group", "session"), where["pid"])


@one_loop
async def test_what_a_generator_yields_is_emitted(engine: ProcessEngine) -> None:
    """It streams from a process as it does from the loop."""
    run = Run(engine, handlers.think)
    await run.ended()
    assert [data["text"] for _, data in run.events] == ["one ", '{"two":2}']


def local_handler() -> Callable[[], None]:
    def nested() -> None: ...

    return nested


class Callee:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "is made inside of another function, or is a lambda"),
        (local_handler(), "is made inside of another function"),
        (partial(handlers.add, b=1), "has no name"),
        (handlers.Methods().of_object, "is a method of an object"),
        (Callee(), "has no name"),
    ],
    ids=["lambda", "nested", "partial", "method", "object"],
)
def test_a_handler_that_can_not_be_imported_is_refused(
    function: Callable[..., Any], reason: str
) -> None:
    """The mistake shows at the decorator, with the way out, and not as an import error later."""
    with pytest.raises(InvalidHandler) as caught:
        check_importable(function)
    assert reason in str(caught.value)
    assert "write it as a function at the top level of a module" in str(caught.value)


@pytest.mark.parametrize(
    "function", [handlers.add, handlers.Methods.static, handlers.Methods.of_class]
)
def test_a_handler_that_can_be_imported_is_taken(function: Callable[..., Any]) -> None:
    """Whatever stands in a module under its own name can be found there."""
    check_importable(function)


@one_loop
async def test_a_handler_that_was_replaced_in_its_module_is_refused(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child would run something else than what was registered."""
    original = handlers.add
    monkeypatch.setattr(handlers, "add", handlers.pid)
    error = await Run(engine, original, {"a": 1}).failed()
    assert isinstance(error, InvalidHandler)
    assert "is not what tests.process_handlers has under that name" in str(error)


# Params and results


@one_loop
async def test_secrets_arrive_unmasked(engine: ProcessEngine) -> None:
    """Kept params are masked; the handler needs what is behind the mask, however deep it is."""
    login = {"user": "u", "pass": "p", "keys": {1: "k"}, "since": "2024-01-02"}
    run = Run(engine, handlers.secrets, {"token": "t", "login": login, "more": ["a", "b"]})
    assert b'"t"' not in run.job.params
    assert await run.ended() == {
        "token": "t", "password": "p", "keys": {"1": "k"}, "since": "2024-01-02", "more": ["a", "b"]
    }  # fmt: skip


@one_loop
async def test_what_is_masked_for_its_name_arrives_unmasked(engine: ProcessEngine) -> None:
    """A secret of any type, and with secrets in it."""
    login = {"user": "u", "pass": "p"}
    params = {"token": "**********", "credentials": login, "api_keys": ["a", "b"]}
    run = Run(engine, handlers.named_secrets, params)
    assert run.job.params == (
        b'{"token":"**********","credentials":"**********","api_keys":"**********"}'
    )
    assert await run.ended() == ["**********", "p", ["a", "b"]]


@one_loop
async def test_params_arrive_as_they_are_annotated(engine: ProcessEngine) -> None:
    """A handler is written once, wherever it runs."""
    params = {
        "day": "2024-01-02",
        "path": "/tmp",
        "tags": ["a", "b", "a"],
        "ratio": float("inf"),
        "login": {"user": "u", "pass": SecretStr("p")},
    }
    told = await Run(engine, handlers.typed, params).ended()
    seen = "(datetime.date(2024, 1, 2), PosixPath('/tmp'), ['a', 'b'], inf, 'Credentials')"
    assert told == seen


@one_loop
async def test_a_number_that_json_has_not_arrives_as_one(engine: ProcessEngine) -> None:
    """It is kept as text, which nothing tells from a text where anything may be given."""
    assert await Run(engine, handlers.echo, {"value": math.inf}).ended() is None  # as JSON has it
    assert await Run(engine, handlers.echo, {"value": "Infinity"}).ended() == "Infinity"


@one_loop
@pytest.mark.parametrize(
    "value",
    [None, 1.5, "ü\u2028\0", [{"a": [None]}], 10**30, "x" * 200_000],
    ids=["null", "float", "text", "nested", "large number", "long text"],
)
async def test_values_come_back(engine: ProcessEngine, value: Any) -> None:
    """Whatever JSON can hold crosses twice and is the same."""
    assert await Run(engine, handlers.echo, {"value": value}).ended() == value


@one_loop
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("object", "result['a'][1] (Thing) can't be JSON"),
        ("number", "result['n'] (int) can't be JSON"),
        ("lambda", "result (function) can't be JSON"),
    ],
)
async def test_q9_a_result_that_can_not_be_json_says_where(
    engine: ProcessEngine, kind: str, message: str
) -> None:
    """The child knows the value; only the text of what is wrong with it crosses."""
    error = await Run(engine, handlers.return_bad, {"kind": kind}).refused()
    assert isinstance(error, InvalidResult)
    assert str(error).startswith(message)


@one_loop
@pytest.mark.slow
async def test_q10_a_result_over_what_may_cross_fails() -> None:
    """The server's memory holds no more of it than it was made for (slow: starts a child)."""
    engine = ProcessEngine(max_result=2_000)
    try:
        error = await Run(engine, handlers.return_bad, {"kind": "large"}).refused()
    finally:
        await engine.close()
    assert isinstance(error, PayloadTooLarge)
    assert str(error) == "the result is 3002 bytes of JSON; the limit is 2000"


# The context


@one_loop
async def test_the_context_knows_the_job(engine: ProcessEngine) -> None:
    """A handler reads there what it reads here."""
    run = Run(
        engine, handlers.about, attempt=2, max_attempts=3, session_id="s", metadata={"user": "ü"}
    )
    assert await run.ended() == [run.job.id, "about", 2, 3, "s", {"user": "ü"}, False]


@one_loop
async def test_what_a_handler_says_is_said_here(engine: ProcessEngine) -> None:
    """Whole values, in order, and a long line is cut once."""
    run = Run(engine, handlers.say_all)
    await run.ended()
    first = {"current": 1, "total": 4}
    cut = "x" * 8_192 + "\n... 83616 characters left out ...\n" + "x" * 8_192
    assert run.events == [
        ("progress", {"progress": 1, "progress_message": "begun", "step": None}),
        ("progress", {"progress": 25, "progress_message": "first", "step": first}),
        ("progress", {"progress": 30, "progress_message": "first", "step": first}),
        ("progress", {"progress": 25, "progress_message": "first", "step": first}),
        ("log", {"text": "opened", "fields": {"path": "a", "message": "field"}}),
        ("log", {"text": cut, "fields": {}}),
        ("output", {"stream": "text", "text": "y" * 16_384}),
        ("output", {"stream": "text", "text": "y"}),
        ("output", {"stream": "steps", "text": '{"n":1}', "json": True}),
    ]
    assert (run.job.progress, run.job.progress_message, run.job.step) == (25, "first", (1, 4))
    assert run.extended == [60]


@one_loop
async def test_a_command_of_a_child_streams_its_output(engine: ProcessEngine) -> None:
    """`run_command` is the same in a process."""
    run = Run(engine, handlers.command)
    assert await run.ended() == "out\n"
    said = sorted((data["stream"], data["text"]) for _, data in run.events)
    assert said == [("stderr", "err\n"), ("stdout", "out\n")]


@one_loop
@pytest.mark.slow
async def test_q10_a_flood_waits_in_the_pipe(engine: ProcessEngine) -> None:
    """10 MB of events lose nothing, come a few at a time, and never fill us (slow: 10,000)."""
    numbers, most = [], 0
    tracemalloc.start()
    try:
        run = Run(engine, handlers.flood, {"count": 10_000})
        while not run.task.done():
            await asyncio.sleep(0)
            most = max(most, len(run.events))
            numbers += [int(data["text"].split()[0]) for _, data in run.events]
            run.events.clear()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await run.ended()
    assert numbers == list(range(10_000))
    assert most <= 100
    assert peak < 3_000_000


@one_loop
async def test_threads_of_a_child_lose_nothing(engine: ProcessEngine) -> None:
    """T11: calls from threads go through the child's loop, bounded, and then through the pipe."""
    run = Run(engine, handlers.flood_from_threads, {"count": 300})
    await run.ended()
    assert len(run.events) == 1_200


# Errors


async def raised(engine: ProcessEngine, kind: str, *, in_loop: bool = False) -> BaseException:
    function = handlers.fail_in_loop if in_loop else handlers.fail
    return await Run(engine, function, {"kind": kind}).failed()


@one_loop
@pytest.mark.parametrize("in_loop", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize(
    ("kind", "name", "message", "known"),
    [
        ("value", "ValueError", "bad value", ValueError),
        ("key", "KeyError", "'missing'", KeyError),
        ("oops", "Oops", "well", handlers.Oops),
        ("lost", "LostConnection", "no db:5432", handlers.LostConnection),
        ("lost", "LostConnection", "no db:5432", ConnectionError),
        ("hidden", "Hidden", "not importable", LookupError),
        ("unicode", "UnicodeDecodeError", "'utf-8' codec can't decode", UnicodeDecodeError),
        ("group", "ExceptionGroup", "both (2 sub-exceptions)", Exception),
        ("exit", "SystemExit", "3", SystemExit),
        ("interrupt", "KeyboardInterrupt", "ctrl", KeyboardInterrupt),
        ("memory", "MemoryError", "", MemoryError),
        ("leaked", "CancelledError", "own", asyncio.CancelledError),
        ("permanent", "PermanentError", "never", PermanentError),
    ],
)
async def test_t1_an_error_keeps_its_class_its_message_and_its_traceback(
    engine: ProcessEngine,
    kind: str,
    name: str,
    message: str,
    known: type[BaseException],
    in_loop: bool,
) -> None:
    """What is kept of the job says what went wrong as if the handler had run here."""
    error = await raised(engine, kind, in_loop=in_loop)
    kept = JobError.from_exception(error, attempt=1)
    assert (kept.type, isinstance(error, known)) == (name, True)
    assert kept.detail.startswith(message)
    assert "process_handlers.py" in kept.traceback
    assert "raise errors[kind]()" in kept.traceback


@one_loop
@pytest.mark.parametrize(
    ("kind", "retryable"), [("lost", True), ("value", False), ("retryable", True), ("exit", False)]
)
async def test_a_policy_tells_the_errors_of_a_child(
    engine: ProcessEngine, kind: str, retryable: bool
) -> None:
    """`retry_on=(ConnectionError,)` means the same wherever the handler runs."""
    policy = RetryPolicy(retry_on=(ConnectionError,))
    assert policy.retryable(await raised(engine, kind)) is retryable


@one_loop
async def test_an_error_keeps_the_numbers_that_policies_read(engine: ProcessEngine) -> None:
    """How long to wait, and what a server had answered."""
    busy, oops = await raised(engine, "retryable"), await raised(engine, "oops")
    assert isinstance(busy, RetryableError)
    assert (busy.retry_after, getattr(oops, "status_code", None)) == (7.5, 418)
    assert not hasattr(await raised(engine, "value"), "status_code")


@one_loop
async def test_t13_a_hostile_error_is_an_error(engine: ProcessEngine) -> None:
    """Describing it can't fail, neither there nor here."""
    error = await Run(engine, handlers.fail_hostile).failed()
    kept = JobError.from_exception(error, attempt=1)
    assert (kept.type, kept.detail) == (
        "Hostile",
        "(its message could not be read: RuntimeError)",
    )


# Deaths


@one_loop
@pytest.mark.slow  # each of them needs a new child
@pytest.mark.parametrize("in_loop", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("os._exit", "exited with code 3 before it had a result"),
        ("exit 0", "exited with code 0 before it had a result"),
        ("kill", "was killed by SIGKILL"),
        ("segfault", "was killed by SIGSEGV"),
        ("abort", "was killed by SIGABRT"),
    ],
)
async def test_a_dead_child_says_how_it_died(
    engine: ProcessEngine, how: str, message: str, in_loop: bool
) -> None:
    """Code that takes its process with it fails its own job, and no other."""
    function = handlers.die_in_loop if in_loop else handlers.die
    error = await Run(engine, function, {"how": how}).failed()
    assert isinstance(error, ProcessDied)
    assert (str(error), error.code) == (f"the process of the handler {message}", "process-died")


@one_loop
@pytest.mark.slow  # needs a new child
async def test_a_recursion_without_a_limit_fails_its_job(engine: ProcessEngine) -> None:
    """Python 3.11 dies of it, and a later one says so."""
    error = await Run(engine, handlers.die, {"how": "recursion"}).failed()
    assert isinstance(error, ProcessDied | RecursionError)


@one_loop
@pytest.mark.slow  # needs a new child
async def test_a_child_that_is_killed_from_outside_fails_its_job(engine: ProcessEngine) -> None:
    """The kernel does that to who takes too much memory."""
    run = Run(engine, handlers.spin)
    os.kill(int(await run.said.get()), signal.SIGKILL)
    assert str(await run.failed()) == "the process of the handler was killed by SIGKILL"


@one_loop
@pytest.mark.slow  # needs a new child
async def test_an_idle_child_that_is_killed_fails_no_job(own: ProcessEngine) -> None:
    """A job that was given to a dead child has not begun, and gets another one."""
    first = await Run(own, handlers.pid).ended()
    os.kill(first, signal.SIGKILL)
    assert await Run(own, handlers.pid).ended() != first


@one_loop
@pytest.mark.slow  # needs a new child
async def test_a_handler_without_memory_fails_its_job(own: ProcessEngine) -> None:
    """MemoryError is an error like any other, while there is enough left to say so."""
    error = await Run(own, handlers.exhaust_memory).failed()
    assert isinstance(error, MemoryError)


@one_loop
@pytest.mark.slow  # needs a new child
async def test_a_handler_that_closes_the_pipe_fails_its_job(own: ProcessEngine) -> None:
    """It has cut itself off: its result can't come, and waiting for it would never end."""
    error = await Run(own, handlers.close_pipe).failed()
    assert str(error) == "the process of the handler exited with code 74 before it had a result"


@one_loop
@pytest.mark.slow  # needs a new child
@pytest.mark.parametrize(
    "data",
    ["garbage", "R\0\0\0\4none", "R\xff\xff\xff\xff", "E\0\0\0\2[]", "R\0\0\0\1[", "\0" * 99],
)
async def test_a_handler_that_writes_into_the_pipe_fails_its_job(
    own: ProcessEngine, data: str
) -> None:
    """Whatever comes through the pipe, the server's memory and its other jobs are safe."""
    error = await Run(own, handlers.send_garbage, {"data": data}).failed()
    assert isinstance(error, ProcessDied)
    assert str(error) == "the process of the handler sent what is no message, and was killed"


@one_loop
async def test_noise_on_the_outputs_is_no_message(engine: ProcessEngine) -> None:
    """The outputs are the server's, and the input is empty."""
    assert await Run(engine, handlers.make_noise).ended() == ""


# What a handler leaves behind


@one_loop
@pytest.mark.slow  # needs a new child
@pytest.mark.parametrize(
    "function", [handlers.leave_thread, handlers.leave_daemon_thread, handlers.leave_task]
)
async def test_a_child_with_something_left_running_is_not_used_again(
    engine: ProcessEngine, function: Callable[..., int]
) -> None:
    """The next job finds a process of its own, and the last one's threads are ended."""
    used = await Run(engine, function).ended()
    assert await Run(engine, handlers.pid).ended() != used
    assert await ended(used)


@one_loop
@pytest.mark.slow  # needs a new child
@pytest.mark.parametrize("function", [handlers.leave_fork, handlers.leave_session])
async def test_p4_a_process_that_a_handler_leaves_is_killed(
    engine: ProcessEngine, function: Callable[..., int]
) -> None:
    """In the child's group or in a session of its own."""
    left = await Run(engine, function).ended()
    assert await ended(left)


@one_loop
@pytest.mark.slow  # needs a new child
async def test_p4_a_process_of_a_dead_child_is_killed(engine: ProcessEngine) -> None:
    """Its parent is dead, and its session is another: its environment tells whose it was."""
    run = Run(engine, handlers.leave_session_then, {"how": "kill"})
    left = int(await run.said.get())
    await run.failed()
    assert await ended(left)


@one_loop
@pytest.mark.slow  # needs a new child
async def test_a_fork_of_a_child_sends_nothing(engine: ProcessEngine) -> None:
    """It shares the pipe, and what it says would be taken for the child's.

    It shares what the child's event loop waits by too, and so the child is not used again.
    """
    before = await Run(engine, handlers.pid).ended()
    assert await Run(engine, handlers.fork_and_run_on).ended() == "original"
    assert await Run(engine, handlers.pid).ended() != before


@one_loop
async def test_a_child_is_used_again(engine: ProcessEngine) -> None:
    """The start of a process costs more than most jobs do; what a job failed with is no reason."""
    first = await Run(engine, handlers.pid).ended()
    await Run(engine, handlers.fail, {"kind": "exit"}).failed()
    await Run(engine, handlers.use_thread).ended()
    await Run(engine, handlers.command).ended()
    assert await Run(engine, handlers.pid).ended() == first


@one_loop
async def test_an_idle_child_burns_nothing(engine: ProcessEngine) -> None:
    """It waits in the kernel: no timer, no polling."""
    child = await Run(engine, handlers.pid).ended()
    before = _cpu_ticks(child)
    await asyncio.sleep(0.2)
    assert _cpu_ticks(child) - before <= 1


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# Stopping


@one_loop
@pytest.mark.parametrize("function", [handlers.check_until_told, handlers.wait_until_cancelled])
async def test_a_child_is_told_to_stop(engine: ProcessEngine, function: Callable[..., Any]) -> None:
    """A plain function sees it when it looks, and a coroutine is cancelled."""
    before = await Run(engine, handlers.pid).ended()
    run = Run(engine, function)
    await run.said.get()
    run.task.cancel()
    assert isinstance(await run.failed(), asyncio.CancelledError)
    assert await Run(engine, handlers.pid).ended() == before


@one_loop
async def test_a_coroutine_cleans_up_when_it_is_cancelled(engine: ProcessEngine) -> None:
    """It knows that it is to stop, and what it says meanwhile is heard."""
    run = Run(engine, handlers.wait_until_cancelled)
    await run.said.get()
    run.task.cancel()
    await run.failed()
    assert run.events[1:] == [("log", {"text": "cleaned up", "fields": {"requested": True}})]


@one_loop
@pytest.mark.parametrize(
    ("function", "value"),
    [(handlers.spin_until_told, "told"), (handlers.swallow, "in spite of it")],
)
async def test_a_result_in_spite_of_a_cancel_is_kept(
    engine: ProcessEngine, function: Callable[..., Any], value: str
) -> None:
    """Also when the handler blocks the child's own loop, where nothing but a thread can tell it."""
    run = Run(engine, function)
    await run.said.get()
    run.task.cancel()
    assert await run.ended() == value


@one_loop
@pytest.mark.slow  # needs a new child
@pytest.mark.parametrize(
    "function", [handlers.spin, handlers.spin_in_loop, handlers.ignore, handlers.hold_lock]
)
@pytest.mark.parametrize("apart", [True, False], ids=["in turn", "at once"])
async def test_a_second_cancel_kills(
    engine: ProcessEngine, function: Callable[..., Any], apart: bool
) -> None:
    """T3: no handler in a process is ever stuck, also when the runner's grace is 0."""
    run = Run(engine, function)
    child = int(await run.said.get())
    run.task.cancel()
    if apart:
        await asyncio.sleep(0)
        assert not run.task.done()
        run.task.uncancel()  # as somebody around us may do
    run.task.cancel()
    asked = time.monotonic()
    assert isinstance(await run.failed(), asyncio.CancelledError)
    assert time.monotonic() - asked < 5.0  # nobody waits for the handler, which has no end
    assert await ended(child)


@one_loop
@pytest.mark.slow  # needs a new child
@pytest.mark.parametrize("how", ["cancel", "kill"])
async def test_a_command_dies_with_its_child(own: ProcessEngine, how: str) -> None:
    """It leads a group of its own, which nobody but the child knew."""
    child = await Run(own, handlers.pid).ended()
    run = Run(own, handlers.run_for_ever)
    command = int(await run.said.get())
    if how == "kill":
        os.kill(child, signal.SIGKILL)
    else:
        run.task.cancel()
        run.task.cancel()
    await run.failed()
    assert await ended(command)


@one_loop
async def test_p1_a_child_that_nobody_waits_for_any_more_ends() -> None:
    """It was started for a job that is gone, and there is no room for it among the idle ones."""
    engine, before = ProcessEngine(max_idle=0), _children()
    run = Run(engine, handlers.pid)
    while not (started := {*_children()} - {*before}):  # noqa: ASYNC110  # no event tells it
        await asyncio.sleep(0)
    run.task.cancel()
    run.task.cancel()
    await run.failed()
    assert await ended(int(started.pop()))
    await engine.close()


@one_loop
async def test_what_is_cancelled_before_it_has_a_child_ends_at_once(own: ProcessEngine) -> None:
    """P1: a start can't be torn apart, and nobody has to wait for it."""
    run = Run(own, handlers.pid)
    await asyncio.sleep(0)
    run.task.cancel()
    for _ in range(20):  # turns of the loop: a child takes thousands
        await asyncio.sleep(0)
    assert run.task.done()
    assert isinstance(await run.failed(), asyncio.CancelledError)


@one_loop
@pytest.mark.slow
async def test_p1_a_cancel_at_any_moment_leaves_nothing() -> None:
    """The start of a child is many steps, and a cancel may come between any two (slow: 60 runs)."""
    before, engine = _left(), ProcessEngine(max_idle=0)
    for steps in range(1, 30):
        for cancels in (1, 2):
            run = Run(engine, handlers.swallow if steps < 15 else handlers.spin)
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(cancels):
                run.task.cancel()
            await asyncio.sleep(0)
            run.task.cancel()
            assert isinstance(await run.failed(), asyncio.CancelledError)
    await engine.close()
    assert _left() - before == Counter()


def _left() -> Counter[str]:
    """Return our descriptors, threads, tasks and children."""
    for thread in threading.enumerate():
        if thread.name == "jobrunner sweep" or thread.name.startswith("asyncio-waitpid"):
            thread.join(5.0)  # it has said that it is done, and is about to end
    threads = [thread.name.rpartition("-")[0] or thread.name for thread in threading.enumerate()]
    here = [name for name in threads if not name.startswith("asyncio_")]  # of our `to_thread`
    here += [task.get_name() for task in asyncio.all_tasks()]
    here += [f"child {pid}" for pid in _children()]
    here += ["descriptor" for name in os.listdir("/proc/self/fd") if _is_open(name)]
    return Counter(here)


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _is_open(name: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{name}")


# Closing


@one_loop
@pytest.mark.slow  # starts two children
async def test_a_closed_engine_leaves_nothing_and_can_be_used_again() -> None:
    """Processes, descriptors, threads, tasks: as before, and bounded in time."""
    before, engine = _left(), ProcessEngine()
    for _ in range(2):
        child = await Run(engine, handlers.pid).ended()
        asked = time.monotonic()
        await engine.close()
        assert time.monotonic() - asked < 6.5
        assert await ended(child)
        assert _left() - before == Counter()


@one_loop
@pytest.mark.slow  # starts a child
async def test_closing_kills_what_runs(own: ProcessEngine) -> None:
    """The runner goes away, and a handler with it."""
    run = Run(own, handlers.hold_lock)
    child = int(await run.said.get())
    await own.close()
    assert await ended(child)
    assert str(await run.failed()) == "the process of the handler was killed by SIGKILL"


@one_loop
async def test_closing_an_engine_that_was_never_used_is_no_error() -> None:
    """A runner without such job types has one all the same."""
    await ProcessEngine().close()


@one_loop
@pytest.mark.slow  # starts two children
async def test_idle_children_are_bounded() -> None:
    """A burst of jobs leaves no more processes than were asked for."""
    engine = ProcessEngine(max_idle=1)
    try:
        pids = {await run.ended() for run in [Run(engine, handlers.pid) for _ in range(2)]}
        assert len(pids) == 2
        kept = await Run(engine, handlers.pid).ended()
        (other,) = pids - {kept}
        assert await ended(other)
    finally:
        await engine.close()


PROGRAM = """
import asyncio, sys
from jobrunner.engines.process import ProcessEngine
from tests import process_handlers as handlers
from tests.test_engine_process import Run

async def main():
    run = Run(ProcessEngine(), getattr(handlers, sys.argv[1]))
    print(await run.said.get(), flush=True)
    await run.ended()

asyncio.run(main())
"""


@pytest.mark.slow  # starts an interpreter and a child
@pytest.mark.parametrize(
    "handler",
    ["spin", "spin_in_loop", "ignore", "hold_lock", "run_for_ever", "spin_without_a_lifeline"],
)
def test_children_end_when_the_server_is_killed(handler: str) -> None:
    """Nobody is left to kill them, and one of them may never look up from its work."""
    server = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, handler], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with server.stdout:
        child = int(server.stdout.readline())
        server.kill()
        server.wait()
    assert processes.ends(child)


MAIN_PROGRAM = """
import asyncio
from jobrunner import JobContext
from jobrunner.engines.process import ProcessEngine
from tests.test_engine_process import Run

print("imported")

class Broken(Exception):
    pass

def double(n: int) -> int:
    if n == 0:
        raise Broken("zero")
    return 2 * n

async def main():
    engine = ProcessEngine()
    print(await Run(engine, double, {"n": 4}).ended())
    error = await Run(engine, double, {"n": 0}).failed()
    print(repr(error), isinstance(error, Broken))
    await engine.close()
"""
GUARD = 'if __name__ == "__main__":\n    asyncio.run(main())\n'


@pytest.mark.slow  # starts an interpreter and a child
@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_a_handler_of_the_program_itself_runs(tmp_path: Path, as_module: bool) -> None:
    """A script with its handlers in it is how everybody begins."""
    (tmp_path / "program.py").write_text(MAIN_PROGRAM + GUARD)
    command = ["-m", "program"] if as_module else [str(tmp_path / "program.py")]
    done = _python(command, tmp_path)
    assert done.stdout == "imported\nimported\n8\nBroken('zero') True\n"


@pytest.mark.slow  # starts an interpreter and a child
def test_a_program_without_a_guard_says_what_it_lacks(tmp_path: Path) -> None:
    """Imported in the child, it starts the runner again; that must not go on for ever."""
    (tmp_path / "program.py").write_text(MAIN_PROGRAM + "asyncio.run(main())\n")
    done = _python([str(tmp_path / "program.py")], tmp_path)
    assert 'put what starts it under `if __name__ == "__main__":`' in done.stderr
    assert done.stdout.count("imported") == 2


@pytest.mark.slow  # starts an interpreter
def test_a_handler_of_a_program_in_no_file_is_refused(tmp_path: Path) -> None:
    """In a session at the prompt there is nothing that a child could import."""
    program = textwrap.dedent("""
        from jobrunner.engines.process import check_importable
        def f() -> None: ...
        check_importable(f)
    """)
    done = _python(["-c", program], tmp_path)
    assert "it stands in a program that is in no file" in done.stderr


def _python(command: list[str], path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), os.getcwd()])},
    )


async def test_q9_a_result_that_cannot_be_json_fails_the_job_as_it_does_here() -> None:
    """It would be the same value in each attempt, so that no policy tries it again."""
    runner = JobRunner(retry=RetryPolicy(max_attempts=3))
    runner.job(engine="process")(handlers.return_objects)
    async with runner:
        view = await (await runner.submit("return_objects")).wait()
    assert view.error is not None
    assert (view.status, view.error.reason, view.attempt) == (
        "failed", "result_not_serialisable", 1,
    )  # fmt: skip
