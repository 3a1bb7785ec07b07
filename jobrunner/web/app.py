"""The Starlette app: the whole HTTP surface on one page, and how errors become statuses."""

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from .. import errors
from ..runner import JobRunner
from ..signals import ending_on_signals
from .answers import AnswerApi
from .api import NO_STORE, Api, SubmitBody
from .batches import BatchApi
from .body import MAX_BODY
from .manners import WORTH_IT, compress
from .mounting import root_of
from .openapi import openapi_document
from .owners import Auth, OwnedRunner
from .page import PageFiles, page
from .problems import http_problem, problem_response
from .scraping import Metrics
from .security import LOCAL_HOSTS, Guard
from .sessions import SessionIndex
from .sockets import Sockets

STATUS: dict[type[errors.JobRunnerError], int] = {
    errors.BatchNotFound: 404,
    errors.BatchGone: 410,
    errors.JobNotFound: 404,
    errors.JobGone: 410,
    errors.DeliveryNotFound: 404,
    errors.QuestionNotFound: 404,
    errors.NotWaitingForInput: 409,
    errors.InvalidAnswer: 422,
    errors.JobNotFinal: 409,
    errors.DuplicateJob: 409,
    errors.JobNotRetryable: 409,
    errors.InvalidCursor: 400,
    errors.PayloadTooLarge: 413,
    errors.QueueFull: 503,
    errors.RunnerNotStarted: 503,
    errors.RunnerStopped: 503,
    errors.UnknownJobType: 422,
    errors.InvalidParams: 422,
    errors.InvalidOption: 422,
    errors.IdempotencyKeyReused: 422,
    errors.JobUnsuccessful: 409,
}
"""The one place where what the runner raises gets a status; anything else is a 500."""

MEMBERS = ("option", "job_id", "reason", "retry_after")
"""What an error knows beside its message; a client raises the same error with it."""

