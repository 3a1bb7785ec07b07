"""What is said over a socket: what it sends, in which order, and what a client can ask for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import JobNotFound
from ..jobs import Job
from .api import Whole
from .body import parse_json
from .owners import OwnedRunner
from .problems import Problem
from .sessions import SessionIndex
from .tails import JobTail, SessionTail, Snapshot

MAX_TAILS = 100
"""Jobs of a session that one socket may watch in full at once."""


class Subscribe(BaseModel):
    """Go on after a number, beginning with a snapshot."""

    model_config = ConfigDict(extra="forbid", strict=True)

    op: Literal["subscribe"]
    job_id: str | None = None
    after: Annotated[Whole, Field(ge=0)] | None = None


class Cancel(BaseModel):
    """Ask a job to stop."""

    model_config = ConfigDict(extra="forbid", strict=True)

    op: Literal["cancel"]
    job_id: str | None = None
    reason: str | None = None


class Input(BaseModel):
    """Answer a job's question."""

    model_config = ConfigDict(extra="forbid", strict=True)

    op: Literal["input"]
    job_id: str | None = None
    question_id: str | None = None
    value: Any


Op: TypeAlias = Subscribe | Cancel | Input
_OPS: TypeAdapter[Op] = TypeAdapter(Annotated[Op, Field(discriminator="op")])


def parse_op(text: str) -> Op:
    """Return what a client asks for.

    Raises:
        Problem: It isn't JSON, or none of what there is to ask for.
    """
    value = parse_json(text.encode("utf-8", "surrogatepass"), what="the frame")
    try:
        return _OPS.validate_python(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)[:5]
        detail = "; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults)
        raise Problem(422, "invalid-frame", detail) from None


def _place(location: tuple[int | str, ...]) -> str:
    """The first part is the op, where it is known."""
    return ".".join(str(part)[:100] for part in location[1:]) or "frame"


class Close(NamedTuple):
    """How a socket is closed."""

    code: int
    reason: str


class Talk(Protocol):
    """What one socket is about."""

    def read(self) -> list[bytes]:
        """Return the frames that are sent next; none when nothing has come."""
        ...

    def over(self) -> Close | None:
        """Return how the socket is closed, when nothing will follow what has been read."""
        ...

    def ending(self) -> bool:
        """Return whether what has not been read yet is all that will follow."""
        ...

    @contextmanager
    def waking(self, waiter: "asyncio.Future[None]") -> Iterator[None]:
        """Have `waiter` set when there is more, while the block runs."""
        ...

    async def do(self, op: Op) -> None:
        """Do what a client asks for.

        Raises:
            JobRunnerError, Problem: It can't be done.
        """
        ...


class JobTalk:
    """About one job, until its end."""

    def __init__(
        self, job: Job, runner: OwnedRunner, *, after: int | None, snapshot: Snapshot
    ) -> None:
        self._job = job
        self._runner = runner
        self._snapshot = snapshot
        self._tail = self._subscribe(after, greet=after is None)

    def _subscribe(self, after: int | None, *, greet: bool) -> JobTail:
        return JobTail(self._job, after=after, greet=greet, snapshot=self._snapshot)

    def read(self) -> list[bytes]:
        """Return the frames that are sent next."""
        return self._tail.read()

    def over(self) -> Close | None:
        """Return how the socket is closed when the job has ended, and that was said."""
        return Close(1000, "the job has ended") if self._tail.ended else None

    def ending(self) -> bool:
        """Return whether the job has ended."""
        return self._job.log.closed

    @contextmanager
    def waking(self, waiter: "asyncio.Future[None]") -> Iterator[None]:
        """Have `waiter` set when there is more, while the block runs."""
        self._tail.add_waiter(waiter)
        try:
            yield
        finally:
            self._tail.remove_waiter(waiter)

    async def do(self, op: Op) -> None:
        """Do what a client asks for."""
        if op.job_id not in (None, self._job.id):
            raise JobNotFound(f"this socket is about job {self._job.id}, and no other")
        if isinstance(op, Subscribe):
            self._tail = self._subscribe(op.after, greet=True)
        else:
            await _steer(self._runner, self._job, op)


class SessionTalk:
    """About all jobs of a session, until the runner stops; of some of them in full."""

    def __init__(
        self,
        session_id: str,
        index: SessionIndex,
        runner: OwnedRunner,
        *,
        after: int | None,
        snapshot: Snapshot,
    ) -> None:
        self._session_id = session_id
        self._index = index
        self._runner = runner
        self._snapshot = snapshot
        self._jobs: dict[str, JobTail] = {}
        self._all = self._subscribe_all(after, greet=after is None)

    def _subscribe_all(self, after: int | None, *, greet: bool) -> SessionTail:
        return SessionTail(
            self._session_id,
            self._index,
            self._runner,
            after=after,
            greet=greet,
            snapshot=self._snapshot,
            left_out=self._jobs.__contains__,
        )

    def read(self) -> list[bytes]:
        """Return the frames that are sent next.

        What is of all jobs comes first: when a job's own tail has ended, nothing of the job is
        left there to be told twice.
        """
        frames = self._all.read()
        for job_id, tail in list(self._jobs.items()):
            if frames:
                break
            frames = tail.read()
            del self._jobs[job_id]
            if not tail.ended:
                self._jobs[job_id] = tail  # behind the others: each has its turn
        return frames

    def over(self) -> Close | None:
        """Return how the socket is closed when the runner has stopped, and every end was said."""
        return Close(1001, "the server is going away") if self._all.ended else None

    def ending(self) -> bool:
        """Return whether the runner has stopped."""
        return self._index.feed.closed

    @contextmanager
    def waking(self, waiter: "asyncio.Future[None]") -> Iterator[None]:
        """Have `waiter` set when there is more, while the block runs."""
        tails: list[SessionTail | JobTail] = [self._all, *self._jobs.values()]
        for tail in tails:
            tail.add_waiter(waiter)
        try:
            yield
        finally:
            for tail in tails:
                tail.remove_waiter(waiter)

    async def do(self, op: Op) -> None:
        """Do what a client asks for."""
        if op.job_id is not None:
            job = self._find(op.job_id)
            if isinstance(op, Subscribe):
                self._subscribe(job, op.after)
            else:
                await _steer(self._runner, job, op)
        elif isinstance(op, Subscribe):
            self._all = self._subscribe_all(op.after, greet=True)
        else:
            raise Problem(422, "invalid-frame", f"{op.op} needs the job_id of one of the jobs")

    def _find(self, job_id: str) -> Job:
        job = self._runner.record(job_id)
        if job.session_id != self._session_id:
            raise JobNotFound(f"there is no job {job_id[:100]!r} in this session")
        return job

    def _subscribe(self, job: Job, after: int | None) -> None:
        if len(self._jobs.keys() | {job.id}) > MAX_TAILS:
            raise Problem(
                503, "too-many-streams", f"{MAX_TAILS} jobs are watched in full here, the limit"
            )
        self._jobs[job.id] = JobTail(job, after=after, greet=True, snapshot=self._snapshot)


async def _steer(runner: OwnedRunner, job: Job, op: Cancel | Input) -> None:
    if isinstance(op, Cancel):
        await runner.cancel(job.id, op.reason)
    else:
        await runner.answer(job.id, op.question_id, op.value)
