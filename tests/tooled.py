"""A model that calls a runner's tools: what it is told, with short names in the place of ids."""

import re
from typing import Any

from jobrunner import JobRunner

ID = re.compile(r"job_[0-9a-f]{32}")


class Model:
    """Calls tools of a runner, and remembers which jobs it has been told of.

    Args:
        runner: The runner.
        options: Whose jobs it starts and sees.
    """

    def __init__(self, runner: JobRunner, **options: Any) -> None:
        self.runner = runner
        self.ids: list[str] = []
        self._options = options

    async def calls(self, tool: str, arguments: object = None, /, **named: Any) -> str:
        """Return the answer; `job_1` stands for the first job that was told of, and so on."""
        given = self.known(named) if named else arguments
        return self.short(await self.runner.execute_tool(tool, given, **self._options))

    def short(self, text: str) -> str:
        """Return the text with short names in the place of ids."""
        return ID.sub(self._short, text)

    def _short(self, found: re.Match[str]) -> str:
        if found[0] not in self.ids:
            self.ids.append(found[0])
        return f"job_{self.ids.index(found[0]) + 1}"

    def known(self, value: Any) -> Any:
        """Return the value with ids in the place of short names."""
        if isinstance(value, dict):
            return {name: self.known(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.known(item) for item in value]
        found = re.fullmatch(r"job_(\d+)", value) if isinstance(value, str) else None
        return self.ids[int(found[1]) - 1] if found and int(found[1]) <= len(self.ids) else value
