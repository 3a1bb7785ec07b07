"""The endpoints: each asks the runner, and says what it answered."""

import asyncio
import math
import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from ..deliveries import DeliveryView
from ..errors import InvalidOption
from ..events import EventLog
from ..handlers import json_pointer
from ..jobs import Job
from ..limits import LONGEST
from ..options import OnDuplicate
from ..submit_options import MAX_NAME, SubmitOptions
from ..views import check_completed, iso, view, view_json
from .body import read_json
from .brief import bulk_of
from .headers import headers_of
from .manners import etag, is_known, log_text, rate_limit, traceparent
from .mounting import root_of
from .owners import OwnedRunner
from .problems import Problem
from .query import cursor, flag, integer, query
from .sources import FeedSource, JobSource
from .streams import EventStream, StreamPlaces

MAX_WAIT = 30
"""Seconds of a long poll; what is in between hangs up after more."""
NO_STORE = {"Cache-Control": "no-store"}
_UNREADY = {"new": "runner-not-started", "draining": "shutting-down", "stopped": "shutting-down"}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')
M = TypeVar("M", bound=BaseModel)


def _whole(value: Any) -> Any:
    """Return 1 for 1.0, which JSON Schema takes for the same integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]
"""An integer as JSON Schema has it (2020-12 Validation, 6.1.1)."""
SECONDS: dict[str, Any] = {"maximum": LONGEST}
NAME: dict[str, Any] = {"minLength": 1, "maxLength": MAX_NAME, "pattern": r"^[^\x00-\x1f\x7f]+$"}
"""What the runner checks by itself, in its own words: for the schema only."""


class SubmitBody(BaseModel):
    """Body of `POST /jobs`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)

    type: str
    """Job type."""
    params: dict[str, Any] = {}
    """Values for the type's parameters; `GET /types` has their schema."""
    priority: Annotated[Whole, Field(json_schema_extra={"minimum": -100, "maximum": 100})] = 0
    """-100 to 100; one point is worth a minute of waiting."""
    delay: Annotated[float | None, Field(ge=0, json_schema_extra=SECONDS)] = None
    """Seconds before which the job doesn't start."""
    timeout: Annotated[float | None, Field(gt=0, json_schema_extra=SECONDS)] = None
    """Limit of each attempt in seconds; the type's if not given."""
    deadline: Annotated[float | None, Field(gt=0, json_schema_extra=SECONDS)] = None
    """Limit of the whole job in seconds, over waiting and retries."""
    expires: Annotated[float | None, Field(gt=0, json_schema_extra=SECONDS)] = None
    """Seconds for which the job may wait for its first start."""
    stall_timeout: Annotated[float | None, Field(gt=0, json_schema_extra=SECONDS)] = None
    """Seconds that an attempt may go on without a sign of life."""
    session_id: Annotated[str | None, Field(json_schema_extra=NAME)] = None
    """Session to list the job by."""
    concurrency_key: Annotated[str | None, Field(json_schema_extra=NAME)] = None
    """Jobs of the type with the same key are limited together; the type's own if not given."""
    on_duplicate: OnDuplicate | None = None
    """What to do while a job with the same key is live: enqueue, join, replace or reject."""
    webhook_url: str | None = None
    """Where to post that the job has ended; the type's or the runner's URL if not given."""
    metadata: dict[str, Any] | None = None
    """Whatever is to be kept with the job."""


class CancelBody(BaseModel):
    """Body of `POST /jobs/{id}/cancel`; it may be left out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)

    reason: str | None = None
    """Why, for whoever looks at the job; shown as its `cancel_note`."""


class RetryBody(BaseModel):
    """Body of `POST /retry`; it may be left out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)

    type: str | None = None
    """Only jobs of this type."""


