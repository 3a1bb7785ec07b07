"""The public names, and what importing them costs."""

import subprocess
import sys
from types import ModuleType

import pytest

import jobrunner
from jobrunner import errors


def test_all_is_sorted_without_repeats() -> None:
    """A sorted list shows at a glance whether a name is public."""
    assert jobrunner.__all__ == sorted(set(jobrunner.__all__))


def test_all_names_what_the_package_has() -> None:
    """A name that is there and not listed is public by accident; one only listed can't be had."""
    public = {name for name, value in vars(jobrunner).items() if not isinstance(value, ModuleType)}
    assert {n for n in public if not n.startswith("_")} | {"__version__"} == set(jobrunner.__all__)


def test_every_error_can_be_caught_by_name() -> None:
    """Who handles an error shouldn't have to know which module it stands in."""
    kinds = [v for v in vars(errors).values() if isinstance(v, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, errors.JobRunnerError)}
    assert names - set(jobrunner.__all__) == set()


@pytest.mark.slow  # starts an interpreter
def test_import_loads_no_server_and_no_tool() -> None:
    """An embedding app pays for the edges it uses, and for no others."""
    heavy = ("starlette", "uvicorn", "httpx2", "mcp", "celery", "typer", "rich")
    code = f"import sys, jobrunner; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
