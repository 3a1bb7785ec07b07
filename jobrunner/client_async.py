"""The client: the runner's verbs, over HTTP."""

import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import httpx2

from .client_batching import BatchVerbs
from .client_events import OnProgress, progress_of_job, watch
from .client_http import Http
from .client_jobs import (
    ClientOptions,
    JobIds,
    RemoteJob,
    RemoteJobs,
    parse,
    path_of,
    submit_body,
)
from .client_waiting import until_all, until_final
from .errors import InvalidOption
from .limits import check_seconds
from .views import JobView, Waited


class JobClient(BatchVerbs):
    """Talks to a runner that is served over HTTP, with the runner's own verbs and errors.

    Use it as an async context manager, in one event loop. What fails on the way is tried again for
    `retry_for` seconds, where that can't do anything twice: each submit has an idempotency key. A
    wait, a watch or a submit that is cancelled leaves nothing open, and touches no job.

    Args:
        base_url: Where the runner's app is, with the path that it is mounted at; the URL that
            `jobrunner serve` printed will do as it is.
        token: What the server wants to be shown; the one in the URL if not given.
        timeout: Seconds in which an answer has to come, beyond what it was asked to wait.
        retry_for: Seconds for which a request is made again after it failed first, with growing,
            random pauses, and none shorter than the server asks for.
        headers: What else to send with each request.
        verify: How an https server's certificate is checked; False for not at all.
        proxy: URL of a proxy.
        trust_env: Whether proxies and certificates that the environment names are used, as other
            programs do; never for a server on this machine.
        transport: What carries the requests in place of the network.

    Raises:
        InvalidOption: One of them has a value that it can't have.

    Example:
        async with JobClient(url, token=token) as client:
            job = await client.submit("double", {"n": 21})
            async for event in job.events():
                print(event.seq, event.type, event.data)
            assert await job.result(timeout=60.0) == 42
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 10.0,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        proxy: str | None = None,
        trust_env: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = Http(
            base_url,
            token=token,
            headers=headers,
            timeout=timeout,
            retry_for=retry_for,
            verify=verify,
            proxy=proxy,
            trust_env=trust_env,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<JobClient {self._http.url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the jobs go on."""
        await self._http.close()

    async def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[ClientOptions],
    ) -> RemoteJob:
        """Hand a job in, and return its handle as soon as the server has taken it.

        Safe to be tried again, which it is by itself: an answer that was lost gives one job.

        Args:
            type: Name of the job type.
            params: Values for the handler's parameters, JSON or what pydantic makes JSON of.
            options: See `jobrunner.client.ClientOptions`.

        Raises:
            UnknownJobType, InvalidParams, InvalidOption, PayloadTooLarge: The job isn't taken.
            QueueFull: There is no room, after `max_wait` seconds.
            IdempotencyKeyReused: The key came before, with another type or other params.
            DuplicateJob: A job with the same concurrency key is live, and duplicates are rejected.
            ServerUnreachable: There was no answer.
        """
        body = submit_body(type, params or {}, options)
        response = await self._submit("/jobs", body, options)
        outcome = response.headers.get("job-outcome", "created")
        if outcome == "replayed" and "idempotency_key" not in options:
            outcome = "created"  # by a try of this call whose answer was lost
        return RemoteJob(self, parse(JobView, response).job_id, outcome=outcome)

    async def submit_and_wait(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        *,
        wait_timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[ClientOptions],
    ) -> Any:
        """Hand a job in, wait for its end, and return its result.

        Args:
            wait_timeout: Seconds to wait; the job's own limits are among the options.
            on_progress: Called with each progress of the job.

        Raises:
            JobFailed, JobCancelled: It ended without a result.
            TimeoutError: It hasn't ended after `wait_timeout` seconds; it goes on.
            Exception: What `submit` raises.
        """
        check_seconds("wait_timeout", wait_timeout, zero=True)
        job = await self.submit(type, params, **options)
        return await job.result(timeout=wait_timeout, on_progress=on_progress)

    def handle(self, job_id: str) -> RemoteJob:
        """Return a handle on a job; the server isn't asked whether there is one."""
        return RemoteJob(self, job_id)

    async def get(self, job_id: str, *, wait: int = 0) -> JobView:
        """Return the job as it stands now, or as it ended within `wait` seconds, at most 30.

        Raises:
            JobNotFound: There is no such job.
            JobGone: It has ended and is no longer kept.
        """
        query = {"wait": wait} if wait else None
        response = await self._http.call("GET", path_of(job_id), query=query, wait=wait)
        return parse(JobView, response)

    async def wait(
        self,
        job_ids: Iterable[str],
        *,
        mode: Literal["all", "any"] = "all",
        timeout: float | None = None,
    ) -> Waited:
        """Wait until all or any of the jobs have ended, or the time is over.

        Never raises for time: whatever hasn't ended is in `pending`, and goes on. Up to 100 of the
        jobs are waited for at once, each by a long poll of its own.

        Raises:
            JobNotFound, JobGone: One of them isn't kept.
            ServerUnreachable: There was no answer.
            InvalidOption: The mode is neither "all" nor "any", or the timeout no duration.
        """
        if mode not in ("all", "any"):
            raise InvalidOption(f"mode is {mode!r}; it must be 'all' or 'any'")
        seconds = check_seconds("timeout", timeout, zero=True)
        return await until_all(self.get, job_ids, mode=mode, timeout=seconds)

    async def until_final(
        self, job_id: str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView:
        """Wait for one job's end and return it as it is then; see `RemoteJob.wait`."""
        seconds = check_seconds("timeout", timeout, zero=True)
        last = None
        if on_progress is not None and seconds != 0.0:
            last = await watch(self.events(job_id), on_progress, job_id=job_id, timeout=seconds)
        job = await until_final(self.get, job_id, seconds)
        if on_progress is not None and (ended := progress_of_job(job)) != last:
            on_progress(ended)
        return job

    async def cancel(self, job_id: str, note: str | None = None) -> JobView:
        """Ask a job to stop, and return it as it stands then; twice is the same as once.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
        """
        path, body = f"{path_of(job_id)}/cancel", {"reason": note}
        return parse(JobView, await self._http.call("POST", path, body=body))

    async def answer(self, job_id: str, question_id: str | None, value: Any) -> JobView:
        """Answer a question of a job, and return the job as it stands then.

        The first answer that fits counts. It isn't tried again when the server's word on it is
        lost: that one would come second.

        Args:
            question_id: Which question; None for the only one that is open.
            value: The answer: JSON values, or what pydantic makes JSON of.

        Raises:
            QuestionNotFound: The job never asked it.
            NotWaitingForInput: It was answered, nobody waits for it any more, or the job has ended.
            InvalidAnswer: The value doesn't fit; `errors` says where, and the question stays open.
            InvalidOption: Several are open, and `question_id` is None.
            JobNotFound, JobGone: There is no such job any more.
        """
        body = {"question_id": question_id, "value": value}
        path = f"{path_of(job_id)}/input"
        return parse(JobView, await self._http.call("POST", path, body=body, repeatable=False))

    async def retry(self, job_id: str) -> RemoteJob:
        """Run a final job again, as a new job with `retry_of`, and return its handle.

        It isn't tried again when its answer is lost: that could run the job twice.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotRetryable: Its params held secrets, which are not kept.
            JobNotFound, JobGone: There is no such job any more.
        """
        response = await self._http.call("POST", f"{path_of(job_id)}/retry", repeatable=False)
        return RemoteJob(self, parse(JobView, response).job_id)

    async def retry_failed(self, type: str | None = None) -> RemoteJobs:
        """Run the failed jobs again, each as `retry` would, the newest first.

        Args:
            type: Only jobs of this type.

        Raises:
            UnknownJobType: There is no such type.
            QueueFull: There is no room for any.
        """
        response = await self._http.call("POST", "/retry", body={"type": type}, repeatable=False)
        return [RemoteJob(self, job_id) for job_id in parse(JobIds, response).job_ids]

    async def forget(self, job_id: str) -> None:
        """Remove a final job now; its id answers "gone" from then on.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotFound, JobGone: There is no such job any more.
        """
        await self._http.call("DELETE", path_of(job_id))
