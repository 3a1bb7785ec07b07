"""Faults of the runner's own that the campaign has found, each played again by hand."""

import asyncio

from jobrunner import JobRunner, JobStatus, JobView

from .loop import unix_now, virtual_time


@virtual_time
async def test_t17_a_job_that_a_fault_keeps_from_its_end_is_told_of_once() -> None:
    """Its value is lost; somebody has to know, and once."""
    looks, told = 0, []

    def now() -> float:
        nonlocal looks
        task = asyncio.current_task()
        if task is not None and task.get_name().startswith("job_"):
            looks += 1
            if looks == 1:  # it is about to end
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
    assert (view.status, told, looks > 0) == (JobStatus.FAILED, [JobStatus.FAILED], True)


@virtual_time
async def test_t17_a_fault_as_a_job_begins_keeps_no_place_of_its_type() -> None:
    """One fault must not stop a job type for good."""
    faults = 0

    def now() -> float:
        nonlocal faults
        if asyncio.current_task() is None and not faults:
            faults += 1
            raise RuntimeError("no clock")
        return unix_now()

    runner = JobRunner(now=now, watchdog=None, workers=2)

    @runner.job(max_concurrency=1)
    async def work() -> str:
        return "done"

    async with runner:
        first = await runner.submit(work)
        second = await runner.submit(work)
        assert await second.result(timeout=60) == "done"
        assert (faults, first.status) == (1, JobStatus.FAILED)
