"""The kit without pytest, and beside what people have."""

import subprocess
import sys
import unittest

import pytest

from jobrunner.testing import (
    DrivenRunner,
    assert_events,
    assert_status,
    perform_job,
    virtual_time,
)
from tests.kit.flows import add_flow


class Flows(unittest.IsolatedAsyncioTestCase):
    """As somebody would write them who has unittest."""

    async def asyncSetUp(self) -> None:
        self.runner = await self.enterAsyncContext(DrivenRunner(seed=1))
        add_flow(self.runner, base=0.0)

    async def test_in_real_time(self) -> None:
        job = await self.runner.submit("research", {"topic": "bees"})
        await assert_status(job, "completed")
        await assert_events(job, [..., "retrying", ..., "retrying", ..., "completed"])

    async def test_a_handler_by_itself(self) -> None:
        async def double(n: int) -> int:
            return 2 * n

        self.assertEqual((await perform_job(double, {"n": 2})).value, 4)


class VirtualFlows(unittest.TestCase):
    """With a decorator, hours pass here too."""

    @virtual_time
    async def test_in_virtual_time(self) -> None:
        runner = DrivenRunner(seed=1)
        add_flow(runner, base=600.0)
        async with runner:
            job = await runner.submit("research", {"topic": "bees"})
            await runner.drain()
            await assert_status(job, "completed")


def test_unittest_runs_the_kit_s_tests() -> None:
    """Not everybody has pytest."""
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite([load(Flows), load(VirtualFlows)])
    result = unittest.TestResult()
    suite.run(result)
    assert (result.testsRun, result.errors, result.failures) == (3, [], [])


@pytest.mark.slow  # an interpreter of its own
def test_the_kit_needs_no_pytest_and_the_plugin_loads_nothing() -> None:
    """Every run of pytest reads the plugin, in projects that have nothing to do with jobs."""
    check = (
        "import sys; import jobrunner.pytest_plugin\n"
        "loaded = {name for name in sys.modules if name.startswith('jobrunner')}\n"
        "assert loaded == {'jobrunner', 'jobrunner.pytest_plugin'}, loaded\n"
        "for name in [n for n in sys.modules if 'pytest' in n]: del sys.modules[name]\n"
        "import jobrunner.testing\n"
        "assert not [name for name in sys.modules if 'pytest' in name]\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True, timeout=60)
