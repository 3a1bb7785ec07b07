"""Metrics of OpenTelemetry: those of Prometheus, with dots."""

import asyncio
import gc
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner, Question, RetryPolicy
from jobrunner.tally import BOUNDS
from tests.runners import runner_with
from tests.simulation.loop import virtual_time

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from jobrunner.telemetry import instrument


class Meters:
    """Collects when it is asked to."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, Any]:
        """Return the metrics by their name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self) -> dict[tuple[str, ...], Any]:
        """Return each value, or how many a histogram has, by name and attributes."""
        return {
            (name, *(f"{value}" for _, value in sorted(point.attributes.items()))): (
                point.count if hasattr(point, "bucket_counts") else point.value
            )
            for name, metric in self.collect().items()
            for point in metric.data.data_points
        }


def measured(meters: Meters, **options: Any) -> JobRunner:
    runner = runner_with(**options)
    instrument(runner, tracer_provider=NoOpTracerProvider(), meter_provider=meters.provider)

    @runner.job
    async def work(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def fail() -> None:
        raise OSError("no")

    return runner


@virtual_time
async def test_the_values_are_what_has_happened() -> None:
    """The same numbers as for Prometheus, since they are the same."""
    meters = Meters()
    async with measured(meters, workers=3) as runner:
        await (await runner.submit("work", {"seconds": 3.0})).wait()
        await (await runner.submit("fail")).wait()
        await runner.submit("work", {"seconds": 60.0})
        await runner.submit("work", delay=60.0)
        await asyncio.sleep(1.0)
        found = meters.values()
        await runner.drain()
    assert found == {
        ("jobrunner.jobs.submitted", "work"): 3,
        ("jobrunner.jobs.submitted", "fail"): 1,
        ("jobrunner.jobs.finished", "work", "", "completed"): 1,
        ("jobrunner.jobs.finished", "fail", "error", "failed"): 1,
        ("jobrunner.job.duration", "work"): 1,
        ("jobrunner.job.duration", "fail"): 1,
        ("jobrunner.queue.wait", "work"): 2,
        ("jobrunner.queue.wait", "fail"): 2,
        ("jobrunner.job.retries",): 1,
        ("jobrunner.jobs", "pending"): 1,
        ("jobrunner.jobs", "running"): 1,
        ("jobrunner.jobs", "retrying"): 0,
        ("jobrunner.jobs", "input_required"): 0,
        ("jobrunner.jobs", "completed"): 1,
        ("jobrunner.jobs", "failed"): 1,
        ("jobrunner.jobs", "cancelled"): 0,
        ("jobrunner.queue.depth",): 1,
        ("jobrunner.workers",): 3,
        ("jobrunner.workers.busy",): 1,
        ("jobrunner.stuck_jobs",): 0,
        ("jobrunner.webhook.deliveries", "delivered"): 0,
        ("jobrunner.webhook.deliveries", "dead"): 0,
        ("jobrunner.webhook.deliveries", "failed"): 0,
        ("jobrunner.jobs.pruned",): 0,
    }


@virtual_time
async def test_durations_are_seconds_in_the_buckets_of_prometheus() -> None:
    """The default ones are for milliseconds, and would put every job into the first."""
    meters = Meters()
    async with measured(meters) as runner:
        await (await runner.submit("work", {"seconds": 3.0})).wait()
    metric = meters.collect()["jobrunner.job.duration"]
    (point,) = metric.data.data_points
    assert (metric.unit, tuple(point.explicit_bounds), round(point.sum, 6)) == ("s", BOUNDS, 3.0)


@virtual_time
async def test_a_job_that_never_began_has_no_duration(caplog: pytest.LogCaptureFixture) -> None:
    """Nor has it waited for a start."""
    meters = Meters()
    async with measured(meters) as runner:
        await (await runner.submit("work", delay=60.0)).cancel()
    assert not {"jobrunner.job.duration", "jobrunner.queue.wait"} & meters.collect().keys()
    assert caplog.messages == []


@virtual_time
async def test_an_answer_is_no_second_start() -> None:
    """Who waits for a person goes on with the attempt that it has."""
    meters, asked = Meters(), asyncio.Event()
    runner = measured(meters)

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
    assert meters.values()["jobrunner.queue.wait", "ask"] == 1


def test_a_runner_that_is_gone_is_not_kept_by_its_instruments() -> None:
    """They can't be taken back, and a program may make many runners."""
    meters = Meters()
    measured(meters)
    gc.collect()
    assert meters.collect() == {}
