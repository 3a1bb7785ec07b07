"""The page at `/`, its files, and the door before it: HTML that says as little as it can.

The page is one document that never changes, and everything in it comes from the API.
"""

import html
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .answer_page import HEADERS
from .answer_page import page as small_page
from .headers import headers_of
from .mounting import root_of

STATIC = Path(__file__).parent / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Its own files and nothing else; and no text of anybody's can be made markup, even by mistake."""


class PageFiles(StaticFiles):
    """The page's files. A browser asks each time whether they are still the same.

    Otherwise it would guess how long they are, and mix those of two versions.
    """

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or that it hasn't changed."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def page(request: Request) -> Response:
    """`GET /`: the page, which knows where it is mounted."""
    text = (STATIC / "index.html").read_text("utf-8")
    return Response(
        text.replace("{base}", f"{root_of(request.scope)}/"),
        media_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": CSP,
            "Referrer-Policy": "no-referrer",
        },
    )


def wants_page(scope: Scope, path: str) -> bool:
    """Return whether a person's browser asks for the page, and can't read a problem document."""
    if scope.get("method") != "GET" or path not in ("", "/"):
        return False
    return "text/html" in headers_of(scope).get("accept")


def sign_in(scope: Scope, error: HTTPException, *, token: bool) -> Response:
    """Return the page for who may not come in; it needs no script.

    Args:
        scope: What was asked.
        error: Why they may not.
        token: Whether a token would open, so that it is asked for.
    """
    headers: dict[str, Any] = {**HEADERS, **(error.headers or {})}
    parts = [f'<p class="note">{html.escape(str(error.detail))}</p>']
    if token:
        parts = _form(f"{root_of(scope)}/", wrong=b"token=" in scope["query_string"])
    text = small_page("Sign in to jobrunner", *parts)
    return Response(text, error.status_code, headers, "text/html")


def _form(action: str, *, wrong: bool) -> list[str]:
    fault = "That is not this server's token. It makes a new one at each start, unless it has one."
    return [
        *([f'<p class="bad" role="alert" id="fault">{fault}</p>'] if wrong else []),
        f'<form method="get" action="{action}">',
        '<label for="token">Token</label>',
        '<input id="token" name="token" type="password" required autofocus'
        ' autocomplete="current-password" aria-describedby="note">',
        "<button>Sign in</button>",
        "</form>",
        '<p class="note" id="note">It stands in the URL that <code>jobrunner serve</code> prints, '
        "or in <code>JOBRUNNER_TOKEN</code>.</p>",
    ]
