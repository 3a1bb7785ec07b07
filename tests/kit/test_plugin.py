"""The plugin as pytest runs it: fixtures, markers, seeds, and what is said of what is left."""

import os
import re
import signal
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.slow  # each test is a run of pytest

Run = Callable[..., pytest.RunResult]

HEAD = """
import asyncio, os, threading
import pytest
from jobrunner import JobContext, JobRunner, RetryPolicy
from jobrunner.testing import *
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Return what runs a file of tests with our plugin; `options` come before `-W error`."""

    def run(tests: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + tests)
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
        off = [f"no:{plugin}" for plugin in ("randomly", "cacheprovider", "schemathesis")]
        given = [word for name in ("jobrunner.pytest_plugin", *off) for word in ("-p", name)]
        return pytester.runpytest_inprocess(*given, *options)

    return run


FIXTURES = """
@pytest.mark.virtual_time
async def test_virtual(job_runner, webhook_receiver, faults):
    @job_runner.job(retry=RetryPolicy(max_attempts=2, base=600.0))
    async def nap() -> None:
        await asyncio.sleep(60.0)

    faults.fail(nap)
    job = await job_runner.submit(nap)
    await job_runner.drain()
    await assert_status(job, "completed")
    await webhook_receiver.told("job.completed", job)

async def test_by_fixture(virtual_time):
    await asyncio.sleep(3_600.0)
    assert asyncio.get_running_loop().time() == 3_600.0

class TestReal:
    async def test_real(self, job_client, job_app, job_runner):
        @job_runner.job
        def add(a: int, b: int) -> int:
            return a + b

        job = await job_client.submit("add", {"a": 1, "b": 2})
        assert await job.result() == 3
        assert job_app.url.startswith("http://127.0.0.1:")

def test_without_a_loop(job_runner):
    assert job_runner.stats().state == "new"
"""
ASYNC_FIXTURE = """
@pytest.fixture
async def submitted(job_runner):
    @job_runner.job
    async def nap() -> None:
        await asyncio.sleep(500.0)

    yield await job_runner.submit(nap)

@pytest.mark.virtual_time
async def test_fixture(submitted, job_runner):
    await assert_status(submitted, "completed")
"""
CLIENT_FIXTURE = """
@pytest.fixture
async def added(job_runner, job_client):
    @job_runner.job
    async def add(a: int) -> int:
        return a + 1

    return await job_client.submit("add", {"a": 1})

async def test_fixture(added):
    assert await added.result() == 2
"""
ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.mark.parametrize(
    ("mode", "head"),
    [
        (["--asyncio-mode=auto"], ""),
        (["--asyncio-mode=strict"], "pytestmark = pytest.mark.asyncio\n"),
        (["--asyncio-mode=strict"], ""),
        (["-p", "no:asyncio"], ""),
        (["-p", "no:asyncio", "-p", "no:anyio"], ""),
        (["-p", "no:asyncio"], ANYIO),
        (["--asyncio-mode=strict"], ANYIO),
    ],
    ids=["auto", "strict, marked", "strict", "anyio idle", "none", "anyio", "anyio beside asyncio"],
)
def test_the_kit_works_whoever_runs_the_loop(run: Run, mode: list[str], head: str) -> None:
    """People have their plugin already, and will not change it for a test kit."""
    ignored = ["-W", "ignore::pytest.PytestWarning"]  # a mark for all is on the plain test too
    run(head + FIXTURES, *mode, *ignored).assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("mode", "head"),
    [(["--asyncio-mode=auto"], ""), (["-p", "no:asyncio"], ANYIO)],
    ids=["asyncio", "anyio"],
)
def test_asynchronous_fixtures_have_the_runner_and_its_time(
    run: Run, mode: list[str], head: str
) -> None:
    """A fixture that submits lives in the same loop as the test."""
    if head:
        head = head.replace('"asyncio"', '("asyncio", {"loop_factory": VirtualLoop})')
    run(head + ASYNC_FIXTURE, *mode).assert_outcomes(passed=1)


