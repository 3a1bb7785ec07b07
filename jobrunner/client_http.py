"""Requests of a client: where they go, how long they may take, and when they are made again."""

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from .client_address import address, authorization, is_local
from .client_errors import error_from, not_a_job, retry_after
from .errors import (
    InvalidParams,
    JobRunnerError,
    QueueFull,
    RunnerNotStarted,
    ServerUnreachable,
    UsageError,
    WrongLoop,
)
from .limits import check_seconds
from .redaction import MASK
from .revealing import revealed

logger = logging.getLogger("jobrunner.client")

CLOSED = "the client is closed; make another one"
MAX_CONNECTIONS = 1_000
"""Connections of a client at once; each wait and each stream that is open holds one."""
MAX_IDLE = 20
"""Connections that are kept for the next request."""
SILENCE = 45.0
"""Seconds without a byte after which a stream is taken for dead; the server sends one in 15."""
BASE, CAP = 0.1, 5.0
"""Seconds: the first pause is at most the one, each next at most twice as long, up to the other."""
TRANSIENT = frozenset({429, 502, 503, 504})
"""Statuses that say nothing of the request, and may be others a moment later."""
LOST = (
    httpx2.TimeoutException,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
    httpx2.DecodingError,
)
"""What the network did to a request or its answer."""
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""What happens before a server has seen anything of the request."""


class Patience:
    """How long, and how often, one thing is tried again while the server is not there.

    Args:
        seconds: How long after the first failure.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._failures = 0
        self._until: float | None = None

    def connected(self) -> None:
        """The server is there, whatever becomes of its answer."""
        self._until = None

    def heard(self) -> None:
        """It was no failure: what fails next fails for the first time, and is tried at once."""
        self._failures = -1
        self._until = None

    async def pause(self, error: JobRunnerError, *, at_least: float = 0.0) -> None:
        """Wait before the next try, or raise `error` when the time is over."""
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._seconds
        most = min(CAP, BASE * 2**self._failures) if self._failures >= 0 else 0.0
        delay = max(at_least, random.uniform(0.0, most))
        if now + delay >= self._until:
            raise error
        self._failures = min(self._failures + 1, 10)
        logger.info("trying again in %.1f s: %s", delay, error)
        await asyncio.sleep(delay)


class Http:
    """One server, and the connections to it.

    Args:
        base_url: Where the runner's app is, with the path that it is mounted at.
        token: What it wants to be shown.
        headers: What else to send with each request.
        timeout: Seconds in which an answer has to come, beyond what it was asked to wait.
        retry_for: Seconds for which a request that failed is made again.
        verify: How the server's certificate is checked.
        proxy: URL of a proxy.
        trust_env: Whether proxies and certificates named in the environment are used.
        transport: What carries the requests in place of the network.

    Raises:
        InvalidOption: One of them has a value that it can't have.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        headers: Mapping[str, str] | None,
        timeout: float,
        retry_for: float,
        verify: ssl.SSLContext | bool,
        proxy: str | None,
        trust_env: bool,
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        self.url, token_in_url = address(base_url)
        self.timeout = check_seconds("timeout", timeout) or 0.0
        self.retry_for = check_seconds("retry_for", retry_for, zero=True) or 0.0
        if is_local(self.url.host) and proxy is None:
            trust_env = False  # a proxy couldn't reach it, and would get to see the token
            if self.url.scheme == "http":
                verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading none saves 20 ms
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client = httpx2.AsyncClient(
            base_url=self.url,
            headers=authorization(token_in_url if token is None else token) | dict(headers or {}),
            timeout=self.timeout,
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE
            ),
            verify=verify,
            proxy=proxy,
            trust_env=trust_env,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: int = 0,
        repeatable: bool = True,
        patience: Patience | None = None,
    ) -> httpx2.Response:
        """Make a request, again while the server is not there, and return its success.

        Args:
            body: JSON values.
            wait: Seconds that the server may take longer, because it was asked to wait.
            repeatable: Whether making it twice is the same as once; if it isn't, it is made again
                only where the server can't have seen it.
            patience: How often it is made again, instead of the client's own.

        Raises:
            ServerUnreachable: There was no answer.
            JobRunnerError: What the server answered.
        """
        request = self._client.build_request(
            method,
            path,
            content=None if body is None else _encode(body),
            params=query,
            headers=dict(headers or {}) | ({} if body is None else _IS_JSON),
            timeout=httpx2.Timeout(self.timeout, read=self.timeout + wait),
        )
        patience = patience or Patience(self.retry_for)
        while True:
            self._check()
            try:
                response = await self._client.send(request)
            except LOST as error:
                unreachable = self.unreachable(error)
                if not (repeatable or isinstance(error, UNSENT)):
                    raise unreachable from error
                await patience.pause(unreachable)
            else:
                if response.is_success:
                    return response
                await self.refused(response, patience, repeatable=repeatable)

    async def refused(
        self, response: httpx2.Response, patience: Patience, *, repeatable: bool = True
    ) -> None:
        """Raise what the response says, unless another may come when it is asked for again."""
        await response.aread()
        error = error_from(response)
        if _is_transient(response, error) and (repeatable or response.status_code == 503):
            await patience.pause(error, at_least=retry_after(response))
        else:
            raise error

    @asynccontextmanager
    async def stream(self, path: str, *, after: int | None) -> AsyncIterator[httpx2.Response]:
        """Open an event stream that goes on after a number; None for what comes from now on."""
        self._check()
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        timeout = httpx2.Timeout(self.timeout, read=SILENCE)
        async with self._client.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield response

    def unreachable(self, error: Exception | str) -> ServerUnreachable:
        """Return the error that says that there is no answer, and why."""
        if isinstance(error, httpx2.PoolTimeout):
            said = f"all {MAX_CONNECTIONS} connections of this client are in use"
        elif isinstance(error, httpx2.ReadTimeout):
            said = "it took the request and did not answer in time"
        else:
            said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        unreachable = ServerUnreachable(
            f"no answer from {self.url}: {said}; is the server running there, and can it be "
            "reached from here?"
        )
        unreachable.__cause__ = None if isinstance(error, str) else error
        return unreachable

    def _check(self) -> None:
        """Connections belong to the loop that they were opened in, and end with the client."""
        if self._client.is_closed:
            raise UsageError(CLOSED)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise WrongLoop(
                "the client belongs to another event loop; make one in each loop, or use "
                "SyncJobClient, which has a loop of its own"
            )


def json_of(response: httpx2.Response) -> bytes:
    """Return a success as JSON text.

    Raises:
        ServerProblem: It is something else: base_url names no runner's app.
    """
    if response.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise not_a_job(response)
    return response.content


_IS_JSON = {"Content-Type": "application/json"}
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        raw = to_json(body)
        if MASK.encode() not in raw:
            return raw
        return to_json(revealed(from_json(raw), _ANY.dump_python(body, warnings=False)))
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise InvalidParams(f"the request can't be JSON: {error}") from None


def _is_transient(response: httpx2.Response, error: JobRunnerError) -> bool:
    """A full queue is the caller's to decide on, and a runner that isn't started stays so."""
    decided = isinstance(error, QueueFull | RunnerNotStarted)
    return response.status_code in TRANSIENT and not decided
