"""Context variables: each job acts for its submitter (T14)."""

import asyncio
from contextvars import ContextVar

import pytest

from jobrunner import JobRunner, RetryPolicy
from jobrunner.testing import unix_now, virtual_time

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_t14_a_job_sees_the_context_of_its_submit(kind: str) -> None:
    """Two owners, interleaved; each job acts for the one who submitted it."""
    runner = JobRunner(workers=2)

    @runner.job
    def sync() -> str:
        return tenant.get()

    @runner.job
    async def in_loop() -> str:
        await asyncio.sleep(0)
        return tenant.get()

    async with runner:
        jobs = []
        for owner in ("ann", "bob", "ann", "bob"):
            tenant.set(owner)
            jobs.append(await runner.submit(sync if kind == "thread" else in_loop))
        tenant.set("somebody else")
        assert [await job.result() for job in jobs] == ["ann", "bob", "ann", "bob"]


@virtual_time
async def test_t14_context_does_not_leak_between_attempts() -> None:
    """What one attempt sets, neither the next one, the next job nor the submitter sees."""
    runner = JobRunner(workers=1, retry=RetryPolicy(max_attempts=2), now=unix_now)
    seen = []

    @runner.job
    async def leaky() -> None:
        seen.append(tenant.get())
        tenant.set("leaked")
        raise ValueError

    async with runner:
        tenant.set("ann")
        for _ in range(2):
            await (await runner.submit(leaky)).wait()
    assert (seen, tenant.get()) == (["ann"] * 4, "ann")
