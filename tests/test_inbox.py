"""Calls from threads: carried out in the loop, in order, and never more than a bound on the way."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

from jobrunner.inbox import MAX_ON_THE_WAY, Inbox


def in_thread(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


async def test_a_call_from_the_loops_own_thread_is_carried_out_at_once() -> None:
    """A coroutine sees the effect of its own progress call."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[int] = []
    inbox.do(lambda: done.append(1))
    assert done == [1]


async def test_a_call_from_the_loops_own_thread_has_no_effect_after_the_close() -> None:
    """What is called on an attempt that has ended changes nothing."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[int] = []
    inbox.close()
    inbox.do(lambda: done.append(1))
    assert done == []


async def test_t11_calls_from_a_thread_are_carried_out_in_the_loop_in_order() -> None:
    """T11: nothing of a job is touched outside the loop's thread."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[tuple[int, int]] = []
    ended = asyncio.Event()

    def note(i: int) -> Callable[[], None]:
        return lambda: done.append((i, threading.get_ident()))

    def work() -> None:
        for i in range(100):
            inbox.do(note(i))
        inbox.do(ended.set)

    in_thread(work)
    await ended.wait()
    assert done == [(i, threading.get_ident()) for i in range(100)]


async def test_t11_a_thread_that_is_too_fast_waits_for_the_loop() -> None:
    """T11: what is on the way is bounded, so a thread in a tight loop can't fill the memory."""
    inbox = Inbox(asyncio.get_running_loop())
    made: list[int] = []
    full = threading.Event()

    def work() -> None:
        for i in range(MAX_ON_THE_WAY + 1):
            if i == MAX_ON_THE_WAY:
                full.set()
            inbox.do(lambda: None)
            made.append(i)

    thread = in_thread(work)
    full.wait()  # the loop is blocked on purpose: it carries nothing out
    thread.join(0.02)
    assert (len(made), thread.is_alive()) == (MAX_ON_THE_WAY, True)
    await asyncio.to_thread(thread.join)
    assert len(made) == MAX_ON_THE_WAY + 1
    inbox.close()


async def test_t11_what_is_offered_is_dropped_where_it_would_have_to_wait() -> None:
    """T11: a thread that logs may hold a lock that the loop needs to carry anything out."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[str] = []
    taken: list[bool] = []

    def work() -> None:
        for i in range(MAX_ON_THE_WAY + 2):
            taken.append(inbox.offer(lambda i=i: done.append(f"{i}")))  # type: ignore[misc]  # mypy and defaults

    in_thread(work).join()  # the loop is blocked on purpose
    assert taken == [True] * MAX_ON_THE_WAY + [False] * 2
    assert inbox.offer(lambda: done.append("of the loop"))
    inbox.close(lambda: done.append("last"))
    assert done[:1] == ["of the loop"]
    assert done[-2:] == [f"{MAX_ON_THE_WAY - 1}", "last"]
    in_thread(lambda: taken.append(inbox.offer(lambda: done.append("after")))).join()
    assert (done[-1], taken[-1]) == ("last", True)


async def test_t11_closing_carries_out_what_is_on_the_way() -> None:
    """The last words of a thread that has returned are not lost."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[int] = []
    in_thread(lambda: inbox.do(lambda: done.append(1))).join()
    assert done == []
    inbox.close()
    assert done == [1]


async def test_a_call_from_a_thread_has_no_effect_after_the_close() -> None:
    """A thread that outlives its attempt can't touch the job any more."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[int] = []
    inbox.close()
    in_thread(lambda: inbox.do(lambda: done.append(1))).join()
    await asyncio.sleep(0)
    assert done == []


def once(event: str, function: CodeType, act: Callable[[], object]) -> None:
    """Act in this thread at the next "call" or "return" of a function, in the middle of it."""

    def profile(frame: FrameType, what: str, argument: object) -> None:
        if what == event and frame.f_code is function:
            sys.setprofile(None)
            act()

    sys.setprofile(profile)


async def test_t11_closing_frees_a_thread_that_waits_for_room() -> None:
    """It is held back when what was on the way is done: nothing else frees it when the loop ends.

    Who begins to wait for a condition has its lock until others can notify him.
    """
    inbox = Inbox(asyncio.get_running_loop())
    put, taken, held = threading.Event(), threading.Event(), threading.Event()

    def hold_up_the_close() -> None:
        taken.set()
        held.wait(5.0)
        once("return", threading.Condition.__exit__.__code__, lambda: thread.join(1.0))

    def work() -> None:
        inbox.do(hold_up_the_close)
        put.set()
        taken.wait()
        once("call", threading.Condition.wait.__code__, held.set)
        for _ in range(MAX_ON_THE_WAY + 10):
            inbox.do(lambda: None)

    thread = in_thread(work)
    put.wait()
    inbox.close()
    sys.setprofile(None)
    thread.join(5.0)  # the loop is blocked on purpose: it may never run again
    assert (held.is_set(), thread.is_alive()) == (True, False)


def test_t11_a_thread_that_outlives_the_loop_meets_no_error() -> None:
    """A stuck handler goes on calling: not a word of it is kept, and no closed loop is woken."""
    loop, errors = asyncio.new_event_loop(), list[BaseException]()
    inbox = Inbox(loop)
    inbox.close()
    loop.close()

    def work() -> None:
        try:
            inbox.do(lambda: None)
        except RuntimeError as error:
            errors.append(error)

    in_thread(work).join()
    assert errors == []


async def test_a_call_that_closes_the_inbox_is_the_last() -> None:
    """What a batch of calls holds behind the end of the attempt is dropped with the rest."""
    inbox = Inbox(asyncio.get_running_loop())
    done: list[int] = []
    calls = [lambda: done.append(1), inbox.close, lambda: done.append(2)]

    def work() -> None:
        for call in calls:
            inbox.do(call)

    in_thread(work).join()
    await asyncio.sleep(0)
    assert done == [1]
