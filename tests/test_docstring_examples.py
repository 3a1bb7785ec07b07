"""What `help()` says: every public name has a text, and the examples in them run."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import jobrunner
from jobrunner import JobRunner, client, public, testing, webhooks
from jobrunner.server import serving
from jobrunner.web import create_app
from tests.tabled import each_of

MODULES: list[ModuleType] = [public, client, testing, webhooks]
NAMES = {name: value for module in MODULES for name, value in vars(module).items()}
SHOWN: list[Any] = [jobrunner, create_app, *NAMES.values()]


def example(of: Any) -> str | None:
    """Return the example that stands at the end of an object's docstring."""
    if not (inspect.isroutine(of) or inspect.isclass(of) or inspect.ismodule(of)):
        return None
    _, _, block = (of.__doc__ or "").partition("Example:\n")
    return textwrap.dedent(block).strip() or None


def examples() -> Iterator[tuple[str, str]]:
    for each in {id(each): each for each in SHOWN}.values():
        if (text := example(each)) is not None:
            yield each.__name__, text


EXAMPLES = dict(examples())


def test_the_names_that_are_used_first_have_an_example() -> None:
    """Who asks `help()` wants to see how it is used."""
    first = {"jobrunner", "JobRunner", "JobContext", "JobClient", "create_app", "DrivenRunner",
             "RetryPolicy", "ScriptedModel", "Webhooks", "perform_job"}  # fmt: skip
    assert first - EXAMPLES.keys() == set()


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_runs(name: str) -> None:
    """It is copied, whatever else is read."""
    runner = JobRunner()

    @runner.job
    async def double(n: int) -> int:
        return 2 * n

    body = textwrap.indent(EXAMPLES[name], "    ")
    given = NAMES | {"runner": runner, "double": double, "create_app": create_app,
                     "Starlette": Starlette, "Mount": Mount}  # fmt: skip
    exec(compile(f"async def run():\n{body}\n", f"help({name})", "exec"), given)
    if "token=token" not in body:
        await given["run"]()
        return
    async with serving(runner) as server:
        given |= {"url": server.url, "token": server.token}
        await given["run"]()


def fields_without_text(kind: type) -> list[str]:
    """Return the public fields of a class that no text stands under."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    said = [isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            for each in [*tree.body[1:], ast.Pass()]]  # fmt: skip
    return [
        each.target.id
        for each, text in zip(tree.body, said, strict=True)
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        if not text and not each.target.id.startswith("_")
    ]


def undocumented(kind: type) -> list[str]:
    """Return the public methods and properties of a class, its own bases' too, without a text."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("jobrunner")]
    members = {name: member for base in reversed(own) for name, member in vars(base).items()}
    return [
        name
        for name, member in members.items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
        if not inspect.getdoc(getattr(kind, name))
    ]


PUBLIC = [
    each
    for module in MODULES
    for name in getattr(module, "__all__", vars(module))
    if inspect.isclass(each := vars(module)[name]) and each.__module__.startswith("jobrunner")
    if not issubclass(each, testing.VirtualLoop)  # asyncio's own methods, each of which is refused
]


@each_of({each.__name__: each for each in PUBLIC})
def test_each_public_class_says_what_all_of_it_is(kind: type) -> None:
    """Units, shapes and errors are nowhere else to be found."""
    assert kind.__doc__
    assert undocumented(kind) == []
    if not issubclass(kind, BaseException):  # whose only field is its code
        assert fields_without_text(kind) == []
