"""Metrics for Prometheus; needs the extra `metrics`.

`RunnerMetrics` is a collector: it asks the runner when somebody scrapes, and keeps nothing itself.
It belongs into a registry that has no other runner's; never by itself into the default one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from weakref import ref

try:
    from prometheus_client import CollectorRegistry
except ModuleNotFoundError as error:  # pragma: no cover  # tried in a process without it
    need = "jobrunner.metrics needs an extra: pip install 'agent-jobrunner[metrics]'"
    raise ModuleNotFoundError(f"{need} ({error})", name=error.name) from None
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .jobs import WAITING
from .lookup import Stats
from .runner import JobRunner
from .tally import BOUNDS, OUTCOMES, Durations, Tally

_EDGES = [*map(floatToGoString, BOUNDS), "+Inf"]


class RunnerMetrics(Collector):
    """What Prometheus can be told of a runner; its jobs are counted from here on.

    Make it before the runner takes jobs in, and scrape it in any thread: ::

        registry = prometheus_client.CollectorRegistry()
        registry.register(RunnerMetrics(runner))

    Job types are labels, job ids never are. A runner that is gone has no metrics.

    Args:
        runner: The runner.
        streams: Returns how many event streams are open; without it there is no such metric.
    """

    def __init__(self, runner: JobRunner, *, streams: Callable[[], int] | None = None) -> None:
        self._runner = ref(runner)
        self._tally = runner.tally()
        self._streams = streams

    def describe(self) -> list[Metric]:
        """Return what `collect` does: a registry refuses a second runner by these names."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they stand now; costs the same however many jobs there are."""
        runner = self._runner()
        if runner is None:
            return
        types = [handler.name for handler in runner.job_types]
        yield from _of_jobs(self._tally, types)
        yield from _of_runner(runner.stats())
        if self._streams is not None:
            yield _gauge("streams", "Event streams and WebSockets that are open", self._streams())


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type.

    Args:
        registry: What has the metrics.
        accept: The client's `Accept` header; of what can't be understood nothing is obeyed.
    """
    try:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
    except Exception:  # the header is anybody's, and the package raises what comes of it
        encode, content_type = choose_encoder("")
        return encode(registry), content_type


def _of_jobs(tally: Tally, types: Sequence[str]) -> Iterator[Metric]:
    submitted = dict.fromkeys(types, 0) | tally.submitted.copy()
    by_type = [([type], count) for type, count in submitted.items()]
    yield _counter("jobs_submitted", "Jobs taken in", ["job_type"], by_type)
    labels, finished = ["job_type", "status", "reason"], tally.finished.copy()
    yield _counter("jobs_finished", "Jobs that have ended, and how", labels, finished.items())
    yield _histogram("job_duration", "Seconds from a job's first start to its end", tally.durations)
    yield _histogram("queue_wait", "Seconds that a job was due before it started", tally.waits)
    retries = "Attempts that failed and are followed by another"
    yield _counter("job_retries", retries, [], [([], tally.retries)])


def _of_runner(stats: Stats) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("jobrunner_jobs", "Jobs that are kept, by status", labels=["status"])
    for status, count in stats.jobs.items():
        jobs.add_metric([status], count)
    yield jobs
    waiting = sum(stats.jobs[status] for status in WAITING)
    yield _gauge("queue_depth", "Jobs that wait for a worker, their time or a retry", waiting)
    yield _gauge("workers", "Jobs that may run at once", stats.workers)
    yield _gauge("workers_busy", "Workers that have a job", stats.busy)
    yield _gauge("stuck_jobs", "Handlers that refused to end and still run", stats.stuck)
    outcomes = [([each], stats.webhooks.get(each, 0)) for each in OUTCOMES]
    text = "Webhooks delivered or dead, and tries that failed"
    yield _counter("webhook_deliveries", text, ["outcome"], outcomes)
    yield _counter("jobs_pruned", "Jobs that were kept and are gone", [], [([], stats.pruned)])


def _counter(
    name: str, text: str, labels: Sequence[str], counts: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = CounterMetricFamily(f"jobrunner_{name}", text, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"jobrunner_{name}", text, value=value)


def _histogram(name: str, text: str, found: Mapping[str, Durations]) -> Metric:
    family = HistogramMetricFamily(f"jobrunner_{name}_seconds", text, labels=["job_type"])
    for type, durations in dict(found).items():
        buckets = list(zip(_EDGES, durations.cumulative(), strict=True))
        family.add_metric([type], buckets, durations.total)
    return family
