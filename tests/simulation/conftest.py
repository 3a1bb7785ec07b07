"""What both campaigns need: quiet, cheap garbage collection, and long runs only when asked for."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest

from jobrunner.questions import Tokens


@pytest.fixture
def quiet() -> Iterator[None]:
    """Silence logging and leave garbage to the campaign: both would cost more than the runner.

    What is there already is frozen, so that a collection only looks at the scenarios' own.
    """
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def collect() -> None:
    """Collect garbage; no question of the scenarios so far may have left its token."""
    left = [it for it in gc.get_objects() if type(it) is Tokens and len(it) > 0]
    assert not left, f"{len(left)} tables of tokens are not empty"
    gc.collect()


def setting(name: str, default: int) -> int:
    """Return a number from the environment."""
    return int(os.environ.get(name, default))
