"""The README's test of an agent flow is a test."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@pytest.mark.slow  # a run of pytest
def test_the_flow_that_the_readme_tells_passes(pytester: pytest.Pytester) -> None:
    """It is the first test that somebody copies."""
    (block,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "runner_under_test" in block
    )
    pytester.makepyfile(block)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    run = pytester.runpytest_inprocess("-p", "jobrunner.pytest_plugin", "--asyncio-mode=auto")
    run.assert_outcomes(passed=1)
