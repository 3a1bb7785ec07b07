"""The tools as vendors want them, held against the vendors' own types."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from jobrunner import InvalidOption, JobContext, JobRunner


class Options(BaseModel):
    branch: str = "main"
    nested: "Options | None" = None


OPTIONS = Options()
TOKEN = SecretStr("s3cret")


def a_runner() -> JobRunner:
    runner = JobRunner()

    @runner.job
    async def build(
        ctx: JobContext,
        target: Annotated[str, Field(description="What to build.")],
        options: Options = OPTIONS,
        mode: Literal["fast", "small"] = "fast",
        tags: list[str] | None = None,
        token: SecretStr = TOKEN,
    ) -> str:
        """Build a target."""
        return target

    @runner.job("run tests: all of them, in every way that there is, with reports and coverage")
    async def run_tests() -> None: ...

    @runner.job
    async def title(title: dict[str, int], items: tuple[int, str] = (1, "a")) -> None: ...

    runner.command_job("echo", ["echo", "{{text}}"])
    return runner


RUNNER = a_runner()


@pytest.mark.slow  # imports the vendor's package
def test_openai_takes_the_tools_of_chat_completions() -> None:
    """A tool that the API refuses ends the whole request."""
    chat = pytest.importorskip("openai.types.chat", reason="needs openai")
    check = TypeAdapter(chat.ChatCompletionFunctionToolParam)
    for tool in RUNNER.tools("openai-chat"):
        assert check.validate_python(tool) == tool


@pytest.mark.slow  # imports the vendor's package
def test_openai_takes_the_tools_of_responses() -> None:
    """There the name stands elsewhere, and what isn't strict has to say so."""
    responses = pytest.importorskip("openai.types.responses", reason="needs openai")
    check = TypeAdapter(responses.FunctionToolParam)
    for tool in RUNNER.tools("openai-responses"):
        assert check.validate_python(tool) == tool
        assert tool["strict"] is False


@pytest.mark.slow  # imports the vendor's package
def test_anthropic_takes_the_tools() -> None:
    """Its schema is called `input_schema`."""
    anthropic = pytest.importorskip("anthropic.types", reason="needs anthropic")
    check = TypeAdapter(anthropic.ToolParam)
    for tool in RUNNER.tools("anthropic"):
        assert check.validate_python(tool) == tool


@pytest.mark.slow  # imports the vendor's package
def test_mcp_takes_the_tools() -> None:
    """Nothing of a tool may be left over that its own type doesn't know."""
    mcp = pytest.importorskip("mcp.types", reason="needs mcp")
    for tool in RUNNER.tools("mcp"):
        taken = mcp.Tool.model_validate(tool)
        assert taken.model_dump(by_alias=True, exclude_none=True, mode="json") == tool


SCHEMAS: list[tuple[str, dict[str, Any]]] = [
    (tool["name"], tool["input_schema"]) for tool in RUNNER.tools("anthropic")
]


GIVEN: dict[str, dict[str, Any]] = {
    "build_background": {
        "target": "x", "options": {"nested": {"branch": "b", "nested": {}}}, "mode": "small",
        "tags": ["a"], "token": "t",
    },
    RUNNER.tools("anthropic")[1]["name"]: {},
    "title_background": {"title": {"a": 1}, "items": [1, "a"]},
    "echo_background": {"text": "a"},
    "check_job_status": {"job_id": "job_1"},
    "wait_for_jobs": {"job_ids": ["job_1"], "mode": "any", "wait_seconds": 1.5},
    "get_job_result": {"job_id": "job_1", "offset": -1},
    "list_jobs": {"status": "failed", "type": None, "limit": 3, "cursor": "Mg"},
    "answer_job": {"job_id": "job_1", "value": {"any": "thing"}, "question_id": "q1"},
    "cancel_job": {"job_id": "job_1", "reason": "late"},
}  # fmt: skip
"""For each tool arguments that fit: all of them, so that each of its params is held to."""
UNFIT = object()
"""What no JSON type is: it fits only where anything does."""


@pytest.mark.parametrize(("name", "schema"), SCHEMAS)
def test_the_arguments_schema_is_one(name: str, schema: dict[str, Any]) -> None:
    """Held against the schema of JSON schemas; every reference leads somewhere."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    validator = jsonschema.Draft202012Validator(schema)
    given = GIVEN[name]
    assert [error.message for error in validator.iter_errors(given)] == []
    assert not validator.is_valid({**given, "beside": 1})
    for wanted in schema.get("required", []):
        assert not validator.is_valid({key: given[key] for key in given if key != wanted})
    for key in schema["properties"]:
        anything = key == "value"  # an answer has its question's schema
        assert validator.is_valid({**given, key: UNFIT}) is anything, key
        if key in ("mode", "status"):
            assert not validator.is_valid({**given, key: "another"})


def test_each_format_tells_the_same_under_its_own_names() -> None:
    """Most vendors' types would take a tool without one, and the model would guess."""
    told = [(t["name"], t["description"], t["input_schema"]) for t in RUNNER.tools("anthropic")]
    chat = [tool["function"] for tool in RUNNER.tools("openai-chat")]
    assert [(t["name"], t["description"], t["parameters"]) for t in chat] == told
    responses = RUNNER.tools("openai-responses")
    assert [(t["name"], t["description"], t["parameters"]) for t in responses] == told
    mcp = RUNNER.tools("mcp")
    assert [(t["name"], t["description"], t["inputSchema"]) for t in mcp] == told
    assert all(text.strip() for _, text, _ in told)


