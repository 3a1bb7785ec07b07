"""What can be run: the decorator that makes job types, and commands as job types."""

import inspect
import keyword
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Unpack, overload

from . import current
from .commands import CommandResult, command_line, placeholders
from .context import JobContext
from .errors import InvalidOption
from .handlers import Function, Handler, Handlers
from .options import JobOptions, checked_options
from .signatures import make_handler
from .webhooks import Announcer, needed

F = TypeVar("F", bound=Function)


class JobTypes:
    """The job types of a runner."""

    def __init__(self) -> None:
        self._handlers = Handlers()
        self._webhooks: Announcer | None = None

    @property
    def job_types(self) -> list[Handler]:
        """The registered types, in the order in which they came."""
        return list(self._handlers)

    @overload
    def job(self, function: F, /) -> F: ...
    @overload
    def job(self, name: str | None = None, **options: Unpack[JobOptions]) -> Callable[[F], F]: ...
    def job(
        self, name: F | str | None = None, **options: Unpack[JobOptions]
    ) -> F | Callable[[F], F]:
        """Register the decorated function as a job type; the function stays as it is.

        An `async def` runs in the event loop, a `def` in a thread of its own, and what an async
        generator yields is emitted. Every parameter is annotated and becomes a param of the type,
        but for one annotated with `JobContext`.

        Args:
            name: Name of the type; the function's own if not given.
            options: See `jobrunner.options.JobOptions`.

        Raises:
            InvalidHandler: The function can't be a handler; says why.
            DuplicateJobType: There is a type of that name.
            InvalidOption: An option has a value that it can't have.
        """
        namespace = sys._getframe(1).f_locals  # where string annotations may have been defined
        checked = checked_options(options, beside=("params", "cwd", "env", "check", "shell"))
        if checked.capture_logs:
            current.want()
        if isinstance(checked.webhook_url, str):
            needed(self._webhooks).options.read(checked.webhook_url)

        def register(function: F) -> F:
            if checked.engine == "process":
                from .engines.process import check_importable  # not for everybody to load

                check_importable(function)
            handler = make_handler(
                function,
                name=name if isinstance(name, str) else None,
                description=options.get("description"),
                options=checked,
                namespace=namespace,
            )
            self._handlers.add(handler)
            return function

        return register if name is None or isinstance(name, str) else register(name)

    def command_job(
        self,
        name: str,
        command: str | Sequence[str],
        *,
        params: Sequence[str] = (),
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        shell: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        """Register a command as a job type; the result is a `CommandResult`.

        Args:
            name: Name of the type.
            command: Program and arguments. Each `{{param}}` in it becomes a param of the type.
            params: Further params of the type, which the command finds in its environment; the
                only way for the text of a shell: `"$name"`.
            cwd, env, check, shell: As for `JobContext.run_command`.
            options: See `jobrunner.options.JobOptions`; the description is the command itself if
                not given.

        Raises:
            InvalidOption: The template can't be one, or an option is unknown; says why.
            DuplicateJobType: There is a type of that name.
        """
        names = list(dict.fromkeys([*placeholders(command), *params]))
        _check_names(name, names)
        if taken := [param for param in params if param == param.upper()]:
            raise InvalidOption(
                f"command {name!r} can't have {taken[0]!r} in its environment: names in capitals "
                "belong to the system"
            )
        command_line(command, dict.fromkeys(names, ""), shell=shell)
        shown = command if isinstance(command, str) else " ".join(command)
        options.setdefault("description", f"Run {shown}")
        given = {"cwd": cwd, "env": env, "check": check, "shell": shell}
        self.job(name, **options)(_command_function(command, names, given))


def _check_names(name: str, names: list[str]) -> None:
    for param in names:
        if keyword.iskeyword(param) or not param.isidentifier() or param == "_context":
            raise InvalidOption(f"command {name!r} has {param!r}, which no param can be called")


def _command_function(
    command: str | Sequence[str], names: list[str], options: dict[str, Any]
) -> Function:
    async def run(_context: JobContext, **params: str) -> CommandResult:
        return await _context.run_command(command, params=params, **options)

    first = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    params = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    run.__signature__ = inspect.Signature([first, *params])  # type: ignore[attr-defined]  # PEP 362
    run.__annotations__ = dict.fromkeys(names, str) | {
        "_context": JobContext,
        "return": CommandResult,
    }
    return run
