"""What is kept of an error: text, of bounded length, whatever the error does (T12, T13)."""

import asyncio
import gc
import re
import sys
import threading
import weakref

import pytest

from jobrunner import JobContext, JobRunner, RetryPolicy
from jobrunner.jobs import JobError
from jobrunner.testing import virtual_time
from jobrunner.wording import MAX_CHAIN, MAX_FRAMES, class_name, clip, describe, traceback_text
from tests.runners import ended, runner_with


class Local:
    """Something that a handler holds in a local variable."""


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_t12_a_local_of_a_failed_handler_is_free_when_the_job_has_ended(kind: str) -> None:
    """Kept exceptions pinned all that their frames held; 20 failures held 20 MB."""
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


@pytest.mark.parametrize("ends", ["fails for good", "is tried again", "is cancelled", "is stuck"])
async def test_t12_a_local_is_free_however_the_attempt_ends(ends: str) -> None:
    """What a handler raised while it was stopped is kept as text too; a stuck one has ended."""
    refs: list[weakref.ref[Local]] = []
    begun = asyncio.Event()
    retry = RetryPolicy(max_attempts=2 if ends == "is tried again" else 1, base=0.0)
    runner = JobRunner(retry=retry, cancel_grace=0.0 if ends == "is stuck" else 5.0)

    @runner.job
    async def fail(ctx: JobContext) -> int:
        local = Local()
        refs.append(weakref.ref(local))
        if ctx.attempt == 2:
            return len([ref for ref in refs[:-1] if ref() is not None])
        try:
            begun.set()
            if ends in ("is cancelled", "is stuck"):
                await asyncio.Event().wait()
        finally:
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    gc.disable()
    try:
        async with runner:
            job = await runner.submit(fail)
            await begun.wait()
            if ends in ("is cancelled", "is stuck"):
                await job.cancel()
            view = await job.wait(timeout=10.0)
            for _ in range(5):
                await asyncio.sleep(0)
            assert [ref() for ref in refs] == [None] * len(refs)
        assert view.result == (0 if ends == "is tried again" else None)
    finally:
        gc.enable()


@virtual_time
async def test_t12_each_leaf_of_a_group_is_told() -> None:
    """A TaskGroup's error says nothing itself: what went wrong is in its leaves."""
    runner = runner_with()

    @runner.job
    async def fail() -> None:
        raise ExceptionGroup(
            "outer", [ValueError("leaf 1"), ExceptionGroup("inner", [KeyError("leaf 2")])]
        )

    async with runner:
        error = (await (await runner.submit(fail)).wait()).error
    assert error is not None
    assert [leaf in (error.traceback or "") for leaf in ("leaf 1", "leaf 2")] == [True, True]
    assert error.detail == "outer (2 sub-exceptions)"


@virtual_time
async def test_t12_the_text_of_an_error_is_cut() -> None:
    """8 kB of what it says, 64 kB of where it was raised."""
    runner = runner_with()

    @runner.job
    async def fail() -> None:
        raise ExceptionGroup("x" * 100_000, [ValueError("y" * 100_000)] * 10)

    async with runner:
        error = (await (await runner.submit(fail)).wait()).error
    assert error is not None
    assert (len(error.title), len(error.detail) < 8_300) == (200, True)
    assert 60_000 < len(error.traceback or "") < 66_000


def test_t12_text_of_an_error_pins_nothing_of_its_frames() -> None:
    """Twenty failures once held 20 MB of locals (T12)."""

    class Big:
        pass

    def fail() -> "weakref.ref[Big]":
        big = Big()
        alive = weakref.ref(big)
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904  # the context is what is tested
        except ValueError as error:
            kept.append(JobError.from_exception(error, attempt=1))
        return alive

    kept: list[JobError] = []
    assert fail()() is None
    assert sys.getrefcount(kept[0]) < 5


def chain(length: int) -> BaseException:
    error: BaseException = ValueError("link 0")
    for number in range(1, length):
        link = ValueError(f"link {number}")
        link.__context__ = error
        error = link
    return error


