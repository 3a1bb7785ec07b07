"""Strict mode: what only works because everything is in one process is told, before it is too late.

Params and results have to come back from JSON as they were, and handlers may not hold what another
process or another event loop couldn't have.
"""

import asyncio
import inspect
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from ..context import JobContext
from ..engines import Engine
from ..engines.crossing import open_params
from ..errors import PermanentError
from ..handlers import Handler

LOOP_BOUND = (
    asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.Queue,
    asyncio.Future, asyncio.AbstractEventLoop, asyncio.StreamReader, asyncio.StreamWriter,
)  # fmt: skip
"""What belongs to one event loop."""


class NotPortable(PermanentError):
    """Something only works within this process; the message says what."""


class StrictEngine:
    """An engine that gives handlers what has been JSON, and takes what will be.

    Args:
        engine: What runs handlers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Run the handler; see `Engine.run`.

        Raises:
            NotPortable: It holds what another process couldn't have, or its params or its value
                wouldn't survive JSON.
        """
        check_portable(handler)  # it may have been registered after the start
        check_params(handler, context._job.params, arguments)
        value = await self._engine.run(handler, context, arguments)
        check_result(handler, value)
        return value

    async def close(self) -> None:
        """The engine is closed by whoever made it."""


def check_params(handler: Handler, raw: bytes, arguments: Mapping[str, Any]) -> None:
    """Check that the params come back from JSON as they are.

    Args:
        handler: The job type.
        raw: The params as they are kept, as JSON.
        arguments: The params as the handler takes them.

    Raises:
        NotPortable: One doesn't; shows both.
    """
    again, _ = handler.validate(from_json(open_params(raw, arguments)))
    for name, value in arguments.items():
        if again[name] != value:
            raise NotPortable(
                f"param {name!r} of {handler.name!r} doesn't survive JSON: it is {value!r:.200}, "
                f"and comes back as {again[name]!r:.200}; annotate it with what JSON can hold"
            )


def check_result(handler: Handler, value: Any) -> None:
    """Check that the value comes back from JSON as it is; one that can't be JSON fails anyway.

    Raises:
        NotPortable: It doesn't; shows both.
    """
    try:
        again = handler.load_result(to_json(value, inf_nan_mode="null"))
    except Exception:  # the job fails for it by itself, and says where
        return
    if again != value:
        raise NotPortable(
            f"the result of {handler.name!r} doesn't survive JSON: it is {value!r:.200}, and comes "
            f"back as {again!r:.200}; return what JSON can hold, or annotate what it should become"
        )


def check_portable(handler: Handler) -> None:
    """Check that the function holds nothing that another process couldn't have.

    Raises:
        NotPortable: It closes over such a thing; names it.
    """
    for name, value in _held(handler.function):
        if isinstance(value, LOOP_BOUND):
            raise NotPortable(
                f"handler {handler.name!r} closes over {name!r} ({_kind(value)}), which belongs to "
                "one event loop: make it where it is used, or ask for it by its name"
            )
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever a reducer raises says that it can't go elsewhere
            raise NotPortable(
                f"handler {handler.name!r} closes over {name!r} ({_kind(value)}), which can't "
                f"leave this process: {error}"
            ) from None


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of what a function carries with it: not what its module has."""
    function = inspect.unwrap(function)
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        yield "self", owner
    code = getattr(function, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=True
    ):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue


def _kind(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
