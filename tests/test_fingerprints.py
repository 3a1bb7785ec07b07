"""Requests with secrets in them: told apart by all that they say, of which nothing is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from pydantic import Field, Secret, SecretBytes, SecretStr

from jobrunner import IdempotencyKeyReused, JobRunner, Retention
from jobrunner.testing import unix_now, virtual_time


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with types whose params have a secret `value`, and may have it deep down."""
    runner = JobRunner(**{"now": unix_now, "seed": 1, **options})

    @runner.job(concurrency_key=lambda params: "one")
    async def named(password: str, n: int = 0) -> None:
        await asyncio.sleep(10.0)

    @runner.job
    async def typed(pins: dict[str, list[SecretStr]], n: int = 0) -> None: ...

    @runner.job
    async def raw(key: SecretBytes) -> None: ...

    @runner.job
    async def number(pin: Secret[int]) -> None: ...

    @runner.job
    async def said(pin: Annotated[str, Field(json_schema_extra={"writeOnly": True})]) -> None: ...

    return runner


REQUESTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "named": lambda value: {"password": value},
    "typed": lambda value: {"pins": {"a": ["same", value]}},
    "raw": lambda value: {"key": value.encode()},
    "number": lambda value: {"pin": int(value)},
    "said": lambda value: {"pin": value},
}
Submit = Callable[[JobRunner, str, dict[str, Any]], Awaitable[Any]]


async def one(runner: JobRunner, type: str, params: dict[str, Any]) -> Any:
    return await runner.submit(type, params, idempotency_key="k")


async def many(runner: JobRunner, type: str, params: dict[str, Any]) -> Any:
    return await runner.submit_batch(type, [params], idempotency_key="k")


both = pytest.mark.parametrize("submit", [one, many])


@both
@pytest.mark.parametrize("type", REQUESTS)
@virtual_time
async def test_another_secret_is_another_request(submit: Submit, type: str) -> None:
    """What is shown of the two is alike, and the second would run with the first one's password."""
    make = REQUESTS[type]
    async with new_runner() as runner:
        first = await submit(runner, type, make("1111"))
        assert (await submit(runner, type, make("1111"))).outcome == "replayed"
        with pytest.raises(IdempotencyKeyReused):
            await submit(runner, type, make("2222"))
        await runner.drain()
        again = await submit(runner, type, make("1111"))
        assert (again.id, again.outcome) == (first.id, "replayed")
        with pytest.raises(IdempotencyKeyReused):
            await submit(runner, type, make("2222"))


@both
@virtual_time
async def test_what_is_no_secret_still_tells_requests_apart(submit: Submit) -> None:
    """The other params, and secrets in another place."""
    async with new_runner() as runner:
        await submit(runner, "typed", {"pins": {"a": ["1", "2"]}})
        others: list[dict[str, Any]] = [
            {"pins": {"a": ["1", "2"]}, "n": 1},
            {"pins": {"a": ["2", "1"]}},
            {"pins": {"a": ["1"], "b": ["2"]}},
            {"pins": {}},
        ]
        for params in others:
            with pytest.raises(IdempotencyKeyReused):
                await submit(runner, "typed", params)


@virtual_time
async def test_a_request_that_joined_a_job_is_known_by_its_secret_too() -> None:
    """Its params aren't the job's, and are kept nowhere else."""
    async with new_runner() as runner:
        await runner.submit("named", {"password": "p"})

        async def join(password: str) -> str:
            params = {"password": password}
            job = await runner.submit("named", params, idempotency_key="k", on_duplicate="join")
            return job.outcome

        assert [await join("q"), await join("q")] == ["joined", "replayed"]
        with pytest.raises(IdempotencyKeyReused):
            await join("p")


@both
@virtual_time
async def test_a_key_is_free_again_when_its_job_is_no_longer_kept(submit: Submit) -> None:
    """With another secret it is another request, and by then that is no error."""
    async with new_runner(retention=Retention(max_jobs=1)) as runner:
        await submit(runner, "said", {"pin": "1"})
        await runner.drain()
        for _ in range(2):
            await runner.submit_batch("raw", [{"key": b"1"}])
            await runner.drain()
        assert (await submit(runner, "said", {"pin": "2"})).outcome == "created"
