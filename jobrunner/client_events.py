"""A job's events over HTTP: one sequence, over as many connections as it takes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from httpx2 import EventSource, ServerSentEvent
from pydantic_core import from_json

from .client_errors import not_a_job
from .client_http import LOST, Http, Patience
from .events import Event
from .views import JobView

STREAM = "text/event-stream"


class Progress(NamedTuple):
    """How far a job is."""

    percent: float
    """0 to 100."""
    message: str | None
    """What the handler said with it."""
    current: int | None
    """The step it is at, from 1, when the handler counts them."""
    total: int | None
    """How many there are."""


OnProgress: TypeAlias = Callable[[Progress], object]
"""Called with each progress of a job; what it raises ends the wait, and not the job."""


async def follow(
    http: Http, path: str, after: int | None, *, endless: bool = False
) -> AsyncGenerator[Event, None]:
    """Yield a stream's events above number `after`, each once and in order, until its end.

    A connection that breaks is opened again after the last number that was read. That goes on for
    as long as the server has the job; where it has no answer, for as long as the client is patient.

    Args:
        path: Where the stream is.
        after: None for what comes from now on.
        endless: Whether it is of many jobs, so that the end of one isn't that of the stream.

    Raises:
        ServerUnreachable: There was no answer.
        JobNotFound, JobGone: The server has no such job, or no longer: it may have been restarted.
        BatchNotFound, BatchGone: Likewise of a batch.
    """
    patience = Patience(http.retry_for)
    while True:
        try:
            async with http.stream(path, after=after) as response:
                if response.status_code == 204:  # all of it has been read
                    return
                if not response.is_success:
                    await http.refused(response, patience)
                    continue
                if not response.headers.get("content-type", "").startswith(STREAM):
                    raise not_a_job(response)
                patience.connected()
                # The server bounds an event: a result may be as large as it lets results be.
                async for frame in EventSource(response, max_event_size=None):
                    if frame.id.isdecimal():  # with many jobs it isn't the event's own number
                        after = int(frame.id)
                    if (event := _event(frame)) is not None:
                        patience.heard()
                        yield event
                        if event.type == "done" and not endless:
                            return
        except LOST as error:
            await patience.pause(http.unreachable(error))
        else:
            await patience.pause(http.unreachable("the stream ended too early"))


async def watch(
    events: AsyncGenerator[Event, None],
    on_progress: OnProgress,
    *,
    job_id: str,
    timeout: float | None,
) -> Progress | None:
    """Call back with each progress of a job until its end, and return the last.

    Raises:
        TimeoutError: It hasn't ended after `timeout` seconds; it goes on.
    """
    last: Progress | None = None
    try:
        async with asyncio.timeout(timeout) as limit, aclosing(events):
            async for event in events:
                if (now := progress_of(event)) is not None:
                    on_progress(now)
                    last = now
    except TimeoutError:
        if not limit.expired():  # it is the callback's own
            raise
        raise TimeoutError(f"job {job_id} has not ended after {timeout:g} s; it goes on") from None
    return last


def progress_of(event: Event) -> Progress | None:
    """Return the progress that an event tells of, if it does."""
    if event.type != "progress":
        return None
    step = event.data.get("step") or {}
    return Progress(
        event.data.get("progress", 0.0),
        event.data.get("progress_message"),
        step.get("current"),
        step.get("total"),
    )


def progress_of_job(job: JobView) -> Progress:
    """Return how far a job is, or was when it ended."""
    step = job.step
    return Progress(
        job.progress,
        job.progress_message,
        step.current if step else None,
        step.total if step else None,
    )


def _event(frame: ServerSentEvent) -> Event | None:
    """Return the event of a frame; a snapshot is none, nor is what a gateway sends of its own."""
    if frame.event == "snapshot":
        return None
    try:
        data: Any = from_json(frame.data)
    except ValueError:
        return None
    if not (isinstance(data, dict) and {"seq", "at"} <= data.keys()):
        return None
    data.pop("batch_id", None)  # who watches a batch knows it
    at = datetime.fromisoformat(data.pop("at")).timestamp()
    kind: Any = frame.event  # one that this version doesn't know is passed on as it is
    return Event(data.pop("seq"), data.pop("job_id", ""), kind, at, data)
