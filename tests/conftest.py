"""What holds for all tests."""

import gc
import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background with SIGINT ignored, and programs started by
    # a test would inherit that, and never see the Ctrl-C that the test is about.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # likewise what `nohup` starts

gc.disable()  # tests are collected in half the time


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was collected out of all searches for garbage, which many a test makes.

    What little of it is garbage stays: to look for it takes longer than a hundred tests.
    """
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a soak, unless it is asked for with `-m soak`."""
    if item.get_closest_marker("soak") and "soak" not in item.config.option.markexpr:
        pytest.skip("a long campaign; run it with -m soak")


pytest_plugins = ["jobrunner.pytest_plugin", "pytester"]  # ours also where nothing is installed
