"""A fault of the runner's own: no job hangs, and everybody can see it (T17)."""

import asyncio

import pytest

from jobrunner import JobRunner
from tests.runners import reason
from tests.simulation.loop import unix_now, virtual_time


@pytest.mark.parametrize(
    ("broken", "outcome"),
    [
        (1, ("failed", "lost")),
        (2, ("failed", "lost")),
        (3, ("failed", "lost")),
        (4, ("completed", None)),
    ],
    ids=["at the start", "when the start is saved", "at the end", "when the end is saved"],
)
@virtual_time
async def test_t17_a_fault_of_the_runner_ends_the_job_and_replaces_the_worker(
    broken: int, outcome: tuple[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    """The clock raises once, at each of the calls in turn; no job hangs, and work goes on."""
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        if calls == broken + 2:  # a submit reads it twice
            raise OSError("no time")
        return unix_now()

    runner = JobRunner(workers=1, now=clock)

    @runner.job
    async def work() -> str:
        await asyncio.sleep(1.0)
        return "value"

    async with runner:
        first = await runner.submit(work)
        view = await first.wait(timeout=10.0)
        assert await (await runner.submit(work)).result(timeout=10.0) == "value"
        assert runner.stats().worker_restarts == 1
    assert (view.status, reason(view)) == outcome
    assert "a worker died and is replaced" in caplog.text
