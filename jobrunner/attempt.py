"""An attempt at a job: what it may take, who asked it to stop, and where it stands."""

import asyncio
import gc
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isasyncgen
from traceback import StackSummary, format_stack
from types import FrameType
from typing import Any, Literal, TypeAlias

from .context import JobContext
from .gates import Resumption
from .handlers import Handler
from .jobs import FailureReason, Job
from .sight import uncollected
from .wording import clip

StopReason: TypeAlias = Literal["shutdown", "timeout", "stalled", "deadline", "cancel"]
_WEIGHT: dict[StopReason | None, int] = {
    None: 0,
    "shutdown": 1,
    "timeout": 2,
    "stalled": 2,
    "deadline": 3,
    "cancel": 4,
}
"""A wanted cancel wins over a limit and over a shutdown: what was cancelled never runs again. A
deadline wins over the limit of an attempt: what missed it isn't tried again."""
_LIMITS: dict[StopReason | None, FailureReason] = {
    "timeout": "timeout",
    "stalled": "stalled",
    "deadline": "deadline",
}


class Standing:
    """Where an attempt stands that waits for somebody, or has."""

    __slots__ = ("answers", "has_worker", "left", "resumption", "waits")

    def __init__(self) -> None:
        self.waits = 0
        """How much it waits for."""
        self.answers = 0
        """How much of that are people's answers, for which its time limit stands still."""
        self.has_worker = True
        self.resumption: Resumption | None = None
        """It waits for a worker again."""
        self.left: float | None = None
        """Seconds that are left of its time limit, while that stands still."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that runs, or that was given up."""

    job: Job
    handler: Handler
    context: JobContext
    let_go: Callable[["Attempt"], None]
    """Takes from it what the runner has given to it; the worker's own."""
    task: "asyncio.Task[None] | None" = None
    begun: bool = False
    """Whether the task has had its first step; before that a cancel would skip the guard."""
    settled: bool = False
    stop: StopReason | None = None
    limit: float = math.inf
    """Seconds that it may take, with what the handler was given beside the timeout."""
    ends_by: float = math.inf
    """End of the time limit, on the loop's clock; infinite while that stands still."""
    standing: Standing | None = None
    """Set once it has waited for somebody."""

    @property
    def next_check(self) -> float:
        """When a limit may be over, on the loop's clock; infinite without one."""
        if (stall := self.job.stall_timeout) is None:
            return self.ends_by
        if self.standing is not None and not self.standing.has_worker:
            return self.ends_by  # it is silent because others are
        return min(self.ends_by, self.context._sign_of_life() + stall)

    @property
    def failure(self) -> FailureReason | None:
        """The limit that it was stopped for."""
        return _LIMITS.get(self.stop)

    def release(self) -> None:
        """Settle it: no limit, no event and no worker belongs to it any more."""
        self.let_go(self)

    def ask(self, reason: StopReason) -> bool:
        """Note that somebody wants it to stop; return whether they were the first."""
        first = self.stop is None
        if _WEIGHT[reason] > _WEIGHT[self.stop]:
            self.stop = reason
        return first

    def overdue(self, now: float) -> StopReason | None:
        """Return the limit that is over at `now`, on the loop's clock."""
        if now >= self.ends_by:
            return "timeout"
        return "stalled" if now >= self.next_check else None

    def extend(self, seconds: float) -> None:
        """Move the end of the time limit."""
        self.limit += seconds
        self.ends_by += seconds
        if self.standing is not None and self.standing.left is not None:
            self.standing.left += seconds

    def why(self) -> str:
        """Say what it was stopped for."""
        if self.stop == "timeout":
            return f"timed out after {self.limit:g} s"
        if self.stop == "stalled":
            return f"stalled: no sign of life for {self.job.stall_timeout:g} s"
        if self.stop == "deadline":
            return deadline_missed(self.job)
        return "cancelled" if self.stop == "cancel" else "the runner is shutting down"

    def stack(self) -> str:
        """Return where it waits, to the innermost await; `Task.get_stack` has the outermost.

        Of a plain function it is where its thread stands.
        """
        for thread in threading.enumerate():
            with uncollected():
                if thread.name == self.job.id and (frame := _current(thread)) is not None:
                    return clip("".join(format_stack(frame)), 65_536)
        frames: list[tuple[FrameType, int]] = []
        awaited: Any = None if self.task is None else self.task.get_coro()
        while awaited is not None:
            frame = next((f for f in (getattr(awaited, n, None) for n in _FRAMES) if f), None)
            if frame is not None:
                frames.append((frame, frame.f_lineno))
            awaited = next((a for a in _awaits_of(awaited) if a), None)
        return clip("".join(StackSummary.extract(iter(frames)).format()), 65_536)


def deadline_missed(job: Job) -> str:
    """Say that a job has missed its deadline, and whose that was."""
    if job.deadline is None:
        return "missed the deadline of its parent"
    own = f"missed its deadline of {job.deadline:g} s"
    return own if job.parent_id is None else f"{own}, or its parent's"


def _awaits_of(awaited: Any) -> list[Any]:
    """Return what it may wait for; only the collector knows the generator of an `anext()`."""
    if type(awaited).__name__ in ("async_generator_asend", "async_generator_athrow"):
        return [thing for thing in gc.get_referents(awaited) if isasyncgen(thing)]
    return [getattr(awaited, name, None) for name in _AWAITS]


def _current(thread: threading.Thread) -> FrameType | None:
    return None if thread.ident is None else sys._current_frames().get(thread.ident)


_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_AWAITS = ("cr_await", "ag_await", "gi_yieldfrom")
