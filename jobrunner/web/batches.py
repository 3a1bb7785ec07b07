"""The endpoints of batches: many jobs that are submitted, watched and cancelled as one."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ..batch_views import batch_json
from ..batches import Batch
from ..errors import RequestError
from ..jobs import Job
from .api import (
    MAX_WAIT,
    NO_STORE,
    Api,
    CancelBody,
    SubmitBody,
    Whole,
    _closed,
    _options,
    _parse,
)
from .body import read_json
from .manners import rate_limit
from .mounting import root_of
from .query import cursor, integer, query
from .sources import BatchSource
from .streams import EventStream


class BatchBody(SubmitBody):
    """Body of `POST /batches`; the options hold for each of the jobs."""

    params: list[dict[str, Any]]  # type: ignore[assignment]  # those of many in place of one's
    """Values for the type's parameters, once for each job."""
    max_in_flight: Annotated[Whole, Field(ge=1)] | None = None
    """How many of the jobs run at once; as many as there are workers if not given."""


class BatchApi:
    """The endpoints.

    Args:
        api: Those of jobs, with which they share the runner and the places for streams.
    """

    def __init__(self, api: Api) -> None:
        self._runner = api.runner
        self._places = api.places

    async def submit(self, request: Request) -> Response:
        """`POST /batches`: 202 and the batch."""
        body = _parse(BatchBody, await read_json(request))
        handle = await self._runner.submit_batch(
            body.type, body.params, body.max_in_flight, **_options(body, request)
        )
        batch = self._runner.batch_record(handle.id)
        headers = rate_limit(self._runner.room(body.type))
        headers["Location"] = self._links(request, batch)["self"]
        if handle.outcome == "replayed":
            headers["Idempotency-Replayed"] = "true"
        return self._answer(request, batch, 202, headers)

    async def get(self, request: Request) -> Response:
        """`GET /batches/{id}`: the batch; with `?wait=N` not before its end."""
        wait = integer(query(request, {"wait"}).get("wait", "0"), "wait")
        batch = self._batch(request)
        await _closed(batch.log, min(wait, MAX_WAIT))
        return self._answer(request, batch, 200)

    async def cancel(self, request: Request) -> Response:
        """`POST /batches/{id}/cancel`: 202 while its jobs stop, 200 when all have ended."""
        body = _parse(CancelBody, await read_json(request))
        batch = self._batch(request)
        await self._runner.cancel_batch(batch.id, body.reason)
        return self._answer(request, batch, 200 if batch.is_final else 202)

    async def stream(self, request: Request) -> Response:
        """`GET /batches/{id}/stream`: the batch's events; 204 when they have all been read."""
        batch = self._batch(request)
        after = cursor(request)
        if batch.log.closed and after is not None and after >= batch.log.last:
            return Response(status_code=204)
        source = BatchSource(batch, lambda: self._json(request, batch), self._kept)
        return EventStream(source, after=after, places=self._places)

    def _batch(self, request: Request) -> Batch:
        return self._runner.batch_record(request.path_params["batch_id"])

    def _kept(self, job_id: str) -> Job | None:
        try:
            return self._runner.record(job_id)
        except RequestError:  # gone, or so long gone that it is unknown
            return None

    def _answer(
        self,
        request: Request,
        batch: Batch,
        status: int,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        sent = NO_STORE | dict(headers or {})
        if not batch.is_final:
            sent["Retry-After"] = str(math.ceil(self._runner.poll_batch_after(batch.id)))
        return Response(self._json(request, batch), status, sent, "application/json")

    def _json(self, request: Request, batch: Batch) -> bytes:
        return batch_json(batch, links=self._links(request, batch))

    def _links(self, request: Request, batch: Batch) -> dict[str, str]:
        root = root_of(request.scope)
        own = f"{root}/batches/{batch.id}"
        links = {"self": own, "stream": f"{own}/stream", "jobs": f"{root}/jobs?batch_id={batch.id}"}
        return links if batch.is_final else links | {"cancel": f"{own}/cancel"}
