"""What a client hands in and gets back: options, job types, and a handle on one job."""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from .client_errors import not_a_job
from .client_events import OnProgress
from .client_http import json_of
from .deliveries import DeliveryView
from .errors import BatchNotFound, DeliveryNotFound, InvalidOption, JobNotFound, RequestError
from .events import Event
from .views import Frozen, JobView, check_completed

AN_ID = re.compile("[A-Za-z0-9_-]{1,200}")
"""What an id can be; another text would be another path."""
M = TypeVar("M", bound=BaseModel)


class ClientOptions(TypedDict, total=False):
    """What `JobClient.submit` takes beside the type and the params, as the runner's does."""

    priority: int
    """-100 to 100, 0 if not given; one point is worth a minute of waiting."""
    delay: float
    """Seconds to wait before the job may start."""
    timeout: float
    """Limit of each attempt in seconds; the type's or the runner's if not given."""
    deadline: float
    """Limit of the whole job in seconds, over waiting and retries, from when it may start."""
    expires: float
    """Seconds for which the job may wait for its first start; then it fails as `expired`."""
    stall_timeout: float
    """Seconds that an attempt may go on without progress, a step, a log line or output."""
    session_id: str
    """Session to list and watch the job by."""
    concurrency_key: str
    """Jobs of the type with the same key are limited together; instead of the type's own."""
    on_duplicate: Literal["enqueue", "join", "replace", "reject"]
    """What to do while a job with the same concurrency key is live; instead of the type's own."""
    webhook_url: str
    """Where to post that the job has ended; the type's or the runner's URL if not given."""
    metadata: Mapping[str, Any]
    """JSON values to keep with the job."""
    idempotency_key: str
    """A second submit with the same key gets the first one's job; a new key if not given."""
    max_wait: float | None
    """Seconds to wait for room in a full queue; None for ever; 0, the default, not at all."""


NOT_IN_BODY = frozenset({"idempotency_key", "max_wait"})
"""Options that are the client's own, or go as a header."""


class JobType(Frozen):
    """A job type that a server has."""

    type: str
    """Its name."""
    description: str
    """What it does."""
    params: dict[str, Any]
    """JSON schema of its params."""
    result: dict[str, Any]
    """JSON schema of its result."""


class JobList(Frozen):
    """Answer of `GET /jobs`."""

    jobs: list[JobView]
    """A page of them."""
    next_cursor: str | None
    """Where the next page begins."""


class Deliveries(Frozen):
    """Answer of `GET /jobs/{id}/deliveries`."""

    deliveries: list[DeliveryView]
    """The oldest first."""


class JobTypes(Frozen):
    """Answer of `GET /types`."""

    types: list[JobType]
    """All of them."""


class JobIds(Frozen):
    """Answer of `POST /retry`."""

    job_ids: list[str]
    """The new jobs."""


