"""The public names, and what importing them costs."""

import subprocess
import sys
from types import ModuleType

import pytest

import jobrunner
from jobrunner import errors, public


def test_all_is_sorted_without_repeats() -> None:
    """A sorted list shows at a glance whether a name is public."""
    assert jobrunner.__all__ == sorted(set(jobrunner.__all__))


def test_all_names_what_the_package_has() -> None:
    """A name that is there and not listed is public by accident; one only listed can't be had."""
    names = {name for name, value in vars(public).items() if not isinstance(value, ModuleType)}
    assert {n for n in names if not n.startswith("_")} | {"__version__"} == set(jobrunner.__all__)


def test_each_public_name_can_be_had_from_the_package() -> None:
    """They are loaded when the first of them is used, and only names of classes are looked up."""
    assert set(jobrunner.__all__) <= set(dir(jobrunner))
    for name in public.__all__:
        assert getattr(jobrunner, name) is getattr(public, name)


@pytest.mark.parametrize("name", ["Nothing", "nothing"])
def test_another_name_is_an_attribute_error(name: str) -> None:
    """`hasattr` and `from jobrunner import` rely on that."""
    with pytest.raises(AttributeError, match=f"^module 'jobrunner' has no attribute '{name}'$"):
        getattr(jobrunner, name)


def test_every_error_can_be_caught_by_name() -> None:
    """Who handles an error shouldn't have to know which module it stands in."""
    kinds = [v for v in vars(errors).values() if isinstance(v, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, errors.JobRunnerError)}
    assert names - set(jobrunner.__all__) == set()


@pytest.mark.slow  # starts an interpreter
def test_import_loads_no_server_and_no_tool() -> None:
    """An embedding app pays for the edges it uses, and for no others."""
    heavy = ("starlette", "uvicorn", "httpx2", "mcp", "celery", "typer", "rich",
             "prometheus_client", "opentelemetry")  # fmt: skip
    look = f"print([name for name in {heavy} if name in sys.modules])"
    code = f"import sys; from jobrunner import JobRunner; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "module, needs, extra",
    [("metrics", "prometheus_client", "metrics"), ("telemetry", "opentelemetry", "otel")],
)
@pytest.mark.slow  # starts an interpreter
def test_a_module_that_needs_an_extra_says_which(module: str, needs: str, extra: str) -> None:
    """The name of a package that is missing doesn't say what to install."""
    code = f"import sys; sys.modules[{needs!r}] = None; import jobrunner.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = f"jobrunner.{module} needs an extra: pip install 'agent-jobrunner[{extra}]'"
    assert f"ModuleNotFoundError: {said}" in done.stderr
