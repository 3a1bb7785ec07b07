"""A receiver of webhooks in process: it records, checks signatures, and fails as it is told."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx2

from ..errors import WebhookRejected
from ..handles import JobHandle
from ..webhooks import Secret, new_secret, verify

PUBLIC = "1.1.1.1"
"""What each host's name resolves to; nothing is ever sent there."""


class Received(NamedTuple):
    """A webhook as it came."""

    at: float
    """When, on the loop's clock."""
    url: str
    """Where it was sent to."""
    headers: Mapping[str, str]
    """With `webhook-id`, the same in every try, `webhook-timestamp` and `webhook-signature`."""
    event: Mapping[str, Any]
    """`type`, `timestamp` and `data`, the job."""
    status: int | None
    """What was answered; None when the answer was lost."""


class WebhookReceiver(httpx2.AsyncBaseTransport):
    """Takes webhooks in place of the network, in real and in virtual time.

    Each is verified as a receiver should do it, and what isn't signed well is answered with 401.
    """

    def __init__(self) -> None:
        self.secret: Secret = new_secret()
        """What the messages are signed with."""
        self.url = "https://webhooks.test/jobs"
        """Where to send them; every other URL leads here too."""
        self.received: list[Received] = []
        """All that came, in order, also what was refused."""
        self.told_of: set[str] = set()
        """Jobs of whose failure `told` has told somebody."""
        self._replies: list[tuple[int | None, Mapping[str, str]]] = []
        self._waiters: list[asyncio.Future[None]] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return a public address for each name."""
        return [PUBLIC]

    def fail(self, times: int = 1, *, status: int = 503, retry_after: float | None = None) -> None:
        """Answer the next requests with an error.

        Args:
            times: How many.
            status: The HTTP status.
            retry_after: Seconds to wait, as the answer says; None when it doesn't say.
        """
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self._replies += [(status, headers)] * times

    def lose(self, times: int = 1) -> None:
        """Take the next requests, and lose the answers on the way."""
        self._replies += [(None, {})] * times

    @property
    def delivered(self) -> list[Mapping[str, Any]]:
        """The events that were taken with a 2xx, in order."""
        return [each.event for each in self.received if each.status == 204]

    async def told(
        self, type: str, of: JobHandle[Any] | str | None = None, *, within: float = 7_200.0
    ) -> Mapping[str, Any]:
        """Wait until an event has been taken, and return it.

        Args:
            type: `job.completed`, `job.failed`, `job.cancelled` or `job.input_required`.
            of: The job, or its id; None for any.
            within: Seconds to wait, on the loop's clock.

        Raises:
            AssertionError: It hasn't come by then; says what has.
        """
        job_id = of.id if isinstance(of, JobHandle) else of
        try:
            async with asyncio.timeout(within):
                while (event := self._find(type, job_id)) is None:
                    await self._next()
        except TimeoutError:
            raise AssertionError(self._missing(type, job_id, within)) from None
        if type == "job.failed":
            self.told_of.add(event["data"]["job_id"])
        return event

    def _find(self, type: str, job_id: str | None) -> Mapping[str, Any] | None:
        for event in self.delivered:
            if event["type"] == type and job_id in (None, event["data"]["job_id"]):
                return event
        return None

    async def _next(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _missing(self, type: str, job_id: str | None, within: float) -> str:
        of = "" if job_id is None else f" of job {job_id}"
        came = [
            f"  {each.event.get('type')} of job {each.event.get('data', {}).get('job_id')}: "
            + ("the answer was lost" if each.status is None else f"answered {each.status}")
            for each in self.received
        ]
        there = "these came:\n" + "\n".join(came) if came else "none came"
        return f"no webhook {type}{of} was taken within {within:g} s; {there}"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Take a request; for the runner."""
        body, url = await request.aread(), request.extensions.get("webhook_url", str(request.url))
        status, headers = self._answer(url, request.headers, body)
        at = asyncio.get_running_loop().time()
        event: Mapping[str, Any] = json.loads(body)
        self.received.append(Received(at, url, dict(request.headers), event, status))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if status is None:
            raise httpx2.ReadError("the answer was lost, on purpose")
        return httpx2.Response(status, headers=headers)

    def _answer(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int | None, Mapping[str, str]]:
        secret = self.secret(url) if callable(self.secret) else self.secret
        sent_at = int(headers["webhook-timestamp"])
        try:
            verify(body, dict(headers), secret, now=lambda: sent_at)
        except WebhookRejected:
            return 401, {}
        return self._replies.pop(0) if self._replies else (204, {})
