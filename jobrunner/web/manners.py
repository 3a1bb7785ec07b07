"""Headers that spare a client work: validators, rate limits, compression, trace context."""

import gzip
import json
import math
import re

from anyio.to_thread import run_sync
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response

from ..jobs import Job
from ..partial import output_text
from ..submission import Room
from ..submit_options import is_traceparent
from ..views import iso
from .headers import headers_of

WORTH_IT = 1_024
"""Bytes from which a body is compressed."""
SLOW = 65_536
"""Bytes from which it is compressed in a thread: a millisecond in the event loop is everybody's."""
_TAG = re.compile(r'("[\x21\x23-\x7e\x80-\xff]*")')
_CODING = re.compile(r"\s*(gzip|x-gzip|\*)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*", re.IGNORECASE)


def etag(job: Job) -> str:
    """Return the validator of a job: the number of its last event.

    A weak one (RFC 9110, 8.8.1): links and compression may differ, what is said of the job doesn't.
    """
    return f'W/"{job.log.last}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client has it already (RFC 9110, 13.1.2, and 8.8.3.2 for weak tags)."""
    given = headers_of(request.scope).get("if-none-match")
    opaque = tag.removeprefix("W/")
    return given.strip() == "*" or opaque in _TAG.findall(given)


def rate_limit(room: Room) -> dict[str, str]:
    """Return how many places of the queue are free (draft-ietf-httpapi-ratelimit-headers-10)."""
    reset = f";t={math.ceil(room.retry_after)}" if room.free == 0 else ""
    return {
        "RateLimit-Policy": f'"queue";q={room.most}',
        "RateLimit": f'"queue";r={room.free}{reset}',
    }


def traceparent(request: Request) -> str | None:
    """Return the caller's place in a trace (W3C Trace Context); None if it is none, or several."""
    headers = headers_of(request.scope)
    given = headers.get("traceparent")
    return given if is_traceparent(given) and headers.count("traceparent") == 1 else None


async def compress(request: Request, response: Response) -> None:
    """Compress the response in place, if the client takes it.

    Not for a stream, which has no body yet: an event that waits for others to be compressed with
    comes too late.
    """
    headers: MutableHeaders = response.headers
    headers.add_vary_header("Accept-Encoding")
    if _takes_gzip(request):
        raw = bytes(response.body)
        packed = await run_sync(_gzip, raw) if len(raw) >= SLOW else _gzip(raw)
        response.body = packed
        headers["Content-Encoding"], headers["Content-Length"] = "gzip", str(len(packed))


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=5, mtime=0)


def _takes_gzip(request: Request) -> bool:
    """Return whether gzip is acceptable (RFC 9110, 12.5.3): named itself, or by a star."""
    weights: dict[str, float] = {}
    for part in headers_of(request.scope).get("accept-encoding").split(","):
        if (found := _CODING.fullmatch(part)) is not None:
            weights[found[1].lower().removeprefix("x-")] = float(found[2] or 1)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def log_text(job: Job) -> str:
    """Return what the job has said, as text: log lines with their time, output as it came."""
    reading = job.log.read()
    text = [f"... {reading.missed} events are no longer kept\n"] if reading.missed else []
    for event in reading.events:
        if event.type == "output":
            text.append(output_text(event))
        elif event.type == "log":
            if text and not text[-1].endswith("\n"):
                text.append("\n")
            fields = event.data.get("fields")
            more = f" {json.dumps(fields, ensure_ascii=False)}" if fields else ""
            text.append(f"{iso(event.at)} {event.data['text']}{more}\n")
    return "".join(text)
