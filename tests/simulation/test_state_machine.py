"""Hypothesis drives a runner and a plain model through the same steps, and compares them.

`JOBRUNNER_STEPS=50000 pytest tests/simulation` takes that many steps, other ones each time.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .conftest import setting
from .machine import RunnerMachine

STEPS = setting("JOBRUNNER_STEPS", 2_500)
STEPS_EACH = 50


def take(steps: int) -> None:
    """Take so many steps, in runs of a few; nothing is kept of them on disk."""
    run_state_machine_as_test(
        RunnerMachine,
        settings=settings(
            max_examples=max(1, steps // STEPS_EACH),
            stateful_step_count=STEPS_EACH,
            database=None,
            deadline=None,
            derandomize="JOBRUNNER_STEPS" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow  # thousands of steps
def test_runner_and_model_agree(quiet: None) -> None:
    """Statuses, counts, order of starts, pages, refusals and times are what the model says."""
    take(STEPS)


@pytest.mark.soak
def test_runner_and_model_agree_for_a_million_steps(quiet: None) -> None:
    """The same for as long as it takes."""
    take(1_000_000)
