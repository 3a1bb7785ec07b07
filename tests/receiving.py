"""Receivers of webhooks: in process and virtual time, and a real one on a port of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2

from jobrunner import (
    DeliveryView,
    JobHandle,
    JobRunner,
    PermanentError,
    RetryPolicy,
    Webhooks,
)
from jobrunner.testing import unix_now
from jobrunner.webhooks import new_secret, verify
from tests.accepting import accepting

SECRET = new_secret()
Reply = int | tuple[int, Mapping[str, str]] | Exception
"""A status, a status with headers, or what the connection fails with."""


class Received(NamedTuple):
    """A request as it came."""

    at: float
    """When, on the loop's clock."""
    url: str
    headers: Mapping[str, str]
    body: bytes
    extensions: Mapping[str, Any]

    @property
    def message(self) -> Any:
        """What it says, its signature checked."""
        stamp = int(self.headers["webhook-timestamp"])
        return verify(self.body, self.headers, SECRET, now=lambda: stamp)


class Receiver(httpx2.AsyncBaseTransport):
    """Answers in process: first as it is told, then always 204.

    Args:
        replies: What it answers, one after the other; the last for ever.
        seconds: How long it takes for each.
    """

    def __init__(self, *replies: Reply, seconds: float = 0.0) -> None:
        self.received: list[Received] = []
        self.sending = 0
        self.most = 0
        self._replies = list(replies) or [204]
        self._seconds = seconds
        self._came = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        clock, body = asyncio.get_running_loop().time(), await request.aread()
        url, headers = str(request.url), dict(request.headers)
        self.received.append(Received(clock, url, headers, body, dict(request.extensions)))
        self._came.set()
        self.sending += 1
        self.most = max(self.most, self.sending)
        try:
            if self._seconds:
                await asyncio.sleep(self._seconds)
        finally:
            self.sending -= 1
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, sent = reply if isinstance(reply, tuple) else (reply, {})
        return httpx2.Response(status, headers=sent)

    def webhooks(self, **options: Any) -> Webhooks:
        """Return options by which every job's events come here."""
        given = {"secret": SECRET, "url": "https://192.0.2.1/hook", "allow_private": True}
        return Webhooks(**{**given, "transport": self, **options})

    @property
    def times(self) -> list[float]:
        """When each request came."""
        return [round(request.at, 3) for request in self.received]

    async def first(self) -> Received:
        """Wait for the first request."""
        await self._came.wait()
        return self.received[0]


def resolver(answers: Mapping[str, Sequence[str]]) -> Callable[[str, int], Any]:
    """Return a resolver that knows these names, one answer after the other; the last for ever."""
    left = {name: list(given) for name, given in answers.items()}

    async def resolve(host: str, port: int) -> list[str]:
        found = left.get(host)
        if found is None:
            raise OSError(f"{host} is unknown")
        return (found.pop(0) if len(found) > 1 else found[0]).split()

    return resolve


class Listening(NamedTuple):
    """A real receiver."""

    port: int
    heads: list[bytes]
    """What came before the body, of each connection."""

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Return where it listens."""
        return f"{scheme}://{host}:{self.port}/hook"


Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def listening(
    behave: Behave | bytes = b"", *, head: bool = True, **options: Any
) -> AsyncIterator[Listening]:
    """Listen on a free port; each connection gets these bytes once its head is read, or this."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if head:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(behave, bytes):
                writer.write(behave)
                await writer.drain()
            else:
                await behave(reader, writer)
        finally:
            writer.close()

    async with accepting(serve, **options) as port:
        yield Listening(port, heads)


def data_of(received: Received) -> Any:
    """Return the job that a request tells of."""
    return json.loads(received.body)["data"]


def runner_telling(receiver: Receiver, *, runner: Any = None, **hooks: Any) -> JobRunner:
    """Return a runner with a job type that ends at once."""
    webhooks = receiver.webhooks(**hooks)
    given = {"now": unix_now, "seed": 1, "webhooks": webhooks, "workers": 100, **(runner or {})}
    made = JobRunner(**given)

    @made.job
    async def quick() -> None:
        pass

    return made


async def run(runner: JobRunner, **options: Any) -> JobHandle[Any]:
    """Return a job that has ended."""
    job = await runner.submit("quick", **options)
    await job.wait()
    return job


async def only(runner: JobRunner, job: JobHandle[Any]) -> DeliveryView:
    """Return the one delivery of a job."""
    (delivery,) = await runner.deliveries(job.id)
    return delivery


def runner_with_webhooks(receiver: Receiver, *, hooks: Any = None, **options: Any) -> JobRunner:
    """Return a runner whose jobs' events go to the receiver."""
    webhooks = receiver.webhooks(**(hooks or {}))
    runner = JobRunner(**{"now": unix_now, "seed": 1, "webhooks": webhooks, **options})

    @runner.job
    async def echo(value: Any = None, seconds: float = 0.0) -> Any:
        await asyncio.sleep(seconds)
        return value

    @runner.job(retry=RetryPolicy(max_attempts=2))
    async def fail(permanent: bool = True) -> None:
        raise PermanentError("no") if permanent else OSError("down")

    return runner


async def settled(runner: JobRunner) -> None:
    """Let the time of the whole schedule pass."""
    await asyncio.sleep(5_000.0)
    assert "pending" not in runner.stats().webhooks
