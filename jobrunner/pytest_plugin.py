"""The test kit's pytest plugin; `jobrunner.testing` has what it is made of.

Fixtures, each started and stopped within the test's own event loop, whoever runs that:

    job_runner          a `DrivenRunner`: a new one, or the twin of what `runner_under_test` returns
    job_app             a real server of it on a free port
    job_client          a `JobClient` of that server
    webhook_receiver    takes its webhooks, records them, and fails as told
    faults              what goes wrong on purpose
    job_seed            the seed of the test's ids, jitter and order; --jobrunner-seed repeats it
    virtual_time        the same as the marker

Markers:

    virtual_time                        hours pass in no time
    shuffle                             virtual time, and ready callbacks run in random order
    job_runner(mode=..., workers=...)   options of `job_runner`, those of `DrivenRunner`

A test may be run by pytest-asyncio in either mode, by anyio's plugin on asyncio, or, if nobody else
does it, by this one. At its end it fails if a job, a task, a thread or a process goes on, or a job
has failed and nobody looked.

This module loads nothing of the package: pytest reads it in every project that has jobrunner, and
before anything measures coverage.
"""

import asyncio
import functools
import inspect
import random
import unittest
import zlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .client import JobClient
    from .runner import JobRunner
    from .server import Server
    from .testing import DrivenRunner, Faults, WebhookReceiver
    from .testing.kit import Kit

