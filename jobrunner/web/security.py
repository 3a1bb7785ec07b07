"""Who may come in: hosts, origins, tokens and content types, checked before anything else.

Default deny: every unsafe method is protected because it is unsafe, not because it is on a list.
"""

import hashlib
import hmac
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..submit_options import check_name
from .body import media_type
from .headers import RequestHeaders, forget_headers, headers_of, read_headers
from .mounting import root_of
from .owners import Auth, asking
from .page import sign_in, wants_page
from .postponed import postponing
from .problems import Problem, http_problem

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "testserver")
"""Hosts that are allowed when none are named; `testserver` is the one of Starlette's TestClient."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What answers without a token: a load balancer has none."""
ANSWERS = re.compile("/answers/[^/]+")
"""What answers to links, which have a token of their own."""
MAX_HEADERS = 16_384
"""Bytes of all headers of a request."""


class Guard:
    """ASGI middleware that lets a request pass, or answers it with a problem document.

    Args:
        app: What it protects.
        auth: The secret that a client has to show, or what makes an owner of a connection; None
            when somebody else checks.
        allowed_hosts: Host names, without a port, that the app is reached by; `*` for all.
    """

    def __init__(
        self, app: ASGIApp, *, auth: Auth, allowed_hosts: Iterable[str] = LOCAL_HOSTS
    ) -> None:
        self._app = app
        self._auth = auth
        token = auth if isinstance(auth, str) else None
        self._digest = None if token is None else _digest(token.encode())
        self._cookie = "" if token is None else f"jobrunner_{_digest(token.encode()).hex()[:8]}"
        self._hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, and pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        app, owner = await self._admit(scope)
        if scope["type"] == "websocket" and isinstance(app, Response):
            await _refuse(app.status_code, receive, send)
            return
        with asking(owner):
            put_off = postponing(scope)
            await app(scope, receive, _careful(send) if scope["type"] == "http" else send)
            while put_off:  # each is let go of: it leads to the scope, which leads to the list
                forget_headers(scope)
                await put_off.pop(0)(scope, receive, send)

    async def _admit(self, scope: Scope) -> tuple[ASGIApp, str | None]:
        """Return what answers: the app, and for which owner, or why it doesn't."""
        try:
            path = self._check(scope)
            if self._auth is None or path in OPEN_PATHS or _is_link(scope, path):
                return self._app, None
            if not callable(self._auth):
                return self._check_token(scope, path) or self._app, None
            return self._app, await _owner(self._auth, scope)
        except HTTPException as error:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if error.status_code == 401 and wants_page(scope, path):
                return sign_in(scope, error, token=self._digest is not None), None
            return http_problem(error, "who you are could not be told"), None

    def _check(self, scope: Scope) -> str:
        """Return the path that is asked for.

        Raises:
            Problem: It may not be asked like that, by anybody.
        """
        headers = read_headers(scope)
        if headers.size > MAX_HEADERS:
            raise Problem(431, "headers-too-large", f"the headers are over {MAX_HEADERS} bytes")
        host = self._check_host(headers)
        method = scope.get("method", "CONNECT")  # a WebSocket has none, and no safe one either
        if method not in SAFE_METHODS:
            _check_origin(headers, host)
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if method not in (*SAFE_METHODS, "CONNECT"):
            _check_content_type(headers, form=_is_link(scope, path))
        return path

    def _check_token(self, scope: Scope, path: str) -> Response | None:
        """Return None when the token is shown, or the cookie that it is exchanged for.

        Raises:
            Problem: It isn't.
        """
        asks = path in ("", "/") and scope.get("method") == "GET"
        token = _query_token(scope) if asks else None
        if token is not None and self._matches(token):
            return self._exchange(scope, token)
        if not self._has_token(headers_of(scope)):
            home = f"{root_of(scope)}/?token=<token>"
            raise _unauthorized(
                f"a token is needed: send it as `Authorization: Bearer <token>`, or open {home} "
                "in a browser"
            )
        return None

    def _check_host(self, headers: RequestHeaders) -> str:
        if (count := headers.count("host")) != 1:
            raise Problem(400, "invalid-host", f"the request has {count} Host headers; send one")
        host = headers.get("host").lower()
        name = _without_port(host)
        if name not in self._hosts and "*" not in self._hosts:
            raise Problem(
                400,
                "invalid-host",
                f"the host {name[:100]!r} is not allowed; name it in allowed_hosts, "
                "or by --allowed-host",
            )
        return host

    def _has_token(self, headers: RequestHeaders) -> bool:
        shown = headers.get("authorization")
        scheme, _, token = shown.partition(" ")
        if scheme.lower() == "bearer" and self._matches(token.strip()):
            return True
        # SimpleCookie gives up on all cookies when another program on this host sets an odd one.
        cookie = cookie_parser(headers.get("cookie")).get(self._cookie)
        return cookie is not None and self._matches(cookie)

    def _matches(self, token: str) -> bool:
        """Compare digests: equal length, and a time that says nothing of the secret."""
        assert self._digest is not None, "only asked when there is a token"
        return hmac.compare_digest(_digest(token.encode("utf-8", "replace")), self._digest)

    def _exchange(self, scope: Scope, token: str) -> Response:
        """Take the token of the printed URL for a cookie that no script can read."""
        home = f"{root_of(scope)}/"  # as it stands in requests, with which browsers compare it
        answer = RedirectResponse(home, status_code=303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(self._cookie, token, path=home, httponly=True, samesite="strict")
        return answer


async def _refuse(status: int, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket: before its handshake, or, where a new token helps, with a code.

    A browser tells a page nothing of a handshake that fails, so that it could not tell a token
    that has changed from a server that is down. Nothing is heard, and nothing said but the code.
    """
    if status == 401:
        await receive()  # the client's `websocket.connect`
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4401, "reason": "a token is needed"})
    else:  # uvicorn could send the problem document, but would log an error for each
        await send({"type": "websocket.close", "code": 4403, "reason": "not allowed"})


async def _owner(auth: Callable[[HTTPConnection], Any], scope: Scope) -> str:
    """Return who asks.

    Raises:
        Problem: Nobody who may.
        InvalidOption: No owner can be called like what the function returned.
    """
    said = auth(HTTPConnection(scope))
    owner = await said if inspect.isawaitable(said) else said
    if owner is None:
        raise _unauthorized("this server doesn't know who you are: sign in as it asks you to")
    name: str = check_name("owner", owner) or ""  # never empty: that is refused
    return name


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _is_link(scope: Scope, path: str) -> bool:
    """Return whether it is asked for with a token of its own, that of a question."""
    return scope["type"] == "http" and ANSWERS.fullmatch(path) is not None


def _check_origin(headers: RequestHeaders, host: str) -> None:
    """Refuse what a page of another origin sends (https://fetch.spec.whatwg.org/#origin-header)."""
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin"):
        raise Problem(403, "forbidden", f"a {site[:20]} request may not change anything")
    origin = headers.get("origin")
    if "origin" in headers and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise Problem(
            403, "forbidden", f"a request from origin {origin[:100]!r} may not change anything"
        )


def _check_content_type(headers: RequestHeaders, *, form: bool) -> None:
    """Refuse what isn't JSON, nor the form of a page that has no script."""
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    kind = media_type(headers)
    if form and kind == "application/x-www-form-urlencoded":
        return
    several = headers.count("content-type") > 1  # and each is for somebody the one that counts
    if several or (kind != "application/json" and not (empty and not kind)):
        raise Problem(
            415,
            "unsupported-media-type",
            f"the content type is {kind[:100]!r}; send application/json",
        )


def _query_token(scope: Scope) -> str | None:
    query: bytes = scope["query_string"]
    tokens = parse_qs(query.decode("latin-1")).get("token")
    return None if tokens is None else tokens[0]


def _careful(send: Send) -> Send:
    """No browser may take an answer for something else than it says: results are anybody's."""

    async def careful(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": headers}
        await send(message)

    return careful


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
