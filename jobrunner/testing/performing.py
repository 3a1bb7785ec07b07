"""One attempt of one handler, without a runner to set up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..context import JobContext
from ..engines import Engine
from ..errors import InvalidOption
from ..events import Event
from ..handlers import Function, Handler
from ..retry import RetryPolicy
from ..views import JobView, raise_failed
from .driven import DrivenRunner


@dataclass(frozen=True, slots=True)
class Performed:
    """What an attempt has done."""

    value: Any
    """What the handler returned, as it returned it."""
    job: JobView
    """The job as it would stand now; `result` is the value after JSON."""
    events: list[Event]
    """What has happened: progress, log lines, output."""

    def logged(self) -> list[str]:
        """Return the texts of the log lines."""
        return [event.data["text"] for event in self.events if event.type == "log"]

    def said(self) -> str:
        """Return what was emitted, as one text."""
        return "".join(event.data["text"] for event in self.events if event.type == "output")


async def perform_job(
    handler: Function,
    params: Mapping[str, Any] | None = None,
    /,
    *,
    attempt: int = 1,
    max_attempts: int | None = None,
    strict: bool = False,
    **options: Any,
) -> Performed:
    """Make one attempt of a handler, as a worker would: params validated, a context, a result.

    Args:
        handler: The function, decorated or not.
        params: Values for its parameters.
        attempt: The number of the attempt, from 1.
        max_attempts: How many there are in all; `attempt` if not given.
        strict: Whether params and result have to survive JSON.
        options: Of the submit: `metadata`, `session_id`, `timeout`, ...

    Raises:
        InvalidParams, InvalidHandler: The params, or the function, don't fit.
        InvalidOption: The attempt's number is below 1, or an option has a value it can't have.
        JobFailed: The attempt ended by a limit, or its result can't be JSON.
        Exception: What the handler has raised.

    Example:
        done = await perform_job(double, {"n": 21}, attempt=2)
        assert (done.value, done.said(), done.job.status) == (42, "", "completed")
    """
    if attempt < 1:
        raise InvalidOption(f"attempt is {attempt!r}; they are counted from 1")
    runner = DrivenRunner(workers=1, strict=strict)
    policy = RetryPolicy(max_attempts=max(attempt, max_attempts or 1))
    caught = _Caught()
    runner.job("performed", retry=policy)(handler)
    runner.faults.around = caught.around  # type: ignore[method-assign]  # it sees all engines
    async with runner:
        runner.pause()
        handle = await runner.submit("performed", params or {}, **options)
        handle._job.attempt = attempt - 1
        view = await runner.step()
        assert view is not None, "it was submitted"
        await handle.cancel()
        if isinstance(caught.error, Exception):
            raise caught.error
        if view.error is not None:
            raise_failed(view.job_id, view.error)
        return Performed(caught.value, view, handle._job.log.read().events)


class _Caught:
    """An engine that keeps what came of the handler."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._engine: Engine | None = None

    def around(self, engine: Engine) -> Engine:
        self._engine = engine
        return self

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        assert self._engine is not None, "it is put around an engine"
        try:
            self.value = await self._engine.run(handler, context, arguments)
        except BaseException as error:
            self.error = error
            raise
        return self.value

    async def close(self) -> None:
        """The engine is closed by whoever made it."""
