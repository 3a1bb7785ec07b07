"""Spans of OpenTelemetry: one where a job is submitted, and one around each of its attempts.

    request, or another job's attempt
      submit analyse     PRODUCER, ends at once; the job's `traceparent` from then on
        process analyse  CONSUMER, a child of it and linked to it; current in the handler
        process analyse  the next attempt, linked to the one before too

The names are those of the semantic conventions for messaging. A span begins and ends in the step
in which the job's status is saved, so none is left open, whatever becomes of a handler.
"""

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .jobs import Job, JobError, JobStatus
from .tally import end_reason

_PROPAGATOR = TraceContextTextMapPropagator()
_SUBMITTED = create_key("jobrunner-submitted")
"""Where the job was submitted, in its own context."""
_BEFORE = create_key("jobrunner-before")
"""The attempt before, likewise."""


class Tracing:
    """Makes the spans of a runner's jobs, as a witness.

    Args:
        tracer: Where they come from.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._attempts: dict[str, Span] = {}

    def added(self, job: Job) -> None:
        """See `Witness`."""
        span = self._tracer.start_span(
            f"submit {job.type}",
            context=_parent_of(job),
            kind=SpanKind.PRODUCER,
            attributes=_attributes(job, "submit", "send"),
            start_time=_nanoseconds(job.created_at),
        )
        span.end(end_time=_nanoseconds(job.created_at))
        made = span.get_span_context()
        if made.is_valid and job.context is not None:
            job.context.run(_continue, made)
            job.traceparent = _traceparent(made)

    def moved(self, job: Job, was: JobStatus, at: float, clock: float) -> None:
        """See `Witness`."""
        asked = JobStatus.INPUT_REQUIRED
        if job.status is asked or (was is asked and job.status is JobStatus.RUNNING):
            if (span := self._attempts.get(job.id)) is not None:
                event = "job asks" if job.status is asked else "job was answered"
                span.add_event(event, timestamp=_nanoseconds(at))
        elif job.status is JobStatus.RUNNING and job.context is not None:
            self._attempts[job.id] = job.context.run(self._begin, job, at)
        elif (span := self._attempts.pop(job.id, None)) is not None:
            try:
                _tell(span, job, at)
            finally:
                span.end(end_time=_nanoseconds(at))

    def _begin(self, job: Job, at: float) -> Span:
        """Begin the span of an attempt, and make it the current one; in the job's context."""
        submitted, before = get_value(_SUBMITTED), get_value(_BEFORE)
        parent = get_current()
        if isinstance(submitted, SpanContext):  # it wasn't there before the tracing
            parent = set_span_in_context(NonRecordingSpan(submitted))
        span = self._tracer.start_span(
            f"process {job.type}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=_attributes(job, "process", "process"),
            links=[Link(each) for each in (submitted, before) if isinstance(each, SpanContext)],
            start_time=_nanoseconds(at),
        )
        attach(set_value(_BEFORE, span.get_span_context(), set_span_in_context(span)))
        return span


def _parent_of(job: Job) -> Context:
    """Return where a job is submitted: here, unless it was given a place in another trace.

    A request's `traceparent` is that of the caller. If the server is traced, the request has a span
    in the same trace, and is nearer.
    """
    current = get_current()
    if job.traceparent is None:
        return current
    given = _PROPAGATOR.extract({"traceparent": job.traceparent}, context=current)
    here, there = (trace.get_current_span(each).get_span_context() for each in (current, given))
    return current if here.trace_id == there.trace_id else given


def _continue(submitted: SpanContext) -> None:
    """Have what is done in a job's context be done after its submission."""
    context = set_span_in_context(NonRecordingSpan(submitted))
    attach(set_value(_BEFORE, None, set_value(_SUBMITTED, submitted, context)))


def _attributes(job: Job, name: str, operation: str) -> dict[str, str | int]:
    found: dict[str, str | int | None] = {
        "messaging.system": "jobrunner",
        "messaging.operation.name": name,
        "messaging.operation.type": operation,
        "messaging.destination.name": job.type,
        "messaging.message.id": job.id,
        "jobrunner.job.id": job.id,
        "jobrunner.job.type": job.type,
        "jobrunner.job.attempt": job.attempt or None,
        "jobrunner.job.max_attempts": job.max_attempts,
        "jobrunner.job.priority": job.priority,
        "jobrunner.job.parent_id": job.parent_id,
        "jobrunner.job.batch_id": job.batch_id,
        "jobrunner.job.retry_of": job.retry_of,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tell(span: Span, job: Job, at: float) -> None:
    """Say how an attempt has ended; what went wrong in it is an error unless it was cancelled."""
    span.set_attribute("jobrunner.job.status", job.status.value)
    if job.status is JobStatus.CANCELLED:
        span.set_attribute("jobrunner.job.cancel_reason", end_reason(job))
    error = job.error
    if error is not None and error.attempt == job.attempt and job.status is not JobStatus.PENDING:
        _record(span, error, at)
        if job.status is not JobStatus.CANCELLED:
            span.set_status(Status(StatusCode.ERROR, error.title))


def _record(span: Span, error: JobError, at: float) -> None:
    """Record an error as `Span.record_exception` would: there is no exception any more (T12)."""
    kind = error.type if error.reason == "error" else error.reason
    span.set_attribute("error.type", kind)
    said = {"exception.type": error.type, "exception.message": error.detail}
    if error.traceback:
        said["exception.stacktrace"] = error.traceback
    span.add_event("exception", said, timestamp=_nanoseconds(at))


def _traceparent(made: SpanContext) -> str:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(NonRecordingSpan(made), Context()))
    return carrier["traceparent"]


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
