"""What can be done to jobs that were taken in, and to the pool."""

import asyncio
from typing import Any

from .answering import Answering
from .control import Control
from .deliveries import DeliveryView
from .errors import DeliveryNotFound, InvalidOption, JobNotFinal, QueueFull, RequestError
from .handlers import Function, Handlers
from .handles import JobHandle
from .jobs import CancelReason, Job, JobStatus
from .limits import check_count
from .lookup import State, Stats
from .pool import WorkerPool
from .queue import JobQueue
from .submission import Intake, Room
from .views import JobView, view
from .webhooks import Announcer
from .worker import Workers


class Steering(Answering):
    """The half of a runner that changes what is there; its other half takes jobs in."""

    _handlers: Handlers
    _queue: JobQueue
    _control: Control
    _intake: Intake
    _workers: Workers
    _pool: WorkerPool
    _state: State
    _webhooks: Announcer | None

    def _check_running(self) -> None:
        """Raise what `submit` would when the runner can't take jobs here and now."""

    def handle(self, job_id: str) -> JobHandle[Any]:
        """Return a handle on a job that is kept; raises what `get` raises."""
        job = self._store.get(job_id)
        return JobHandle(job, self._handlers.find(job.type), self)

    def stats(self) -> Stats:
        """Return how the runner does. O(1)."""
        return Stats(
            state=self._state,
            paused=self._queue.paused,
            workers=self._pool.size,
            busy=self._workers.busy,
            aside=self._workers.aside.count,
            stuck=len(self._workers.stuck),
            stuck_total=self._workers.stuck.total,
            blocked=self._workers.blocked,
            faults=self._workers.faults,
            unready=self._unready(),
            jobs=dict(self._store.counts),
            pruned=self._store.pruned,
            webhooks={} if self._webhooks is None else dict(self._webhooks.counts),
        )

    def room(self, type: str | Function) -> Room:
        """Return how many jobs of the type could be taken in now. O(1).

        Raises:
            UnknownJobType: There is no such type.
            RunnerNotStarted, RunnerStopped, WrongLoop: There is no room for any, here and now.
        """
        self._check_running()
        return self._intake.room(self._handlers.find(type))

    def _unready(self) -> str | None:
        if self._state != "running":
            return f"the runner is {self._state}"
        if self._pool.failed_lately():
            return "a fault of the runner's own struck less than a minute ago; see the log"
        if (stuck := len(self._workers.stuck)) >= self._pool.size:
            return f"{stuck} handlers refused to end and still run"
        return None

    async def cancel(
        self, job_id: str, note: str | None = None, *, reason: CancelReason = "user"
    ) -> JobView:
        """Ask a job to stop, and return it as it stands then.

        A job that waits is cancelled at once. One that runs is asked to stop: it is `cancelled`
        when it has stopped, and `completed` if it returned a value instead. A job that has ended
        stays as it is, so twice is the same as once.

        Args:
            note: Why, for whoever looks at the job.
            reason: Who asks.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
            WrongLoop: Called from another loop than the runner's.
        """
        self.check_loop()
        job = self._store.get(job_id)
        self._control.cancel(job, reason, note)
        return view(job)

    async def retry(self, job_id: str) -> JobHandle[Any]:
        """Run a final job again, as a new job with `retry_of`, and return its handle.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotRetryable: Its params held secrets, which are not kept.
            JobNotFound, JobGone: There is no such job any more.
        """
        self._check_running()
        job = self._store.get(job_id)
        if not job.is_final:
            raise JobNotFinal(
                f"job {job_id} is {job.status}; it can be run again when it has ended"
            )
        handler = self._handlers.find(job.type)
        return JobHandle(self._intake.again(handler, job), handler, self)

    async def retry_failed(
        self, type: str | Function | None = None, *, owner: str | None = None
    ) -> list[JobHandle[Any]]:
        """Run the failed jobs again, each as `retry` would, the newest first.

        Left out are those that were run again already, those that can't be, as their params held
        secrets, sub-jobs of failed jobs, which have new ones, and what is more than the queue has
        room for: a second call goes on from there.

        Args:
            type: Only jobs of this type.
            owner: Only this owner's jobs.

        Raises:
            UnknownJobType: There is no such type.
            QueueFull: There is no room for any.
        """
        self._check_running()
        name = None if type is None else self._handlers.find(type).name
        handles: list[JobHandle[Any]] = []
        cursor: str | None = None
        while True:
            page = self.page(status=JobStatus.FAILED, type=name, owner=owner, cursor=cursor)
            for job in page.jobs:
                if not self._store.retried(job.id) and not self._parent_failed(job):
                    try:
                        handles.append(await self.retry(job.id))
                    except QueueFull:
                        if not handles:
                            raise
                        return handles
                    except (RequestError, InvalidOption):
                        continue  # secrets, gone, or refused by what its type asks for by now
            if (cursor := page.next_cursor) is None:
                return handles
            await asyncio.sleep(0)  # each page costs some milliseconds

    def _parent_failed(self, job: Job) -> bool:
        """Whether it is a sub-job of a job that can be run again itself."""
        try:
            return job.parent_id is not None and (
                self._store.get(job.parent_id).status is JobStatus.FAILED
            )
        except RequestError:  # the parent is no longer kept
            return False

    async def forget(self, job_id: str) -> None:
        """Remove a final job now; its id answers "gone" from then on.

        Raises:
            JobNotFinal: It hasn't ended.
            JobNotFound, JobGone: There is no such job any more.
        """
        self.check_loop()
        self._store.forget(job_id)

    async def deliveries(self, job_id: str) -> list[DeliveryView]:
        """Return the webhook deliveries of a job, the oldest first, as they stand now.

        Those that are under way are all there; of those that have ended, the runner's last 10,000,
        or as many as `Webhooks.max_kept` says.

        Raises:
            JobNotFound, JobGone: There is no such job any more.
        """
        self._check_process()
        self._store.get(job_id)
        return [] if self._webhooks is None else self._webhooks.deliveries(job_id)

    async def resend(self, job_id: str, delivery_id: str) -> DeliveryView:
        """Send a webhook again, now and then on schedule, and return it as it stands then.

        It has the same `webhook-id`, and tells of the job as it is by now, so a receiver that has
        had it can tell. One that waits for its next try is tried now.

        Raises:
            DeliveryNotFound: The job has no such delivery, or not any more.
            JobNotFound, JobGone: There is no such job any more.
        """
        self._check_running()
        job = self._store.get(job_id)
        if self._webhooks is None:
            raise DeliveryNotFound(f"job {job_id} has no webhook deliveries: the runner has none")
        return self._webhooks.resend(job, delivery_id)

    def pause(self) -> None:
        """Start no job until `resume`; jobs that run go on, and submits are taken."""
        self.check_loop()
        self._queue.pause()

    def resume(self) -> None:
        """Start jobs again."""
        self.check_loop()
        self._queue.resume()

    def resize(self, workers: int) -> None:
        """Run `workers` jobs at once from now on; what runs already goes on to its end.

        Raises:
            InvalidOption: It is below 1.
        """
        self.check_loop()
        self._pool.resize(check_count("workers", workers))
