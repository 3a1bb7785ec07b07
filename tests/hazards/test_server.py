"""The server: lifespans, streams, and whatever comes over the wire (S2, S5 to S8)."""

import pytest

from jobrunner import RunnerNotStarted
from tests.runners import new_runner
from tests.simulation.loop import simulate, virtual_time


def test_s2_a_runner_that_was_never_started_says_how_to_start_it() -> None:
    """The lifespan of a mounted app never runs, and nobody notices until the first submit."""
    with pytest.raises(RunnerNotStarted) as caught:
        simulate(lambda: new_runner().submit("slow"))
    assert str(caught.value) == (
        "the runner has not been started: use `async with runner:`, or give "
        "lifespan=runner.lifespan to the outermost app (a mounted app's lifespan never runs, nor "
        "does any under TestClient without `with`)"
    )


@virtual_time
async def test_s2_a_lifespan_runs_the_runner() -> None:
    """Starlette and FastAPI take it as it is."""
    runner = new_runner()
    async with runner.lifespan(object()):
        assert runner.stats().state == "running"
    assert runner.stats().state == "stopped"
