"""What a tools file says of a script: where values stand in it, and whether they can."""

import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .parameters import Parameter
from .script_tools import Script
from .shell_rules import POWERFUL, check_arguments, check_script
from .shell_text import Reader
from .shell_words import Slot, Word, words_of
from .substitution import PLACEHOLDER, Encoding, Filled, Template, template_of
from .yaml_nodes import Source, Text, line_of

if TYPE_CHECKING:
    import yaml

KEYS = ("shell", "command", "args", "stdin", "working_dir", "timeout")
_NAMED = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_PLACES = "/bin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"


def default_shell() -> str:
    """Return bash where it is installed, as most files are written for it, or /bin/sh."""
    return shutil.which("bash", path=_PLACES) or "/bin/sh"


class ScriptReader:
    """Makes a `Script` of what stands in the file; what is wrong is told to the source."""

    def __init__(
        self,
        source: Source,
        tool: str,
        params: Mapping[str, Parameter],
        *,
        shell: str,
        confirmed: bool,
    ) -> None:
        self._source = source
        self._tool = tool
        self._params = params
        self._shell = shell
        self._confirmed = confirmed
        self._types = {name: each.type for name, each in params.items()}
        self._places: dict[Slot | int, int] = {}

    def read(
        self, entries: "Mapping[str, yaml.Node]", environment: "yaml.Node | None", line: int
    ) -> Script:
        source = self._source
        shell = source.argument(entries.get("shell"), "shell")
        command = source.argument(entries.get("command"), "command")
        own = self._environment(environment)
        stdin = self._stdin(source.text(entries.get("stdin"), "stdin"))
        if (shell is None) == (command is None):
            source.problem(line, f"{self._tool!r} needs one of script.shell and script.command")
        if shell is not None and "args" in entries:
            source.problem(line_of(entries["args"]), "args belong to command, and not to shell")
        arguments, variables = tuple[Template, ...](), set[tuple[str, Encoding]]()
        if shell is not None:
            text, variables = self._text(shell)
            arguments = (Template((self._shell,)), Template(("-c",)), text)
            own = self._named(shell) | own
        elif command is not None:
            arguments = self._arguments(command, entries.get("args"))
        return Script(
            tool=self._tool,
            arguments=arguments,
            environment=own,
            variables=frozenset(variables),
            params=tuple(self._params),
            stdin=stdin,
            cwd=self._cwd(source.argument(entries.get("working_dir"), "working_dir")),
        )

    @property
    def _fed(self) -> Slot | None:
        """The slot of standard input; places are filled by what is read first."""
        return next((place for place in self._places if isinstance(place, Slot)), None)

    def _demand(self, filled: Filled) -> None:
        self._params[filled.name].demands.given_as.add(filled.encoding)

    # Shell

    def _text(self, text: Text) -> tuple[Template, set[tuple[str, Encoding]]]:
        """Return the text to run, and the variables that it refers to."""
        source = self._source
        source.placeholders(text, self._params)
        whole = PLACEHOLDER.fullmatch(text.value.strip())
        if whole is not None and self._confirmed and whole[1] in self._params:
            filled = Filled(whole[1])
            self._demand(filled)
            return Template((" ", filled)), set()
        reader = Reader(text.value, self._params)
        fed, has_slots = self._fed, any(n in self._params for n in PLACEHOLDER.findall(text.value))
        if fed is not None or has_slots:
            reader.read()
            if not has_slots:
                reader.problems.clear()  # whatever it is, it stays as it stands
            self._places |= {slot: text.line_at(slot.at) for slot in reader.slots}
            self._places |= {at: text.line_at(at) for at, _ in reader.problems}
            check_script(reader, self._types, self._tell, confirmed=self._confirmed, fed=fed)
        for slot in reader.slots:
            self._params[slot.name].demands.no_option |= slot.is_option
            self._demand(Filled(slot.name, slot.encoding))
        written = reader.written() if reader.slots else text.value
        line = f" {written}" if written.startswith(("-", "+")) else written
        return Template((line,)), {(slot.name, slot.encoding) for slot in reader.slots}

    def _tell(self, place: Slot | int, what: str) -> None:
        self._source.problem(self._places[place], what)

    def _named(self, text: Text) -> dict[str, Template]:
        """Return what the text names of the server's environment: its author wants it there."""
        found = {name: self._source.variable(name) for name in _NAMED.findall(text.value)}
        return {
            name: Template((value,))
            for name, value in found.items()
            if value is not None and not name.startswith(("GANTZ_", "JOBRUNNER_"))
        }

    # Commands

    def _arguments(self, command: Text, node: "yaml.Node | None") -> tuple[Template, ...]:
        source, fed = self._source, self._fed
        source.no_placeholders(command, self._params, "command")
        texts = [each for item in source.items(node, "args")
                 if (each := source.argument(item, "an argument")) is not None]  # fmt: skip
        words = words_of([text.value for text in texts], self._params)
        for text, word in zip(texts, words, strict=True):
            source.placeholders(text, self._params)
            self._places |= {slot: text.line_at(slot.at) for slot in word.slots}
        program = source.expanded(command)
        if not program:
            source.problem(command.line, "command is empty; name a program")
        check_arguments(
            [Word([program]), *words], self._types, self._tell, confirmed=self._confirmed, fed=fed
        )
        for slot in (slot for word in words for slot in word.slots):
            self._params[slot.name].demands.no_option |= slot.is_option
        return (Template((program,)), *(self._template(text) for text in texts))

    def _stdin(self, text: Text | None) -> Template | None:
        if text is None:
            return None
        self._source.placeholders(text, self._params)
        template = template_of(self._source.pieces(text, self._params))
        self._places |= {Slot(name, 0, "raw"): text.line for name in template.names}
        return template

    def _cwd(self, text: Text | None) -> str | None:
        if text is None:
            return None
        self._source.no_placeholders(text, self._params, "working_dir")
        return self._source.expanded(text)

    def _template(self, text: Text) -> Template:
        template = template_of(self._source.pieces(text, self._params))
        for part in template.parts:
            if isinstance(part, Filled):
                self._demand(part)
        return template

    # Environment

    def _environment(self, node: "yaml.Node | None") -> dict[str, Template]:
        found: dict[str, Template] = {}
        for name, each in self._source.mapping(node, None, "environment").items():
            text = self._source.argument(each, f"the variable {name!r}")
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name.startswith("GANTZ_"):
                self._source.problem(line_of(each), f"{name!r} can't name a variable")
            elif text is not None:
                if POWERFUL.fullmatch(name):
                    self._source.no_placeholders(text, self._params, f"the variable {name}")
                self._source.placeholders(text, self._params)
                found[name] = self._template(text)
        return found
