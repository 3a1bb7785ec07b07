"""What exceptions say, as bounded text: kept as they are they would pin what their frames hold."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

MAX_DETAIL = 8_192
MAX_TRACEBACK = 65_536
MAX_CHAIN = 20
MAX_FRAMES = 50


def describe(error: BaseException) -> str:
    """Return what an exception says, cut to 8 kB; a hostile `__str__` can't fail it (T13)."""
    try:
        text = str(error)
        return clip(text, MAX_DETAIL) if type(text) is str else "(no usable message)"
    except BaseException as broken:
        return f"(its message could not be read: {class_name(broken)})"


def class_name(error: BaseException) -> str:
    """Return the name of an exception's class, which a hostile metaclass can't hide (T13)."""
    return clip(type.__dict__["__name__"].__get__(type(error)), 200)


def traceback_text(error: BaseException) -> str:
    """Return the traceback as text, head and tail of 64 kB; text pins no frame (T12).

    The last frames of the last 20 exceptions that led to each other, the first of them first.
    """
    try:
        with _cut(error):
            return clip(
                "".join(traceback.format_exception(error, limit=-MAX_FRAMES)), MAX_TRACEBACK
            )
    except BaseException as broken:
        return f"(its traceback could not be formatted: {class_name(broken)})"


@contextmanager
def _cut(error: BaseException) -> Iterator[None]:
    """Hide what led to the 20th exception of a chain: formatting costs its length each time."""
    for _ in range(MAX_CHAIN - 1):
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is None:
            break
        error = before
    cause, context, suppressed = error.__cause__, error.__context__, error.__suppress_context__
    error.__cause__ = error.__context__ = None
    try:
        yield
    finally:
        error.__cause__, error.__context__ = cause, context
        error.__suppress_context__ = suppressed


def clip(text: str, limit: int) -> str:
    """Return `text` as what UTF-8 can hold, its middle cut out where it is over `limit`."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n... {len(text) - limit} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode("utf-8")