class Api:
    """The endpoints over one runner.

    Args:
        runner: The runner, as whoever asks may see it.
        debug: Whether errors carry tracebacks.
        max_streams: How many event streams may be open at once.
    """

    def __init__(self, runner: OwnedRunner, *, debug: bool, max_streams: int) -> None:
        self.runner = runner
        self.places = StreamPlaces(max_streams)
        self._debug = debug

    async def submit(self, request: Request) -> Response:
        """`POST /jobs`: 202 and the job, or 200 when `Prefer: wait` saw its end."""
        body = _parse(SubmitBody, await read_json(request))
        options = _options(body, request)
        handle = await self.runner.submit(body.type, body.params, **options)
        headers = {"Vary": "Prefer"} | rate_limit(self.runner.room(body.type))
        wait = _preferred_wait(request)
        job = await self._ended(handle.id, wait or 0)
        headers["Location"] = self._links(request.scope, job)["self"]
        headers["Job-Outcome"] = handle.outcome
        if handle.outcome == "replayed":
            headers["Idempotency-Replayed"] = "true"
        return self._job(request, job, headers=headers, waited=wait, unfinished=202)

    async def list(self, request: Request) -> Response:
        """`GET /jobs`: a page of jobs, newest first."""
        filters = {"status", "type", "session_id", "batch_id", "parent_id"}
        given = query(request, {*filters, "limit", "cursor", "brief"})
        brief = flag(given.pop("brief", "false"), "brief")
        limit = integer(given.pop("limit", "50"), "limit")
        try:
            page = self.runner.page(limit=limit, cursor=given.pop("cursor", None), **given)
        except InvalidOption as error:
            raise Problem(400, "invalid-query", str(error)) from None
        jobs = b",".join(self.json(request.scope, job, brief=brief) for job in page.jobs)
        headers = dict(NO_STORE)
        if page.next_cursor is not None:
            more = request.url.include_query_params(cursor=page.next_cursor).query
            headers["Link"] = f'<{root_of(request.scope)}/jobs?{more}>; rel="next"'
        body = b'{"jobs":[%b],"next_cursor":%b}' % (jobs, to_json(page.next_cursor))
        return Response(body, media_type="application/json", headers=headers)

    async def get(self, request: Request) -> Response:
        """`GET /jobs/{id}`: the job; with `?wait=N` or `Prefer: wait=N` not before its end."""
        asked = query(request, {"wait"}).get("wait")
        preferred = _preferred_wait(request) if asked is None else None
        wait = preferred if asked is None else min(integer(asked, "wait"), MAX_WAIT)
        job = await self._ended(request.path_params["job_id"], wait or 0)
        headers = {"Vary": "Prefer", "ETag": etag(job)}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=self.headers(job, headers, waited=preferred))
        return self._job(request, job, headers=headers, waited=preferred)

    async def result(self, request: Request) -> Response:
        """`GET /jobs/{id}/result`: the bare result, once there is one."""
        job = self.runner.record(request.path_params["job_id"])
        if not job.is_final:
            return self._job(request, job, unfinished=202)
        if job.result is None:
            check_completed(view(job))  # raises
        return Response(job.result, media_type="application/json", headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """`POST /jobs/{id}/cancel`: 202 while it stops, 200 when it has ended."""
        body = _parse(CancelBody, await read_json(request))
        job_id = request.path_params["job_id"]
        await self.runner.cancel(job_id, body.reason)
        return self._job(request, self.runner.record(job_id), unfinished=202)

    async def retry(self, request: Request) -> Response:
        """`POST /jobs/{id}/retry`: 202 and a new job."""
        handle = await self.runner.retry(request.path_params["job_id"])
        job = self.runner.record(handle.id)
        headers = {"Location": self._links(request.scope, job)["self"]}
        return self._job(request, job, headers=headers, unfinished=202)

    async def retry_failed(self, request: Request) -> Response:
        """`POST /retry`: 202 and the ids of the jobs that run failed ones again."""
        body = _parse(RetryBody, await read_json(request))
        handles = await self.runner.retry_failed(body.type)
        answer = to_json({"job_ids": [handle.id for handle in handles]})
        return Response(answer, 202, NO_STORE, "application/json")

    async def forget(self, request: Request) -> Response:
        """`DELETE /jobs/{id}`: 204, and the id is gone."""
        await self.runner.forget(request.path_params["job_id"])
        return Response(status_code=204)

    async def stream(self, request: Request) -> Response:
        """`GET /jobs/{id}/stream`: the job's events; 204 when they have all been read."""
        job = self.runner.record(request.path_params["job_id"])
        after = cursor(request)
        if job.log.closed and after is not None and after >= job.log.last:
            return Response(status_code=204)
        source = JobSource(job, partial(self.json, request.scope, job))
        return EventStream(source, after=after, places=self.places)

    async def events(self, request: Request) -> Response:
        """`GET /events`: what happens to all jobs, from now on or after a number; no end."""
        source = FeedSource(self.runner.feed(), self.runner.sees)
        return EventStream(source, after=cursor(request), places=self.places)

    async def deliveries(self, request: Request) -> Response:
        """`GET /jobs/{id}/deliveries`: where its webhooks went, and what came of each."""
        found = await self.runner.deliveries(request.path_params["job_id"])
        body = to_json({"deliveries": [_delivery(delivery) for delivery in found]})
        return Response(body, media_type="application/json", headers=NO_STORE)

    async def resend(self, request: Request) -> Response:
        """`POST /jobs/{id}/deliveries/{delivery_id}/resend`: 202 and the delivery."""
        place = request.path_params
        sent = await self.runner.resend(place["job_id"], place["delivery_id"])
        return Response(to_json(_delivery(sent)), 202, NO_STORE, "application/json")

    async def logs(self, request: Request) -> Response:
        """`GET /jobs/{id}/logs`: what the job has said so far, to keep."""
        job = self.runner.record(request.path_params["job_id"])
        text = log_text(job)
        named = {"Content-Disposition": f'attachment; filename="{job.id}.log"'}
        return Response(text, media_type="text/plain", headers=NO_STORE | named)

    async def types(self, request: Request) -> Response:
        """`GET /types`: the job types and the schemas of their params and results."""
        types = [
            {
                "type": handler.name,
                "description": handler.description,
                "params": handler.params_schema(),
                "result": handler.result_schema(),
            }
            for handler in self.runner.job_types
        ]
        return Response(to_json({"types": types}), media_type="application/json", headers=NO_STORE)

    async def stats(self, request: Request) -> Response:
        """`GET /stats`: how the runner does."""
        stats = self.runner.shown_stats()._asdict()
        return Response(to_json(stats), media_type="application/json", headers=NO_STORE)

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return Response(b'{"status":"alive"}', media_type="application/json", headers=NO_STORE)

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: jobs are taken and started, or 503 with the cause."""
        stats = self.runner.stats()
        if stats.unready is not None:
            raise Problem(503, _UNREADY.get(stats.state, "unready"), stats.unready)
        return Response(b'{"status":"ready"}', media_type="application/json", headers=NO_STORE)

    async def _ended(self, job_id: str, wait: int) -> Job:
        """Return the job, after its end or `wait` seconds."""
        job = self.runner.record(job_id)
        await _closed(job.log, wait)
        return job

    def _job(
        self,
        request: Request,
        job: Job,
        *,
        headers: Mapping[str, str] | None = None,
        waited: int | None = None,
        unfinished: int = 200,
    ) -> Response:
        """Return the job as a response; `unfinished` is the status of one that hasn't ended."""
        sent = self.headers(job, headers, waited=waited)
        status = 200 if job.is_final else unfinished
        return Response(self.json(request.scope, job), status, sent, "application/json")

    def headers(
        self, job: Job, headers: Mapping[str, str] | None = None, *, waited: int | None = None
    ) -> dict[str, str]:
        """Return the headers that each answer about a job has, with its own."""
        sent = NO_STORE | dict(headers or {})
        if not job.is_final:
            sent["Retry-After"] = str(math.ceil(self.runner.poll_after(job.id)))
        if waited is not None:
            sent["Preference-Applied"] = f"wait={waited}"
        return sent

    def json(self, scope: Scope, job: Job, *, brief: bool = False) -> bytes:
        """Return a job as whoever asks sees it."""
        bulk = bulk_of(job) if brief else ()
        return view_json(job, links=self._links(scope, job), debug=self._debug, leave_out=bulk)

    def _links(self, scope: Scope, job: Job) -> dict[str, str]:
        self_link = f"{root_of(scope)}/jobs/{job.id}"
        links = {"self": self_link, "stream": f"{self_link}/stream"}
        return links if job.is_final else links | {"cancel": f"{self_link}/cancel"}


def _options(body: SubmitBody, request: Request) -> SubmitOptions:
    """Return what is asked for beside the params, in the body and in headers."""
    options = SubmitOptions()
    for name in body.model_fields_set - {"type", "params", "max_in_flight"}:
        if (value := getattr(body, name)) is not None:
            options[name] = value  # type: ignore[literal-required]  # the fields are options
    if (key := _idempotency_key(request)) is not None:
        options["idempotency_key"] = key
    if (trace := traceparent(request)) is not None:
        options["traceparent"] = trace
    return options


async def _closed(log: EventLog, wait: int) -> None:
    """Wait for the end of a log, `wait` seconds at most."""
    if wait and not log.closed:
        try:
            async with asyncio.timeout(wait):
                await log.wait_closed()
        except TimeoutError:
            pass


def _parse(model: type[M], body: Any) -> M:
    """Return the body as `model`.

    Raises:
        Problem: 422 with a pointer to each fault.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = [
            {"detail": line["msg"], "pointer": json_pointer(line["loc"])}
            for line in error.errors(include_url=False)
        ]
        detail = "; ".join(
            f"{fault['pointer'][2:] or 'body'}: {fault['detail']}" for fault in faults[:5]
        )
        raise Problem(422, "invalid-request", detail, errors=faults) from None


def _delivery(view: DeliveryView) -> dict[str, Any]:
    """Return a delivery as JSON values, its times as all times are written."""
    return {
        name: iso(value.timestamp()) if isinstance(value, datetime) else value
        for name, value in view
    }


def _preferred_wait(request: Request) -> int | None:
    """Return the seconds of `Prefer: wait=N` (RFC 7240); what is malformed is ignored."""
    given = headers_of(request.scope).get("prefer")
    if not given:
        return None
    preferences = _QUOTED.sub('""', given)
    for preference in preferences.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip()
            return min(int(seconds), MAX_WAIT) if re.fullmatch("[0-9]{1,9}", seconds) else None
    return None


def _idempotency_key(request: Request) -> str | None:
    """Return the key of `Idempotency-Key`: a quoted string (RFC 8941), unquoted accepted."""
    headers = headers_of(request.scope)
    if "idempotency-key" not in headers:
        return None
    key = headers.get("idempotency-key")
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = re.sub(r"\\([\"\\])", r"\1", key[1:-1])
    if not key:
        raise InvalidOption("the Idempotency-Key header is empty; send a text that is yours alone")
    return key
