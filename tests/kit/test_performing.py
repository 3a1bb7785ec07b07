"""One attempt of one handler, with all that a worker gives it."""

import asyncio

import pytest

from jobrunner import InvalidOption, InvalidParams, JobContext, JobFailed, JobRunner
from jobrunner.testing import NotPortable, perform_job, virtual_time

runner = JobRunner()


@runner.job
async def refactor(ctx: JobContext, path: str, seconds: float = 0.0) -> tuple[str, int]:
    ctx.log(f"refactoring {path}")
    ctx.emit("to be ")
    ctx.emit("or not")
    await asyncio.sleep(seconds)
    if ctx.attempt == 1:
        raise OSError("not at the first time")
    return f"{path} {ctx.attempt}/{ctx.max_attempts}", 1


@virtual_time
async def test_an_attempt_gives_its_value_and_what_it_has_said() -> None:
    """A handler can be tested like the function that it is."""
    done = await perform_job(refactor, {"path": "a.py"}, attempt=2, metadata={"for": "ada"})
    assert done.value == ("a.py 2/2", 1)
    assert done.job.result == ["a.py 2/2", 1]
    assert (done.logged(), done.said()) == (["refactoring a.py"], "to be or not")
    assert (done.job.attempt, done.job.metadata) == (2, {"for": "ada"})


@virtual_time
async def test_what_the_handler_raises_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The exception itself, not its description; and of the attempts to come nobody hears."""
    with pytest.raises(OSError, match="not at the first time"):
        await perform_job(refactor, {"path": "a.py"}, max_attempts=3)
    assert "had not ended" not in caplog.text


@virtual_time
async def test_a_limit_fails_the_attempt() -> None:
    """As a worker would say it."""
    with pytest.raises(JobFailed, match="timed out after 5 s"):
        await perform_job(refactor, {"path": "a", "seconds": 9.0}, attempt=2, timeout=5.0)


async def test_params_are_checked_in_real_time_too() -> None:
    """The signature decides, as it does for a submit."""
    with pytest.raises(InvalidParams):
        await perform_job(refactor, {"paths": "a.py"})


async def test_attempts_are_counted_from_1() -> None:
    """No handler ever sees attempt 0, so a test of it would say nothing."""
    with pytest.raises(InvalidOption, match="attempt is 0; they are counted from 1"):
        await perform_job(refactor, {"path": "a.py"}, attempt=0)


@virtual_time
async def test_an_attempt_can_be_strict() -> None:
    """A result that only works here is told."""

    async def returns() -> object:
        return (1, 2)

    with pytest.raises(NotPortable):
        await perform_job(returns, strict=True)


@virtual_time
async def test_plain_functions_and_generators_are_performed_too() -> None:
    """Every kind of handler."""

    def add(a: int, b: int) -> int:
        return a + b

    assert (await perform_job(add, {"a": 1, "b": 2})).value == 3