class Verbs(Protocol):
    """The client, as far as a handle needs it."""

    async def get(self, job_id: str, *, wait: int = 0) -> JobView: ...
    async def until_final(
        self, job_id: str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView: ...
    def events(self, job_id: str, after: int = 0) -> AsyncGenerator[Event, None]: ...
    async def cancel(self, job_id: str, note: str | None = None) -> JobView: ...
    async def answer(self, job_id: str, question_id: str | None, value: Any) -> JobView: ...
    async def retry(self, job_id: str) -> "RemoteJob": ...
    async def forget(self, job_id: str) -> None: ...


class RemoteJob:
    """A job on a server, to be waited for, watched or cancelled: what `JobClient.submit` returns.

    It remembers an id and nothing else: each call asks the server.
    """

    def __init__(self, client: Verbs, job_id: str, *, outcome: str = "created") -> None:
        self._client = client
        self._id = job_id
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<RemoteJob {self._id}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._id

    @property
    def outcome(self) -> str:
        """How `submit` came by this job: created, replayed, joined, replaced or enqueued."""
        return self._outcome

    async def get(self) -> JobView:
        """Return the job as it stands now; see `JobClient.get`."""
        return await self._client.get(self._id)

    async def wait(
        self, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> JobView:
        """Wait for the job's end and return the job as it is then.

        Neither a timeout nor a cancellation of the wait touches the job.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            on_progress: Called with each progress, and with how far the job was when it ended.

        Raises:
            TimeoutError: It hasn't ended after `timeout` seconds; it goes on.
            JobNotFound, JobGone: The server has no such job any more: it may have been restarted.
            ServerUnreachable: There was no answer.
        """
        return await self._client.until_final(self._id, timeout=timeout, on_progress=on_progress)

    async def result(
        self, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> Any:
        """Wait for the job's end and return what its handler returned, as JSON values.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            Exception: What `wait` raises.
        """
        ended = await self.wait(timeout=timeout, on_progress=on_progress)
        check_completed(ended)
        return ended.result

    def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the job's events above number `after`; see `JobClient.events`."""
        return self._client.events(self._id, after)

    async def cancel(self, note: str | None = None) -> JobView:
        """Ask the job to stop; see `JobClient.cancel`."""
        return await self._client.cancel(self._id, note)

    async def answer(self, question_id: str | None, value: Any) -> JobView:
        """Answer a question of the job; see `JobClient.answer`."""
        return await self._client.answer(self._id, question_id, value)

    async def retry(self) -> "RemoteJob":
        """Run the job again, as a new one; see `JobClient.retry`."""
        return await self._client.retry(self._id)

    async def forget(self) -> None:
        """Remove the job, which has to have ended; see `JobClient.forget`."""
        await self._client.forget(self._id)


RemoteJobs: TypeAlias = list[RemoteJob]
Types: TypeAlias = list[JobType]
DeliveryViews: TypeAlias = list[DeliveryView]


def path_of(job_id: str) -> str:
    """Return where a job is.

    Raises:
        JobNotFound: No job can have that id.
    """
    return f"/jobs/{_checked(job_id, 'job', JobNotFound)}"


def batch_path(batch_id: str) -> str:
    """Return where a batch is.

    Raises:
        BatchNotFound: No batch can have that id.
    """
    return f"/batches/{_checked(batch_id, 'batch', BatchNotFound)}"


def delivery_path(job_id: str, delivery_id: str) -> str:
    """Return where a webhook delivery of a job is.

    Raises:
        JobNotFound, DeliveryNotFound: None can have that id.
    """
    checked = _checked(delivery_id, "delivery", DeliveryNotFound)
    return f"{path_of(job_id)}/deliveries/{checked}"


def _checked(given: str, what: str, unknown: type[RequestError]) -> str:
    if not isinstance(given, str) or not AN_ID.fullmatch(given):
        raise unknown(f"there is no {what} {given!r:.100}")
    return given


def submit_body(type: str, params: Any, options: ClientOptions) -> dict[str, Any]:
    """Return the body of `POST /jobs`, and of `POST /batches`.

    Raises:
        InvalidOption: There is no such option, or the type is no name.
    """
    if not isinstance(type, str):
        raise InvalidOption(f"type is {type!r:.100}; over HTTP it is the job type's name")
    if unknown := options.keys() - ClientOptions.__annotations__.keys():
        raise InvalidOption(
            f"submit has no option {min(unknown)!r}; params are its second argument, a dict",
            option=min(unknown),
        )
    given = {name: value for name, value in options.items() if name not in NOT_IN_BODY}
    return {"type": type, "params": params, **given}


def key_header(key: str) -> str:
    """Return an idempotency key as a quoted string (RFC 8941).

    Raises:
        InvalidOption: A header can't carry it.
    """
    if not isinstance(key, str) or not re.fullmatch("[ -~]{1,256}", key):
        raise InvalidOption(
            f"idempotency_key is {key!r:.60}; over HTTP it must be 1 to 256 printable ASCII "
            "characters",
            option="idempotency_key",
        )
    return '"{}"'.format(re.sub(r'(["\\])', r"\\\1", key))


def parse(kind: type[M], response: httpx2.Response) -> M:
    """Return a success as what it is to be; members that this version doesn't know are left out.

    Raises:
        ServerProblem: It is something else.
    """
    try:
        return kind.model_validate_json(json_of(response))
    except ValidationError:
        raise not_a_job(response) from None
