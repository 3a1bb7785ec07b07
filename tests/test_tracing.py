"""Spans: the submitter's trace goes on in the job."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import pytest

from jobrunner import InvalidOption, JobContext, JobRunner, Question
from jobrunner.web import create_app
from tests.receiving import Receiver
from tests.runners import runner_with
from tests.simulation.loop import EPOCH, virtual_time

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NoOpTracerProvider,
    SpanKind,
    StatusCode,
)

from jobrunner.telemetry import instrument
from tests.spans import Spans, ids, links, parent, traced

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@virtual_time
async def test_the_submitter_s_trace_goes_on_in_the_job() -> None:
    """From the request to the last line of the handler it is one story."""
    spans = Spans()
    runner = traced(spans)

    @runner.job
    async def handler() -> None:
        with spans.tracer.start_as_current_span("inside"):
            pass

    async with runner:
        with spans.tracer.start_as_current_span("request") as request:
            job = await runner.submit(handler)
        await job.wait()
    submit, process = spans.one("submit handler"), spans.one("process handler")
    assert parent(submit) == ids(request)  # type: ignore[arg-type]  # the SDK's is readable
    assert (parent(process), links(process)) == (ids(submit), [ids(submit)])
    assert parent(spans.one("inside")) == ids(process)
    assert (submit.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert spans.open == []


@virtual_time
async def test_a_span_says_what_job_it_is_of_and_when_it_was() -> None:
    """Attributes are what traces are searched by; the names are the conventions'."""
    spans = Spans()
    async with traced(spans) as runner:
        job = await runner.submit("work", {"seconds": 3.0}, delay=2.0, priority=5)
        await job.wait()
    process = spans.one("process work")
    assert dict(process.attributes or {}) == {
        "messaging.system": "jobrunner",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "work",
        "messaging.message.id": job.id,
        "jobrunner.job.id": job.id,
        "jobrunner.job.type": "work",
        "jobrunner.job.attempt": 1,
        "jobrunner.job.max_attempts": 1,
        "jobrunner.job.priority": 5,
        "jobrunner.job.status": "completed",
    }
    assert process.start_time is not None and process.end_time is not None
    assert [round(at / 1e9 - EPOCH, 3) for at in (process.start_time, process.end_time)] == [2, 5]
    assert process.status.status_code is StatusCode.UNSET
    submit = dict(spans.one("submit work").attributes or {})
    assert (submit["messaging.operation.type"], "jobrunner.job.attempt" in submit) == (
        "send",
        False,
    )


@virtual_time
async def test_sub_jobs_are_within_the_attempt_that_submits_them() -> None:
    """The tree of jobs is the tree of spans, each with its own attempts."""
    spans = Spans()
    runner = traced(spans)

    @runner.job
    async def root(ctx: JobContext) -> None:
        await (await ctx.submit("work")).result()
        await (await ctx.submit("work")).result()

    async with runner:
        with spans.tracer.start_as_current_span("request") as request:
            job = await runner.submit(root)
        await job.wait()
    process = ids(spans.one("process root"))
    inner = spans.named("submit work")
    assert [parent(span) for span in inner] == [process, process]
    assert [parent(span) for span in spans.named("process work")] == [ids(each) for each in inner]
    assert {ids(span)[0] for span in spans.ended} == {request.get_span_context().trace_id}
    assert all(len(span.links) == 1 for span in spans.named("process work"))


@virtual_time
async def test_jobs_side_by_side_keep_their_traces_apart() -> None:
    """A job is begun wherever another one has just ended."""
    spans = Spans()
    runner = traced(spans, workers=2)

    @runner.job
    async def inner(n: int) -> None:
        await asyncio.sleep(0.1 * (n % 3))
        with spans.tracer.start_as_current_span(f"inside {n}"):
            await asyncio.sleep(0.1)

    async with runner:
        requests = []
        for n in range(8):
            with spans.tracer.start_as_current_span(f"request {n}") as request:
                requests.append(request.get_span_context().trace_id)
                await runner.submit(inner, {"n": n})
        await runner.drain()
    found = [ids(spans.one(f"inside {n}"))[0] for n in range(8)]
    assert found == requests
    assert len(set(found)) == 8


async def test_a_plain_function_has_its_span_in_its_thread() -> None:
    """Libraries that are traced by themselves find it there."""
    spans = Spans()
    runner = JobRunner()
    instrument(runner, tracer_provider=spans.provider)

    @runner.job
    def plain() -> int:
        return trace.get_current_span().get_span_context().span_id

    async with runner:
        seen = await (await runner.submit(plain)).result()
    assert seen == ids(spans.one("process plain"))[1]


@asynccontextmanager
async def client_of(runner: JobRunner) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(runner, auth=None))
    async with runner, httpx2.AsyncClient(transport=transport, base_url="http://localhost") as c:
        yield c


async def test_a_trace_comes_in_over_http_and_goes_out_with_webhooks() -> None:
    """From the caller's program over the job to the receiver's it is one trace."""
    spans, receiver = Spans(), Receiver()
    runner = JobRunner(webhooks=receiver.webhooks())
    instrument(runner, tracer_provider=spans.provider)

    @runner.job
    async def work() -> None:
        pass

    async with client_of(runner) as client:
        made = await client.post("/jobs", json={"type": "work"}, headers={"traceparent": TRACE})
        await runner.handle(made.json()["job_id"]).wait()
        sent = (await receiver.first()).headers["traceparent"]
    submit = spans.one("submit work")
    assert parent(submit) == (int(TRACE[3:35], 16), int(TRACE[36:52], 16))
    made_trace, made_span = ids(submit)
    assert sent == f"00-{made_trace:032x}-{made_span:016x}-01"
    assert ids(spans.one("process work"))[0] == made_trace


