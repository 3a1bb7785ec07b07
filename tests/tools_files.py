"""Tools files written for a test, and runners of their tools."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobrunner import InvalidToolsFile, JobRunner, JobView

yaml = pytest.importorskip("yaml", reason="a tools file needs the extra `yaml`")

from jobrunner.tools.gantz import ToolsFile, load_tools  # noqa: E402  # it needs the extra

PAYLOADS = [
    "; touch pwned", "$(touch pwned)", "`touch pwned`", "a' ; touch pwned ; '",
    'a" ; touch pwned ; "', "a\n touch pwned", "&& touch pwned", "| touch pwned", "> pwned",
    "'; touch pwned #", "\\'; touch pwned #", "${IFS}touch${IFS}pwned", "a[$(touch pwned)]",
    "{{other}} {{x}}", "%s$'\\n'touch pwned", "EOF\ntouch pwned\nEOF", "* ~ ?", "\\", '"}\n,"k":"',
    "é\u202e☃",
]  # fmt: skip
"""What has got out of its place somewhere, some day."""


def tool(**given: Any) -> dict[str, Any]:
    """A tool with one param, `x`, if no others are given."""
    params = [{"name": "x", "type": "string", "required": True}]
    return {"name": "t", "description": "A tool", "parameters": params, **given}


def shell(text: str, **given: Any) -> dict[str, Any]:
    """A tool that runs a shell's text."""
    script = {"shell": text, **given.pop("script", {})}
    return tool(script=script, **given)


def write(where: Path, *tools: dict[str, Any], **top: Any) -> Path:
    """Write a tools file."""
    path = where / "gantz.yaml"
    path.write_text(yaml.safe_dump({"tools": list(tools), **top}, sort_keys=False), "utf-8")
    return path


def refused(where: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    """Return what is said of a file that can't be used, without its path."""
    path = where / "gantz.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidToolsFile) as caught:
        load_tools(path, environ=environ or {})
    return str(caught.value).replace(f"{path}:", "")


def refused_tool(where: Path, given: dict[str, Any]) -> list[str]:
    """Return what is said of a file with one tool that can't be used, without path and lines."""
    with pytest.raises(InvalidToolsFile) as caught:
        load_tools(write(where, given), environ={})
    return [what for _, what in caught.value.problems]


def load(where: Path, *tools: dict[str, Any], **options: Any) -> ToolsFile:
    """Write a tools file and read it."""
    return load_tools(write(where, *tools), **{"environ": {}, **options})


@asynccontextmanager
async def serving(file: ToolsFile, **options: Any) -> AsyncIterator[JobRunner]:
    """A started runner of a file's tools."""
    runner = JobRunner(workers=4, **options)
    file.register(runner)
    async with runner:
        yield runner


async def view_of(file: ToolsFile, params: dict[str, Any], name: str = "t") -> JobView:
    """Run a tool once, and return the job at its end."""
    async with serving(file) as runner:
        return await (await runner.submit(name, params)).wait()


async def result_of(file: ToolsFile, params: dict[str, Any], name: str = "t") -> Any:
    """Run a tool once, and return its result."""
    ended = await view_of(file, params, name)
    assert ended.status == "completed", ended.error
    return ended.result
