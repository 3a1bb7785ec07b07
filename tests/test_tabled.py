"""Cases of which one test checks many: none is passed over, and each that fails is named."""

import pytest

from tests.tabled import each_of, table


def test_every_case_is_checked_and_each_that_fails_is_named() -> None:
    """Who sees the first one only repairs one at a time."""
    checked = []
    with pytest.raises(ExceptionGroup, match=r"^failed in: one; three$") as failed:
        with table() as case:
            for name in ("one", "two", "three"):
                with case(name):
                    checked.append(name)
                    assert name == "two"
    assert checked == ["one", "two", "three"]
    assert [type(each) for each in failed.value.exceptions] == [AssertionError] * 2
    assert [each.__notes__ for each in failed.value.exceptions] == [
        ["in the case one"],
        ["in the case three"],
    ]


def test_what_goes_wrong_between_the_cases_fails_at_once() -> None:
    """What they have in common isn't there then."""
    with pytest.raises(ZeroDivisionError):
        with table():
            raise ZeroDivisionError


def test_a_table_without_a_fault_passes() -> None:
    """And one that is empty, which the test itself has to rule out."""
    with table() as case, case("one"):
        pass


@each_of(["a"])
def test_a_function_that_checks_a_row_is_a_test(row: str) -> None:
    """It is collected without fixtures, and run."""
    assert row == "a"


def test_a_tuple_is_several_arguments_and_anything_else_is_one() -> None:
    """As in a parametrised test."""
    seen = []

    def check(*row: object) -> None:
        seen.append(row)

    each_of(["one", ("two", "more"), ["a list"]])(check)()
    assert seen == [("one",), ("two", "more"), (["a list"],)]


def test_a_table_of_rows_names_those_that_fail() -> None:
    """By its key, or as it is written."""

    def check(value: int) -> None:
        assert value != 7, value

    with pytest.raises(ExceptionGroup, match=r"^failed in: seven$"):
        each_of({"one": 1, "seven": 7})(check)()
    with pytest.raises(ExceptionGroup, match=r"^failed in: 7; 7$"):
        each_of([1, 7, 2, 7])(check)()


def test_a_row_that_can_t_be_written_has_a_name_all_the_same() -> None:
    """Tables have hostile objects, and numbers of five thousand digits."""

    def check(value: int) -> None:
        raise ValueError

    with pytest.raises(ExceptionGroup, match=r"^failed in: <int object at 0x[0-9a-f]*>$"):
        each_of([10**5_000])(check)()


def test_a_table_without_rows_is_refused() -> None:
    """It would pass for ever."""
    with pytest.raises(AssertionError, match="check nothing"):
        each_of([])
