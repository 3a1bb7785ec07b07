"""What Prometheus is told, by the names and labels that stand in the documentation."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from jobrunner import JobRunner, Retention, RetryPolicy
from jobrunner.web import create_app
from tests.receiving import Receiver
from tests.serving import bench, problem, stream

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families

from jobrunner.metrics import RunnerMetrics

OPEN_METRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.1"}
NAMES = {
    "jobrunner_jobs_submitted": ("counter", {"job_type"}),
    "jobrunner_jobs_finished": ("counter", {"job_type", "status", "reason"}),
    "jobrunner_job_duration_seconds": ("histogram", {"job_type", "le"}),
    "jobrunner_queue_wait_seconds": ("histogram", {"job_type", "le"}),
    "jobrunner_job_retries": ("counter", set()),
    "jobrunner_jobs": ("gauge", {"status"}),
    "jobrunner_queue_depth": ("gauge", set()),
    "jobrunner_workers": ("gauge", set()),
    "jobrunner_workers_busy": ("gauge", set()),
    "jobrunner_stuck_jobs": ("gauge", set()),
    "jobrunner_streams": ("gauge", set()),
    "jobrunner_webhook_deliveries": ("counter", {"outcome"}),
    "jobrunner_jobs_pruned": ("counter", set()),
}


def samples(text: str, parse: Any = text_string_to_metric_families) -> dict[tuple[str, ...], float]:
    """Return each value by its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@asynccontextmanager
