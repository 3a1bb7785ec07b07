"""The part of a client that looks: at lists, streams, logs and deliveries, and at the server."""

from collections.abc import AsyncGenerator

from .client_errors import not_a_job
from .client_events import follow
from .client_http import Http, Patience
from .client_jobs import (
    Deliveries,
    DeliveryViews,
    JobList,
    JobTypes,
    Types,
    delivery_path,
    parse,
    path_of,
)
from .deliveries import DeliveryView
from .errors import InvalidOption, RunnerNotStarted, RunnerStopped, ServerProblem
from .events import Event
from .stats_views import StatsView
from .views import JobPage


class WatchVerbs:
    """Reads what a server has."""

    _http: Http

    async def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        session_id: str | None = None,
        batch_id: str | None = None,
        parent_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return jobs, newest first.

        Args:
            status: Only jobs with this status; likewise the other filters.
            limit: How many at most, 1 to 200.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidOption: There is no such status, the limit is below 1, or a filter is no text.
            InvalidCursor: The cursor was not made by a runner.
        """
        filters = {"status": status, "type": type, "session_id": session_id,
                   "batch_id": batch_id, "parent_id": parent_id}  # fmt: skip
        query = filters | {"limit": limit, "cursor": cursor}
        given = {name: value for name, value in query.items() if value is not None}
        try:
            response = await self._http.call("GET", "/jobs", query=given)
        except UnicodeEncodeError as error:  # a lone surrogate
            raise InvalidOption(f"a filter can't go into a URL: {error}") from None
        page = parse(JobList, response)
        return JobPage(page.jobs, page.next_cursor)

    def events(self, job_id: str | None = None, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the job's events above number `after`, then what comes, until its end.

        Each comes once and in order, over as many connections as it takes. Where events are no
        longer kept, a `gap` event says which. The last one, `done`, has the result in its data.

        Without a job they are those of all jobs, from when the server is reached, without an end:
        statuses, progress and ends, each with its number in its own job. A `gap` of no job says how
        many were missed.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
            InvalidOption: There is a number, and no job.
            ServerUnreachable: There was no answer for `retry_for` seconds.
        """
        if job_id is not None:
            return follow(self._http, f"{path_of(job_id)}/stream", after)
        if after:
            raise InvalidOption("after is a number of one job's events; give its id, too")
        return follow(self._http, "/events", None, endless=True)

    async def logs(self, job_id: str) -> str:
        """Return what the job has said so far as text: log lines with their time, and output.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
        """
        response = await self._http.call("GET", f"{path_of(job_id)}/logs")
        if not response.headers.get("content-type", "").startswith("text/plain"):
            raise not_a_job(response)
        return response.text

    async def deliveries(self, job_id: str) -> DeliveryViews:
        """Return the webhook deliveries of a job, the oldest first, as they stand now.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
        """
        response = await self._http.call("GET", f"{path_of(job_id)}/deliveries")
        return parse(Deliveries, response).deliveries

    async def resend(self, job_id: str, delivery_id: str) -> DeliveryView:
        """Send a webhook again, now and then on schedule, and return it as it stands then.

        It isn't tried again when its answer is lost: that could send it twice.

        Raises:
            DeliveryNotFound: The job has no such delivery, or not any more.
            JobNotFound, JobGone: There is no such job any more.
        """
        path = f"{delivery_path(job_id, delivery_id)}/resend"
        return parse(DeliveryView, await self._http.call("POST", path, repeatable=False))

    async def types(self) -> Types:
        """Return the server's job types, with the schemas of their params and results."""
        return parse(JobTypes, await self._http.call("GET", "/types")).types

    async def stats(self) -> StatsView:
        """Return how the server's runner does: its workers, and how many jobs have each status."""
        return parse(StatsView, await self._http.call("GET", "/stats"))

    async def unready(self) -> str | None:
        """Return why the server takes or starts no jobs; None when it does."""
        try:
            await self._http.call("GET", "/readyz", patience=Patience(0.0))
        except (ServerProblem, RunnerNotStarted, RunnerStopped) as error:
            if isinstance(error, ServerProblem) and error.status != 503:
                raise
            return str(error)
        return None
