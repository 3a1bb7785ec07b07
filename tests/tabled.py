"""Tables of cases of which one test checks many, and tells of each that fails."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Case = Callable[[str], AbstractContextManager[None]]
"""Wraps what is checked of one case, which it is given the name of."""


@contextmanager
def table() -> Iterator[Case]:
    """Let each case be checked, whichever has failed before, and raise what all have failed of.

    For cases by the hundred which take less time than a test of their own costs by itself.

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
