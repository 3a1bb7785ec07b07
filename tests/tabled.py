"""Tables of cases of which one test checks many, and tells of each that fails.

For cases by the hundred, which take less time than a test of their own costs by itself.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Case = Callable[[str], AbstractContextManager[None]]
"""Wraps what is checked of one case, which it is given the name of."""


@contextmanager
def table() -> Iterator[Case]:
    """Let each case be checked, whichever has failed before, and raise what all have failed of.

    Raises:
        ExceptionGroup: Names the cases that have failed; each is in it, with its traceback.
    """
    names: list[str] = []
    failed: list[Exception] = []

    @contextmanager
    def case(name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the others are looked at too
            error.add_note(f"in the case {name}")
            names.append(name)
            failed.append(error)

    yield case
    if failed:
        raise ExceptionGroup(f"failed in: {'; '.join(names)}", failed)


def each_of(rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make one test of all rows of a function that checks one; it has no fixtures.

    A tuple is a row of that many arguments. The rows of a mapping have names, its keys.
    """
    if isinstance(rows, Mapping):
        named = list(rows.items())
    else:
        named = [(_written(row), row) for row in rows]
    assert named, "a table without rows would check nothing"

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        @functools.wraps(check)
        def test() -> None:
            with table() as case:
                for name, row in named:
                    with case(name):
                        check(*row) if isinstance(row, tuple) else check(row)

        test.__signature__ = inspect.Signature()  # type: ignore[attr-defined]  # PEP 362
        return test

    return decorate


def _written(row: Any) -> str:
    try:
        return repr(row)[:200]
    except Exception:  # what is hostile is a row of many a table
        return object.__repr__(row)
