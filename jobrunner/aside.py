"""Standing aside: an attempt that waits for somebody gives its worker back, and takes one again.

    has a worker -> waits: no worker, no slot of its type -> queue, in its old rank -> has one again
                      ^                                       |
                      +----------- waits for another ---------+

An attempt has a worker exactly while it waits for nobody: not for the first of several answers and
not for the last child, so that those who wait can't keep from a worker what they wait for. Whoever
is asked to stop, or has ended, gets none again.
"""

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from .attempt import Attempt, Standing
from .context import JobContext
from .errors import RetryableError
from .gates import Resumption
from .jobs import Job
from .queue import JobQueue
from .timers import Timers


class Sideline:
    """Those who stand aside.

    Args:
        queue: Where they wait for a worker again.
        timers: The clock that limits are on.
        find: Returns the attempt that a context was made for, None when that has ended.
        moved: Called when an attempt has given its worker back, or has one again.
        watch: Called with an attempt whose limits have changed.
        close: Called with a job whose questions nobody waits for any more.
        limit: How many may stand aside.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        timers: Timers,
        find: Callable[[JobContext], Attempt | None],
        moved: Callable[[], None],
        watch: Callable[[Attempt], None],
        close: Callable[[Job], None],
        limit: int,
    ) -> None:
        self.count = 0
        """Attempts without a worker."""
        self._queue = queue
        self._timers = timers
        self._find = find
        self._moved = moved
        self._watch = watch
        self._close = close
        self._limit = limit

    def __call__(self, context: JobContext, *, for_answer: bool = False) -> "Aside":
        """Return what stands aside while it is entered.

        Args:
            for_answer: Whether a person is waited for; the attempt's time limit stands still then.
        """
        return Aside(self, context, for_answer)

    def enter(self, context: JobContext, for_answer: bool) -> Attempt:
        """It begins to wait for something; return the attempt.

        Raises:
            asyncio.CancelledError: It has ended.
            RetryableError: Too many stand aside already.
        """
        attempt = self._checked(context)
        standing = attempt.standing = attempt.standing or Standing()
        standing.waits += 1
        standing.answers += for_answer
        if standing.has_worker:
            standing.has_worker = False
            self.count += 1
            self._queue.leave(attempt.job)
            self._moved()
        elif standing.resumption is not None:
            self._withdraw(standing).set_result(None)  # it needs no worker now
        self._keep_time(attempt, standing)
        return attempt

    def check(self, context: JobContext) -> None:
        """Raise what `enter` would, before somebody is told that he is waited for."""
        attempt = self._checked(context)
        attempt.standing = attempt.standing or Standing()

    def _checked(self, context: JobContext) -> Attempt:
        if (attempt := self._find(context)) is None:
            raise asyncio.CancelledError(f"this attempt at job {context.job_id} has ended")
        waits = attempt.standing is not None and not attempt.standing.has_worker
        if self.count >= self._limit and not waits:
            raise RetryableError(
                f"{self.count} jobs wait for answers or for their children, the limit "
                "(Limits.max_aside)"
            )
        return attempt

    def leave(self, attempt: Attempt, for_answer: bool) -> "asyncio.Future[None] | None":
        """It waits for one thing less; return what says that it may go on, None if it may now."""
        standing = attempt.standing
        assert standing is not None, "who leaves has entered"
        standing.waits -= 1
        standing.answers -= for_answer
        turn = None
        if standing.waits == 0 and attempt.stop is None and not attempt.settled:
            turn = asyncio.get_running_loop().create_future()
            standing.resumption = Resumption(attempt.job, turn, lambda: self._resume(attempt))
            self._queue.put_back(standing.resumption)
        self._keep_time(attempt, standing)
        return turn

    def _resume(self, attempt: Attempt) -> None:
        """The queue has given it out: it has a worker again."""
        standing = attempt.standing
        assert standing is not None and standing.resumption is not None, "it waits in the queue"
        turn, standing.resumption = standing.resumption.turn, None
        standing.has_worker = True
        self.count -= 1
        self._moved()
        self._keep_time(attempt, standing)
        turn.set_result(None)

    def _withdraw(self, standing: Standing) -> "asyncio.Future[None]":
        resumption, standing.resumption = standing.resumption, None
        assert resumption is not None, "who withdraws waits in the queue"
        resumption.is_final = True
        self._queue.discard(resumption)
        return resumption.turn

    def interrupt(self, attempt: Attempt) -> None:
        """It is to stop: it waits for no answer any more, and for no worker."""
        standing = attempt.standing
        if standing is not None:
            self._close(attempt.job)
            if standing.resumption is not None:
                self._withdraw(standing).cancel()

    def release(self, attempt: Attempt) -> None:
        """It has ended; what is left of it waits for no worker."""
        standing = attempt.standing
        if standing is not None and not standing.has_worker:
            self.count -= 1
            standing.has_worker = True
        self.interrupt(attempt)

    def _keep_time(self, attempt: Attempt, standing: Standing) -> None:
        """Have the time limit stand still while people are asked, and while no worker is free."""
        if attempt.stop is not None or attempt.settled:
            return
        now = self._timers.now()
        stands = standing.answers > 0 or standing.resumption is not None
        if stands and standing.left is None:
            standing.left, attempt.ends_by = attempt.ends_by - now, math.inf
        elif not stands and standing.left is not None:
            attempt.ends_by, standing.left = now + standing.left, None
        if standing.has_worker:
            attempt.context._show_life()
        self._watch(attempt)


class Aside:
    """One wait of an attempt, as an async context manager.

    Leaving it waits for a worker if nothing else is waited for. A cancellation by the handler's own
    means, such as `asyncio.timeout`, is raised when there is one.
    """

    __slots__ = ("_attempt", "_context", "_for_answer", "_sideline")

    def __init__(self, sideline: Sideline, context: JobContext, for_answer: bool) -> None:
        self._sideline = sideline
        self._context = context
        self._for_answer = for_answer

    async def __aenter__(self) -> None:
        try:
            self._attempt = self._sideline.enter(self._context, self._for_answer)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # who ignores it, and tries for ever, must not stop the loop
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        turn = self._sideline.leave(self._attempt, self._for_answer)
        if turn is None:
            return
        cancelled = False
        while not turn.done():
            try:
                await asyncio.wait([turn])
            except asyncio.CancelledError:
                cancelled = True  # it goes on without a worker only to stop
        turn.result()
        if cancelled:
            raise asyncio.CancelledError("cancelled while it waited for a worker")
