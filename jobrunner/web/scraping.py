"""`GET /metrics`: what Prometheus is told, where the extra is installed."""

from importlib.util import find_spec

from starlette.requests import Request
from starlette.responses import Response

from ..runner import JobRunner
from .api import NO_STORE
from .headers import headers_of
from .owners import OwnedRunner
from .problems import Problem
from .streams import StreamPlaces

INSTALLED = find_spec("prometheus_client") is not None
"""Whether jobs are counted; nobody else pays for it."""


class Metrics:
    """The metrics of one app, in a registry of their own.

    Args:
        runner: The runner.
        owned: The same, as whoever asks may see it.
        places: The app's streams.
    """

    def __init__(self, runner: JobRunner, owned: OwnedRunner, places: StreamPlaces) -> None:
        self._owned = owned
        if INSTALLED:  # pragma: no branch  # without it: a test in a process of its own
            from prometheus_client import CollectorRegistry  # an extra

            from ..metrics import RunnerMetrics

            self._registry = CollectorRegistry()
            self._registry.register(RunnerMetrics(runner, streams=lambda: places.open))

    async def scrape(self, request: Request) -> Response:
        """`GET /metrics`: everybody's numbers, so none for owners, who see their own jobs only."""
        if self._owned.owner is not None:
            raise Problem(403, "forbidden", _FORBIDDEN)
        if not INSTALLED:  # pragma: no cover  # likewise
            raise Problem(404, "metrics-not-installed", _MISSING)
        from ..metrics import exposition

        accept = headers_of(request.scope).get("accept")
        text, content_type = exposition(self._registry, accept)
        return Response(text, headers=NO_STORE | {"Content-Type": content_type, "Vary": "Accept"})


_FORBIDDEN = (
    "metrics count the jobs of all owners; serve them elsewhere, from a registry that has "
    "jobrunner.metrics.RunnerMetrics(runner)"
)
_MISSING = "metrics need an extra: pip install 'agent-jobrunner[metrics]'"
