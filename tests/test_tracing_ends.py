"""Spans end with what they are of, whatever becomes of it, and say what."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner, Question, RetryPolicy
from tests.runners import runner_with
from tests.simulation.loop import EPOCH, virtual_time

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    NoOpTracer,
    StatusCode,
)

from jobrunner.telemetry import instrument
from jobrunner.tracing import Tracing
from tests.spans import Spans, ids, links, parent, traced


@virtual_time
async def test_each_attempt_has_a_span_with_its_error_and_leads_to_the_one_before() -> None:
    """Why it was tried again stands where it was."""
    spans = Spans()
    async with traced(spans) as runner:
        await (await runner.submit("fail")).wait()
    first, second = spans.named("process fail")
    submit = ids(spans.one("submit fail"))
    assert (links(first), links(second)) == ([submit], [submit, ids(first)])
    assert parent(first) == parent(second) == submit
    for span, status in (first, "retrying"), (second, "failed"):
        assert (span.status.status_code, span.status.description) == (
            StatusCode.ERROR, "no such file"
        )  # fmt: skip
        (event,) = span.events
        said = dict(event.attributes or {})
        assert "ValueError" in str(said.pop("exception.stacktrace"))
        assert (event.name, said) == (
            "exception", {"exception.type": "ValueError", "exception.message": "no such file"}
        )  # fmt: skip
        assert span.attributes is not None
        assert span.attributes["error.type"] == "ValueError"
        assert span.attributes["jobrunner.job.status"] == status


async def end_by(how: str, runner: JobRunner) -> None:
    """Bring a job to an end of some kind."""
    if how == "stuck":
        await (await runner.submit("deaf")).wait()
    elif how == "expired":
        runner.pause()
        await (await runner.submit("work", expires=1.0)).wait()
    elif how == "retrying":
        runner.pause()
    else:
        options: Any = {"timeout": {"timeout": 1.0}, "deadline": {"deadline": 1.0}}.get(how, {})
        job = await runner.submit("work", {"seconds": 60.0}, **options)
        await asyncio.sleep(0.5)
        if how == "cancelled":
            await job.cancel("enough")
        if how != "shutdown":
            await job.wait()


@pytest.mark.parametrize(
    "how, kind, status",
    [
        ("stuck", "timeout", "failed"),
        ("timeout", "timeout", "failed"),
        ("deadline", "deadline", "failed"),
        ("cancelled", None, "cancelled"),
        ("shutdown", None, "pending"),
        ("expired", None, None),
    ],
)
@virtual_time
async def test_no_span_is_left_open_however_a_job_ends(
    how: str, kind: str | None, status: str | None
) -> None:
    """One that never ends is never exported, and just the worst jobs would be missing."""
    spans = Spans()
    async with traced(spans) as runner:
        await end_by(how, runner)
    assert spans.open == []
    assert len(spans.ended) == len(spans.begun) == (1 if status is None else 2)
    found = dict(spans.ended[-1].attributes or {})
    assert (found.get("error.type"), found.get("jobrunner.job.status")) == (kind, status)
    wrong = StatusCode.ERROR if kind is not None else StatusCode.UNSET
    assert spans.ended[-1].status.status_code is wrong
    if how == "cancelled":
        assert found["jobrunner.job.cancel_reason"] == "user"


@virtual_time
async def test_an_interrupted_attempt_doesn_t_tell_the_error_of_the_one_before() -> None:
    """It was given back, and nothing was wrong with it."""
    spans = Spans()
    runner = traced(spans)
    tries = []

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def second_waits() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("first")
        await asyncio.sleep(60.0)

    async with runner:
        await runner.submit(second_waits)
        await asyncio.sleep(1.0)
    first, second = spans.named("process second_waits")
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.ERROR, StatusCode.UNSET
    )  # fmt: skip
    assert "error.type" not in (second.attributes or {})


@virtual_time
async def test_a_cancelled_attempt_doesn_t_tell_the_error_of_the_one_before() -> None:
    """The job keeps its last error; what it says is of another span."""
    spans = Spans()
    runner = traced(spans)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def second_waits(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise OSError("first")
        await asyncio.sleep(60.0)

    async with runner:
        job = await runner.submit(second_waits)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert view.error is not None
    assert [len(span.events) for span in spans.named("process second_waits")] == [1, 0]


class Odd(NonRecordingSpan):
    """Raises when something is said of it, and notes that it has ended."""

    def __init__(self, ended: list[str]) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self._ended = ended

    def set_attribute(self, key: str, value: Any) -> None:
        raise RuntimeError("no")

    def end(self, end_time: int | None = None) -> None:
        self._ended.append("ended")


class OddTracer(NoOpTracer):
    def __init__(self) -> None:
        self.ended: list[str] = []

    def start_span(self, *args: Any, **more: Any) -> Odd:
        return Odd(self.ended)


@virtual_time
async def test_a_span_ends_though_nothing_can_be_said_of_it() -> None:
    """Somebody's tracer may refuse what we say; its span must not stay open for that."""
    runner, tracer = runner_with(), OddTracer()
    runner.add_witness(Tracing(tracer))

    @runner.job
    async def work() -> None:
        pass

    async with runner:
        await (await runner.submit(work)).wait()
    assert tracer.ended == ["ended"] * 2


