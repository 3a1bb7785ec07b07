"""The page on which a person answers: a field or buttons for each kind, and how they are read."""

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field, SecretStr, TypeAdapter

from jobrunner.web.answer_page import notice, question_page, read_form, value_of
from jobrunner.web.problems import Problem

EVIL = "<script>alert('\"&</textarea>"


class Rollout(BaseModel):
    servers: int = Field(3, ge=1)
    region: str | None = None


class Approval(BaseModel):
    """What is said to a release."""

    approved: bool
    comment: str = ""
    tags: list[str] = []
    more: dict[str, int] | None = None


class Colour(Enum):
    """An enum of one's own."""

    RED = "red"
    BLUE = "blue"


def page_for(kind: Any, **options: Any) -> str:
    return question_page("Go?", TypeAdapter(kind).json_schema(), None, **options)


def button(text: str, value: str, kind: str = "") -> str:
    return f'<button name="json" value="{value}" formnovalidate{kind}>{text}</button>'


NO_ANSWER = button("No answer", "null", ' class="quiet"')
KINDS: dict[str, tuple[Any, list[str]]] = {
    "a truth value": (bool, [button("Yes", "true"), button("No", "false")]),
    "texts to choose from": (
        Literal["now", "later"],
        [button("now", "&quot;now&quot;"), button("later", "&quot;later&quot;")],
    ),
    "numbers to choose from": (Literal[1, 2], [button("1", "1"), button("2", "2")]),
    "one choice": (Literal["ok"], [button("ok", "&quot;ok&quot;")]),
    "an empty choice": (Literal["", "x"], [button("&nbsp;", "&quot;&quot;")]),
    "an enum": (Colour, [button("red", "&quot;red&quot;")]),
    "an enum or nothing": (Colour | None, [button("red", "&quot;red&quot;"), NO_ANSWER]),
    "a text": (str, ['<textarea name="text"', "<button>Send the answer</button>"]),
    "a text or nothing": (str | None, ['<textarea name="text"', NO_ANSWER]),
    "a secret": (SecretStr, ['<input name="text" type="password"']),
    "a date": (datetime, ['<input name="text" type="datetime-local"']),
    "an integer": (int, ['<input name="number" type="number" step="1"']),
    "a number": (float, ['<input name="number" type="number" step="any"']),
    "a model": (
        Approval,
        ['name="json" class="code"', "&quot;approved&quot;: false", "&quot;more&quot;: null"],
    ),
    "a model with defaults": (Rollout, ["&quot;servers&quot;: 3,", "&quot;region&quot;: null"]),
    "a model or nothing": (Approval | None, ["&quot;approved&quot;: false", NO_ANSWER]),
    "a list": (list[int], ['name="json"', ">\n[]</textarea>"]),
    "two kinds": (int | str, ['name="json"', ">\nnull</textarea>"]),
    "two kinds or nothing": (int | str | None, ['name="json"', NO_ANSWER]),
    "anything": (Any, ['name="json"', "JSON, of this schema"]),
}


@pytest.mark.parametrize(("kind", "parts"), KINDS.values(), ids=KINDS)
def test_each_kind_of_answer_has_what_a_thumb_can_give(kind: Any, parts: list[str]) -> None:
    """Buttons for what can be chosen, a field for the rest, JSON for what has parts."""
    page = page_for(kind)
    assert [part for part in parts if part not in page] == []


def test_many_choices_are_a_list() -> None:
    """A screen full of buttons is no choice."""
    page = page_for(Literal[tuple(range(30))])
    assert '<select name="json"' in page
    assert '<option value="29">29</option>' in page


def test_whatever_is_asked_is_text() -> None:
    """Prompts, choices, schemas and what was typed come from models, params and strangers."""
    choices = page_for(Literal[EVIL, "b"])
    described = page_for(Annotated[list[int], Field(description=EVIL)])
    typed = question_page(EVIL, {"type": "string"}, None, fault=EVIL, given=EVIL)
    for page in (choices, described, typed, notice(EVIL, EVIL)):
        assert "<script" not in page and "'\"&<" not in page


def test_a_schema_that_nobody_has_made_here_is_a_field() -> None:
    """A reference that leads nowhere, a kind of its own: JSON takes everything."""
    schemas: list[dict[str, Any]] = [
        {"$ref": "#/$defs/Gone"}, {"$ref": 1}, {"anyOf": 1}, {"enum": []}, {"type": []},
    ]  # fmt: skip
    for schema in schemas:
        assert 'name="json" class="code"' in question_page("Go?", schema, None)


def test_what_was_typed_is_there_again_with_what_is_wrong_with_it() -> None:
    """Nobody types it twice on a phone; a password is typed again."""
    page = page_for(str, fault="too short", given="abc")
    assert ">\nabc</textarea>" in page and 'role="alert" id="fault">too short<' in page
    assert 'value="1.5"' in page_for(float, fault="no", given="1.5")
    assert ">\n[1</textarea>" in page_for(list[int], fault="no JSON", given="[1")
    assert "hunter2" not in page_for(SecretStr, fault="no", given="hunter2")


def test_a_time_that_was_refused_can_be_typed_with_its_zone() -> None:
    """A browser's own field for it has no zone, and the schema doesn't say that one is needed."""
    first, again = page_for(AwareDatetime), page_for(AwareDatetime, fault="no", given="2026-11-22T")
    assert 'type="datetime-local"' in first and "zone" not in first
    assert '<input name="text" value="2026-11-22T"' in again and "10:00:00Z" in again
    assert "datetime-local" not in again


def test_it_says_until_when() -> None:
    """In words that need no script."""
    ends = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
    assert "until 2026-11-22 03:04 UTC" in question_page("Go?", {}, ends)
    assert "until" not in question_page("Go?", {"type": "boolean"}, None)


FORMS: list[tuple[bytes, Any]] = [
    (b"json=true", True),
    (b"json=%22now%22", "now"),
    (b"json=%7B%22a%22%3A+%5B1%5D%7D", {"a": [1]}),
    (b"text=", ""),
    (b"text=a+b%26c%3Dd%0D%0Ae", "a b&c=d\ne"),
    (b"text=%C3%A4%F0%9F%91%8D", "ä👍"),
    (b"text=true", "true"),
    (b"text=typed&json=null", None),
    (b"number=&json=null", None),
    (b"json=1&other=2", 1),
    (b"number=7", 7),
    (b"number=-007", -7),
    (b"number=%2B.5", 0.5),
    (b"number=-.5", -0.5),
    (b"number=1.", 1),
    (b"number=0", 0),
    (b"number=+1e3+", 1000.0),
]


@pytest.mark.parametrize(("raw", "value"), FORMS)
def test_a_form_is_read_as_its_field_says(raw: bytes, value: Any) -> None:
    """A text that looks like JSON stays a text; a button counts more than a field before it."""
    assert value_of(*read_form(raw)) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid-form"),
        (b"other=1", "invalid-form"),
        (b"text=%FF", "invalid-form"),
        (b"\xff=1", "invalid-form"),
        (b"&".join([b"json=1"] * 11), "invalid-form"),
        (b"json=", "invalid-json"),
        (b"json=%7B", "invalid-json"),
        (b"number=seven", "invalid-json"),
        (b"number=1%2C5", "invalid-json"),
        (b"json=NaN", "invalid-json"),
    ],
)
def test_a_form_that_says_nothing_is_refused(raw: bytes, code: str) -> None:
    """With what would have been an answer."""
    with pytest.raises(Problem) as refused:
        value_of(*read_form(raw))
    assert (refused.value.status_code, refused.value.code) == (400, code)
