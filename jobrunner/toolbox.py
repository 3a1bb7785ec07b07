"""A runner's jobs as tools of a model: what the tools are, and what a call of one answers."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from .docstrings import docstring, lead
from .errors import InvalidParams, JobRunnerError, ParamProblem
from .handlers import Handler
from .limits import check_count
from .toolbox_actions import ACTIONS, Action, Desk
from .toolbox_advice import advice
from .toolbox_answers import Answer
from .toolbox_arguments import BadArguments, explain, faults_of, read_arguments, usage
from .toolbox_errors import broken, failed, refused
from .toolbox_formats import Tool, ToolFormat, in_format, lean
from .toolbox_names import MAX_NAME, SUFFIX, choose, tool_names
from .toolbox_names import Types as Types
from .toolbox_scope import Scope
from .toolbox_status import facts
from .toolbox_text import in_line
from .wording import clip

MAX_NAMED = 40
"""Tools that are named to a model that called none of them."""
MAX_DESCRIPTION = 1_024
"""Characters of a tool's description; more were refused, and each costs in every request."""
ROOM = 8_000
"""Characters of what jobs have written in one answer, about 2,000 tokens."""

BACKGROUND = (
    "Starts a job in the background and returns at once with its job_id, not with its result. "
    "Then tell the user that it runs, or go on; wait_for_jobs or check_job_status get the result."
)


