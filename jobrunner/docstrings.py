"""What a docstring says: what the function does, and what each of its parameters is.

Sections are Google's (https://google.github.io/styleguide/pyguide.html, 3.8.3): a line with their
name, and below it what is indented. Whatever else a docstring has in it, reading it can't fail.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

_HEADING = re.compile(
    r"(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?):[ ]*$", re.M
)
_PARAMS = {"Args", "Arguments", "Parameters", "Params"}
_NAMES = r"\*{0,2}[^\W\d]\w*"
_PARAM = re.compile(rf"({_NAMES}(?:,\s*{_NAMES})*)\s*(?:\([^()]*\))?\s*:\s*(.*)")


def docstring(function: Callable[..., Any]) -> str:
    """Return the docstring of a function, or of the one that a partial is of."""
    while isinstance(function, functools.partial):
        function = function.func
    text = getattr(function, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def lead(text: str) -> str:
    """Return what stands before the first section."""
    found = _HEADING.search(text)
    return (text if found is None else text[: found.start()]).strip()


def param_texts(text: str) -> dict[str, str]:
    """Return what is said of each parameter, on one line, by its name."""
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    for line, is_new in _param_lines(text):
        if is_new and (found := _PARAM.fullmatch(line)):
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
            line = found[2]
        elif is_new:
            names = []
        for name in names:
            texts.setdefault(name, []).append(line)
    return {name: said for name, lines in texts.items() if (said := " ".join(lines).strip())}


def _param_lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines of the sections on parameters, and whether a new parameter may begin."""
    inside, indent = False, 0
    for line in text.splitlines():
        depth, said = len(line) - len(line.lstrip()), line.strip()
        if not depth and said:
            heading = _HEADING.match(line)
            inside, indent = heading is not None and heading[1] in _PARAMS, 0
        elif inside and said:
            indent = indent or depth
            yield said, depth <= indent
