"""The client without asyncio: the same verbs, each of which waits for its answer.

The asynchronous client works in a thread with an event loop of its own, so that this one works in
scripts, in threads, and where a loop runs already, as in a notebook.
"""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

import httpx2

from .client_async import JobClient
from .client_bridge import Bridge
from .client_events import OnProgress, Progress
from .client_jobs import ClientOptions, RemoteJob
from .client_sync_batches import SyncBatchVerbs
from .events import Event
from .limits import check_seconds
from .views import JobView, Waited, check_completed


class SyncJobClient(SyncBatchVerbs):
    """Talks to a runner that is served over HTTP; see `JobClient` for what each argument means.

    Use it in a `with` block, or `close` it at the end. It may be shared by threads. Ctrl-C ends a
    call, and no job. Its server can't be in the event loop that calls it: that loop stands still
    for as long as a call takes.
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
        self._client = JobClient(
            base_url,
            token=token,
            timeout=timeout,
            retry_for=retry_for,
            headers=headers,
            verify=verify,
            proxy=proxy,
            trust_env=trust_env,
            transport=transport,
        )
        self._bridge = Bridge(self._client)

    def __repr__(self) -> str:
        return f"<Sync{repr(self._client)[1:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; the jobs go on. Twice is the same as once."""
        self._bridge.close()

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[ClientOptions],
    ) -> "SyncRemoteJob":
        """Hand a job in, and return its handle; see `JobClient.submit`."""
        return SyncRemoteJob(
            self, self._bridge.call(lambda: self._client.submit(type, params, **options))
        )

    def submit_and_wait(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        *,
        wait_timeout: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[ClientOptions],
    ) -> Any:
        """Hand a job in, wait for its end, and return its result; see `JobClient`'s."""
        check_seconds("wait_timeout", wait_timeout, zero=True)
        job = self.submit(type, params, **options)
        return job.result(timeout=wait_timeout, on_progress=on_progress)

    def handle(self, job_id: str) -> "SyncRemoteJob":
        """Return a handle on a job; the server isn't asked whether there is one."""
        return SyncRemoteJob(self, self._client.handle(job_id))

    def get(self, job_id: str, *, wait: int = 0) -> JobView:
        """Return the job as it stands now, or as it ended within `wait` seconds, at most 30."""
        return self._bridge.call(lambda: self._client.get(job_id, wait=wait))

    def until_final(
        self, job_id: str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView:
        """Wait for one job's end and return it as it is then; see `RemoteJob.wait`.

        The callback is called in the thread that waits.
        """
        if on_progress is None:
            return self._bridge.call(lambda: self._client.until_final(job_id, timeout=timeout))
        told: SimpleQueue[Progress | None] = SimpleQueue()
        with self._bridge.running(
            lambda: self._client.until_final(job_id, timeout=timeout, on_progress=told.put)
        ) as ended:
            ended.add_done_callback(lambda _: told.put(None))
            while (now := told.get()) is not None:
                on_progress(now)
            return ended.result()

    def wait(
        self,
        job_ids: Iterable[str],
        *,
        mode: Literal["all", "any"] = "all",
        timeout: float | None = None,
    ) -> Waited:
        """Wait until all or any of the jobs have ended, or the time is over; see `JobClient`'s."""
        return self._bridge.call(lambda: self._client.wait(job_ids, mode=mode, timeout=timeout))

    def cancel(self, job_id: str, note: str | None = None) -> JobView:
        """Ask a job to stop, and return it as it stands then."""
        return self._bridge.call(lambda: self._client.cancel(job_id, note))

    def answer(self, job_id: str, question_id: str | None, value: Any) -> JobView:
        """Answer a question of a job, and return the job as it stands then; see `JobClient`'s."""
        return self._bridge.call(lambda: self._client.answer(job_id, question_id, value))

    def retry(self, job_id: str) -> "SyncRemoteJob":
        """Run a final job again, as a new job, and return its handle; see `JobClient.retry`."""
        return SyncRemoteJob(self, self._bridge.call(lambda: self._client.retry(job_id)))

    def retry_failed(self, type: str | None = None) -> "SyncRemoteJobs":
        """Run the failed jobs again, each as `retry` would, the newest first."""
        jobs = self._bridge.call(lambda: self._client.retry_failed(type))
        return [SyncRemoteJob(self, job) for job in jobs]

    def forget(self, job_id: str) -> None:
        """Remove a final job now; its id answers "gone" from then on."""
        self._bridge.call(lambda: self._client.forget(job_id))


class SyncRemoteJob:
    """A job on a server, to be waited for, watched or cancelled; see `RemoteJob`."""

    def __init__(self, client: SyncJobClient, job: RemoteJob) -> None:
        self._client = client
        self._job = job

    def __repr__(self) -> str:
        return f"<Sync{repr(self._job)[1:]}"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def outcome(self) -> str:
        """How `submit` came by this job: created, replayed, joined, replaced or enqueued."""
        return self._job.outcome

    def get(self) -> JobView:
        """Return the job as it stands now."""
        return self._client.get(self.id)

    def wait(
        self, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView:
        """Wait for the job's end and return the job as it is then; see `RemoteJob.wait`."""
        return self._client.until_final(self.id, timeout=timeout, on_progress=on_progress)

    def result(self, *, timeout: float | None = None, on_progress: OnProgress | None = None) -> Any:
        """Wait for the job's end and return what its handler returned; see `RemoteJob.result`."""
        ended = self.wait(timeout=timeout, on_progress=on_progress)
        check_completed(ended)
        return ended.result

    def events(self, after: int = 0) -> Iterator[Event]:
        """Yield the job's events above number `after`, then what comes, until its end."""
        return self._client.events(self.id, after)

    def cancel(self, note: str | None = None) -> JobView:
        """Ask the job to stop, and return it as it stands then."""
        return self._client.cancel(self.id, note)

    def answer(self, question_id: str | None, value: Any) -> JobView:
        """Answer a question of the job; see `JobClient.answer`."""
        return self._client.answer(self.id, question_id, value)

    def retry(self) -> "SyncRemoteJob":
        """Run the job again, as a new one."""
        return self._client.retry(self.id)

    def forget(self) -> None:
        """Remove the job, which has to have ended."""
        self._client.forget(self.id)


SyncRemoteJobs: TypeAlias = list[SyncRemoteJob]
