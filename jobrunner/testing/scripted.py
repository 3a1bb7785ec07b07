"""A model that says what a script tells it to: agent flows without a network."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool to be called."""

    name: str
    """The tool's name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with."""
    id: str = "call_1"
    """Names the call in the answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says in one turn."""

    text: str = ""
    """What it says."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What it wants to be called."""
    seconds: float = 0.0
    """How long it takes to say so."""


Line: TypeAlias = str | ToolCall | Sequence[ToolCall] | Turn | BaseException
"""Text, tool calls, a whole turn, or what the call fails with, as `RateLimited()`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of the model."""

    messages: Any
    """The messages that it was given, as they were then."""
    options: Mapping[str, Any]
    """What else it was given: tools, temperature, ..."""


class ScriptedModel:
    """Says the turns of a script, one for each call, in the order in which calls come.

    Args:
        script: What it says, turn by turn.

    Raises:
        TypeError: A turn is none.

    Example:
        model = ScriptedModel("Let me see.", ToolCall("search", {"query": "x"}), RateLimited())
        assert (await model("Hello")).text == "Let me see."
    """

    def __init__(self, *script: Line) -> None:
        self._left = [_turn(line) for line in script]
        self._said = 0
        self.asked: list[Asked] = []
        """The calls that came."""

    async def __call__(self, messages: Any, **options: Any) -> Turn:
        """Return the next turn, or raise what it says.

        Raises:
            AssertionError: The script has no further turn; says what was asked.
        """
        self.asked.append(Asked(copy.deepcopy(messages), options))
        if self._said == len(self._left):
            raise AssertionError(
                f"the model was asked {len(self.asked)} times, and its script has {self._said} "
                f"turns; the last call was {json.dumps(messages, default=repr)[:500]}"
            )
        turn = self._left[self._said]
        self._said += 1
        if isinstance(turn, BaseException):
            raise turn
        await asyncio.sleep(turn.seconds)
        return turn

    async def stream(self, messages: Any, **options: Any) -> AsyncIterator[str]:
        """Yield the next turn's text word by word."""
        turn = await self(messages, **options)
        for word in turn.text.split(" "):
            yield f"{word} "

    def assert_finished(self) -> None:
        """Assert that the whole script was said.

        Raises:
            AssertionError: Turns are left; shows the next one.
        """
        if self._said < len(self._left):
            raise AssertionError(
                f"the model was asked {len(self.asked)} times, and its script has "
                f"{len(self._left)} turns; the next would be {self._left[self._said]!r}"
            )


def _turn(line: Line) -> Turn | BaseException:
    if isinstance(line, Turn | BaseException):
        return line
    if isinstance(line, str):
        return Turn(text=line)
    calls = (line,) if isinstance(line, ToolCall) else tuple(line)
    if not all(isinstance(call, ToolCall) for call in calls):
        raise TypeError(f"{line!r} is no turn: give text, tool calls, a Turn or an exception")
    return Turn(tool_calls=calls)
