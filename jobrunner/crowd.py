"""Give memory back to the system that a crowd of watchers has left.

What is freed goes to lists of spare objects first, which CPython empties in a full collection only,
and to the C library, which keeps what lies beneath something that is still there. Of the 250 MB of
10,000 WebSockets they held 240, for as long as nothing was done about it.
"""

import ctypes
import gc

MANY = 2_000
"""How many connections and tasks have to end, two for each watcher, so that it is worth some
milliseconds, and that the next full collection comes earlier."""

FROZEN = 1_000
"""With more than that the program has frozen its own, and wants them to stay so; 3.12 has some
hundred frozen by itself."""


class Crowd:
    """How many there were at most, and whether many of them have left.

    Whoever owns it says now and then how many there are.
    """

    def __init__(self) -> None:
        self._most = 0
        self._leaving = False

    def count(self, there: int) -> None:
        """Note how many there are; give their memory back if many have left, or leave still."""
        self._leaving = self._most - there >= (MANY // 10 if self._leaving else MANY)
        if self._leaving:
            give_back()
        self._most = there if self._leaving else max(self._most, there)


def give_back() -> None:
    """Empty the lists of spare objects and the C library's heap, as far as they can be."""
    if gc.get_freeze_count() < FROZEN:
        gc.freeze()
        try:
            gc.collect()  # empties the lists, and has nothing to look at
        finally:
            gc.unfreeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # pragma: no branch  # glibc has it, musl and macOS don't
        trim(0)