@pytest.mark.parametrize(("name", "schema"), SCHEMAS)
def test_names_are_what_every_vendor_takes(name: str, schema: dict[str, Any]) -> None:
    """OpenAI is the strictest: letters, digits, `_` and `-`, 64 of them."""
    assert 0 < len(name) <= 64
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in name)


def test_the_schema_has_what_a_model_needs_and_no_more() -> None:
    """Titles that repeat names cost tokens in every request; a param may be called `title`."""
    tools = {tool["name"]: tool["input_schema"] for tool in RUNNER.tools("anthropic")}
    assert tools["title_background"] == {
        "type": "object",
        "additionalProperties": False,
        "required": ["title"],
        "properties": {
            "title": {"type": "object", "additionalProperties": {"type": "integer"}},
            "items": {
                "type": "array",
                "maxItems": 2,
                "minItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
        },
    }
    build = tools["build_background"]["properties"]
    assert build["target"] == {"type": "string", "description": "What to build."}
    assert "s3cret" not in str(build)


def test_another_format_is_refused_by_name() -> None:
    """A typo shouldn't send some other vendor's tools."""
    with pytest.raises(InvalidOption, match="format is 'openai'; it must be one of: openai-chat"):
        RUNNER.tools("openai")  # type: ignore[arg-type]  # that is the point


def shown_in_readme() -> dict[str, Any]:
    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shown: dict[str, Any] = {"__name__": "readme"}
    exec(compile(next(b for b in blocks if "openai_responses" in b), "README.md", "exec"), shown)
    shown["runner"].job("echo")(echo)
    return shown


async def echo(text: str) -> str:
    return text


@pytest.mark.slow  # imports the vendor's package
async def test_the_loop_for_openai_chat_that_is_shown_takes_its_messages() -> None:
    """It is what people copy; held against the vendor's types, there and back."""
    chat = pytest.importorskip("openai.types.chat", reason="needs openai")
    message = chat.ChatCompletionMessage.model_validate(
        {"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function",
             "function": {"name": "echo_background", "arguments": '{"text": "a"}'}}]}
    )  # fmt: skip
    shown = shown_in_readme()
    async with shown["runner"]:
        (answer,) = await shown["openai_chat"](message)
        await shown["runner"].drain()
    assert TypeAdapter(chat.ChatCompletionToolMessageParam).validate_python(answer) == answer
    assert (answer["tool_call_id"], answer["content"][:8]) == ("c1", "Job job_")


@pytest.mark.slow  # imports the vendor's package
async def test_the_loop_for_openai_responses_that_is_shown_takes_its_items() -> None:
    """It is what people copy; held against the vendor's types, there and back."""
    responses = pytest.importorskip("openai.types.responses", reason="needs openai")
    call = responses.ResponseFunctionToolCall(
        type="function_call", call_id="c1", name="echo_background", arguments='{"text": "a"}'
    )
    shown = shown_in_readme()
    async with shown["runner"]:
        (answer,) = await shown["openai_responses"](SimpleNamespace(output=[call]))
        await shown["runner"].drain()
    inputs = pytest.importorskip("openai.types.responses.response_input_param")
    assert TypeAdapter(inputs.FunctionCallOutput).validate_python(answer) == answer
    assert (answer["call_id"], answer["output"][:8]) == ("c1", "Job job_")


@pytest.mark.slow  # imports the vendor's package
async def test_the_loop_for_anthropic_that_is_shown_takes_its_blocks() -> None:
    """It is what people copy; held against the vendor's types, there and back."""
    anthropic = pytest.importorskip("anthropic.types", reason="needs anthropic")
    call = anthropic.ToolUseBlock.model_validate(
        {"type": "tool_use", "id": "c1", "name": "echo_background", "input": {"text": "a"},
         "caller": {"type": "direct"}}
    )  # fmt: skip
    shown = shown_in_readme()
    async with shown["runner"]:
        (answer,) = await shown["anthropic"](SimpleNamespace(content=[call]))
        await shown["runner"].drain()
    assert TypeAdapter(anthropic.ToolResultBlockParam).validate_python(answer) == answer
    assert (answer["tool_use_id"], answer["content"][:8]) == ("c1", "Job job_")