async def scraped(runner: JobRunner, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve a runner in this process."""
    transport = httpx2.ASGITransport(create_app(runner, **{"auth": None} | options))
    async with runner, httpx2.AsyncClient(transport=transport, base_url="http://localhost") as c:
        yield c


def new_runner(**options: Any) -> JobRunner:
    runner = JobRunner(**options)

    @runner.job
    async def work() -> None:
        pass

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def fail() -> None:
        raise OSError("no")

    return runner


async def scrape(client: httpx2.AsyncClient, **headers: str) -> dict[tuple[str, ...], float]:
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return samples(answer.text)


async def test_all_is_there_by_its_name_its_type_and_its_labels() -> None:
    """Dashboards and alerts are written against these, and break silently when one changes."""
    runner = new_runner()
    async with scraped(runner) as client:
        await (await runner.submit("work")).wait()
        await (await runner.submit("fail")).wait()
        answer = await client.get("/metrics")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        labels = {name for sample in family.samples for name in sample.labels}
        found[family.name] = (family.type, labels)
        assert family.documentation
    assert found == NAMES
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


async def test_the_values_are_what_has_happened() -> None:
    """Numbers that are only nearly right are worse than none."""
    runner = new_runner(workers=3)
    async with scraped(runner) as client:
        for name in ("work", "work", "fail"):
            await (await runner.submit(name)).wait()
        await runner.submit("work", delay=60.0)
        found = await scrape(client)
    assert found["jobrunner_jobs_submitted_total", "work"] == 3
    assert found["jobrunner_jobs_submitted_total", "fail"] == 1
    assert found["jobrunner_jobs_finished_total", "work", "", "completed"] == 2
    assert found["jobrunner_jobs_finished_total", "fail", "error", "failed"] == 1
    assert found["jobrunner_job_retries_total",] == 1
    assert found["jobrunner_job_duration_seconds_count", "work"] == 2
    assert found["jobrunner_job_duration_seconds_bucket", "work", "+Inf"] == 2
    assert found["jobrunner_queue_wait_seconds_count", "fail"] == 2
    assert found["jobrunner_jobs", "completed"] == 2
    assert found["jobrunner_jobs", "pending"] == found["jobrunner_queue_depth",] == 1
    assert (found["jobrunner_workers",], found["jobrunner_workers_busy",]) == (3, 0)


async def test_gauges_are_read_when_somebody_scrapes() -> None:
    """A value of the last change would be wrong for as long as nothing changes."""
    async with bench(workers=2) as served:
        job_id = await served.held("gauge")
        async with stream(served.client, f"/jobs/{job_id}/stream") as frames:
            await anext(frames)
            during = await scrape(served.client)
        served.gates["gauge"].set()
        await served.runner.handle(job_id).wait()
        after = await scrape(served.client)
    assert (during["jobrunner_workers_busy",], after["jobrunner_workers_busy",]) == (1, 0)
    assert (during["jobrunner_jobs", "running"], after["jobrunner_jobs", "running"]) == (1, 0)
    assert during["jobrunner_streams",] == 1


async def test_a_type_is_there_before_its_first_job() -> None:
    """`increase()` can't see the first event of a counter that begins with it."""
    async with scraped(new_runner()) as client:
        found = await scrape(client)
    assert found["jobrunner_jobs_submitted_total", "work"] == 0


async def test_counters_never_fall_though_nothing_is_kept() -> None:
    """Pruned jobs have been there all the same."""
    runner = new_runner(retention=Retention(max_jobs=1))
    async with scraped(runner) as client:
        for _ in range(5):
            await (await runner.submit("work")).wait()
        found = await scrape(client)
    assert found["jobrunner_jobs_finished_total", "work", "", "completed"] == 5
    assert (found["jobrunner_jobs", "completed"], found["jobrunner_jobs_pruned_total",]) == (1, 4)


async def test_webhooks_are_counted_by_what_became_of_them() -> None:
    """A receiver that refuses everything is seen nowhere else at a glance."""
    receiver, registry = Receiver(410, 204), CollectorRegistry()
    runner = new_runner(webhooks=receiver.webhooks())
    registry.register(RunnerMetrics(runner))
    async with runner:
        for path in ("gone", "there"):
            url = f"https://192.0.2.1/{path}"
            await (await runner.submit("work", webhook_url=url)).wait()
    found = samples(generate_latest(registry).decode())
    counts = [found["jobrunner_webhook_deliveries_total", each] for each in ("delivered", "dead")]
    assert counts == [1, 1]


@pytest.mark.parametrize(
    "accept, kind",
    [
        (OPEN_METRICS["accept"], "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0"),
        ("*/*", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4"),
        ("text/plain;version=;;=", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.x.9;escaping=?", "text/plain; version=0.0.4"),
    ],
)
async def test_the_format_is_the_one_that_is_asked_for(accept: str, kind: str) -> None:
    """OpenMetrics for who takes it, and never a 500 for a header that nobody understands."""
    async with scraped(new_runner()) as client:
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert "Accept" in answer.headers["vary"].split(", ")
    assert answer.headers["content-type"].startswith(f"{kind}; charset=utf-8")


async def test_both_formats_say_the_same() -> None:
    """OpenMetrics is stricter: one parser takes what the other refuses."""
    runner = new_runner()
    async with scraped(runner) as client:
        await (await runner.submit("fail")).wait()
        plain = await client.get("/metrics")
        strict = await client.get("/metrics", headers=OPEN_METRICS)
    assert strict.text.endswith("# EOF\n")
    assert samples(strict.text, open_metrics) == samples(plain.text)


async def test_a_job_s_id_is_in_no_label_and_an_odd_type_harms_nothing() -> None:
    """A label for each job would fill the memory of whoever collects them."""
    runner = new_runner()
    odd = "a \"b\"\\ {c='d'} ü, e"

    @runner.job(odd)
    async def named(text: str) -> None:
        pass

    async with scraped(runner) as client:
        sizes = []
        for n in range(20):
            job = await runner.submit(odd, {"text": f"{n}"}, session_id=f"s{n}")
            await job.wait()
            text = (await client.get("/metrics")).text
            sizes.append(text.count("\n"))
            assert job.id not in text
    assert sizes == [sizes[0]] * 20
    assert samples(text)["jobrunner_jobs_submitted_total", odd] == 20


async def test_two_runners_in_a_process_count_for_themselves() -> None:
    """The default registry would add them up, or refuse the second."""
    first, second = new_runner(), new_runner()
    async with scraped(first) as one, scraped(second) as two:
        await (await first.submit("work")).wait()
        counts = [(await scrape(c))["jobrunner_jobs_submitted_total", "work"] for c in (one, two)]
    assert counts == [1, 0]
    assert b"jobrunner" not in generate_latest(prometheus_client.REGISTRY)


async def test_two_apps_of_one_runner_count_its_jobs_once() -> None:
    """One for people and one for machines, on two ports, is usual."""
    runner = new_runner()
    async with scraped(runner) as one:
        other = httpx2.ASGITransport(create_app(runner, auth=None))
        async with httpx2.AsyncClient(transport=other, base_url="http://localhost") as two:
            await (await runner.submit("work")).wait()
            counts = [
                (await scrape(c))["jobrunner_jobs_submitted_total", "work"] for c in (one, two)
            ]
    assert counts == [1, 1]


def test_a_registry_refuses_a_second_runner() -> None:
    """Twice the same series would be an error of the whole scrape, at night."""
    registry, first, second = CollectorRegistry(), JobRunner(), JobRunner()
    registry.register(RunnerMetrics(first))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(RunnerMetrics(second))


async def test_a_registry_of_one_s_own_may_be_scraped_in_any_thread() -> None:
    """`prometheus_client.start_http_server` is a thread, and jobs go on meanwhile."""
    runner, registry = new_runner(), CollectorRegistry()
    registry.register(RunnerMetrics(runner))
    texts: list[bytes] = []

    def scrape_often() -> None:
        texts.extend(generate_latest(registry) for _ in range(20))

    async with runner:
        thread = threading.Thread(target=scrape_often)
        thread.start()
        await (await runner.submit_batch("work", [{}] * 300)).wait()
        await asyncio.to_thread(thread.join)
    last = samples(generate_latest(registry).decode())
    assert last["jobrunner_jobs_finished_total", "work", "", "completed"] == 300
    assert all(b"jobrunner_workers 4.0" in text for text in texts)


async def test_a_runner_that_is_gone_is_not_kept_by_its_metrics() -> None:
    """A registry of the process lives longer than a runner of a test."""
    registry = CollectorRegistry()
    registry.register(RunnerMetrics(new_runner()))
    gc.collect()
    assert generate_latest(registry) == b""


def test_a_stopped_runner_still_has_its_numbers() -> None:
    """The last scrape of a shutdown is the one that somebody looks for."""
    with TestClient(create_app(new_runner(), auth=None)) as client:
        pass
    assert "jobrunner_workers 4.0" in client.get("/metrics").text


async def test_who_comes_in_is_decided_as_for_everything_else() -> None:
    """How much work there is, and of which kind, is nobody else's business."""
    async with scraped(new_runner(), auth="secret") as client:
        refused = await client.get("/metrics")
        allowed = await client.get("/metrics", headers={"authorization": "Bearer secret"})
    assert (problem(refused), allowed.status_code) == ((401, "unauthorized"), 200)


async def test_an_owner_is_not_told_of_everybody_s_jobs() -> None:
    """They see their own jobs only; the problem says where metrics can be served instead."""
    async with scraped(new_runner(), auth=lambda connection: "ada") as client:
        answer = await client.get("/metrics")
    assert problem(answer) == (403, "forbidden")
    assert "jobrunner.metrics.RunnerMetrics(runner)" in answer.json()["detail"]


async def test_head_answers_as_get_does_without_a_body() -> None:
    """Probes ask like that."""
    async with scraped(new_runner()) as client:
        answer = await client.head("/metrics")
    assert (answer.status_code, answer.text) == (200, "")


WITHOUT = """
import sys
sys.modules["prometheus_client"] = None

from starlette.testclient import TestClient
from jobrunner import JobRunner
from jobrunner.web import create_app

with TestClient(create_app(JobRunner(), auth=None)) as client:
    answer = client.get("/metrics")
    print(answer.status_code, answer.json()["type"], answer.json()["detail"])
"""


@pytest.mark.slow  # starts an interpreter
def test_without_the_extra_the_answer_says_what_to_install() -> None:
    """A bare 404 would send people looking for a wrong path."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stderr == ""
    said = "metrics need an extra: pip install 'agent-jobrunner[metrics]'"
    assert done.stdout == f"404 /problems/metrics-not-installed {said}\n"
