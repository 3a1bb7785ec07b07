"""Strict mode: what only works within one process is told."""

import asyncio
import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from jobrunner import JobRunner
from jobrunner.testing import DrivenRunner, NotPortable, virtual_time


class Page(BaseModel):
    number: int


async def failure_of(function: Callable[..., Any], params: dict[str, Any] | None = None) -> str:
    """Return what a strict runner says of a job; empty when it has completed."""
    runner = DrivenRunner(strict=True)
    runner.job("job")(function)
    async with runner:
        view = await (await runner.submit("job", params or {})).wait()
        return "" if view.error is None else f"{view.error.type}: {view.error.detail}"


@virtual_time
async def test_what_survives_json_passes() -> None:
    """Strict mode must not be in the way of what is right."""

    async def good(page: Page, numbers: list[int], key: SecretStr) -> Page:
        return Page(number=page.number + sum(numbers))

    given = {"page": {"number": 1}, "numbers": [1, 2], "key": "s"}
    assert await failure_of(good, given) == ""


@virtual_time
async def test_a_param_that_json_changes_is_told() -> None:
    """Under another engine the handler would get something else."""

    async def takes(pages: Any) -> None: ...

    said = await failure_of(takes, {"pages": (1, 2)})
    assert said == (
        "NotPortable: param 'pages' of 'job' doesn't survive JSON: it is (1, 2), and comes back as "
        "[1, 2]; annotate it with what JSON can hold"
    )


@virtual_time
async def test_a_result_that_json_changes_is_told() -> None:
    """The caller would get something else than the handler returned."""

    async def returns() -> Any:
        return {1: "one"}

    said = await failure_of(returns)
    assert said == (
        "NotPortable: the result of 'job' doesn't survive JSON: it is {1: 'one'}, and comes back "
        "as {'1': 'one'}; return what JSON can hold, or annotate what it should become"
    )


@virtual_time
async def test_a_result_that_can_not_be_json_fails_as_ever() -> None:
    """The runner says it by itself."""

    async def returns() -> Any:
        return object()

    assert (await failure_of(returns)).startswith("InvalidResult: ")


class Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    async def work(self) -> None: ...


def closing_over(value: Any) -> Callable[..., Any]:
    async def work() -> None:
        print(value)

    return work


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (closing_over(threading.Lock()), "closes over 'value' (_thread.lock), which can't leave"),
        (closing_over(asyncio.Event()), "closes over 'value' (asyncio.locks.Event), which belongs"),
        (Holder().work, "closes over 'self' (tests.kit.test_strict.Holder), which can't leave"),
    ],
)
def test_a_handler_that_holds_what_is_only_here_is_told(function: Any, said: str) -> None:
    """In another process, or in the next loop, it would not be there."""
    runner = JobRunner()
    runner.job("job")(function)

    @virtual_time
    async def start() -> None:
        async with DrivenRunner(runner, strict=True):
            raise AssertionError("it has started")

    with pytest.raises(NotPortable, match=re.escape(f"handler 'job' {said}")):
        start()


@virtual_time
async def test_a_handler_that_is_registered_later_is_told_by_its_job() -> None:
    """Most handlers of tests are written within them, when the runner runs already."""
    async with DrivenRunner(strict=True) as runner:
        runner.job("job")(closing_over(asyncio.Event()))
        view = await (await runner.submit("job")).wait()
        assert view.error is not None
        assert (view.error.type, view.error.title) == (
            "NotPortable",
            "handler 'job' closes over 'value' (asyncio.locks.Event), which belongs to one event "
            "loop: make it where it is used, or ask for it by its name",
        )


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(**params: Any) -> Any:
        return await function(**params)

    return call


@decorated
@decorated
async def twice_decorated() -> None: ...


@virtual_time
async def test_a_handler_may_have_any_number_of_decorators() -> None:
    """Each holds the function that it is put on, and that one goes wherever its module goes."""
    assert await failure_of(twice_decorated) == ""


@virtual_time
async def test_a_handler_may_hold_plain_values() -> None:
    """Constants and modules go everywhere."""
    assert await failure_of(closing_over({"a": 1})) == ""
