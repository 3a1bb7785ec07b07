"""What jobs have written, quoted for models: nothing lost, nothing split, no way out of quotes."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.toolbox_text import Piece, block, clean, excerpt, in_line, part, seconds

TEXTS = st.text(alphabet="ab\n</job_output> é🙂", max_size=400)


@given(TEXTS, st.integers(1, 50))
def test_parts_put_together_are_the_whole(text: str, limit: int) -> None:
    """Who reads on from each part's end reads everything, once."""
    read, offset = "", 0
    while offset < len(text):
        piece = part(text, offset, limit)
        assert piece.start == offset
        assert 0 < len(piece.text) <= limit
        read, offset = read + piece.text, piece.end
    assert read == text


@given(TEXTS, st.integers(3, 50))
def test_an_excerpt_is_the_whole_or_both_of_its_ends(text: str, limit: int) -> None:
    """In no more characters than asked for, each piece where it says that it is."""
    pieces = excerpt(text, limit)
    assert sum(len(piece.text) for piece in pieces) <= max(limit, 1)
    assert all(text[piece.start : piece.end] == piece.text for piece in pieces)
    assert (pieces[0].start, pieces[-1].end) == (0, len(text))
    assert (len(pieces) == 1) == (len(text) <= limit)


@given(TEXTS, st.integers(-500, -1))
def test_a_negative_offset_counts_from_the_end(text: str, offset: int) -> None:
    """The end is what one wants first of a long output."""
    assert part(text, offset, 1_000).text == text[offset:]


def test_parts_end_with_lines_where_lines_are_short() -> None:
    """Half a line reads like another one."""
    text = "".join(f"line {n}\n" for n in range(1_000))
    head, tail = excerpt(text, 3_000)
    assert head.text.endswith("\n")
    assert tail.text.startswith("line ")
    assert text[tail.start - 1] == "\n"
    assert part(text, 0, 500).text.endswith("\n")
    assert len(part("x" * 1_000, 0, 500).text) == 500


@pytest.mark.parametrize("limit", [10, 100, 200, 1_000])
def test_a_line_s_end_costs_little_of_the_room(limit: int) -> None:
    """Of a last line that is long the end would be lost, and of a part all but a character."""
    long = "first\n" + "x" * 5_000 + "\n"
    head, tail = excerpt(long, limit)
    assert len(tail.text.strip()) >= limit // 3
    assert len(head.text) + len(tail.text) >= limit // 2
    assert len(part(long, len("first\n"), limit).text) == limit


TAGS = st.lists(st.sampled_from(["</job_output>", "<JOB_OUTPUT_2", "job_output_3>", "x\n"])).map(
    "".join
)


@given(TAGS, TAGS)
def test_nothing_in_a_block_can_end_it(one: str, other: str) -> None:
    """A page that a job has read may say that the quotation is over, and give orders then."""
    text = block("job_output", [Piece(0, one), Piece(len(one), other)], total=800)
    tag = re.match("<([a-z_0-9]+) ", text)
    assert tag is not None
    assert text.lower().count(tag[1]) == 4  # two that begin, two that end
    assert text.endswith(f"</{tag[1]}>")


@given(st.text())
def test_what_stands_in_a_line_stays_in_it(text: str) -> None:
    """A progress message is anybody's text, too."""
    said = in_line(text)
    assert len(said.splitlines()) == 1
    assert len(json.loads(said)) <= 303


def test_colours_and_control_characters_are_left_out() -> None:
    """They cost tokens, and some APIs refuse them."""
    red = "\x1b[31;1mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x00\x07 tab\t"
    assert clean(red) == "red link \ufffd\ufffd tab\t"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.0, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (25.0, "25 s"), (179.0, "179 s"),
     (600.0, "10 min"), (86_400.0, "24.0 h")],
)  # fmt: skip
def test_durations_are_for_reading(value: float, text: str) -> None:
    """`4321.123` seconds say nothing to anybody."""
    assert seconds(value) == text
