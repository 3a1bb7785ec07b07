"""The error tree, and describing errors that don't want to be described."""

import re
import sys
import traceback
import weakref
from typing import Any

import pytest

from jobrunner import errors
from jobrunner.errors import (
    MAX_CHAIN,
    MAX_FRAMES,
    InvalidParams,
    JobCancelled,
    JobFailed,
    JobRunnerError,
    RetryableError,
    class_name,
    clip,
    describe,
    traceback_text,
)
from jobrunner.jobs import JobError


class Secretive(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # hostile on purpose
        raise RuntimeError("no name")


class HidesItsName(Exception, metaclass=Secretive):
    pass


class RaisesInStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class ExitsInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class OddText(str):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class OddStr(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # hostile on purpose


class RaisesInRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def own_cause() -> BaseException:
    error = ValueError("a circle")
    other = KeyError("half of it")
    error.__cause__, other.__cause__ = other, error
    return error


def nested_group(depth: int) -> Exception:
    return ExceptionGroup("g", [nested_group(depth - 1)]) if depth else ValueError("inside")


HOSTILE = [
    pytest.param(HidesItsName("text"), "HidesItsName", "text", id="name"),
    pytest.param(type("N" * 5_000, (Exception,), {})("x"), clip("N" * 5_000, 200), "x", id="long"),
    pytest.param(RaisesInStr(), "RaisesInStr", "(its message could not be read: RuntimeError)",
                 id="str"),
    pytest.param(ExitsInStr(), "ExitsInStr", "(its message could not be read: SystemExit)",
                 id="exit"),
    pytest.param(OddStr(), "OddStr", "(no usable message)", id="subclass of str"),
    pytest.param(NotText(), "NotText", "(its message could not be read: TypeError)", id="no str"),
    pytest.param(KeyError(RaisesInRepr()), "KeyError",
                 "(its message could not be read: RuntimeError)", id="repr"),
    pytest.param(ValueError("x" * 2_000_000), "ValueError", clip("x" * 2_000_000, 8_192),
                 id="2 MB"),
    pytest.param(ValueError("half \ud800 pair"), "ValueError", "half ? pair", id="surrogate"),
    pytest.param(ValueError(""), "ValueError", "", id="empty"),
    pytest.param(own_cause(), "ValueError", "a circle", id="circle"),
    pytest.param(nested_group(500), "ExceptionGroup", "g (1 sub-exception)", id="deep group"),
]  # fmt: skip


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


@pytest.mark.parametrize(("error", "kind", "detail"), HOSTILE)
def test_describing_an_error_can_not_fail(error: BaseException, kind: str, detail: str) -> None:
    """An error that breaks its own description must not break the runner (T13)."""
    assert (class_name(error), describe(error)) == (kind, detail)


@pytest.mark.parametrize(("error", "kind", "detail"), HOSTILE)
def test_a_job_keeps_a_hostile_error_as_text(error: BaseException, kind: str, detail: str) -> None:
    """What is kept can always be shown: valid UTF-8, of bounded length, with a title (T13)."""
    kept = JobError.from_exception(error, attempt=2)
    assert (kept.type, kept.detail, kept.attempt) == (kind, detail, 2)
    assert 0 < len(kept.title) <= 200 or kept.title == kind
    assert len(kept.traceback.encode()) <= 66_000


def test_a_traceback_that_can_not_be_formatted_says_so() -> None:
    """Formatting reads attributes of the error, which may do anything."""

    class Hostile(SyntaxError):
        @property
        def filename(self) -> str:  # type: ignore[override]  # hostile on purpose
            raise KeyboardInterrupt

    text = traceback_text(Hostile("x"))
    assert text == "(its traceback could not be formatted: KeyboardInterrupt)"


def test_a_traceback_names_the_line_that_raised() -> None:
    """Without the line the kept error would be of little use."""
    try:
        raise ValueError("look here")
    except ValueError as error:
        text = traceback_text(error)
    assert text.startswith("Traceback (most recent call last):\n")
    assert 'raise ValueError("look here")' in text
    assert text.endswith("ValueError: look here\n")


def test_a_deep_recursion_leaves_its_last_frames() -> None:
    """A thousand equal frames would fill what is kept, and the end says most."""

    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        if depth % 2:
            fall(depth - 1)
        fall(depth - 1)  # from another line, since equal ones are shown once anyway

    try:
        fall(100)
    except ValueError as error:
        text = traceback_text(error)
    assert text.count(", in fall\n") == MAX_FRAMES
    assert 'raise ValueError("bottom")' in text


def test_text_of_an_error_pins_nothing_of_its_frames() -> None:
    """Twenty failures once held 20 MB of locals (T12)."""

    class Big:
        pass

    def fail() -> "weakref.ref[Big]":
        big = Big()
        alive = weakref.ref(big)
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904  # the context is what is tested
        except ValueError as error:
            kept.append(JobError.from_exception(error, attempt=1))
        return alive

    kept: list[JobError] = []
    assert fail()() is None
    assert sys.getrefcount(kept[0]) < 5


@pytest.mark.parametrize(("text", "limit", "expected"), [
    ("short", 5, "short"),
    ("abcdefghij", 4, "ab\n... 6 characters left out ...\nij"),
    ("\ud800", 10, "?"),
    ("äöü", 3, "äöü"),
])  # fmt: skip
def test_clip_cuts_the_middle_out(text: str, limit: int, expected: str) -> None:
    """The start says what it is and the end how it came out."""
    assert clip(text, limit) == expected


def chain(length: int) -> BaseException:
    error: BaseException = ValueError("link 0")
    for number in range(1, length):
        link = ValueError(f"link {number}")
        link.__context__ = error
        error = link
    return error


def test_a_long_chain_leaves_its_last_links() -> None:
    """A retry loop that keeps its errors makes chains of thousands (T12)."""
    text = traceback_text(chain(20_000))
    assert re.findall(r"link \d+", text) == [f"link {n}" for n in range(19_980, 20_000)]
    assert text.count("During handling of the above exception") == MAX_CHAIN - 1


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