async def test_a_job_that_is_lost_by_a_fault_of_the_runner_has_ended_spans_too() -> None:
    """Just then somebody will look for them."""
    spans, broken = Spans(), asyncio.Event()

    def now() -> float:
        if broken.is_set():
            raise OSError("no clock")
        return EPOCH

    runner = JobRunner(now=now)
    instrument(runner, tracer_provider=spans.provider)

    @runner.job
    async def handler() -> None:
        broken.set()

    async with runner:
        await (await runner.submit(handler)).wait()
    span = spans.one("process handler")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "lost"
    assert (span.status.status_code, spans.open) == (StatusCode.ERROR, [])


@virtual_time
async def test_an_error_while_a_job_is_cancelled_is_told_but_is_none_of_the_job() -> None:
    """Somebody wanted it to end; what its cleanup raised is worth knowing all the same."""
    spans = Spans()
    runner = traced(spans)

    @runner.job
    async def messy() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            raise OSError("cleanup")

    async with runner:
        job = await runner.submit(messy)
        await asyncio.sleep(1.0)
        await job.cancel()
        await job.wait()
    span = spans.one("process messy")
    assert [event.name for event in span.events] == ["exception"]
    assert span.status.status_code is StatusCode.UNSET


@virtual_time
async def test_waiting_for_a_person_is_within_the_attempt() -> None:
    """One attempt, one span; when it asked and was answered stands in it."""
    spans = Spans()
    runner = traced(spans)
    asked = asyncio.Event()

    @runner.job
    async def ask(ctx: JobContext) -> bool:
        def notify(question: Question) -> None:
            asked.set()

        return bool(await ctx.ask("Go?", schema=bool, notify=notify))

    async with runner:
        job = await runner.submit(ask)
        await asked.wait()
        await runner.answer(job.id, None, True)
        await job.wait()
    span = spans.one("process ask")
    assert [event.name for event in span.events] == ["job asks", "job was answered"]
    assert spans.open == []


class Hostile(SpanProcessor):
    """Raises whatever is done."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        raise RuntimeError("start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("end")


@virtual_time
async def test_a_processor_that_raises_harms_no_job(caplog: pytest.LogCaptureFixture) -> None:
    """Who looks on has no say; the log says what is wrong."""
    spans = Spans()
    runner = traced(spans)
    spans.provider.add_span_processor(Hostile())
    async with runner:
        job = await runner.submit("work")
        view = await job.wait()
    assert (view.status, runner.stats().faults) == ("completed", 0)
    assert f"job {job.id} (work) can't be watched" in caplog.text


async def test_an_exporter_gets_what_it_needs() -> None:
    """Exporters read attributes and events that nothing before them has looked at."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runner = JobRunner()
    instrument(runner, tracer_provider=provider)

    @runner.job
    async def fail() -> None:
        raise ValueError("no")

    async with runner:
        await (await runner.submit(fail)).wait()
    assert [span.name for span in exporter.get_finished_spans()] == ["submit fail", "process fail"]
    assert all(span.to_json() for span in exporter.get_finished_spans())
