"""The part of a client that hands jobs in, and has many of them as one."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Unpack

import httpx2

from .batch_views import BatchView
from .client_batches import RemoteBatch
from .client_events import follow
from .client_jobs import ClientOptions, batch_path, key_header, parse, submit_body
from .client_watching import WatchVerbs
from .errors import QueueFull
from .events import Event
from .limits import check_seconds


class BatchVerbs(WatchVerbs):
    """Takes batches to a server, finds them again, and ends them."""

    async def submit_batch(
        self,
        type: str,
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[ClientOptions],
    ) -> RemoteBatch:
        """Hand in a job for each of the params, all of them or none, and return their handle.

        Safe to be tried again, which it is by itself: an answer that was lost gives one batch.

        Args:
            type: Name of the job type.
            params: Values for the handler's parameters, once for each job; none is no error.
            max_in_flight: How many of the jobs run at once; None for as many as there are workers.
            options: See `ClientOptions`; they hold for each job, but for the idempotency key, which
                is the batch's.

        Raises:
            UnknownJobType: There is no such type.
            InvalidParams: Some params don't fit; `errors` says which, and where: `#/17/path`.
            InvalidOption: An option has a value that it can't have.
            PayloadTooLarge: There are more jobs or bytes than ever may be.
            QueueFull: There is no room for all of them, after `max_wait` seconds.
            DuplicateJob: One has the concurrency key of a live job, and duplicates are rejected.
            IdempotencyKeyReused: The key came before, with another request.
            ServerUnreachable: There was no answer.
        """
        body = submit_body(type, list(params), options)
        if max_in_flight is not None:
            body["max_in_flight"] = max_in_flight
        response = await self._submit("/batches", body, options)
        replayed = "idempotency-replayed" in response.headers and "idempotency_key" in options
        outcome = "replayed" if replayed else "created"
        return RemoteBatch(self, parse(BatchView, response).batch_id, outcome=outcome)

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return a handle on a batch; the server isn't asked whether there is one."""
        return RemoteBatch(self, batch_id)

    async def get_batch(self, batch_id: str, *, wait: int = 0) -> BatchView:
        """Return the batch as it stands now, or as it ended within `wait` seconds, at most 30.

        Raises:
            BatchNotFound: There is no such batch.
            BatchGone: It has ended and is no longer kept.
        """
        query = {"wait": wait} if wait else None
        response = await self._http.call("GET", batch_path(batch_id), query=query, wait=wait)
        return parse(BatchView, response)

    def batch_events(self, batch_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the batch's events above number `after`; see `RemoteBatch.events`."""
        return follow(self._http, f"{batch_path(batch_id)}/stream", after)

    async def cancel_batch(self, batch_id: str, note: str | None = None) -> BatchView:
        """Ask all jobs of a batch to stop, each as `cancel` would, and return it as it stands then.

        Those that wait are cancelled when this returns. Twice is the same as once.

        Raises:
            BatchNotFound, BatchGone: There is no such batch any more.
        """
        path, body = f"{batch_path(batch_id)}/cancel", {"reason": note}
        return parse(BatchView, await self._http.call("POST", path, body=body))

    async def _submit(
        self, path: str, body: Mapping[str, Any], options: ClientOptions
    ) -> httpx2.Response:
        """Post jobs, again while the queue is full and there is time."""
        key = options.get("idempotency_key") or secrets.token_urlsafe(16)
        headers = {"Idempotency-Key": key_header(key)}
        max_wait = check_seconds("max_wait", options.get("max_wait", 0.0), zero=True)
        loop = asyncio.get_running_loop()
        until = None if max_wait is None else loop.time() + max_wait
        while True:
            try:
                return await self._http.call("POST", path, body=body, headers=headers)
            except QueueFull as full:
                left = full.retry_after if until is None else until - loop.time()
                if left <= 0:
                    raise
                await asyncio.sleep(min(full.retry_after, left))
