"""Which events of all jobs are whose session's: one reader of the runner's feed for all sockets.

Each socket reads by number what is its session's, and is woken for that alone: ten thousand open
sessions cost a busy runner nothing.
"""

import asyncio
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

from ..errors import JobGone, JobNotFound
from ..events import EventLog
from ..runner import JobRunner


class SessionIndex:
    """The numbers in the runner's feed that belong to each session, those that are still kept.

    It is kept up to date while somebody uses it, and catches up when somebody comes again.
    """

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._feed: EventLog | None = None
        self._last = 0
        self._numbers: dict[str, list[int]] = {}
        self._order: deque[tuple[int, str]] = deque()
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._users: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._following: asyncio.Task[None] | None = None

    @property
    def feed(self) -> EventLog:
        """The log of all jobs' events, as it was found last."""
        assert self._feed is not None, "found before anything is read"
        return self._feed

    def find(self, feed: EventLog) -> None:
        """Read this log of all jobs' events from now on: each start of the runner has its own.

        What somebody hasn't read of the one before is gone, as what a log no longer keeps.
        """
        self._feed = feed
        self._forget(feed.first)

    @contextmanager
    def used(self, session_id: str) -> Iterator[None]:
        """Wake who waits for the session, and note what it misses, while the block runs."""
        self.catch_up()
        self._users[session_id] = self._users.get(session_id, 0) + 1
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(
                self._follow(self.feed), name="sessions", context=Context()
            )
        try:
            yield
        finally:
            self._leave(session_id, self._following)

    def _leave(self, session_id: str, following: "asyncio.Task[None]") -> None:
        self._users[session_id] -= 1
        if not self._users[session_id]:
            del self._users[session_id]
            self._dropped.pop(session_id, None)
        if not self._users:
            following.cancel()
            self._following = None

    async def _follow(self, feed: EventLog) -> None:
        while not feed.closed:
            await feed.wait(self._last)
            self.catch_up()
        for session_id in list(self._waiters):
            self._wake(session_id)

    def catch_up(self) -> None:
        """Note whose the events are that have come since the last time. O(those)."""
        feed = self.feed
        if self._last == feed.last:
            return
        reading = feed.read(self._last)
        if reading.missed:  # whose they were nobody knows
            self._dropped |= dict.fromkeys(self._users, feed.first - 1)
        known: dict[str, str | None] = {}
        for number, event in enumerate(reading.events, reading.last - len(reading.events) + 1):
            if event.job_id not in known:
                known[event.job_id] = self._session_of(event.job_id)
            if (session_id := known[event.job_id]) is not None:
                self._numbers.setdefault(session_id, []).append(number)
                self._order.append((number, session_id))
                self._wake(session_id)
        self._last = reading.last
        self._forget(feed.first)

    def _session_of(self, job_id: str) -> str | None:
        try:
            return self._runner.record(job_id).session_id
        except (JobNotFound, JobGone):
            return None

    def _forget(self, first: int) -> None:
        gone = Counter[str]()
        while self._order and self._order[0][0] < first:
            number, session_id = self._order.popleft()
            gone[session_id] += 1
            if session_id in self._users:
                self._dropped[session_id] = number
        for session_id, count in gone.items():
            del self._numbers[session_id][:count]
            if not self._numbers[session_id]:
                del self._numbers[session_id]

    def dropped(self, session_id: str) -> int:
        """Return the number of the last event that may have been the session's and is gone.

        Only since the session is used; 0 if there is none.
        """
        return self._dropped.get(session_id, 0)

    def after(self, session_id: str, number: int, *, limit: int) -> list[int]:
        """Return the numbers of the session's events above `number`, the first of them."""
        numbers = self._numbers.get(session_id, [])
        start = bisect_right(numbers, number)
        return numbers[start : start + limit]

    def add_waiter(self, session_id: str, waiter: "asyncio.Future[None]") -> None:
        """Have `waiter` set when there is an event of the session, or the feed is closed."""
        self._waiters.setdefault(session_id, set()).add(waiter)

    def remove_waiter(self, session_id: str, waiter: "asyncio.Future[None]") -> None:
        """Forget `waiter`; one that isn't there is no error."""
        waiting = self._waiters.get(session_id, set())
        waiting.discard(waiter)
        if not waiting:
            self._waiters.pop(session_id, None)

    def _wake(self, session_id: str) -> None:
        for waiter in self._waiters.get(session_id, ()):
            if not waiter.done():
                waiter.set_result(None)
