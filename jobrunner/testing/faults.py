"""Faults on purpose: attempts that fail, are late, hang or lose their process; lost webhooks."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from ..context import JobContext
from ..engines import Engine
from ..errors import InvalidOption, ProcessDied
from ..handlers import Function, Handler
from .receiver import WebhookReceiver


class RateLimited(Exception):
    """What an API says when it is asked too often: status 429, and when to come back.

    Args:
        message: What it says.
        retry_after: Seconds to wait; None when it doesn't say.
    """

    status_code = 429

    def __init__(
        self, message: str = "too many requests", *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}


@dataclass(slots=True)
class Fault:
    """What goes wrong with attempts of a type."""

    type: str | Function
    attempt: int | None
    error: BaseException | None = None
    seconds: float = 0.0
    swallowed: float = -1.0
    struck: int = 0
    """How many attempts it has hit."""

    @property
    def name(self) -> str:
        """What the type is called in a message."""
        return str(getattr(self.type, "__name__", self.type))

    def hits(self, handler: Handler, attempt: int) -> bool:
        """Return whether it is meant for that attempt."""
        meant = self.type in (handler.name, handler.function)
        return meant and self.attempt in (None, attempt)

    async def strike(self) -> None:
        """Let it happen, in the handler's place or before it."""
        self.struck += 1
        if self.swallowed >= 0.0:
            await _swallow(self.swallowed)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class Faults:
    """What goes wrong on purpose, in the order in which it was asked for.

    Faults happen where handlers run, so limits, retries, cancellation and shutdown meet them as
    they would meet the handler's own. `attempt=None` means every attempt.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.receiver: WebhookReceiver | None = None
        """Whose webhooks are lost."""

    def fail(
        self, type: Any, *, attempt: int | None = 1, error: BaseException | None = None
    ) -> None:
        """Have an attempt raise `error` before the handler is called; an OSError if not given."""
        error = error or OSError("a fault on purpose")
        self._add(Fault(type, attempt, error=error))

    def delay(self, type: Any, seconds: float, *, attempt: int | None = 1) -> None:
        """Have an attempt begin so many seconds later, as far as its limits let it."""
        self._add(Fault(type, attempt, seconds=seconds))

    def hang(self, type: Any, *, attempt: int | None = 1) -> None:
        """Have an attempt do nothing, until it is asked to stop."""
        self._add(Fault(type, attempt, swallowed=0.0))

    def swallow_cancel(
        self, type: Any, *, attempt: int | None = 1, times: float = float("inf")
    ) -> None:
        """Have an attempt do nothing, and go on with that when it is asked to stop.

        Args:
            times: How often it goes on; by default for ever, so that the job is declared stuck.
        """
        self._add(Fault(type, attempt, swallowed=times))

    def crash_process(self, type: Any, *, attempt: int | None = 1) -> None:
        """Have an attempt end as if its process had been killed; no process is needed for it."""
        error = ProcessDied("the process of the handler was killed by SIGKILL, on purpose")
        self._add(Fault(type, attempt, error=error))

    def lose_webhook(self, times: int = 1) -> None:
        """Have the next webhooks arrive, and their answers get lost: they will be sent again."""
        if self.receiver is None:
            raise InvalidOption("there is no runner yet whose webhooks could be lost")
        self.receiver.lose(times)

    def _add(self, fault: Fault) -> None:
        if fault.attempt is not None and fault.attempt < 1:
            raise InvalidOption(f"attempt is {fault.attempt!r}; they are counted from 1")
        self._faults.append(fault)

    def around(self, engine: Engine) -> Engine:
        """Return an engine in which the faults happen."""
        return FaultyEngine(engine, self._faults) if self._faults else engine

    def unused(self) -> list[str]:
        """Say which faults have hit nothing: a test that waits for one may be wrong."""
        return [
            f"the fault for attempt {fault.attempt or 'any'} of {fault.name!r} has hit nothing"
            for fault in self._faults
            if not fault.struck
        ]


class FaultyEngine:
    """An engine in which faults happen.

    Args:
        engine: What runs handlers otherwise.
        faults: What happens.
    """

    def __init__(self, engine: Engine, faults: list[Fault]) -> None:
        self._engine = engine
        self._faults = faults

    def run(
        self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """Run the handler, unless a fault comes before; see `Engine.run`."""
        hits = [each for each in self._faults if each.hits(handler, context.attempt)]
        if not hits:
            return self._engine.run(handler, context, arguments)
        return self._struck(hits, handler, context, arguments)

    async def _struck(
        self, hits: list[Fault], handler: Handler, context: JobContext, arguments: Mapping[str, Any]
    ) -> Any:
        for fault in hits:
            await fault.strike()
        return await self._engine.run(handler, context, arguments)

    async def close(self) -> None:
        """The engine is closed by whoever made it."""


async def _swallow(times: float) -> None:
    """Wait for ever, and ignore so many cancellations."""
    never = asyncio.Event()
    while True:
        try:
            await never.wait()
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise
