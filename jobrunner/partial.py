"""What a job has put out so far, as text for who only looks at it now and then."""

from .event import Event
from .jobs import Job, JobStatus

MAX_PARTIAL = 2_000
"""Characters of it that a view shows: the last, since who asks again has seen the first."""
CUT = "... earlier output left out ...\n"
MAIN = frozenset({"text", "stdout", "stderr"})
"""Channels that are the job's own output; what else it emits is for who watches."""


def partial_text(job: Job) -> str | None:
    """Return the end of what the last attempt has put out, from its log.

    None if it has put out nothing, or once there is a result that says it. Costs what is read
    backwards: the log's newest events.
    """
    if (job.status is JobStatus.COMPLETED and job.result != b"null") or not job.log.has_text:
        return None
    pieces: list[str] = []
    size = 0
    for event in reversed(job.log.kept()):
        if event.type == "status" and event.data.get("attempt", job.attempt) < job.attempt:
            break
        if event.type == "output" and event.data.get("stream") in MAIN:
            pieces.append(output_text(event))
            size += len(pieces[-1])
            if size > MAX_PARTIAL:
                break
    text = "".join(reversed(pieces))
    return CUT + text[-MAX_PARTIAL:] if size > MAX_PARTIAL else text or None


def output_text(event: Event) -> str:
    """Return a piece of output as it reads; a JSON value is a line of its own."""
    text: str = event.data["text"]
    return f"{text}\n" if "json" in event.data else text