MAX_STREAMS = 10_000
"""Event streams that may be open at once, unless another number is given."""
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def create_app(
    runner: JobRunner,
    *,
    auth: Auth,
    allowed_hosts: Iterable[str] = LOCAL_HOSTS,
    debug: bool = False,
    max_streams: int = MAX_STREAMS,
    mcp: bool = False,
) -> Starlette:
    """Make the app that serves `runner`.

    Alone it starts and stops the runner with its own lifespan. Mounted in another app its lifespan
    never runs: give `lifespan=runner.lifespan` to the outer one.

    Args:
        runner: The runner.
        auth: The token that clients have to show; or a function, sync or async, that makes of a
            connection its owner's name, who then sees their own jobs only, or None, which is a 401;
            or None, which leaves the door open, or to somebody else.
        allowed_hosts: Host names the app is reached by, without a port; `*` for any. One name may
            be given as it is.
        debug: Whether errors carry tracebacks.
        max_streams: How many event streams and WebSockets may be open at once.
        mcp: Whether agents may call the runner's tools at `/mcp`, by streamable HTTP of the Model
            Context Protocol; for that there is the extra `mcp`.

    Raises:
        InvalidOption: The token is empty, or has characters that headers can't carry; or `auth` is
            none of the three; or the extra isn't installed.

    Example:
        app = Starlette(
            routes=[Mount("/jobs-api", app=create_app(runner, auth="a-secret-token"))],
            lifespan=runner.lifespan,
        )
    """
    if not (auth is None or isinstance(auth, str) or callable(auth)):
        raise errors.InvalidOption(
            f"auth is a {type(auth).__name__}; give a token, a function that says who asks, or None"
        )
    if isinstance(auth, str) and not re.fullmatch("[!-~]+", auth):
        raise errors.InvalidOption(
            "auth has characters that headers can't carry: give a token of visible ASCII characters"
            if auth
            else "auth is an empty token; give a secret one, or None for no token"
        )
    hosts = (allowed_hosts,) if isinstance(allowed_hosts, str) else tuple(allowed_hosts)
    owned = OwnedRunner(runner, owners=callable(auth))
    api = Api(owned, debug=debug, max_streams=max_streams)
    sockets = Sockets(owned, SessionIndex(runner), api.places, api.json)
    routes = _routes(api, sockets, Metrics(runner, owned, api.places))
    return Starlette(
        routes=[*routes, _mcp(runner, owned)] if mcp else routes,
        middleware=[Middleware(Guard, auth=auth, allowed_hosts=hosts)],
        exception_handlers={
            errors.JobRunnerError: _runner_error,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=_lifespan(runner),
    )


def _routes(api: Api, sockets: Sockets, metrics: Metrics) -> list[BaseRoute]:
    batches, answers = BatchApi(api), AnswerApi(api)
    return [
        _resource("/jobs", GET=api.list, POST=api.submit),
        _resource("/jobs/{job_id}", GET=api.get, DELETE=api.forget),
        _resource("/jobs/{job_id}/result", GET=api.result),
        _resource("/jobs/{job_id}/cancel", POST=api.cancel),
        _resource("/jobs/{job_id}/input", POST=answers.input),
        _resource("/answers/{token}", GET=answers.page, POST=answers.answer),
        _resource("/jobs/{job_id}/retry", POST=api.retry),
        _resource("/jobs/{job_id}/logs", GET=api.logs),
        _resource("/jobs/{job_id}/stream", GET=api.stream),
        _resource("/jobs/{job_id}/deliveries", GET=api.deliveries),
        _resource("/jobs/{job_id}/deliveries/{delivery_id}/resend", POST=api.resend),
        _resource("/retry", POST=api.retry_failed),
        WebSocketRoute("/jobs/{job_id}/ws", sockets.job),
        WebSocketRoute("/ws/{session_id:path}", sockets.session),
        _resource("/batches", POST=batches.submit),
        _resource("/batches/{batch_id}", GET=batches.get),
        _resource("/batches/{batch_id}/cancel", POST=batches.cancel),
        _resource("/batches/{batch_id}/stream", GET=batches.stream),
        _resource("/events", GET=api.events),
        _resource("/types", GET=api.types),
        _resource("/stats", GET=api.stats),
        _resource("/healthz", GET=api.healthz),
        _resource("/readyz", GET=api.readyz),
        _resource("/metrics", GET=metrics.scrape),
        _resource("/openapi.json", GET=_openapi(api.runner)),
        _resource("/", GET=page),
        Mount("/static", PageFiles()),
    ]


def _mcp(runner: JobRunner, owned: OwnedRunner) -> Route:
    try:
        from ..tools.mcp import McpEndpoint, mcp_server  # late: it takes most of a second
    except ModuleNotFoundError as error:
        raise errors.InvalidOption(
            f"mcp=True needs an extra: pip install 'agent-jobrunner[mcp]' ({error})"
        ) from None
    server = mcp_server(runner, owner=lambda: owned.owner)
    return Route("/mcp", McpEndpoint(server, max_body=MAX_BODY), methods=["POST"])


class _Resource:
    """What the methods of a path do; HEAD is GET without the body.

    As an ASGI app it is served within one guard against exceptions, the middleware's; around a
    function Starlette puts another.
    """

    def __init__(self, methods: Mapping[str, Endpoint]) -> None:
        self._methods = {**methods, "HEAD": methods["GET"]} if "GET" in methods else methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._methods[scope["method"]](request)
        if len(getattr(response, "body", b"")) >= WORTH_IT:
            await compress(request, response)
        await response(scope, receive, send)


def _resource(path: str, **methods: Endpoint) -> Route:
    return Route(path, _Resource(methods), methods=list(methods))


def _openapi(runner: OwnedRunner) -> Endpoint:
    async def openapi(request: Request) -> Response:
        document = openapi_document(runner, base=root_of(request.scope))
        return Response(to_json(document), media_type="application/json", headers=NO_STORE)

    return openapi


async def _runner_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.JobRunnerError)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    title = (type(error).__doc__ or error.code).partition("\n")[0].rstrip(".")
    wait = error.retry_after if isinstance(error, errors.QueueFull) else 5
    headers = {"Retry-After": str(math.ceil(wait))} if status == 503 else {}
    if isinstance(error, errors.QueueFull):
        headers["RateLimit"] = f'"queue";r=0;t={math.ceil(wait)}'
    known = {name: getattr(error, name, None) for name in MEMBERS}
    return problem_response(
        status,
        error.code,
        str(error),
        title=title,
        errors=_faults(error),
        headers=headers,
        members={name: value for name, value in known.items() if value is not None},
    )


def _faults(error: errors.JobRunnerError) -> list[dict[str, str]]:
    """Return where in the body the fault is that the runner has found."""
    if isinstance(error, errors.InvalidParams):
        pointers = [(fault["detail"], f"#/params{fault['pointer'][1:]}") for fault in error.errors]
    elif isinstance(error, errors.InvalidAnswer):
        pointers = [(fault["detail"], f"#/value{fault['pointer'][1:]}") for fault in error.errors]
    elif isinstance(error, errors.UnknownJobType):
        pointers = [(str(error), "#/type")]
    elif isinstance(error, errors.InvalidOption) and error.option in SubmitBody.model_fields:
        pointers = [(str(error), f"#/{error.option}")]
    else:
        pointers = []
    return [{"detail": detail, "pointer": pointer} for detail, pointer in pointers]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_problem(error, f"{request.method} {request.url.path[:200]}")


async def _internal_error(request: Request, error: Exception) -> Response:
    return problem_response(500, "internal-error", "something went wrong here; it is in the log")


def _lifespan(runner: JobRunner) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if runner.stats().state == "running":  # by whoever embeds both
            with ending_on_signals(runner):
                yield
        else:
            async with runner.lifespan(app):
                yield

    return lifespan
