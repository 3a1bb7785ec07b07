"""Cases of which one test checks many: none is passed over, and each that fails is named."""

import pytest

from tests.tabled import table


def test_every_case_is_checked_and_each_that_fails_is_named() -> None:
    """Who sees the first one only repairs one at a time."""
    checked = []
    with pytest.raises(ExceptionGroup, match="failed in: one; three") as failed:
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
