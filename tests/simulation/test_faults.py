"""Faults of the runner's own that the campaign has found, each played again by hand."""

import asyncio

from jobrunner import JobRunner, JobStatus, JobView

from .loop import unix_now, virtual_time


@virtual_time
async def test_t17_a_fault_after_completion_is_no_failure() -> None:
    """Who is told that a job failed may page somebody, and it has completed."""
    looks, told = 0, []

    def now() -> float:
        nonlocal looks
        task = asyncio.current_task()
        if task is not None and task.get_name().startswith("job_"):
            looks += 1
            if looks == 2:  # it has ended, and is about to be saved
                raise RuntimeError("no clock")
        return unix_now()

    async def on_failure(job: JobView) -> None:
        told.append(job.status)

    runner = JobRunner(now=now, watchdog=None, on_failure=on_failure)

    @runner.job
    async def work() -> None:
        """Return at once."""

    async with runner:
        view = await (await runner.submit(work)).wait()
    assert (view.status, told, looks) == (JobStatus.COMPLETED, [], 2)
