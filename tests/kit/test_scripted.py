"""A model that says what it is told to, in the order of its script."""

import asyncio

import pytest

from jobrunner.testing import RateLimited, ScriptedModel, ToolCall, Turn, virtual_time


@virtual_time
async def test_a_script_is_said_turn_by_turn() -> None:
    """Text, tools, limits and timeouts: what an agent's loop has to live with."""
    look = ToolCall("look", {"at": "bees"})
    model = ScriptedModel(look, RateLimited(retry_after=30), TimeoutError(), "done", [look, look])
    assert await model("hello") == Turn(tool_calls=(look,))
    with pytest.raises(RateLimited):
        await model("hello")
    with pytest.raises(TimeoutError):
        await model("hello")
    assert (await model("hello", temperature=0)).text == "done"
    assert (await model("hello")).tool_calls == (look, look)
    assert (len(model.asked), model.asked[3].options) == (5, {"temperature": 0})
    model.assert_finished()


@virtual_time
async def test_a_turn_may_take_its_time_and_come_in_pieces() -> None:
    """Limits are met by slow models, and streams by patient ones."""
    model = ScriptedModel(Turn("to be or", seconds=30.0))
    assert [piece async for piece in model.stream("?")] == ["to ", "be ", "or "]
    assert asyncio.get_running_loop().time() == 30.0


@virtual_time
async def test_what_was_asked_is_kept_as_it_was() -> None:
    """An agent's loop has one list of messages, to which it adds what is said."""
    model = ScriptedModel("one", "two")
    messages = [{"role": "user", "content": "hello"}]
    messages.append({"role": "assistant", "content": (await model(messages)).text})
    messages[0]["content"] = "(left out)"
    await model(messages)
    assert [call.messages for call in model.asked] == [
        [{"role": "user", "content": "hello"}],
        [{"role": "user", "content": "(left out)"}, {"role": "assistant", "content": "one"}],
    ]


@virtual_time
async def test_the_end_of_a_script_says_what_was_asked() -> None:
    """One call too many is a bug of the flow, and the messages tell where."""
    model = ScriptedModel("one")
    await model("first")
    with pytest.raises(AssertionError) as caught:
        await model([{"role": "user", "content": "second"}])
    assert str(caught.value) == (
        "the model was asked 2 times, and its script has 1 turns; the last call was "
        '[{"role": "user", "content": "second"}]'
    )


def test_a_script_that_was_not_finished_says_what_is_left() -> None:
    """A flow that ended early has left something out."""
    with pytest.raises(AssertionError) as caught:
        ScriptedModel("one").assert_finished()
    assert str(caught.value) == (
        "the model was asked 0 times, and its script has 1 turns; the next would be "
        "Turn(text='one', tool_calls=(), seconds=0.0)"
    )


def test_what_is_no_turn_is_refused() -> None:
    """At once, and not in the middle of a flow."""
    with pytest.raises(TypeError, match="is no turn"):
        ScriptedModel([1])  # type: ignore[list-item]  # that is what is tested
