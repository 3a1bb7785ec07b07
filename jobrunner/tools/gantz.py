"""A tools file: the tools of a `gantz.yaml` as job types.

    name: my-tools
    server: {port: 3000}
    tools:
      - name: search
        description: Search the notes
        parameters:
          - {name: query, type: string, required: true}
        script:
          shell: grep -r "{{query}}" notes | head -20
          timeout: 30s

The grammar is Gantz's (https://github.com/gantz-ai/gantz-cli); what differs is what becomes of
`{{param}}`. There it is replaced in the text; here no shell ever parses a value: each comes by the
environment, as `$GANTZ_ARG_QUERY`, and a reference in the right quotes stands in its place. What
that doesn't make safe is refused when the file is read, with its line.
"""

import inspect
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..context import JobContext
from ..errors import PermanentError
from ..handlers import Function
from ..job_types import JobTypes
from . import http_reading, script_reading
from .parameters import Parameter, read_parameters
from .substitution import encoded
from .yaml_nodes import Source, Text, line_of

if TYPE_CHECKING:
    import yaml

HTTP_TIMEOUT = 30.0
"""Seconds for a request of a tool that says nothing of it."""
MAX_SHOWN = 8_000
"""Characters of params that a person is asked to confirm."""
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Characters that can't be seen, or turn others around."""
_KEYS = ("name", "description", "version", "server", "tools")
_TOOL_KEYS = ("name", "description", "parameters", "environment", "script", "http", "confirm")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:h|ms|m|s))+")
_UNITS = {"h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Action(Protocol):
    """What a tool does."""

    async def run(self, ctx: JobContext, values: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A tool of a file, which can be a job type."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    action: Action
    timeout: float | None
    """Seconds that an attempt may take; None leaves it to the runner."""
    confirm: bool
    """Whether a person is asked before it runs."""

    def function(self) -> Function:
        """Return a handler that runs it."""
        fields = {each.field_name: name for name, each in self.parameters.items()}

        async def run(_context: JobContext, **params: Any) -> Any:
            values = {fields[field]: value for field, value in params.items()}
            if self.confirm:
                await self._confirmed(_context, values)
            return await self.action.run(_context, values)

        return self._signed(run)

    async def _confirmed(self, ctx: JobContext, values: Mapping[str, Any]) -> None:
        """Ask a person, and raise PermanentError when they say no."""
        if not await ctx.ask(f"Run {self.name}?\n{_shown(values)}", schema=bool):
            raise PermanentError(f"{self.name} was not confirmed, and did not run")

    def _signed(self, run: Function) -> Function:
        own = [each.in_signature for each in self.parameters.values()]
        first = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]  # PEP 362
        run.__annotations__ = {each.name: each.annotation for each in own}
        run.__annotations__ |= {"_context": JobContext, "return": Any}
        return run


@dataclass(frozen=True, slots=True, eq=False)
class ToolsFile:
    """A tools file, read and checked."""

    name: str
    description: str
    version: str
    port: int | None
    """Port to serve at, if the file names one."""
    tools: tuple[Tool, ...]

    def register(self, runner: JobTypes) -> None:
        """Make each tool a job type of `runner`.

        Raises:
            DuplicateJobType: There is a type of that name.
        """
        for tool in self.tools:
            timeout = ... if tool.timeout is None else tool.timeout
            make = runner.job(tool.name, description=tool.description, timeout=timeout)
            make(tool.function())


def load_tools(
    path: str | os.PathLike[str],
    *,
    shell: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ToolsFile:
    """Read a tools file.

    Args:
        path: The file.
        shell: Program that runs `script.shell`; bash where it is installed, or /bin/sh.
        environ: Where `${NAME}` comes from; the server's environment if not given.

    Raises:
        InvalidToolsFile: Something is wrong with it; says all of it, with the lines.
    """
    source = Source(path, os.environ if environ is None else environ)
    root = source.mapping(source.root(), _KEYS, "the file")
    nodes = source.items(root.get("tools"), "tools")
    if not nodes:
        source.problem(line_of(root.get("tools")), "there are no tools in it")
    tools: dict[str, Tool] = {}
    for number, node in enumerate(nodes, 1):
        tool = _ToolReader(source, node, number, shell or script_reading.default_shell()).read()
        if tool is not None and tool.name in tools:
            source.problem(line_of(node), f"there are two tools {tool.name!r}")
        elif tool is not None:
            tools[tool.name] = tool
    found = ToolsFile(
        name=_said(source, root, "name", "gantz-local"),
        description=_said(source, root, "description", ""),
        version=_said(source, root, "version", "1.0.0"),
        port=_port(source, root.get("server")),
        tools=tuple(tools.values()),
    )
    source.check()
    return found


def _shown(values: Mapping[str, Any]) -> str:
    """Return params for a person to judge: whole or not at all, and with nothing that hides."""
    text = "\n".join(f"{name}: {encoded(value, 'value')}" for name, value in values.items())
    shown = "".join(
        c if c == "\n" or unicodedata.category(c) not in _HIDDEN else f"\\u{ord(c):04x}"
        for c in text
    )
    if len(shown) > MAX_SHOWN:
        raise PermanentError(f"params of {len(shown):,} characters are too long to be confirmed")
    return shown


def _said(source: Source, root: "Mapping[str, yaml.Node]", key: str, otherwise: str) -> str:
    text = source.text(root.get(key), key)
    return otherwise if text is None else text.value


def _port(source: Source, node: "yaml.Node | None") -> int | None:
    text = source.text(source.mapping(node, ("port",), "server").get("port"), "server.port")
    if text is None:
        return None
    port = source.expanded(text)
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65_535:
        source.problem(text.line, f"server.port is {port!r}; it must be 0 to 65535")
        return None
    return int(port)


class _ToolReader:
    """Reads one tool; what is wrong is told to the source."""

    def __init__(self, source: Source, node: "yaml.Node", number: int, shell: str) -> None:
        self._source = source
        self._node = node
        self._shell = shell
        self._line = line_of(node)
        self._number = number

    def read(self) -> Tool | None:
        source = self._source
        entries = source.mapping(self._node, _TOOL_KEYS, "a tool")
        name = self._name(source.text(entries.get("name"), "a tool's name"))
        parameters = read_parameters(source, entries.get("parameters"))
        confirm = source.flag(entries.get("confirm"), "confirm")
        action = self._action(name, entries, parameters, confirm)
        description = source.text(entries.get("description"), "a tool's description")
        timeout = self._timeout(entries)
        if action is None:
            return None
        return Tool(
            name=name,
            description=name if description is None else description.value.strip(),
            parameters=parameters,
            action=action,
            timeout=timeout,
            confirm=confirm,
        )

    def _name(self, text: Text | None) -> str:
        if text is None:
            self._source.problem(self._line, f"tool {self._number} has no name")
            return f"tool {self._number}"
        if not _TOOL_NAME.fullmatch(text.value):
            self._source.problem(text.line, f"{text.value!r:.80} can't name a tool; take up to 64 "
                                            "letters, digits, _ and -")  # fmt: skip
        return text.value

    def _action(
        self,
        name: str,
        entries: "Mapping[str, yaml.Node]",
        parameters: Mapping[str, Parameter],
        confirm: bool,
    ) -> Action | None:
        source = self._source
        if ("script" in entries) == ("http" in entries):
            source.problem(self._line, f"{name!r} needs one of script and http")
            return None
        if "http" in entries:
            if "environment" in entries:
                line = line_of(entries["environment"])
                source.problem(line, "environment is for scripts; headers and body take ${NAME}")
            own = source.mapping(entries["http"], http_reading.KEYS, "http")
            return http_reading.RequestReader(source, name, parameters).read(own, self._line)
        own = source.mapping(entries["script"], script_reading.KEYS, "script")
        reader = script_reading.ScriptReader(
            source, name, parameters, shell=self._shell, confirmed=confirm
        )
        return reader.read(own, entries.get("environment"), self._line)

    def _timeout(self, entries: "Mapping[str, yaml.Node]") -> float | None:
        kind = "http" if "http" in entries else "script"
        own = self._source.mapping(entries.get(kind), None, kind)
        text = self._source.text(own.get("timeout"), "timeout")
        if text is None:
            return HTTP_TIMEOUT if kind == "http" else None
        seconds = 0.0
        if _DURATION.fullmatch(text.value.strip()):
            for number, unit in re.findall(r"([\d.]+)(h|ms|m|s)", text.value):
                seconds += float(number) * _UNITS[unit]
        if not 0.0 < seconds <= 10**7:
            self._source.problem(text.line, f"timeout is {text.value!r}; write it as 30s or 1m30s")
            return None
        return seconds
