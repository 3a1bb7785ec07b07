"""What a docstring says of a function and of its parameters."""

import functools
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from jobrunner import JobRunner
from jobrunner.docstrings import docstring, lead, param_texts

DOC = """Build a target.

It takes a while.

Args:
    target: What to build, and
        how: as it was.
    mode (str, optional): Fast or small.

    first, last: A number.
    **more: The rest.
    not one of them

Returns:
    result: A file.
"""


def test_params_are_read_from_their_section() -> None:
    """Over several lines, with a type, two at once; and nothing of other sections."""
    assert param_texts(DOC) == {
        "target": "What to build, and how: as it was.",
        "mode": "Fast or small.",
        "first": "A number.",
        "last": "A number.",
        "more": "The rest.",
    }


def test_what_comes_before_the_sections_is_what_the_function_does() -> None:
    """All of it, not its first paragraph alone: a model has nothing else to go by."""
    assert lead(DOC) == "Build a target.\n\nIt takes a while."
    assert lead("No sections.\n\nNote: this is none.") == "No sections.\n\nNote: this is none."


@pytest.mark.parametrize("text", ["", "Args:", "Args:\n    : x", "Args:\nx: y", "Args:\n    x:"])
def test_nothing_is_read_where_nothing_is_said(text: str) -> None:
    """A wrong text would be worse than none."""
    assert param_texts(text) == {}


@given(st.text(alphabet="Args: \n\tx*,()é:"))
def test_no_docstring_is_too_strange(text: str) -> None:
    """It is prose, and a job type must not fail for it."""
    assert all(name and said for name, said in param_texts(text).items())
    assert lead(text) == lead(text).strip()


def test_the_docstring_is_that_of_the_function_behind_a_partial() -> None:
    """A partial's own tells what a partial is."""

    def build(target: str) -> None:
        """Build it."""

    assert docstring(functools.partial(build, "x")) == "Build it."
    assert docstring(len) == str(len.__doc__)


class Options(BaseModel):
    fast: bool = False


def test_the_schema_of_params_has_what_the_docstring_says() -> None:
    """Everywhere that it is shown; what the annotation says comes first."""
    runner = JobRunner()

    @runner.job
    async def build(
        target: str, options: Options, mode: Annotated[str, Field(description="Own.")] = ""
    ) -> None:
        """Build it.

        Args:
            target: What to build.
            options: How to.
            mode: Not this.
            nothing: No such param.
        """

    properties = runner.job_types[0].params_schema()["properties"]
    assert {name: node["description"] for name, node in properties.items()} == {
        "target": "What to build.",
        "options": "How to.",
        "mode": "Own.",
    }
