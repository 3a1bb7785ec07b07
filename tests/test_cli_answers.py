"""`answer` in scripts: what a word on the command line is, by the question's schema."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.terminal import HARMLESS, HOSTILE, Terminal, terminal


@pytest.fixture(scope="module")
def served() -> Iterator[Terminal]:
    """One server for the file: each test has jobs of its own."""
    with terminal() as served:
        yield served


@pytest.mark.parametrize(
    ("schema", "words", "answer"),
    [
        ("bool", ["yes"], True),
        ("bool", ["N"], False),
        ("bool", ["true"], True),
        ("choice", ["eu"], "eu"),
        ("choice", ["3"], 3),
        ("int", ["42"], 42),
        ("text", ["42"], "42"),
        ("text", ["größer"], "größer"),
        ("text", [""], ""),
        ("maybe text", ["null"], "null"),
        ("list", ["[1, 2]"], [1, 2]),
        ("maybe", ["null"], None),
        ("maybe", ["1.5"], 1.5),
        ("approval", ['{"approved": true}'], {"approved": True, "where": "staging"}),
        (
            "approval",
            ["approved=yes", "where=production"],
            {"approved": True, "where": "production"},
        ),
        ("approval", ["approved=no", "tags=a", "tags=b"], {"approved": False, "tags": ["a", "b"]}),
    ],
)
def test_a_word_is_what_the_schema_wants(
    served: Terminal, schema: str, words: list[str], answer: Any
) -> None:
    """Nobody quotes a JSON string for a shell."""
    job_id = served.asking(schema)
    done = served("answer", job_id, *words)
    assert (done.code, done.out) == (0, f"{job_id} has its answer to q1\n"), done.err
    (given,) = served.result(job_id)
    assert given == answer or (isinstance(given, dict) and answer.items() <= given.items())


@pytest.mark.parametrize(
    ("schema", "words", "says"),
    [
        ("bool", ["maybe"], "valid boolean"),
        ("choice", ["mars"], "'eu', 'us' or 3"),
        ("text", ["two", "words"], "2 values are given, and one is asked for"),
        ("approval", ["approved=yes", "yes"], "2 values are given"),
        ("approval", ["approved=perhaps"], "approved"),
        ("approval", ["where=mars"], "approved"),
    ],
)
def test_what_does_not_fit_leaves_the_question_open(
    served: Terminal, schema: str, words: list[str], says: str
) -> None:
    """2 and a line that says what is wanted; the next try may be right."""
    job_id = served.asking(schema)
    done = served("answer", job_id, *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert served("show", job_id, "--json").json["status"] == "input_required"
    served("cancel", job_id)


def test_without_a_value_and_a_terminal_it_says_what_is_wanted(served: Terminal) -> None:
    """A script that forgets it would wait for ever at a prompt that nobody sees."""
    job_id = served.asking("approval")
    done = served("answer", job_id)
    assert done.code == 2
    wanted = (
        'VALUE: {approved: boolean, where: "staging" | "production" = "staging", tags: [string]'
    )
    assert wanted in done.err
    served("cancel", job_id)


def test_several_open_questions_are_named(served: Terminal) -> None:
    """And answered by their ids; the job goes on when the last is."""
    job_id = served.submit("ask_both")
    served.portal.call(served.asked, job_id, 2)
    unclear = served("answer", job_id, "yes")
    assert (unclear.code, "q1: One?, q2: Two?" in unclear.err) == (2, True)
    assert served("answer", job_id, "yes", "-q", "q3").code == 4
    assert served("answer", job_id, "no", "--question", "q2").code == 0
    shown = served("show", job_id).out
    assert f"boolean; answer it: jobrunner answer {job_id}\n" in shown
    assert served("answer", job_id, "yes", "--json").json["job_id"] == job_id
    assert served.result(job_id) == [True, False]


def test_who_comes_second_is_told(served: Terminal) -> None:
    """The first answer counts: the second is refused, and not lost in silence."""
    job_id = served.asking("bool")
    assert served("answer", job_id, "yes").code == 0
    served.result(job_id)
    late = served("answer", job_id, "no")
    assert (late.code, "asks nothing" in late.err) == (5, True)


def test_a_hostile_question_is_asked_harmlessly(served: Terminal) -> None:
    """The prompt may quote a web page."""
    job_id = served.asking("bool", prompt=HOSTILE)
    for done in (served("show", job_id), served("answer", job_id), served("list", "-n", "1")):
        said = done.out + done.err
        assert HARMLESS in said and "\x1b" not in said and "\x07" not in said
    events = served("watch", job_id, "--json") if served("cancel", job_id).code == 0 else None
    assert events is not None and json.loads(events.out.splitlines()[2])["prompt"] == HOSTILE
