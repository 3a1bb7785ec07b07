"""Tools that make an HTTP request.

The file's author says where it goes: host and port hold no placeholder, redirects aren't followed
and proxies of the environment aren't used, so that no caller can send it anywhere else. Whether
that host is public is not asked; an author may well mean a service of the own machine.
"""

import asyncio
import functools
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx2

from ..addresses import Target
from ..context import JobContext
from ..errors import PermanentError
from .substitution import Filled, Template, encoded

MAX_ANSWER = 5_000_000
"""Bytes of an answer that are read."""
MAX_TEXT = 200_000
"""Bytes of an answer that can be a result as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a tool sends, checked."""

    tool: str
    shown: str
    """Method and URL as the file has them, without secrets."""
    method: str
    target: Target
    """Where it goes; its path is of no use."""
    path: Template
    headers: Mapping[str, Template]
    body: Template | None
    is_form: bool
    steps: tuple[str | int, ...]
    """Where in the JSON of an answer the result stands."""

    async def run(self, ctx: JobContext, values: Mapping[str, Any]) -> Any:
        """Send it and return what came back.

        Raises:
            httpx2.HTTPStatusError: The status isn't 2xx; a retry policy reads it.
            PermanentError: The answer isn't what the file says, or a value has no place.
        """
        headers = [(b"accept-encoding", b"identity"), (b"user-agent", b"jobrunner")]
        headers += [(name.encode(), template.fill(values).strip().encode())
                    for name, template in self.headers.items()]  # fmt: skip
        target = self.target
        url = httpx2.URL(scheme=target.scheme, host=target.host, port=target.port,
                         raw_path=self._path(values))  # fmt: skip
        content = None if self.body is None else self._filled(self.body, values).encode()
        request = httpx2.Request(self.method, url, headers=headers, content=content)
        tls = await asyncio.to_thread(_certificates) if target.scheme == "https" else False
        async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=None) as client:
            answer = await client.send(request, stream=True, follow_redirects=False)
            try:
                return self._result(answer, await self._read(answer))
            finally:
                await answer.aclose()

    def _filled(self, template: Template, values: Mapping[str, Any]) -> str:
        return _quoted(template, values) if self.is_form else template.fill(values)

    def _path(self, values: Mapping[str, Any]) -> bytes:
        """Return path and query; a value is a part of one segment, or of one field."""
        path = _quoted(self.path, values)
        decoded = unquote(path.partition("?")[0])
        if re.search(r"(^|[/\\])\.\.?($|[/\\;])", decoded):
            raise PermanentError(f"{self.shown}: a value would climb in the path")
        return path.encode("ascii")

    async def _read(self, answer: httpx2.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise PermanentError(f"{self.shown}: the answer is compressed, which wasn't asked for")
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > MAX_ANSWER:
                raise PermanentError(f"{self.shown}: the answer is over {MAX_ANSWER:,} bytes")
        return bytes(body)

    def _result(self, answer: httpx2.Response, body: bytes) -> Any:
        text = _decoded(answer, body).removeprefix("\ufeff").strip()
        if not 200 <= answer.status_code < 300:
            raise httpx2.HTTPStatusError(
                self._failure(answer, text), request=answer.request, response=answer
            )
        if self.steps:
            return self._extracted(text)
        if len(body) > MAX_TEXT:
            raise PermanentError(
                f"{self.shown}: the answer is over {MAX_TEXT:,} bytes; say what of it is wanted "
                "with extract_json"
            )
        return text

    def _failure(self, answer: httpx2.Response, text: str) -> str:
        moved = "; redirects are not followed" if answer.is_redirect else ""
        return f"{self.shown}: HTTP {answer.status_code}{moved}\n{text[:2_000]}".rstrip()

    def _extracted(self, text: str) -> Any:
        try:
            value = json.loads(text)
            for step in self.steps:
                value = _step(value, step)
            return value
        except (ValueError, LookupError, TypeError, RecursionError):
            where = _written(self.steps)
            raise PermanentError(
                f"{self.shown}: the answer has no {where}; it begins: {text[:500]}"
            ) from None


def _step(value: Any, step: str | int) -> Any:
    if isinstance(step, int) != isinstance(value, list):
        raise LookupError(step)
    return value[step]


def _written(steps: tuple[str | int, ...]) -> str:
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(parts).lstrip(".")


def _quoted(template: Template, values: Mapping[str, Any]) -> str:
    return "".join(
        quote(encoded(values[part.name], "text"), safe="") if isinstance(part, Filled) else part
        for part in template.parts
    )


def _decoded(answer: httpx2.Response, body: bytes) -> str:
    try:
        return body.decode(answer.charset_encoding or "utf-8", "replace")
    except (LookupError, ValueError):  # an unknown charset, or a codec that is none
        return body.decode("utf-8", "replace")


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)