def test_t12_a_long_chain_leaves_its_last_links() -> None:
    """A retry loop that keeps its errors makes chains of thousands (T12)."""
    text = traceback_text(chain(20_000))
    assert re.findall(r"link \d+", text) == [f"link {n}" for n in range(19_980, 20_000)]
    assert text.count("During handling of the above exception") == MAX_CHAIN - 1


def test_t12_a_deep_recursion_leaves_its_last_frames() -> None:
    """A thousand equal frames would fill what is kept, and the end says most."""

    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        if depth % 2:
            fall(depth - 1)
        fall(depth - 1)  # from another line, since equal ones are shown once anyway

    try:
        fall(100)
    except ValueError as error:
        text = traceback_text(error)
    assert text.count(", in fall\n") == MAX_FRAMES
    assert 'raise ValueError("bottom")' in text


class Secretive(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # hostile on purpose
        raise RuntimeError("no name")


class HidesItsName(Exception, metaclass=Secretive):
    pass


class RaisesInStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class ExitsInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class OddText(str):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class OddStr(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # hostile on purpose


class RaisesInRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def own_cause() -> BaseException:
    error = ValueError("a circle")
    other = KeyError("half of it")
    error.__cause__, other.__cause__ = other, error
    return error


def nested_group(depth: int) -> Exception:
    return ExceptionGroup("g", [nested_group(depth - 1)]) if depth else ValueError("inside")


HOSTILE = [
    pytest.param(HidesItsName("text"), "HidesItsName", "text", id="name"),
    pytest.param(type("N" * 5_000, (Exception,), {})("x"), clip("N" * 5_000, 200), "x", id="long"),
    pytest.param(RaisesInStr(), "RaisesInStr", "(its message could not be read: RuntimeError)",
                 id="str"),
    pytest.param(ExitsInStr(), "ExitsInStr", "(its message could not be read: SystemExit)",
                 id="exit"),
    pytest.param(OddStr(), "OddStr", "(no usable message)", id="subclass of str"),
    pytest.param(NotText(), "NotText", "(its message could not be read: TypeError)", id="no str"),
    pytest.param(KeyError(RaisesInRepr()), "KeyError",
                 "(its message could not be read: RuntimeError)", id="repr"),
    pytest.param(ValueError("x" * 2_000_000), "ValueError", clip("x" * 2_000_000, 8_192),
                 id="2 MB"),
    pytest.param(ValueError("half \ud800 pair"), "ValueError", "half ? pair", id="surrogate"),
    pytest.param(ValueError(""), "ValueError", "", id="empty"),
    pytest.param(own_cause(), "ValueError", "a circle", id="circle"),
    pytest.param(nested_group(500), "ExceptionGroup", "g (1 sub-exception)", id="deep group"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "detail"), HOSTILE)
def test_t13_describing_an_error_can_not_fail(error: BaseException, kind: str, detail: str) -> None:
    """An error that breaks its own description must not break the runner (T13)."""
    assert (class_name(error), describe(error)) == (kind, detail)


@pytest.mark.parametrize(("error", "kind", "detail"), HOSTILE)
def test_t13_a_hostile_error_is_kept_as_text(error: BaseException, kind: str, detail: str) -> None:
    """What is kept can always be shown: valid UTF-8, of bounded length, with a title (T13)."""
    kept = JobError.from_exception(error, attempt=2)
    assert (kept.type, kept.detail, kept.attempt) == (kind, detail, 2)
    assert 0 < len(kept.title) <= 200 or kept.title == kind
    assert len(kept.traceback.encode()) <= 66_000


def test_t13_a_traceback_that_can_not_be_formatted_says_so() -> None:
    """Formatting reads attributes of the error, which may do anything."""

    class Hostile(SyntaxError):
        @property
        def filename(self) -> str:  # type: ignore[override]  # hostile on purpose
            raise KeyboardInterrupt

    text = traceback_text(Hostile("x"))
    assert text == "(its traceback could not be formatted: KeyboardInterrupt)"
