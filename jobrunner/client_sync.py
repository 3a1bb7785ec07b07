"""The client without asyncio: the same verbs, each of which waits for its answer.

The asynchronous client works in a thread with an event loop of its own, so that this one works in
scripts, in threads, and where a loop runs already, as in a notebook.
"""

import os
import ssl
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, Unpack

import httpx2
from anyio.from_thread import start_blocking_portal

from .client_async import JobClient
from .client_events import OnProgress, Progress
from .client_http import CLOSED
from .client_jobs import ClientOptions, RemoteJob, Types
from .errors import UsageError
from .events import Event
from .limits import check_seconds
from .views import JobPage, JobView, Waited, check_completed

T = TypeVar("T")
CLEAN_UP = 5.0
"""Seconds that a call which was interrupted has to close its connection."""


class SyncJobClient:
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
        self._process = os.getpid()
        stack = ExitStack()
        self._portal = stack.enter_context(start_blocking_portal(name="jobrunner client"))
        stack.enter_context(self._portal.wrap_async_context_manager(self._client))
        # Also at the interpreter's exit: later nobody could wait for the thread any more.
        self._close = weakref.finalize(self, stack.close)

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
        self._close()

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[ClientOptions],
    ) -> "SyncRemoteJob":
        """Hand a job in, and return its handle; see `JobClient.submit`."""
        return SyncRemoteJob(self, self._call(lambda: self._client.submit(type, params, **options)))

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
        return self._call(lambda: self._client.get(job_id, wait=wait))

    def until_final(
        self, job_id: str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView:
        """Wait for one job's end and return it as it is then; see `RemoteJob.wait`.

        The callback is called in the thread that waits.
        """
        if on_progress is None:
            return self._call(lambda: self._client.until_final(job_id, timeout=timeout))
        told: SimpleQueue[Progress | None] = SimpleQueue()
        with self._running(
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
        return self._call(lambda: self._client.wait(job_ids, mode=mode, timeout=timeout))

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Yield the job's events above number `after`, then what comes; see `JobClient.events`."""
        feed = self._client.events(job_id, after)

        async def next_one() -> Event | None:
            return await anext(feed, None)

        try:
            while (event := self._call(next_one)) is not None:
                yield event
        finally:
            self._call(feed.aclose)

    def cancel(self, job_id: str, note: str | None = None) -> JobView:
        """Ask a job to stop, and return it as it stands then."""
        return self._call(lambda: self._client.cancel(job_id, note))

    def retry(self, job_id: str) -> "SyncRemoteJob":
        """Run a final job again, as a new job, and return its handle; see `JobClient.retry`."""
        return SyncRemoteJob(self, self._call(lambda: self._client.retry(job_id)))

    def retry_failed(self, type: str | None = None) -> "SyncRemoteJobs":
        """Run the failed jobs again, each as `retry` would, the newest first."""
        jobs = self._call(lambda: self._client.retry_failed(type))
        return [SyncRemoteJob(self, job) for job in jobs]

    def forget(self, job_id: str) -> None:
        """Remove a final job now; its id answers "gone" from then on."""
        self._call(lambda: self._client.forget(job_id))

    def types(self) -> Types:
        """Return the server's job types, with the schemas of their params and results."""
        return self._call(self._client.types)

    def unready(self) -> str | None:
        """Return why the server takes or starts no jobs; None when it does."""
        return self._call(self._client.unready)

    def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        session_id: str | None = None,
        batch_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return jobs, newest first; see `JobClient.list`."""
        return self._call(
            lambda: self._client.list(
                status=status, type=type, session_id=session_id, batch_id=batch_id,
                limit=limit, cursor=cursor,
            )
        )  # fmt: skip

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._running(work) as ended:
            return ended.result()

    @contextmanager
    def _running(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Iterator[Future[T]]":
        """Do the work in the client's thread; leaving the block early, as by Ctrl-C, ends it."""
        if os.getpid() != self._process:
            raise UsageError("the client's thread isn't in this process: make a client in each")
        if not self._close.alive:
            raise UsageError(CLOSED)
        over = threading.Event()

        async def run() -> T:
            try:
                return await work()
            finally:
                over.set()

        ended = self._portal.start_task_soon(run)
        try:
            yield ended
        finally:
            if ended.cancel():  # it hasn't ended
                over.wait(CLEAN_UP)


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

    def retry(self) -> "SyncRemoteJob":
        """Run the job again, as a new one."""
        return self._client.retry(self.id)

    def forget(self) -> None:
        """Remove the job, which has to have ended."""
        self._client.forget(self.id)


SyncRemoteJobs: TypeAlias = list[SyncRemoteJob]
