"""Handlers in processes of their own, which can really be killed: CPU-bound code, or hostile code.

    run -> a warm child, or a new one -> params, job -> events ... -> result or failure
             ^                                                          |
             +---- idle, if the handler left nothing behind <-----------+--> ended, swept

A child leads a session of its own. Whatever becomes of it, its process group is killed, and so is
what it had started in other sessions, as far as Linux lets it be found (P4).
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from ..context import JobContext
from ..errors import InvalidHandler, InvalidParams, ProcessDied
from ..handlers import Handler
from . import crossing
from .children import LEAVE, Child, start
from .crossing import MAIN, address, frame

MAX_IDLE = 4
"""Idle children that are kept by default: as many as a runner has workers by default."""
MAX_RESULT = 67_108_864
"""Bytes of JSON that a child may send as a result by default; the runner's own limit is lower."""
END = 5.0
"""Seconds that `close` waits for children that were killed."""


def check_importable(function: Any) -> None:
    """Check that a child could import `function` by the names of its module and its own.

    Raises:
        InvalidHandler: It couldn't; says why, and what to do.
    """
    try:
        where = address(function)
    except AttributeError:
        where = None
    if where is None or not isinstance(where.qualname, str) or not isinstance(where.module, str):
        _refuse(f"{function!r:.100}", "has no name")
    elif "<lambda>" in where.qualname or "<locals>" in where.qualname:
        _refuse(where.qualname, "is made inside of another function, or is a lambda")
    elif inspect.ismethod(function) and not isinstance(function.__self__, type):
        _refuse(where.qualname, "is a method of an object that is only here")
    elif where.module == "__main__" and _main() is None:
        _refuse(where.qualname, "stands in a program that is in no file")


def _refuse(name: str, reason: str) -> NoReturn:
    raise InvalidHandler(
        f"handler {name} can't run in a process: it {reason}, so that a new process can't import "
        'it; write it as a function at the top level of a module, or leave out engine="process"'
    )


class ProcessEngine:
    """Runs each handler in a child process, which is reused after a clean end.

    The child imports the handler's module; params, results, events and errors cross as JSON, and
    nothing else does: context variables of the submitter are not set there, what the handler
    changes in its modules stays in the child, and so may be seen by a later job. The child has the
    environment and the outputs of the server, and no input.

    Args:
        max_idle: Children that are kept for the next job.
        max_result: Bytes of JSON that a result may have on its way here.
    """

    def __init__(self, *, max_idle: int = MAX_IDLE, max_result: int = MAX_RESULT) -> None:
        self._max_idle = max_idle
        self._max_result = max_result
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._starting: set[asyncio.Task[Child]] = set()

    async def run(self, handler: Handler, context: JobContext, arguments: Mapping[str, Any]) -> Any:
        """Run the handler in a child; return its value as JSON values, or raise what it raised.

        Cancelled once, it tells the child, and waits on. Cancelled again, it kills the child and
        all that is in its group, and raises at once.

        Raises:
            ProcessDied: The child ended before the handler.
            InvalidHandler: A child can't import the handler.
            InvalidParams: The params can't be JSON.
        """
        order = _order(handler, context, arguments, self._max_result)
        while True:
            child = await self._child()
            warm = child.warm
            value, error = await child.carry_out(order, context)
            self._put_back(child)
            if child.begun or not warm or not isinstance(error, ProcessDied) or child.told:
                break
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # it holds this frame, which would hold it

    async def _child(self) -> "Child":
        """Return an idle child or a new one.

        A start can't be cancelled halfway (P1): a child that nobody waits for any more is idle.
        """
        while self._idle:
            if (child := self._idle.pop()).usable:
                return child
        task = asyncio.get_running_loop().create_task(self._start(), name="start a process")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.add_done_callback(self._unclaimed)
            raise
        return task.result()

    async def _start(self) -> "Child":
        child = await start(self._max_result, self._gone)
        self._children.add(child)
        return child

    def _unclaimed(self, task: "asyncio.Task[Child]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._put_back(task.result())

    def _put_back(self, child: "Child") -> None:
        if child.usable and len(self._idle) < self._max_idle:
            self._idle.append(child)
        else:
            child.end()

    def _gone(self, child: "Child") -> None:
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)

    async def close(self) -> None:
        """End all children and wait for it, 6 s at most; afterwards the engine can be used again.

        What still runs is killed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEAVE + END
        self._idle.clear()
        while (left := deadline - loop.time()) > 0:
            for child in self._children:
                child.end()
            waited: list[asyncio.Future[Any]] = [*self._starting]
            waited += [child.gone for child in self._children]
            if not waited:
                break
            await asyncio.wait(waited, timeout=left)
            self._idle.clear()


def _order(
    handler: Handler, context: JobContext, arguments: Mapping[str, Any], max_result: int
) -> bytes:
    """Return the frames that tell a child what to do."""
    check_importable(handler.function)
    where = address(handler.function)
    depth = where.leads_to(handler.function)
    if depth is None:
        _refuse(where.qualname, f"is not what {where.module} has under that name")
    try:
        params = crossing.open_params(context._job.params, arguments)
    except (PydanticSerializationError, ValidationError, ValueError, TypeError) as error:
        raise InvalidParams(f"the params of {handler.name!r} can't cross: {error}") from None
    job = {
        "id": context.job_id,
        "type": handler.name,
        "attempt": context.attempt,
        "max_attempts": context.max_attempts,
        "session_id": context.session_id,
        "metadata": context.metadata,
        "address": where._replace(depth=depth or 0),
        "main": _main() if where.module in MAIN else {},
        "max_result": max_result,
        "capture": context._captured is not None,
    }
    return frame(crossing.PARAMS, params) + frame(crossing.JOB, to_json(job))


def _main() -> dict[str, str] | None:
    """Return what `multiprocessing.spawn.prepare` needs to import the program's own module."""
    module = sys.modules["__main__"]
    name = getattr(module.__spec__, "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(module, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    return {"init_main_from_path": os.path.abspath(path)}
