"""Imports that leave uvicorn as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


@contextmanager
def uvicorn_spared() -> Iterator[None]:
    """Undo what an import of `sse_starlette` in the block does to `uvicorn.Server`.

    It replaces the handler of signals, for all servers of the process and for good: after the first
    SIGTERM that any of them hears, every stream of the package ends at once. Here the runner's end
    ends the streams. Whoever has imported it before keeps what they have.
    """
    handle_exit = uvicorn.Server.handle_exit
    yield
    uvicorn.Server.handle_exit = handle_exit  # type: ignore[method-assign]  # as it was
