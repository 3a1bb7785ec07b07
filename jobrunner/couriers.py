"""When deliveries are tried, again and again, until each is delivered or dead.

    take -> pending -> its time -> its host's line -> sending -> delivered
               ^                                         |
               +------------------ failed, tries left ---+--> dead

Tries that come due while their host's circuit is open fail without being made, so that each
delivery has its end in the time of the schedule, however many wait with it.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from random import Random

from .deliveries import Delivery, DeliveryStatus, Ledger
from .hosts import Host
from .posting import Answer
from .stuck import disown
from .timers import Timers

logger = logging.getLogger("jobrunner.couriers")

AT_ONCE = 32
"""Tries at once, at all hosts together."""
MAX_UNDER_WAY = 10_000
"""Deliveries that haven't ended; half of them at most may go to one host."""
MAX_BYTES = 67_108_864
"""Bytes of their bodies."""
MAX_HOSTS = 10_000
"""Hosts whose failures are remembered while nothing is under way to them."""
MAX_ENDED_URLS = 10_000
"""URLs whose subscription is remembered to have ended."""
LEAVING = 1.0
"""Seconds for which tries that are cut off may take to end."""


class Couriers:
    """Carries deliveries out.

    Args:
        post: Makes one try; raises nothing.
        schedule: Upper ends in seconds of the random delay before each try.
        ledger: Where it is noted that they have ended.
        timers: What wakes the next try.
        now: The current time in unix seconds.
        random: Where the jitter comes from.
    """

    def __init__(
        self,
        *,
        post: Callable[[Delivery, bytes], Awaitable[Answer]],
        schedule: tuple[float, ...],
        ledger: Ledger,
        timers: Timers,
        now: Callable[[], float],
        random: Random,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        """How many deliveries ended as delivered and as dead, and how many tries failed."""
        self._post = post
        self._schedule = schedule
        self._ledger = ledger
        self._timers = timers
        self._now = now
        self._random = random
        self._is_open = False
        self._under_way: dict[str, Delivery] = {}
        self._bytes = 0
        self._hosts: dict[str, Host] = {}
        self._ready: dict[Host, None] = {}  # hosts with room, which take turns
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def open(self) -> None:
        """Go on with what was left when it was closed."""
        self._is_open = True
        for delivery in list(self._under_way.values()):
            self._host(delivery).under_way += 1
            self._wait(delivery, (delivery.next_attempt_at or 0.0) - self._now())

    def take(self, delivery: Delivery, body: bytes) -> None:
        """Deliver something new; when there is no room for it, it is dead at once."""
        host = self._host(delivery)
        if self._is_full(host, len(body)):
            self._end(delivery, "dead", f"{len(self)} deliveries are under way, and no more fit")
            self._drop_if_idle(host)
            return
        delivery.body, delivery.tries = body, 0
        self._under_way[delivery.id] = delivery
        self._bytes += len(body)
        host.under_way += 1
        self._wait(delivery, self._jitter(delivery))

    def again(self, delivery: Delivery, body: bytes) -> None:
        """Deliver once more, from the begin of the schedule; one that is sent now is left to it."""
        self._ended.pop(delivery.url, None)
        if delivery.has_ended:
            self._ledger.reopen(delivery)
            self.take(delivery, body)
        elif delivery.timer is not None:
            self._timers.cancel(delivery.timer)
            delivery.tries = 0
            self._due(delivery)

    def _is_full(self, host: Host, size: int) -> bool:
        return (
            len(self._under_way) >= MAX_UNDER_WAY
            or host.under_way >= MAX_UNDER_WAY // 2
            or self._bytes + size > MAX_BYTES
        )

    def _host(self, delivery: Delivery) -> Host:
        name = f"{delivery.target.host}:{delivery.target.port}"
        if name not in self._hosts:
            self._hosts[name] = Host(name)
        return self._hosts[name]

    def _drop_if_idle(self, host: Host) -> None:
        if host.under_way == 0 and (host.failures == 0 or len(self._hosts) > MAX_HOSTS):
            self._hosts.pop(host.name, None)

    def _jitter(self, delivery: Delivery) -> float:
        return self._random.uniform(0.0, self._schedule[delivery.tries])

    def _wait(self, delivery: Delivery, delay: float) -> None:
        """Have it tried after `delay` seconds, or when there are timers again."""
        delivery.status = "pending"
        delivery.next_attempt_at = self._now() + max(0.0, delay)
        if self._is_open and delay > 0:
            delivery.timer = self._timers.after(delay, partial(self._due, delivery))
        elif self._is_open:
            self._due(delivery)

    def _due(self, delivery: Delivery) -> None:
        delivery.timer = None
        host = self._host(delivery)
        if host.is_open(self._timers.now()):
            self._skip(delivery, host)
        else:
            host.line.append(delivery)
            self._pump([host])

    def _skip(self, delivery: Delivery, host: Host) -> None:
        self._failed(
            delivery, f"not tried: {host.name} failed {host.failures} times in a row", wait=0.0
        )

    def _pump(self, hosts: Iterable[Host]) -> None:
        """Start as many tries as there is room for, at these hosts and at those that wait."""
        self._ready |= dict.fromkeys(hosts)
        while self._ready and len(self._tasks) < AT_ONCE:
            host = next(iter(self._ready))
            del self._ready[host]
            if host.has_room:
                self._begin(host.line.popleft(), host)
                self._ready[host] = None

    def _begin(self, delivery: Delivery, host: Host) -> None:
        if delivery.url in self._ended:
            self._finish(delivery, "dead", _ENDED)
            return
        host.sending += 1
        delivery.status, delivery.next_attempt_at = "sending", None
        self._tasks[delivery.id] = asyncio.get_running_loop().create_task(
            self._send(delivery, host),
            name=f"webhook {delivery.id}",
            context=Context(),  # not that of any job (T14)
        )

    async def _send(self, delivery: Delivery, host: Host) -> None:
        task, answer = asyncio.current_task(), Answer(None, "the try was cut off")
        try:
            answer = await self._post(delivery, delivery.body or b"")
        finally:
            if self._tasks.get(delivery.id) is task:  # not closed meanwhile
                del self._tasks[delivery.id]
                host.sending -= 1
                self._settle(delivery, host, answer)
                self._pump([host])

    def _settle(self, delivery: Delivery, host: Host, answer: Answer) -> None:
        delivery.attempts += 1
        delivery.last_attempt_at = self._now()
        delivery.status_code = answer.status
        self._judge(host, answer)
        if answer.error is None:
            self._finish(delivery, "delivered", None)
        elif answer.status == 410:
            self._end_url(delivery.url)
            self._finish(delivery, "dead", _ENDED)
        else:
            self._failed(delivery, answer.error, answer.wait)

    def _judge(self, host: Host, answer: Answer) -> None:
        host.judge(answer, self._timers.now())
        if host.is_open(self._timers.now()):
            line, host.line = host.line, deque()
            for waiting in line:
                self._skip(waiting, host)

    def _failed(self, delivery: Delivery, error: str, wait: float) -> None:
        self.outcomes["failed"] += 1
        delivery.tries += 1
        delivery.error = error
        if delivery.tries < len(self._schedule):
            self._wait(delivery, max(self._jitter(delivery), wait))
        else:
            self._finish(delivery, "dead", error)

    def _finish(self, delivery: Delivery, status: DeliveryStatus, error: str | None) -> None:
        """End one that was under way."""
        host = self._host(delivery)
        host.under_way -= 1
        self._drop_if_idle(host)
        del self._under_way[delivery.id]
        self._bytes -= len(delivery.body or b"")
        self._end(delivery, status, error)

    def _end(self, delivery: Delivery, status: DeliveryStatus, error: str | None) -> None:
        delivery.status, delivery.error = status, error
        delivery.body = delivery.next_attempt_at = None
        self.outcomes[status] += 1
        self._ledger.end(delivery)
        if status == "dead":
            fields = {"job_id": delivery.job_id, "job_type": delivery.job_type}
            logger.error("webhook %s of job %s is dead after %d tries: %s",
                         delivery.id, delivery.job_id, delivery.attempts, error,
                         extra=fields)  # fmt: skip

    def _end_url(self, url: str) -> None:
        self._ended[url] = None
        if len(self._ended) > MAX_ENDED_URLS:
            del self._ended[next(iter(self._ended))]

    async def stop(self, timeout: float) -> None:
        """Let tries end for `timeout` seconds, and keep what isn't delivered by then."""
        ends = self._timers.now() + timeout
        while self._tasks and (left := ends - self._timers.now()) > 0:
            await asyncio.wait(list(self._tasks.values()), timeout=left)
        if cut_off := self.close():
            await asyncio.wait(cut_off, timeout=LEAVING)
        if self._under_way:
            logger.warning("stopped: %d webhook deliveries are left", len(self))

    def close(self) -> list["asyncio.Task[None]"]:
        """Cut off what is tried now, and return it; all that hasn't ended waits for `open`."""
        self._is_open = False
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        disown(tasks)
        for delivery in self._under_way.values():
            self._timers.cancel(delivery.timer)
            delivery.timer = None
            if delivery.status == "sending":
                delivery.status, delivery.next_attempt_at = "pending", self._now()
        self._hosts.clear()
        self._ready.clear()
        return tasks


_ENDED = "HTTP 410: the receiver has ended the subscription to this URL"