@contextmanager
def server_span(spans: Spans, traceparent: str | None) -> Iterator[Any]:
    """Have a span as a traced server has one for a request."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
    with spans.tracer.start_as_current_span("server", given) as span:
        yield span


@pytest.mark.parametrize("of_caller, nearest", [(TRACE, "server"), (None, "caller")])
@virtual_time
async def test_a_traced_server_s_own_span_is_nearer_than_its_caller_s(
    of_caller: str | None, nearest: str
) -> None:
    """The request's span is between the two; one of another trace has nothing to do with it."""
    spans = Spans()
    async with traced(spans) as runner:
        with server_span(spans, of_caller) as server:
            await runner.submit("work", traceparent=TRACE)
    caller = (int(TRACE[3:35], 16), int(TRACE[36:52], 16))
    assert parent(spans.one("submit work")) == (ids(server) if nearest == "server" else caller)


@virtual_time
async def test_what_is_not_sampled_is_not_sampled_in_the_job_either() -> None:
    """The decision is the trace's; its place goes on all the same."""
    runner = runner_with()
    instrument(runner, tracer_provider=TracerProvider(sampler=ALWAYS_OFF))

    @runner.job
    async def work() -> None:
        seen.append(trace.get_current_span().get_span_context())

    seen: list[Any] = []
    async with runner:
        job = await runner.submit(work)
        await job.wait()
    traceparent = runner.record(job.id).traceparent
    assert traceparent is not None
    assert int(traceparent[-2:], 16) & 1 == 0  # the flag that says so
    assert not seen[0].trace_flags.sampled
    assert f"{seen[0].trace_id:032x}" == traceparent[3:35]


@virtual_time
async def test_baggage_goes_on_into_the_handler() -> None:
    """It is part of the context like the span."""
    spans = Spans()
    runner = traced(spans)

    @runner.job
    async def read() -> object:
        return baggage.get_baggage("tenant")

    async with runner:
        token = context.attach(baggage.set_baggage("tenant", "ada"))
        try:
            job = await runner.submit(read)
        finally:
            context.detach(token)
        assert await job.result() == "ada"


@virtual_time
async def test_without_an_sdk_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    """A program may be instrumented and have nowhere to send it to."""
    runner = runner_with()
    instrument(runner, tracer_provider=NoOpTracerProvider())

    @runner.job
    async def work() -> int:
        return 1

    async with runner:
        job, other = await runner.submit(work, traceparent=TRACE), await runner.submit(work)
        assert [await each.result() for each in (job, other)] == [1, 1]
    traces = [runner.record(each.id).traceparent for each in (job, other)]
    assert (traces, caplog.messages) == ([TRACE, None], [])


@virtual_time
async def test_jobs_that_were_there_before_the_tracing_are_traced_from_then_on() -> None:
    """A runner may have been entered by somebody else already."""
    spans = Spans()
    runner = runner_with(workers=1)

    @runner.job
    async def work() -> None:
        await asyncio.sleep(1.0)

    async with runner:
        with spans.tracer.start_as_current_span("request") as request:
            jobs = [await runner.submit(work) for _ in range(2)]
        await asyncio.sleep(0.5)
        instrument(runner, tracer_provider=spans.provider)
        for job in jobs:
            await job.wait()
    process = spans.one("process work")
    assert (parent(process), links(process)) == (ids(request), [])  # type: ignore[arg-type]  # the SDK's is readable
    assert spans.open == []


@virtual_time
async def test_an_attempt_that_began_before_the_tracing_has_no_span() -> None:
    """Half of one would be misleading."""
    spans, runner, asked = Spans(), runner_with(), asyncio.Event()

    @runner.job
    async def ask(ctx: JobContext) -> bool:
        def notify(question: Question) -> None:
            asked.set()

        return bool(await ctx.ask("Go?", schema=bool, notify=notify))

    async with runner:
        job = await runner.submit(ask)
        await asked.wait()
        instrument(runner, tracer_provider=spans.provider)
        await runner.answer(job.id, None, True)
        await job.wait()
    assert (spans.begun, job.status) == ([], "completed")


def test_a_runner_is_instrumented_once() -> None:
    """Otherwise each span would be there twice, and nobody knows why."""
    runner = JobRunner()
    instrument(runner, tracer_provider=Spans().provider)
    with pytest.raises(InvalidOption, match="is instrumented already"):
        instrument(runner)


async def test_a_call_that_failed_has_instrumented_nothing() -> None:
    """Who gave something wrong may give the right thing after."""
    runner, spans = JobRunner(), Spans()
    runner.job("noop")(_noop)
    with pytest.raises(AttributeError):
        instrument(runner, tracer_provider=spans.provider, meter_provider=object())  # type: ignore[arg-type]
    instrument(runner, tracer_provider=spans.provider)
    async with runner:
        await (await runner.submit("noop")).wait()
    assert spans.one("submit noop").context is not None
    assert spans.one("process noop").context is not None


async def _noop() -> None:
    pass
