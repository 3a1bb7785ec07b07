"""The table of timers: order, cancelling, sweeping, and one timer of the loop for all."""

import asyncio
import sys
import weakref
from typing import cast

import pytest

from jobrunner.testing.clock import VirtualLoop, virtual_time
from jobrunner.timers import Timer, Timers


def opened() -> Timers:
    timers = Timers()
    timers.open(asyncio.get_running_loop())
    return timers


def armed() -> int:
    """Return how many timers the loop has."""
    return len(cast(VirtualLoop, asyncio.get_running_loop()).timers())


@virtual_time
async def test_calls_in_order_of_time_and_then_as_given() -> None:
    """Equal times run in the order given, so that a simulation repeats to the letter."""
    timers, calls = opened(), list[tuple[str, float]]()

    def note(name: str) -> None:
        calls.append((name, timers.now()))

    timers.after(5.0, lambda: note("late"))
    timers.after(1.0, lambda: note("first"))
    timers.after(1.0, lambda: note("second"))
    timers.at(timers.now() + 3.0, lambda: note("middle"))
    await asyncio.sleep(10)
    assert calls == [("first", 1.0), ("second", 1.0), ("middle", 3.0), ("late", 5.0)]


@virtual_time
async def test_takes_one_timer_of_the_loop_for_all() -> None:
    """A timer of the loop for each job would cost more than most jobs do."""
    timers = opened()
    for i in range(1_000):
        timers.after(1_000.0 - i, lambda: None)
    assert (len(timers), armed()) == (1_000, 1)


@virtual_time
async def test_a_cancelled_timer_is_not_called() -> None:
    """A time limit must not fire after the job has ended."""
    timers, calls = opened(), list[int]()
    kept = [timers.after(1.0, lambda i=i: calls.append(i)) for i in range(3)]  # type: ignore[misc]  # bound by default
    timers.cancel(kept[1])
    assert len(timers) == 2
    await asyncio.sleep(2)
    assert (calls, len(timers)) == ([0, 2], 0)


@virtual_time
async def test_cancelling_again_or_too_late_or_nothing_is_no_error() -> None:
    """Whoever ends a job needn't know whether its timer has run."""
    timers = opened()
    ran, cancelled = timers.after(1.0, lambda: None), timers.after(9.0, lambda: None)
    await asyncio.sleep(2)
    for timer in (ran, cancelled, cancelled, None):
        timers.cancel(timer)
    assert len(timers) == 0


@virtual_time
async def test_a_cancelled_timer_lets_go_of_its_call_at_once() -> None:
    """What it would have called holds a job, and a limit may be hours away."""

    class Held:
        def __call__(self) -> None:
            pass

    timers, held = opened(), Held()
    alive = weakref.ref(held)
    timer = timers.after(3_600.0, held)
    del held
    timers.cancel(timer)
    assert alive() is None


def referenced(timers: list[Timer]) -> int:
    """Return how many of the timers something else than the list refers to."""
    (alone,) = [sys.getrefcount(timer) for timer in [Timer(print)]]
    return sum(sys.getrefcount(timer) > alone for timer in timers)


@virtual_time
async def test_sweeps_when_most_are_cancelled() -> None:
    """Ten thousand jobs with an hour's limit that end at once must not leave their timers."""
    timers = opened()
    cancelled = [timers.after(3_600.0, print) for _ in range(1_000)]
    for timer in cancelled:
        timers.cancel(timer)
    assert (len(timers), referenced(cancelled) <= 65) == (0, True)


@virtual_time
async def test_keeps_order_and_count_through_a_sweep() -> None:
    """What is left after a sweep comes when it would have come without one."""
    timers, order = opened(), list[int]()
    for i in range(1, 1_001):
        timer = timers.after(1_000.0 - i % 7, lambda i=i: order.append(i))  # type: ignore[misc]  # bound by default
        if i % 10:
            timers.cancel(timer)
    assert len(timers) == 100
    await asyncio.sleep(2_000)
    assert order == sorted(range(10, 1_001, 10), key=lambda i: (-(i % 7), i))
    assert len(timers) == 0


@virtual_time
async def test_a_call_may_set_and_cancel_timers() -> None:
    """A limit that fires sets the grace after it."""
    timers, calls = opened(), list[str]()
    doomed = timers.after(1.0, lambda: calls.append("never"))

    def first() -> None:
        calls.append("first")
        timers.cancel(doomed)
        timers.after(0.0, lambda: calls.append("at once"))
        timers.after(2.0, lambda: calls.append("later"))

    timers.at(0.5, first)
    await asyncio.sleep(10)
    assert calls == ["first", "at once", "later"]


@virtual_time
async def test_a_call_that_raises_stops_no_other() -> None:
    """One fault must not freeze every limit and retry of the process."""
    loop, timers, calls = asyncio.get_running_loop(), opened(), list[str]()
    faults = list[str]()
    loop.set_exception_handler(lambda _, context: faults.append(repr(context["exception"])))

    def broken() -> None:
        raise ValueError("a fault")

    timers.after(1.0, broken)
    timers.after(1.0, lambda: calls.append("same time"))
    timers.after(2.0, lambda: calls.append("later"))
    await asyncio.sleep(5)
    assert (faults, calls) == (["ValueError('a fault')"], ["same time", "later"])


@virtual_time
async def test_close_forgets_everything() -> None:
    """A stopped runner leaves nothing in a loop that goes on."""
    timers, calls = opened(), list[int]()
    timers.after(1.0, lambda: calls.append(1))
    timers.close()
    assert (len(timers), armed()) == (0, 0)
    await asyncio.sleep(2)
    assert calls == []
    with pytest.raises(AssertionError, match="not open"):
        timers.now()


@virtual_time
async def test_cancelling_after_close_is_no_error() -> None:
    """A stuck handler may end after its runner, and a runner can be entered again."""
    timers = opened()
    timer = timers.after(1.0, lambda: None)
    timers.close()
    timers.cancel(timer)
    assert len(timers) == 0


@virtual_time
async def test_can_be_opened_again() -> None:
    """A runner may be entered again, and what was set before must not hold up what is set then."""
    timers, calls = opened(), list[str]()
    timers.close()
    for name in ("first", "second"):
        timers.open(asyncio.get_running_loop())
        timers.after(2.0, lambda name=name: calls.append(name))  # type: ignore[misc]  # bound by default
        await asyncio.sleep(3)
        timers.after(1.0, lambda: calls.append("never"))
        timers.close()
    assert calls == ["first", "second"]


def test_has_no_clock_before_it_is_open() -> None:
    """Durations come from a loop; without one they would come from nowhere."""
    with pytest.raises(AssertionError, match="not open"):
        Timers().now()