def test_asynchronous_fixtures_have_the_client(run: Run) -> None:
    """It would ask a server that doesn't serve yet, for as long as it tries again."""
    run(CLIENT_FIXTURE, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_a_loop_that_is_not_virtual_says_what_it_needs(run: Run) -> None:
    """A test that waits an hour in real time looks as if it hung."""
    done = run(ANYIO + ASYNC_FIXTURE, "-p", "no:asyncio")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*have the fixture anyio_backend return *loop_factory*"])


def test_a_fixture_in_another_loop_says_what_is_missing(run: Run) -> None:
    """A runner's own text would speak of threads, of which there are none."""
    tests = ASYNC_FIXTURE.replace("@pytest.fixture", "@pytest_asyncio.fixture")
    done = run("import pytest_asyncio\n" + tests, "--asyncio-mode=strict", "-W", "ignore")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*mark the test with pytest.mark.asyncio*"])


def test_a_server_in_virtual_time_says_what_is_wrong(run: Run) -> None:
    """It would need sockets."""
    done = run("async def test(virtual_time, job_client): ...", "--asyncio-mode=auto")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*job_app needs sockets, which virtual time has not*"])


def test_a_server_of_a_test_without_a_loop_says_what_is_wrong(run: Run) -> None:
    """Nobody would serve, and a client would wait for an answer in vain."""
    done = run("def test(job_client): ...", "--asyncio-mode=auto")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*job_app serves in the loop of its test: write it as `async def`*"])


LEFT = """
async def test(job_runner):
    @job_runner.job
    async def nap() -> None:
        await asyncio.sleep(60.0)

    @job_runner.job
    async def broken() -> None:
        raise ValueError("no bees")

"""


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("job = await job_runner.submit(nap)", "job job_* (nap) is still pending"),
        (
            "await job_runner.submit(broken); [await asyncio.sleep(0) for _ in range(99)]",
            "job job_* (broken) failed, and nobody looked: ValueError: no bees",
        ),
        (
            "asyncio.create_task(asyncio.sleep(60), name='endless')",
            "task 'endless' goes on: <coroutine object sleep*",
        ),
        (
            "threading.Thread(target=__import__('time').sleep, args=(2,), name='slow').start()",
            "thread 'slow' goes on",
        ),
        (
            "__import__('subprocess').Popen(['sleep', '60'])",
            "process * goes on: sleep 60",
        ),
    ],
    ids=["job", "failure", "task", "thread", "process"],
)
def test_what_a_test_leaves_behind_is_named(
    run: Run, body: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would disturb the next test, or was never looked at."""
    monkeypatch.setattr("jobrunner.testing.leftovers.MOMENT", 0.01)
    done = run(f"{LEFT}    {body}\n", "--asyncio-mode=auto", "-W", "ignore")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*the test has left something behind:*", f"*{named}"])
    if named.startswith("process"):
        (pid,) = set(re.findall(r"process (\d+) goes on", done.stdout.str()))
        os.kill(int(pid), signal.SIGKILL)
        os.waitpid(int(pid), 0)  # it is ours: the run was in this process


GIVEN = """
from hypothesis import HealthCheck, Phase, given, settings, strategies

few = settings(
    max_examples=3, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
app = JobRunner()

@app.job
async def nap(n: int) -> int:
    await asyncio.sleep(60.0)
    return n

@app.job
async def broken() -> None:
    raise ValueError("no bees")

@pytest.fixture
def runner_under_test():
    return app

async def leave(job_runner):
    await job_runner.submit("broken")
    await asyncio.sleep(0.01)

"""
EXAMPLES = f"""
{GIVEN}

@pytest.mark.virtual_time
@few
@given(n=strategies.integers(0, 9))
async def test_virtual(job_runner, n):
    job = await job_runner.submit(nap, {{"n": n}})
    assert await job.result() == n

@pytest.mark.virtual_time
@few
@given(n=strategies.integers(0, 9))
async def test_misuse(n):
    with pytest.raises(VirtualTimeError):
        await asyncio.open_connection("127.0.0.1", 1)
"""


@pytest.mark.parametrize(
    ("mode", "head"),
    [(["--asyncio-mode=auto"], ""), (["-p", "no:asyncio"], ""), (["-p", "no:asyncio"], ANYIO)],
    ids=["asyncio", "none", "anyio"],
)
def test_each_of_hypothesis_examples_has_the_kit(run: Run, mode: list[str], head: str) -> None:
    """They would take their time for real, and nobody would see what they do."""
    done = run(head + EXAMPLES, *mode)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*there are no sockets in virtual time*"])


@pytest.mark.parametrize(
    "test",
    [
        "@few\n@given(n=strategies.integers())\nasync def test(job_runner, n):\n"
        "    await leave(job_runner)",
        "@virtual_time\nasync def test(job_runner):\n    await leave(job_runner)",
        "def test(job_runner):\n    asyncio.run(leave(job_runner))",
    ],
    ids=["hypothesis", "decorator", "no loop"],
)
def test_what_is_left_is_named_whoever_calls_the_test(run: Run, test: str) -> None:
    """A failure that nobody has looked at isn't less of one in a loop of the test's own."""
    done = run(GIVEN + test, "--asyncio-mode=auto", "-W", "ignore")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*job job_* (broken) failed, and nobody looked: *no bees"])


UNITTEST = """
import unittest

class Test(unittest.IsolatedAsyncioTestCase):
    @pytest.mark.virtual_time
    async def test_marked(self):
        await asyncio.sleep(3_600.0)

    @virtual_time
    async def test_decorated(self):
        await asyncio.sleep(3_600.0)
"""


def test_unittest_s_tests_are_told_the_way_to_virtual_time(run: Run) -> None:
    """It calls its methods by itself, so that the marker would do nothing."""
    done = run(UNITTEST, "--asyncio-mode=auto")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*use the decorator jobrunner.testing.virtual_time*"])


def test_a_test_that_fails_is_not_told_what_it_left(run: Run) -> None:
    """Its own failure is what matters."""
    done = run(
        f"{LEFT}    await job_runner.submit(nap)\n    assert 1 == 2\n", "--asyncio-mode=auto"
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*assert 1 == 2*"])
    done.stdout.no_fnmatch_line("*left something behind*")


SEEDED = """
seen = []

@pytest.mark.shuffle
async def test(job_runner, job_seed):
    @job_runner.job
    async def quick() -> None: ...

    jobs = [await job_runner.submit(quick) for _ in range(3)]
    await job_runner.drain()
    print("ids", [job.id for job in jobs], job_seed)
    assert False
"""


def test_a_seed_repeats_ids_and_order_and_is_printed(run: Run) -> None:
    """A failure that comes once in a hundred runs has to come again."""
    outputs = []
    for seed in "7", "7", "8":
        done = run(SEEDED, "--asyncio-mode=auto", f"--jobrunner-seed={seed}")
        done.stdout.fnmatch_lines([f"*repeat it with --jobrunner-seed={seed}"])
        outputs.append([line for line in done.outlines if line.startswith("ids ")])
    assert outputs[0] == outputs[1] != outputs[2]
    done = run(SEEDED, "--asyncio-mode=auto")
    done.stdout.re_match_lines([r"repeat it with --jobrunner-seed=\d+"])


OWN = """
app = JobRunner(workers=2)

@app.job
async def add(a: int, b: int) -> int:
    return a + b

@pytest.fixture
def runner_under_test():
    return app

@pytest.mark.job_runner(mode="inline", workers=7)
async def test(job_runner):
    job = await job_runner.submit(add, {"a": 1, "b": 2})
    assert (job.status, job_runner.stats().workers, app.stats().state) == ("completed", 7, "new")
"""


def test_a_test_has_the_twin_of_the_app_s_runner(run: Run) -> None:
    """With its job types, and options that the test may change."""
    run(OWN, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_an_option_without_its_name_is_refused(run: Run) -> None:
    """The runner would be as if nobody had asked for anything."""
    done = run("@pytest.mark.job_runner('inline')\ndef test(job_runner): ...")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*takes its options by their names, as mode='inline': not 'inline'"])


RECORDED = """
import pathlib

@pytest.mark.virtual_time
async def test(job_runner):
    @job_runner.job
    async def quick() -> None: ...

    job = await job_runner.submit(quick)
    await job.wait()
    assert_recorded(job, pathlib.Path(__file__).with_name("quick.jsonl"))
"""


def test_recordings_are_written_anew_when_asked_for(run: Run, pytester: pytest.Pytester) -> None:
    """After a change that is right, one run brings all files up to date."""
    path = pytester.makefile(".jsonl", quick="other")
    run(RECORDED, "--asyncio-mode=auto").assert_outcomes(failed=1)
    run(RECORDED, "--asyncio-mode=auto", "--jobrunner-record").assert_outcomes(passed=1)
    assert path.read_text("utf-8").startswith('{"after": 0.0, "event": "pending"')


AGAIN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        item._initrequest()
        runtestprotocol(item, nextitem=nextitem)
    return True
"""


def test_a_test_may_be_run_again(run: Run, pytester: pytest.Pytester) -> None:
    """As plugins for unsteady tests do: each run has a runner and a loop of its own."""
    pytester.makeconftest(AGAIN)
    run(FIXTURES, "--asyncio-mode=auto").assert_outcomes(passed=8)


def test_a_user_s_own_loops_are_left_to_them(run: Run, pytester: pytest.Pytester) -> None:
    """Who runs tests on another loop does so still, but in virtual time."""
    pytester.makeconftest(
        "import asyncio\n"
        "class Own(asyncio.SelectorEventLoop): ...\n"
        "def pytest_asyncio_loop_factories(config, item):\n"
        "    return {'own': Own}\n"
    )
    tests = (
        "async def test_own():\n    assert type(asyncio.get_running_loop()).__name__ == 'Own'\n"
        "async def test_virtual(virtual_time):\n    await asyncio.sleep(3_600.0)\n"
    )
    run(tests, "--asyncio-mode=auto").assert_outcomes(passed=2)
