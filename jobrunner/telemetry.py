"""OpenTelemetry for a runner: `instrument`; needs the extra `otel`, and an SDK that you set up."""

from collections.abc import Callable, Iterable
from typing import TypeAlias
from weakref import WeakSet, ref

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:  # pragma: no cover  # tried in a process without it
    need = "jobrunner.telemetry needs an extra: pip install 'agent-jobrunner[otel]'"
    raise ModuleNotFoundError(f"{need} ({error})", name=error.name) from None
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import TracerProvider

from . import __version__
from .errors import InvalidOption
from .jobs import FINAL, WAITING, Job, JobStatus
from .lookup import Stats
from .runner import JobRunner
from .tally import BOUNDS, OUTCOMES, Tally, waited
from .tracing import Tracing

_instrumented: WeakSet[JobRunner] = WeakSet()
_Read: TypeAlias = Callable[[Stats, Tally], Iterable[Observation]]


def instrument(
    runner: JobRunner,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Have the runner's jobs traced and measured from now on; call it once, before it is entered.

    Each job has a span where it is submitted and one around each attempt, which is the current one
    in the handler; both are in the submitter's trace. It is a call and no option of `JobRunner`, so
    that a runner knows nothing of OpenTelemetry, and who doesn't call it pays nothing.

    Metrics have the names of those for Prometheus, with dots. Two runners of a process need meter
    providers of their own, or their numbers can't be told apart.

    Args:
        runner: The runner.
        tracer_provider: Where spans go; the global one if not given.
        meter_provider: Where metrics go; the global one if not given.

    Raises:
        InvalidOption: The runner is instrumented already.
    """
    if runner in _instrumented:
        raise InvalidOption("the runner is instrumented already; each span would be there twice")
    tracers = tracer_provider or trace.get_tracer_provider()
    tracing = Tracing(tracers.get_tracer("jobrunner", __version__))
    meter = (meter_provider or metrics.get_meter_provider()).get_meter("jobrunner", __version__)
    histograms = _Histograms(meter)
    _observe(meter, runner)
    runner.add_witness(tracing)
    runner.add_witness(histograms)
    _instrumented.add(runner)


class _Histograms:
    """Records how long jobs take, as a witness: a histogram can't be asked for later."""

    def __init__(self, meter: Meter) -> None:
        self._durations = meter.create_histogram(
            "jobrunner.job.duration", "s", "From a job's first start to its end",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )  # fmt: skip
        self._waits = meter.create_histogram(
            "jobrunner.queue.wait", "s", "From when a job was due to the start of an attempt",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )  # fmt: skip

    def added(self, job: Job) -> None:
        """See `Witness`."""

    def moved(self, job: Job, was: JobStatus, at: float, clock: float) -> None:
        """See `Witness`."""
        if job.status in FINAL:
            if job.begun is not None:
                self._durations.record(clock - job.begun, {"job.type": job.type})
        elif job.status is JobStatus.RUNNING and was is not JobStatus.INPUT_REQUIRED:
            self._waits.record(waited(job, at, clock), {"job.type": job.type})


def _observe(meter: Meter, runner: JobRunner) -> None:
    """Make the instruments that are asked for when somebody collects, in whatever thread."""
    tally, known = runner.tally(), ref(runner)

    def of(read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            found = known()  # one that is gone has nothing to say
            return [] if found is None else read(found.stats(), tally)

        return observe

    for name, unit, text, read in _COUNTERS:
        meter.create_observable_counter(f"jobrunner.{name}", [of(read)], unit, text)
    for name, unit, text, read in _GAUGES:
        meter.create_observable_gauge(f"jobrunner.{name}", [of(read)], unit, text)


def _submitted(stats: Stats, tally: Tally) -> Iterable[Observation]:
    return [Observation(n, {"job.type": type}) for type, n in tally.submitted.copy().items()]


def _finished(stats: Stats, tally: Tally) -> Iterable[Observation]:
    return [
        Observation(n, {"job.type": type, "status": status, "reason": reason})
        for (type, status, reason), n in tally.finished.copy().items()
    ]


def _kept(stats: Stats, tally: Tally) -> Iterable[Observation]:
    return [Observation(n, {"status": status.value}) for status, n in stats.jobs.items()]


def _deliveries(stats: Stats, tally: Tally) -> Iterable[Observation]:
    return [Observation(stats.webhooks.get(each, 0), {"outcome": each}) for each in OUTCOMES]


_COUNTERS: list[tuple[str, str, str, _Read]] = [
    ("jobs.submitted", "{job}", "Jobs taken in", _submitted),
    ("jobs.finished", "{job}", "Jobs that have ended, and how", _finished),
    ("job.retries", "{attempt}", "Attempts that failed and are followed by another",
     lambda stats, tally: [Observation(tally.retries)]),
    ("webhook.deliveries", "{delivery}", "Webhooks delivered or dead, and tries that failed",
     _deliveries),
    ("jobs.pruned", "{job}", "Jobs that were kept and are gone",
     lambda stats, tally: [Observation(stats.pruned)]),
]  # fmt: skip
_GAUGES: list[tuple[str, str, str, _Read]] = [
    ("jobs", "{job}", "Jobs that are kept, by status", _kept),
    ("queue.depth", "{job}", "Jobs that wait for a worker, their time or a retry",
     lambda stats, tally: [Observation(sum(stats.jobs[each] for each in WAITING))]),
    ("workers", "{worker}", "Jobs that may run at once",
     lambda stats, tally: [Observation(stats.workers)]),
    ("workers.busy", "{worker}", "Workers that have a job",
     lambda stats, tally: [Observation(stats.busy)]),
    ("stuck_jobs", "{job}", "Handlers that refused to end and still run",
     lambda stats, tally: [Observation(stats.stuck)]),
]  # fmt: skip