_SEED = "jobrunner_seed"
_KIT: "pytest.StashKey[Kit]" = pytest.StashKey()
_MARKERS = (
    "virtual_time: time passes at once, in order; no sockets and no subprocesses",
    "shuffle: virtual time, in which ready callbacks run in random order; see --jobrunner-seed",
    "job_runner(mode='live', strict=False, **options): options of the fixture job_runner",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("jobrunner")
    group.addoption(
        "--jobrunner-seed", type=int, default=None, help="Seed of ids, jitter and order of jobs."
    )
    group.addoption(
        "--jobrunner-record", action="store_true", help="Write all recordings of events anew."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Draw the run's seed; xdist hands it to its workers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if getattr(config.option, _SEED) is None:
        setattr(config.option, _SEED, random.SystemRandom().randrange(2**32))
    if config.option.jobrunner_record:
        from .testing.recording import recording

        recording(True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Record no more: a run may have another one within it."""
    if config.option.jobrunner_record:
        from .testing.recording import recording

        recording(False)


def _seed(item: pytest.Item) -> int:
    run: int = getattr(item.config.option, _SEED)
    return zlib.crc32(f"{run}:{item.nodeid}".encode())


def _is_shuffled(item: pytest.Item) -> bool:
    return item.get_closest_marker("shuffle") is not None


def _is_virtual(item: pytest.Item) -> bool:
    marked = item.get_closest_marker("virtual_time") is not None or _is_shuffled(item)
    return marked or "virtual_time" in getattr(item, "fixturenames", ())


def _new_loop(item: pytest.Item) -> Any:
    """Return what makes the loop of a test in virtual time."""
    from .testing.clock import VirtualLoop

    seed = _seed(item) if _is_shuffled(item) else None
    return lambda: VirtualLoop(seed)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Generator[None, Any, Any]:
    """Give pytest-asyncio the loop of a test in virtual time, and leave all others as they are."""
    factories = yield
    if _is_virtual(item):
        return {"virtual time": _new_loop(item)}
    return factories or {"usual": asyncio.new_event_loop}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Put around the test what it wants of the kit."""
    if not isinstance(item, pytest.Function):
        return (yield)
    holder, name = _place(item)
    test = getattr(holder, name)
    kit = item.stash.get(_KIT, None)
    if _is_unittest(item) or not inspect.iscoroutinefunction(test):
        return (yield from _as_it_is(item, test, kit))
    try:
        setattr(holder, name, _around(item, test, kit))
        return (yield)
    finally:
        setattr(holder, name, test)  # it may be run again, by plugins that do so


def _place(item: pytest.Function) -> tuple[Any, str]:
    """Return where the test stands: Hypothesis runs the one that it keeps."""
    hypothesis = getattr(item.obj, "hypothesis", None)
    return (item, "obj") if hypothesis is None else (hypothesis, "inner_test")


def _is_unittest(item: pytest.Function) -> bool:
    return item.cls is not None and issubclass(item.cls, unittest.TestCase)


def _as_it_is(item: pytest.Function, test: Any, kit: "Kit | None") -> Generator[None, Any, Any]:
    """Let a test run that nothing can be put around."""
    if _is_virtual(item) and inspect.iscoroutinefunction(test):
        pytest.fail(
            "unittest runs its tests by itself, in real time: in place of the marker, use the "
            "decorator jobrunner.testing.virtual_time",
            pytrace=False,
        )
    result = yield
    if kit is not None:
        kit.check()
    return result


def _around(item: pytest.Function, test: Any, kit: "Kit | None") -> Any:
    if kit is not None:
        test = kit.around(test)
    if not _is_virtual(item):
        return test
    from .testing.kit import in_virtual_time

    if item.funcargs.get("anyio_backend") == "asyncio":
        item.funcargs["anyio_backend"] = ("asyncio", {"loop_factory": _new_loop(item)})
    return in_virtual_time(test)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Have pytest run a test that nobody else would, if it is the kit's."""
    holder, name = _place(pyfuncitem)
    test = getattr(holder, name)
    ours = _is_virtual(pyfuncitem) or _KIT in pyfuncitem.stash
    if not ours or not inspect.iscoroutinefunction(test):
        return
    factory = _new_loop(pyfuncitem) if _is_virtual(pyfuncitem) else None

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(test(*args, **kwargs))

    setattr(holder, name, run)  # `pytest_runtest_call` puts it back


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say how to repeat a test that has failed."""
    report = yield
    if report.failed and (_KIT in item.stash or _is_shuffled(item)):
        seed = getattr(item.config.option, _SEED)
        report.sections.append(("jobrunner", f"repeat it with --jobrunner-seed={seed}"))
    return report


def _kit(request: pytest.FixtureRequest) -> "Kit":
    kit: Kit = request.node.stash[_KIT]
    return kit


@pytest.fixture
def runner_under_test() -> "JobRunner | None":
    """Override this to return your runner: `job_runner` will have its job types and options."""
    return None


@pytest.fixture
def job_seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this test: the same for the same --jobrunner-seed."""
    return _seed(request.node)


@pytest.fixture
def faults() -> "Faults":
    """Return what goes wrong on purpose in `job_runner`."""
    from .testing import Faults

    return Faults()


@pytest.fixture
def webhook_receiver() -> "WebhookReceiver":
    """Return what takes the webhooks of `job_runner`, and of all its jobs if it had none."""
    from .testing import WebhookReceiver

    return WebhookReceiver()


@pytest.fixture
def job_runner(
    request: pytest.FixtureRequest, runner_under_test: "JobRunner | None", job_seed: int
) -> "DrivenRunner":
    """Return a runner in the test's hands; it runs while the test does."""
    from .testing import DrivenRunner
    from .testing.kit import Kit

    options: dict[str, Any] = {"seed": job_seed}
    for name, fixture in ("faults", "faults"), ("receiver", "webhook_receiver"):
        if fixture in request.fixturenames:
            options[name] = request.getfixturevalue(fixture)
    for marker in reversed(list(request.node.iter_markers("job_runner"))):
        if marker.args:
            pytest.fail(
                f"the marker job_runner takes its options by their names, as mode='inline': not "
                f"{marker.args[0]!r}",
                pytrace=False,
            )
        options.update(marker.kwargs)
    runner = DrivenRunner(options.pop("like", runner_under_test), **options)
    request.node.stash[_KIT] = Kit(runner)
    return runner


@pytest.fixture
def job_app(request: pytest.FixtureRequest, job_runner: "DrivenRunner") -> "Server":
    """Return a real server of `job_runner` on a free port; it has `url`, `token`, `login_url`."""
    _refuse_virtual(request, "job_app")
    if not inspect.iscoroutinefunction(request.node.obj):
        pytest.fail(
            "job_app serves in the loop of its test: write it as `async def`, and use a client "
            "that blocks in asyncio.to_thread",
            pytrace=False,
        )
    return _kit(request).serve()


@pytest.fixture
def job_client(request: pytest.FixtureRequest, job_app: "Server") -> "JobClient":
    """Return a client of `job_app` that may come in."""
    return _kit(request).connect()


def _refuse_virtual(request: pytest.FixtureRequest, name: str) -> None:
    if _is_virtual(request.node):
        pytest.fail(
            f"{name} needs sockets, which virtual time has not: leave out the marker virtual_time, "
            "or use job_runner by itself",
            pytrace=False,
        )


@pytest.fixture
def virtual_time() -> None:
    """Have the test run in virtual time; the same as the marker."""
