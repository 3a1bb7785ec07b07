"""The error tree, and describing errors that don't want to be described."""

import re
import traceback
from typing import Any

import pytest

from jobrunner import errors
from jobrunner.errors import InvalidParams, JobCancelled, JobFailed, JobRunnerError, RetryableError
from jobrunner.wording import clip, traceback_text


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Read name, parent and code of each class from the drawing in the module's docstring."""
    tree: dict[str, tuple[str, str | None]] = {}
    above = {-1: "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+)(?: +([a-z-]+))?(?: .*)?", line)
        if match:
            depth = len(match[1]) // 4
            above[depth] = match[2]
            tree[match[2]] = (above[depth - 1], match[3])
    return tree


def test_tree_is_as_drawn() -> None:
    """The drawing at the top is what people program against."""
    kinds = [
        v for v in vars(errors).values() if isinstance(v, type) and v.__module__ == errors.__name__
    ]
    own = [kind for kind in kinds if issubclass(kind, JobRunnerError)]
    drawn = drawn_tree()
    parents = {kind.__name__: kind.__bases__[0].__name__ for kind in own}
    assert parents == {name: parent for name, (parent, _) in drawn.items()}
    codes = {kind.__name__: kind.code for kind in own}
    leaves = {name: code for name, (_, code) in drawn.items() if name not in parents.values()}
    assert {name: codes[name] for name in leaves} == leaves


def test_each_code_names_one_error() -> None:
    """A client finds the class to raise by its code."""
    codes = [v.code for v in vars(errors).values()
             if isinstance(v, type) and issubclass(v, JobRunnerError)]  # fmt: skip
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize(("name", "base"), [
    ("InvalidOption", ValueError), ("InvalidHandler", TypeError), ("InvalidParams", ValueError),
    ("InvalidCursor", ValueError), ("PayloadTooLarge", ValueError), ("InvalidResult", TypeError),
    ("UnknownJobType", LookupError), ("JobNotFound", LookupError), ("JobGone", LookupError),
    ("WrongLoop", RuntimeError), ("RunnerNotStarted", RuntimeError),
    ("RunnerStopped", RuntimeError), ("IllegalTransition", RuntimeError),
])  # fmt: skip
def test_is_caught_as_the_builtin_error_that_it_is(name: str, base: type[Exception]) -> None:
    """Code that knows nothing of jobrunner catches what it would expect."""
    assert issubclass(getattr(errors, name), base)


def test_invalid_params_keep_each_problem() -> None:
    """A client shows every mistake beside its field."""
    problems: list[errors.ParamProblem] = [{"detail": "is missing", "pointer": "#/path"}]
    error = InvalidParams("no", problems)
    assert (str(error), error.errors, InvalidParams("no").errors) == ("no", problems, [])


@pytest.mark.parametrize("kind", [JobFailed, JobCancelled])
def test_an_unsuccessful_job_says_which_and_why(kind: Any) -> None:
    """Who waits for many jobs has to know which one it was."""
    error = kind("ended", job_id="job_1", reason="timeout")
    assert (str(error), error.job_id, error.reason) == ("ended", "job_1", "timeout")


def test_a_retryable_error_carries_its_delay() -> None:
    """A rate limit is obeyed when its delay reaches the policy."""
    told, untold = RetryableError("later", retry_after=7.5), RetryableError()
    assert (str(told), told.retry_after, str(untold), untold.retry_after) == (
        "later",
        7.5,
        "",
        None,
    )


def test_a_traceback_names_the_line_that_raised() -> None:
    """Without the line the kept error would be of little use."""
    try:
        raise ValueError("look here")
    except ValueError as error:
        text = traceback_text(error)
    assert text.startswith("Traceback (most recent call last):\n")
    assert 'raise ValueError("look here")' in text
    assert text.endswith("ValueError: look here\n")


@pytest.mark.parametrize(("text", "limit", "expected"), [
    ("short", 5, "short"),
    ("abcdefghij", 4, "ab\n... 6 characters left out ...\nij"),
    ("\ud800", 10, "?"),
    ("äöü", 3, "äöü"),
])  # fmt: skip
def test_clip_cuts_the_middle_out(text: str, limit: int, expected: str) -> None:
    """The start says what it is and the end how it came out."""
    assert clip(text, limit) == expected


def test_a_chain_is_told_as_python_tells_it() -> None:
    """What people have learned to read, the first cause first."""
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError as first:
                raise ValueError("second") from first
        except ValueError:
            raise RuntimeError("third")  # noqa: B904  # the context is what is tested
    except RuntimeError as error:
        assert traceback_text(error) == "".join(traceback.format_exception(error))


def test_a_context_that_is_suppressed_is_left_out() -> None:
    """`raise ... from None` says that what was before doesn't matter."""
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None
    except ValueError as error:
        assert traceback_text(error) == "".join(traceback.format_exception(error))