class Toolbox:
    """A runner's job types as tools, and the tools to follow their jobs.

    Args:
        scope: Whose jobs there are.
        types: The job types that there are tools for; or a mapping from them to the tools' names;
            None for all types, also those registered later.
        suffix: What is added to the name of a type to make its tool's.
        max_chars: How many characters of a job's result one answer has at most, about.

    Raises:
        UnknownJobType: One of the types isn't registered.
        InvalidOption: A name can't be a tool's, or is another one's.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        types: Types | None = None,
        suffix: str = SUFFIX,
        max_chars: int = ROOM,
    ) -> None:
        self._scope = scope
        self._types = None if types is None else list(types)
        self._named = dict(types) if isinstance(types, Mapping) else {}
        self._suffix = suffix
        self._max_chars = check_count("max_chars", max_chars)
        self._starts: dict[str, Handler] = {}
        self._known = -1
        self._name_all()

    def tools(self, format: ToolFormat) -> list[dict[str, Any]]:
        """Return all tools as a vendor's API takes them, those of job types first.

        Raises:
            InvalidOption: There is no such format.
        """
        return [in_format(tool, format) for tool in self.all()]

    def all(self) -> list[Tool]:
        """Return all tools."""
        self._name_all()
        starts = [_start_tool(name, handler) for name, handler in self._starts.items()]
        return starts + [_action_tool(action) for action in ACTIONS.values()]

    def job_type(self, tool: str) -> str | None:
        """Return the job type that a tool starts; None of another tool, and of none."""
        self._name_all()
        handler = self._starts.get(tool)
        return None if handler is None else handler.name

    async def execute(self, name: str, arguments: object = None) -> str:
        """Carry out a call, and return what the model is to read; see `call`."""
        return (await self.call(name, arguments)).text

    async def call(self, name: str, arguments: object = None) -> Answer:
        """Carry out a call of a model's, whatever it has called and sent.

        Args:
            name: The tool.
            arguments: An object; also as JSON text, as a model wrote it.
        """
        try:
            self._name_all()
            return await self._call(name, arguments)
        except JobRunnerError as error:
            return refused(error, self._scope)
        except Exception as error:  # validators of params are anybody's code; a model gets text
            return broken(error)

    async def _call(self, name: object, arguments: object) -> Answer:
        handler, action = self._starts.get(str(name)), ACTIONS.get(str(name))
        if handler is None and action is None:
            return self._unknown(str(name))
        try:
            given = read_arguments(arguments)
            if handler is not None:
                return await self._start(handler, given)
            assert action is not None, "it is one or the other"
            asked = action.model_validate(given)
        except BadArguments as error:
            return self._misused(str(name), f"{error}.", [])
        except InvalidParams as error:
            faults = error.errors or [{"detail": str(error), "pointer": "#"}]
            return self._misused(str(name), "don't fit:", faults)
        except ValidationError as error:
            return self._misused(str(name), "don't fit:", faults_of(error))
        return await self._act(asked)

    async def _start(self, handler: Handler, given: dict[str, Any]) -> Answer:
        if None in given.values():
            given = _without_nulls(given, handler.params_schema())
        handle = await self._scope.submit(handler.name, given)
        job = self._scope.job(handle.id)
        said = _STARTED[handle.outcome].format(id=job.id, type=job.type)
        text = f"{said}\n{advice(job, self._scope, None)}"
        return Answer(text, facts(job, self._scope) | {"outcome": handle.outcome})

    async def _act(self, asked: Action) -> Answer:
        starts = {handler.name: tool for tool, handler in self._starts.items()}
        try:
            return await asked.run(Desk(self._scope, starts, self._max_chars))
        except JobRunnerError as error:
            return refused(error, self._scope, job_id=getattr(asked, "job_id", None))

    def _misused(self, name: str, said: str, faults: list[ParamProblem]) -> Answer:
        """Answer a call with wrong arguments."""
        handler = self._starts.get(name)
        schema = handler.params_schema() if handler else ACTIONS[name].model_json_schema()
        lines = [f"Nothing was done: the arguments of {name} {said}"]
        lines += [explain(faults, schema)] if faults else []
        lines += [usage(schema), f"Next: correct them and call {name} again."]
        return failed("invalid-arguments", "\n".join(lines), errors=faults)

    def _unknown(self, name: str) -> Answer:
        names = [*self._starts, *ACTIONS]
        near = [known for known in names if name and known.startswith(name)][:3]
        near = near or difflib.get_close_matches(name[:MAX_NAME], names, n=3)
        hint = (
            f"Did you mean {' or '.join(near)}?"
            if near
            else f"There are: {', '.join(names[:MAX_NAMED])}."
        )
        return failed("unknown-tool", f"There is no tool {in_line(name[:MAX_NAME])}. {hint}")

    def _name_all(self) -> None:
        """Name the tools of job types; again when there are more types."""
        handlers = self._scope.runner.job_types
        if len(handlers) == self._known:
            return
        chosen = [handler for handler, _ in choose(self._types, handlers)]
        named = {handler.name: self._named[type] for handler, type in
                 choose(list(self._named), handlers)}  # fmt: skip
        self._starts = {
            name: handler
            for handler, name in zip(chosen, tool_names(chosen, named, self._suffix), strict=True)
        }
        self._known = len(handlers)


def _start_tool(name: str, handler: Handler) -> Tool:
    return Tool(name, _description(handler), lean(handler.params_schema()), {"readOnlyHint": False})


def _description(handler: Handler) -> str:
    """Return what the docstring says, before it comes to parameters, and how the tool works."""
    said, whole = handler.description, lead(docstring(handler.function))
    if whole.startswith(said):
        said = whole
    said = clip(said or f"Do {handler.name!r}.", MAX_DESCRIPTION - len(BACKGROUND) - 50)
    return f"{said}\n\n{BACKGROUND}"


def _action_tool(action: type[Action]) -> Tool:
    schema = action.model_json_schema()
    description = " ".join(schema.pop("description").split())
    return Tool(action.tool, description, lean(schema), action.hints)


def _without_nulls(given: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params without those that are null and needn't be given: models send them so."""
    needed, nodes = schema.get("required", ()), schema.get("properties", {})
    defs = schema.get("$defs", {})
    return {
        name: value
        for name, value in given.items()
        if value is not None or name in needed or _takes_null(nodes.get(name, {}), defs)
    }


_WORDS = {"title", "description", "default", "examples", "writeOnly"}
"""What says nothing of the values that a schema takes."""


def _takes_null(node: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    node = defs.get(str(node.get("$ref")).rpartition("/")[2], node)
    if "anyOf" in node:
        return any(_takes_null(member, defs) for member in node["anyOf"])
    return not node.keys() - _WORDS or node.get("type") == "null" or None in node.get("enum", ())


_STARTED = {
    "created": "Job {id} ({type}) was started in the background. It has no result yet.",
    "enqueued": "Job {id} ({type}) was queued behind another one that it must not run beside. It "
    "has no result yet.",
    "joined": "Nothing new was started: job {id} ({type}) does the same, and has not ended.",
    "replaced": "Job {id} ({type}) was started in the background, and replaced an older one, which "
    "is being stopped. It has no result yet.",
    "replayed": "Nothing new was started: job {id} ({type}) is the one that was asked for.",
}
