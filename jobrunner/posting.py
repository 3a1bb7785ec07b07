"""One try to deliver a webhook: look the name up, check what it says, post, read the status.

Nothing here can take longer than the total deadline, whatever the other side does: of the answer
only status and headers are read, redirects are not followed, no proxy and no netrc of the
environment is asked, and no connection is used twice.

The connection goes to an address that was checked a moment ago, and not to the name, which could
resolve to another one by now; `Host`, SNI and the certificate still go by the name.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .addresses import Resolve, Target, addresses_of
from .deliveries import Delivery
from .errors import InvalidOption
from .http_errors import wait_of
from .signing import keys_of, sign
from .threads import Threads
from .wording import class_name, clip, describe

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger("jobrunner.posting")

MAX_LOOKUPS = 32
"""Names that are looked up at once; a resolver that hangs holds a thread."""
LOOKUP = 2.0
"""Seconds for which a submit waits for the addresses of its URL."""
MAX_ERROR = 500
"""Characters of why a try failed."""
WAITS = frozenset({429, 502, 503, 504})
"""Statuses whose `Retry-After` is obeyed."""


class Answer(NamedTuple):
    """What came of a try."""

    status: int | None
    """HTTP status; None when there was no answer."""
    error: str | None
    """Why it failed; None when it didn't."""
    wait: float = 0.0
    """Seconds for which the receiver wants to be left alone."""


class Poster:
    """Posts webhooks.

    Args:
        secret: The secrets, or a function of the URL that returns them.
        timeout: Seconds for a whole try.
        allow_private: Whether addresses may be posted to that aren't public.
        resolve: Returns the addresses of a name; None for the system's resolver.
        transport: What connects; None for a direct connection.
        now: The current time in unix seconds.
    """

    def __init__(
        self,
        *,
        secret: object,
        timeout: float,
        allow_private: bool,
        resolve: Resolve | None,
        transport: "httpx2.AsyncBaseTransport | None",
        now: Callable[[], float],
    ) -> None:
        self._secret = secret
        self._timeout = timeout
        self._allow_private = allow_private
        self._threads = Threads(MAX_LOOKUPS)
        self._resolve = resolve or self._system
        self._given = transport
        self._own: httpx2.AsyncBaseTransport | None = None
        self._making = asyncio.Lock()
        self._now = now

    def open(self) -> None:
        """Work in the loop that runs now."""
        self._making = asyncio.Lock()

    async def check(self, target: Target) -> None:
        """Look a new URL's host up, for 2 s at most; no answer in time is no refusal.

        Raises:
            InvalidOption: It has an address that isn't public.
        """
        try:
            async with asyncio.timeout(LOOKUP):
                await addresses_of(target, self._resolve, allow_private=self._allow_private)
        except InvalidOption:
            raise
        except Exception as error:  # anybody's resolver; it is asked again before anything is sent
            logger.info("%s can't be looked up: %s", target.host, describe(error))

    async def post(self, delivery: Delivery, body: bytes) -> Answer:
        """Try once. Takes no longer than the timeout, and raises nothing but its cancellation."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(delivery, body)
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout:g} s")
        except Exception as error:  # what a stranger's server, resolver or bytes may lead to
            return Answer(None, clip(f"{class_name(error)}: {describe(error)}", MAX_ERROR))

    async def _post(self, delivery: Delivery, body: bytes) -> Answer:
        private = self._allow_private
        found = await addresses_of(delivery.target, self._resolve, allow_private=private)
        response = await self._first(found, delivery, self._headers(delivery, body), body)
        await response.aclose()  # without its body, so the connection is closed
        return self._answer(response)

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        from . import __version__  # the package isn't there yet when this module is read

        given = self._secret(delivery.url) if callable(self._secret) else self._secret
        timestamp = int(self._now())
        trace = {"traceparent": delivery.traceparent} if delivery.traceparent else {}
        return trace | {
            "Host": delivery.target.authority,
            "Content-Type": "application/json",
            "User-Agent": f"jobrunner/{__version__}",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(keys_of(given), delivery.id, timestamp, body),
        }

    async def _first(
        self, addresses: Sequence[str], delivery: Delivery, headers: dict[str, str], body: bytes
    ) -> "httpx2.Response":
        """Return the answer of the first address that a connection can be made to."""
        import httpx2  # not for everybody to load

        share = self._timeout / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._send(address, delivery, headers, body, share)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                pass  # many a host has an IPv6 address, and many a machine has no IPv6
        return await self._send(addresses[-1], delivery, headers, body, self._timeout)

    async def _send(
        self, address: str, delivery: Delivery, headers: dict[str, str], body: bytes, connect: float
    ) -> "httpx2.Response":
        import httpx2  # not for everybody to load

        target = delivery.target
        path = target.path.encode("ascii")
        url = httpx2.URL(scheme=target.scheme, host=address, port=target.port, raw_path=path)
        named = {
            "sni_hostname": target.host.rstrip("."),
            "timeout": {"connect": connect},
            "webhook_url": delivery.url,
        }
        request = httpx2.Request("POST", url, headers=headers, content=body, extensions=named)
        return await (await self._transport()).handle_async_request(request)

    def _answer(self, response: "httpx2.Response") -> Answer:
        import httpx2  # not for everybody to load

        status = response.status_code
        if response.is_success:
            return Answer(status, None)
        refused = httpx2.HTTPStatusError("", request=None, response=response)  # type: ignore[arg-type]  # to ask it for its wait
        wait = wait_of(refused, self._now()) if status in WAITS else 0.0
        if response.is_redirect:
            return Answer(status, f"HTTP {status}: redirects are not followed")
        return Answer(status, f"HTTP {status}", wait)

    async def _transport(self) -> "httpx2.AsyncBaseTransport":
        if self._given is not None:
            return self._given
        async with self._making:
            if self._own is None:  # in a thread: certificates take 60 ms to load
                self._own = await self._threads.call(_direct, "webhooks", abandon=True)
            return self._own

    async def _system(self, host: str, port: int) -> Sequence[str]:
        look = partial(socket.getaddrinfo, host.rstrip("."), port, type=socket.SOCK_STREAM)
        infos = await self._threads.call(look, f"look up {host[:60]}", abandon=True)
        return [str(info[4][0]) for info in infos]


def _direct() -> "httpx2.AsyncBaseTransport":
    from .direct import Direct  # not for everybody to load

    return Direct()
