"""Counters of blocks, and cursors."""

import pytest

from jobrunner import InvalidCursor
from jobrunner.pages import BlockCounts, decode_cursor, encode_cursor


def counts(*blocks: int) -> BlockCounts:
    made = BlockCounts()
    for block in blocks:
        made.add(block)
    return made


def test_counts_each_block_once() -> None:
    """The length says how many blocks a walk would look at."""
    made = counts(3, 1, 3, 2, 3)
    assert (len(made), 3 in made, 4 in made) == (3, True, False)


@pytest.mark.parametrize(("top", "expected"), [
    (None, [7, 5, 2]), (7, [7, 5, 2]), (9, [7, 5, 2]), (6, [5, 2]), (5, [5, 2]), (1, []),
])  # fmt: skip
def test_walks_downwards(top: int | None, expected: list[int]) -> None:
    """Lists are newest first, and a page goes on where the one before ended."""
    assert list(counts(5, 2, 7, 5).descending(top)) == expected


def test_a_block_goes_with_its_last_job() -> None:
    """An index costs what is kept, not what ever was."""
    made = counts(1, 1, 1, 2)
    made.remove(1)
    made.remove(1)
    assert list(made.descending(None)) == [2, 1]
    made.remove(1)
    made.remove(2)
    assert (len(made), list(made.descending(None))) == (0, [])


@pytest.mark.parametrize("number", [0, 1, 63, 64, 10**6, 10**18 - 1])
def test_a_cursor_comes_back_as_its_number(number: int) -> None:
    """A cursor holds a position and nothing else, and is safe in a URL."""
    cursor = encode_cursor(number)
    assert decode_cursor(cursor) == number
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_no_cursor_is_the_beginning() -> None:
    """The first page has none."""
    assert decode_cursor(None) is None


@pytest.mark.parametrize("cursor", [
    "", "x", "!!", "MTI*", "LTE", "MS41", "ä", "\ud800", "=", "MT I",
    encode_cursor(10**18), "A" * 100_000,
])  # fmt: skip
def test_refuses_a_foreign_cursor(cursor: str) -> None:
    """A cursor comes from anywhere, and is told apart from an empty page."""
    with pytest.raises(InvalidCursor, match="is none of ours") as refused:
        decode_cursor(cursor)
    assert len(str(refused.value)) < 300
