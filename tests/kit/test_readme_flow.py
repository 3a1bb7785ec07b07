"""The README's tests of agent flows are tests."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TESTS = [block for block in BLOCKS if "runner_under_test" in block]


def test_there_is_one_that_goes_through_a_whole_flow() -> None:
    """Retries, an answer, a webhook and a cancel, in one test that reads like prose."""
    assert any(all(word in block for word in ("answer", "webhook", "cancel")) for block in TESTS)


@pytest.mark.slow  # runs of pytest
@pytest.mark.parametrize("block", TESTS)
def test_a_test_that_the_readme_tells_passes(block: str, pytester: pytest.Pytester) -> None:
    """It is the first test that somebody copies."""
    for named in {*BLOCKS} - {*TESTS}:
        if (name := re.match(r"# (\w+)\.py\n", named)) is not None:
            pytester.makepyfile(**{name[1]: named})
    pytester.makepyfile(block)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    run = pytester.runpytest_inprocess("-p", "jobrunner.pytest_plugin", "--asyncio-mode=auto")
    run.assert_outcomes(passed=block.count("def test_"))
