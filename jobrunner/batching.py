"""The part of a runner that has many jobs as one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar, Unpack, overload

from .batch_handles import BatchHandle
from .batch_intake import BatchIntake
from .batch_views import BatchView, batch_view
from .batches import Batch
from .control import clip_note
from .handlers import Function
from .jobs import CancelReason
from .steering import Steering
from .submit_options import SubmitOptions
from .webhooks import needed

T = TypeVar("T")

TURN = 500
"""Jobs that are cancelled before others have a turn."""


class Batching(Steering):
    """Takes batches in, finds them again, and ends them."""

    _intake: BatchIntake

    @overload
    async def submit_batch(
        self,
        type: Callable[..., Coroutine[Any, Any, T]],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[T]: ...
    @overload
    async def submit_batch(
        self,
        type: Callable[..., AsyncIterator[Any]],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[None]: ...
    @overload
    async def submit_batch(
        self,
        type: Callable[..., T],
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[T]: ...
    @overload
    async def submit_batch(
        self,
        type: str,
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[Any]: ...
    async def submit_batch(
        self,
        type: str | Function,
        params: Iterable[Mapping[str, Any]],
        /,
        *,
        max_in_flight: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> BatchHandle[Any]:
        """Take in a job for each of the params, all of them or none, and return their handle.

        All params are checked first; the options hold for each of the jobs, but for the
        idempotency key, which is the batch's. O(n log n).

        Args:
            type: Name of the job type, or the decorated function.
            params: Values for the handler's parameters, once for each job; none is no error.
            max_in_flight: How many of the jobs run at once; None for as many as there are workers.
            options: See `jobrunner.submit_options.SubmitOptions`.

        Raises:
            UnknownJobType: There is no such type.
            InvalidParams: Some params don't fit; `errors` says which, and where: `#/17/path`.
            InvalidOption: An option has a value that it can't have.
            PayloadTooLarge: There are more jobs or bytes than ever may be.
            QueueFull: There is no room for all of them now.
            DuplicateJob: One has the concurrency key of a live job, and duplicates are rejected.
            IdempotencyKeyReused: The key came before, with another request.
            RunnerNotStarted, RunnerStopped, WrongLoop: The runner can't take jobs here and now.
        """
        self._check_running()
        handler = self._handlers.find(type)
        if (url := options.get("webhook_url")) is not None:
            await needed(self._webhooks).check(url)
        batch, outcome, _ = await self._intake.take_many(handler, params, options, max_in_flight)
        return BatchHandle(batch, handler, self, outcome=outcome)

    def batch(self, batch_id: str) -> BatchHandle[Any]:
        """Return a handle on a batch that is kept.

        Raises:
            BatchNotFound: There is no such batch.
            BatchGone: It has ended and is no longer kept.
        """
        batch = self.batch_record(batch_id)
        return BatchHandle(batch, self._handlers.find(batch.type), self)

    def batch_record(self, batch_id: str, owner: str | None = None) -> Batch:
        """Return the batch's record, to read and not to change; raises what `batch` raises.

        Args:
            owner: Who asks: another one's batch is as unknown as one that never was; None sees all.
        """
        self._check_process()
        return self._store.batch(batch_id, owner)

    def poll_batch_after(self, batch_id: str) -> float:
        """Return after how many seconds it is worth asking again, 1 to 60, at its pace until now.

        Raises:
            BatchNotFound, BatchGone: There is no such batch any more.
        """
        batch, left = self.batch_record(batch_id), 0.0
        if batch.ended and not batch.is_final:
            so_far = self._now() - batch.created_at
            left = so_far * (batch.total - batch.ended) / batch.ended
        return max(1.0, min(60.0, left))

    async def cancel_batch(
        self, batch_id: str, note: str | None = None, *, reason: CancelReason = "user"
    ) -> BatchView:
        """Ask all jobs of a batch to stop, each as `cancel` would, and return it as it stands then.

        Those that wait are cancelled when this returns. Twice is the same as once.

        Raises:
            BatchNotFound, BatchGone: There is no such batch any more.
            WrongLoop: Called from another loop than the runner's.
        """
        self.check_loop()
        batch = self.batch_record(batch_id)
        batch.ask_to_stop(self._now(), clip_note(note))
        asked = 0
        for job_id in batch.job_ids:
            if (job := self._store.live_job(job_id)) is not None:
                self._control.cancel(job, reason, note)
                if (asked := asked + 1) % TURN == 0:
                    await asyncio.sleep(0)
        return batch_view(batch)
