"""Every error over HTTP is a problem document (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

MAX_ERRORS = 100
"""Single faults in one problem document; whoever has more begins with these."""


class Problem(HTTPException):
    """An error of HTTP itself; what the runner raises is mapped in `app.py`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = list(errors)


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    title: str | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return a problem document.

    Args:
        status: Status of the response.
        code: Stable name of the problem, the last part of its `type`.
        detail: What is wrong in this case, and the way out.
        title: What is wrong in general; the status' phrase if not given.
        errors: Single faults of a body, each with `detail` and a JSON `pointer`.
        headers: Headers to send with it.
        members: What the problem has beside these (RFC 9457, section 3.2).
    """
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    if errors:
        body["errors"] = list(errors[:MAX_ERRORS])
    return Response(
        to_json(body),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/problem+json",
    )


def http_problem(error: HTTPException, where: str) -> Response:
    """Return the problem document of an error of HTTP.

    Args:
        error: One of ours, the router's or anybody's.
        where: What was asked, for those who don't say it.
    """
    if isinstance(error, Problem):
        return problem_response(
            error.status_code, error.code, error.detail, errors=error.errors, headers=error.headers
        )
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem_response(
        error.status_code, code, f"{where}: {error.detail}", headers=error.headers
    )
