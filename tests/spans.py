"""Runners that are traced, and the spans of their jobs; needs the SDK of OpenTelemetry."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobRunner, RetryPolicy
from tests.runners import runner_with, swallow

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from jobrunner.telemetry import instrument


class Spans(SpanProcessor):
    """Keeps what began and what has ended."""

    def __init__(self) -> None:
        self.begun: list[Span] = []
        self.ended: list[ReadableSpan] = []
        self.provider = TracerProvider()
        self.provider.add_span_processor(self)
        self.tracer = self.provider.get_tracer("tests")

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def open(self) -> list[str]:
        return [span.name for span in self.begun if span.end_time is None]


def traced(spans: Spans, **options: Any) -> JobRunner:
    """Return a runner that is traced, in virtual time."""
    runner = runner_with(cancel_grace=1.0, shutdown_timeout=0.0, **options)
    instrument(runner, tracer_provider=spans.provider)

    @runner.job
    async def work(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def fail() -> None:
        raise ValueError("no such file")

    @runner.job(timeout=1.0)
    async def deaf() -> None:
        await swallow(3)

    return runner


def ids(span: ReadableSpan) -> tuple[int, int]:
    made = span.get_span_context()
    assert made is not None
    return made.trace_id, made.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]
