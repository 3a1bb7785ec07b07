"""Tools that run a shell's text, or a command with arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..commands import CommandResult, Verbatim
from ..context import JobContext
from ..errors import CommandFailed
from ..wording import clip
from .substitution import Encoding, Template, encoded, fits, variable

MAX_OUTPUT = 100_000
"""Characters of the output that are the result; the job's events have the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """What a tool runs, checked."""

    tool: str
    arguments: tuple[Template, ...]
    environment: Mapping[str, Template]
    variables: frozenset[tuple[str, Encoding]]
    """Params that the text refers to, and how they are encoded there."""
    params: tuple[str, ...]
    """All params; a program may read each from its environment, as far as it can hold it."""
    stdin: Template | None
    cwd: str | None

    async def run(self, ctx: JobContext, values: Mapping[str, Any]) -> str:
        """Return what the command has said.

        Raises:
            CommandFailed: Its exit code isn't 0.
        """
        offered = {variable(n): encoded(values[n], "text") for n in self.params
                   if values[n] is not None}  # fmt: skip
        given = {name: text for name, text in offered.items() if fits(text)}
        given |= {variable(n, e): encoded(values[n], e) for n, e in self.variables}
        own = {name: template.fill(values) for name, template in self.environment.items()}
        result = await ctx.run_command(
            Verbatim(template.fill(values) for template in self.arguments),
            env=own | given,
            stdin=None if self.stdin is None else self.stdin.fill(values),
            cwd=self.cwd,
        )
        said = _said(result)
        if result.exit_code != 0:
            tail = f"\n{said[-2_000:]}" if said else ""
            raise CommandFailed(f"{self.tool} ended with exit code {result.exit_code}{tail}")
        return clip(said, MAX_OUTPUT)


def _said(result: CommandResult) -> str:
    """Return standard output, and then what went to the error output."""
    return "\n".join(filter(None, (result.stdout.rstrip("\n"), result.stderr))).strip()
