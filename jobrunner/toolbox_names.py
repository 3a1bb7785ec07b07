"""What tools are called: after their job types, in letters that every vendor takes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TypeAlias

from .errors import InvalidOption, UnknownJobType
from .handlers import Function, Handler
from .toolbox_actions import ACTIONS

SUFFIX = "_background"
"""What the name of a tool that starts a job ends in: so a model expects an id, not a result."""
MAX_NAME = 64
"""Characters of a tool's name; OpenAI takes no more."""
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
Types: TypeAlias = Iterable[str | Function] | Mapping[str | Function, str]


def choose(
    types: list[str | Function] | None, handlers: list[Handler]
) -> list[tuple[Handler, str | Function]]:
    """Return the handlers of the types, each with what it was chosen by."""
    if types is None:
        return [(handler, handler.name) for handler in handlers]
    found = []
    for type in types:
        handler = next((h for h in handlers if type in (h.name, h.function)), None)
        if handler is None:
            known = ", ".join(h.name for h in handlers) or "none"
            raise UnknownJobType(f"there is no job type {type!r:.100}; there are: {known}")
        found.append((handler, type))
    return found


def tool_names(handlers: list[Handler], named: Mapping[str, str], suffix: str) -> list[str]:
    """Return a name for each handler's tool: no two alike, whatever the types are called.

    Raises:
        InvalidOption: A name that was asked for can't be one, or is another one's.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,32}", suffix):
        raise InvalidOption(
            f"suffix is {suffix!r:.60}; it must be letters, digits, _ and -, 32 at most"
        )
    taken = Counter([*ACTIONS, *named.values()])
    wrong = [name for name in named.values() if not _NAME.fullmatch(name) or taken[name] > 1]
    if wrong:
        raise InvalidOption(
            f"no tool can be called {wrong[0]!r:.80} here; take 1 to {MAX_NAME} letters, digits, _ "
            "and -, once, and none of the names that every toolbox has"
        )
    simple = {handler.name: _simple_name(handler.name, suffix) for handler in handlers}
    plain = Counter(name for type, name in simple.items() if plain_name(type) == type)
    alike = Counter(name for type, name in simple.items() if type not in named)

    def name_of(type: str, name: str) -> str:
        rivals = taken[name] + (alike if plain_name(type) != type else plain)[name]
        return name if rivals == 1 else _marked(type, name, suffix)

    return [named.get(type) or name_of(type, name) for type, name in simple.items()]


def _simple_name(type: str, suffix: str) -> str:
    name = plain_name(type)
    name = name if suffix and name.endswith(suffix) else name + suffix
    return name if len(name) <= MAX_NAME else _marked(type, name, suffix)


def _marked(type: str, name: str, suffix: str) -> str:
    """Return a name that is like no other, and the same each time."""
    mark = f"_{sha256(type.encode()).hexdigest()[:8]}{suffix}"
    return name.removesuffix(suffix)[: MAX_NAME - len(mark)] + mark


def plain_name(name: str) -> str:
    """Return a job type's name with nothing in it that vendors refuse in a tool's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "job"
