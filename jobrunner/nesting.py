"""The part of a runner that takes sub-jobs in, and stops them."""

from typing import Any

from .batches import Batch
from .batching import Batching
from .handles import Loader, Outcome
from .heritage import with_parents
from .jobs import Job
from .subjobs import SubJobs
from .submit_options import SubmitOptions
from .webhooks import needed


class Nesting(Batching):
    """Has jobs submit jobs."""

    def _orphaned(self, job: Job) -> None:
        """Cancel the sub-jobs of a job that goes on no longer."""
        self._control.cancel_children(job)

    async def _submit_child(
        self, parent: SubJobs, type: Any, params: Any, options: SubmitOptions
    ) -> tuple[Job, Loader, Outcome]:
        """Take in a sub-job; for its parent's context, which says what it raises."""
        self._check_running()
        handler = self._handlers.find(type)
        await self._check_url(options)
        given = with_parents(options, parent.job)
        job, outcome = await self._intake.take(handler, params or {}, given, parent)
        return job, handler, outcome

    async def _check_url(self, options: SubmitOptions) -> None:
        if (url := options.get("webhook_url")) is not None:
            await needed(self._webhooks).check(url)
            self._check_running()

    async def _submit_children(
        self,
        parent: SubJobs,
        type: Any,
        params: Any,
        max_in_flight: int | None,
        options: SubmitOptions,
    ) -> tuple[Batch, Loader, list[Job]]:
        """Take in a batch of sub-jobs; for their parent's context."""
        self._check_running()
        handler = self._handlers.find(type)
        await self._check_url(options)
        given = with_parents(options, parent.job)
        batch, _, jobs = await self._intake.take_many(handler, params, given, max_in_flight, parent)
        return batch, handler, jobs
