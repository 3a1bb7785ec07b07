"""How to page through many jobs: counters of blocks, and cursors that outlive their jobs."""

import base64
import binascii
from bisect import bisect_left, insort
from collections.abc import Iterator

from .errors import InvalidCursor


class BlockCounts:
    """How many jobs of each block have a value."""

    __slots__ = ("_blocks", "_counts")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._blocks: list[int] = []  # ascending

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, block: int) -> bool:
        return block in self._counts

    def add(self, block: int) -> None:
        count = self._counts.get(block, 0)
        self._counts[block] = count + 1
        if count == 0:
            insort(self._blocks, block)

    def remove(self, block: int) -> None:
        count = self._counts[block]
        if count > 1:
            self._counts[block] = count - 1
        else:
            del self._counts[block]
            del self._blocks[bisect_left(self._blocks, block)]

    def descending(self, top: int | None) -> Iterator[int]:
        """Yield the blocks from `top` downwards, or from the highest."""
        place = len(self._blocks) if top is None else bisect_left(self._blocks, top + 1)
        for i in range(place - 1, -1, -1):
            yield self._blocks[i]


def encode_cursor(number: int) -> str:
    """A cursor is the number of the last job on the page: it outlives the job."""
    return base64.urlsafe_b64encode(b"%d" % number).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True)
        if not (text.isdigit() and len(text) <= 18):
            raise ValueError(text)
        return int(text)
    except (ValueError, binascii.Error):
        raise InvalidCursor(
            f"the cursor {cursor[:100]!r} is none of ours; use next_cursor of the page before"
        ) from None
