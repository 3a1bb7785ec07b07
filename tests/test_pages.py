"""Numbers by value, ids by number, and cursors."""

import gc
from random import Random

import pytest

from jobrunner import InvalidCursor
from jobrunner.pages import BLOCK, Ids, Index, Numbers, decode_cursor, encode_cursor, newest


def down(*sets: Numbers, before: int | None = None) -> list[int]:
    return list(newest(sets, before=before))


def test_counts_blocks() -> None:
    """The length says how many blocks a walk would look at."""
    made = Numbers(3, 1, BLOCK - 1, 5 * BLOCK)
    assert (len(made), 3 in made, 4 in made, 6 * BLOCK in made) == (2, True, False, False)


EDGES = [1, 63, 64, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 7 * BLOCK + 9]


@pytest.mark.parametrize("before", [None, 0, *EDGES, 10 * BLOCK])
def test_walks_downwards(before: int | None) -> None:
    """Lists are newest first, and a page goes on below where the one before ended."""
    expected = [n for n in reversed(EDGES) if before is None or n < before]
    assert down(Numbers(*Random(1).sample(EDGES, len(EDGES))), before=before) == expected


def test_walks_over_what_all_have() -> None:
    """Filters are combined, in blocks that they share and in blocks that they don't."""
    twos, threes = Numbers(*range(0, 2_000, 2)), Numbers(*range(0, 1_500, 3))
    late = Numbers(*range(900, 3_000))
    assert down(twos, threes, late) == list(range(1_494, 899, -6))
    assert down(twos, Numbers(*range(1, 2_000, 2))) == []
    assert down(twos, Numbers()) == []


def test_a_block_goes_with_its_last_number() -> None:
    """An index costs what is kept, not what ever was."""
    made = Numbers(1, 2, BLOCK)
    made.remove(1)
    assert (len(made), down(made)) == (2, [BLOCK, 2])
    made.remove(2)
    made.remove(BLOCK)
    assert (len(made), down(made)) == (0, [])


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_a_set(seed: int) -> None:
    """Whatever is put in and taken out, in whatever order: as a set of Python would have it."""
    random, made, expected = Random(seed), Numbers(), set[int]()
    for _ in range(1_000):
        number = random.randrange(20 * BLOCK)
        if random.random() < 0.6:
            made.add(number)
            expected.add(number)
        elif expected:
            number = (min if random.random() < 0.7 else max)(expected)
            made.remove(number)
            expected.remove(number)
    before = random.randrange(20 * BLOCK)
    assert down(made) == sorted(expected, reverse=True)
    assert down(made, before=before) == sorted((n for n in expected if n < before), reverse=True)


def test_values_are_kept_apart_and_go_with_their_last_number() -> None:
    """Sessions come and go by the million; one that has nothing any more costs nothing."""
    index = Index()
    for number, value in enumerate(["a", "b", "a", "c", "a"]):
        index.add(value, number)
    assert [down(index.find(value)) for value in "abcd"] == [[4, 2, 0], [1], [3], []]
    for number, value in enumerate(["a", "b", "a", "c", "a"]):
        index.remove(value, number)
    assert (len(index), down(index.find("a"))) == (0, [])


def test_ids_are_found_by_number() -> None:
    """Over several blocks, with holes where jobs were removed."""
    ids = Ids()
    for number in range(1, 3 * BLOCK):
        ids.add(number, f"job_{number}")
    for number in (*range(1, BLOCK + 5), 2 * BLOCK):
        ids.remove(number)
    left = {number: ids[number] for number in down(ids.numbers)}
    expected = set(range(BLOCK + 5, 3 * BLOCK)) - {2 * BLOCK}
    assert left == {number: f"job_{number}" for number in expected}
    ids.add(3 * BLOCK, "new")
    assert ids[3 * BLOCK] == "new"


def test_q7_the_collector_follows_no_full_block_of_ids() -> None:
    """Walking over a million ids at each full collection would be a pause that is felt."""
    ids = Ids()
    for number in range(10 * BLOCK):
        ids.add(number, f"job_{number}")
    gc.collect()
    assert gc.get_referrers(ids[BLOCK // 2]) == []
    assert [type(found) for found in gc.get_referrers(ids[10 * BLOCK - 1])] == [list]


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
