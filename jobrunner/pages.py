"""How to page through many jobs: numbers by value as masks, ids by number, and cursors.

Numbers are grouped in blocks of 256, and of each block an index keeps one integer with a bit for
every number that it has. What several filters have in common is the `&` of their masks, so no job
is looked at that isn't returned. Two values that share no job cost a millisecond for each two
million jobs kept, to find that out. Wider blocks were faster there, and larger for rare values.
"""

import base64
import binascii
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

from .errors import InvalidCursor

BLOCK = 256


class Numbers:
    """A set of numbers that is added to near its end and taken from near its beginning.

    Both are O(1) there, and elsewhere cost a shift of the blocks behind, in one piece.
    """

    __slots__ = ("_blocks", "_gone", "_masks")

    def __init__(self, *numbers: int) -> None:
        self._masks: dict[int, int] = {}
        self._blocks: list[int] = []  # ascending
        self._gone = 0  # how many at the front of the list are no longer there
        for number in numbers:
            self.add(number)

    def __len__(self) -> int:
        """Return how many blocks there are."""
        return len(self._masks)

    def __contains__(self, number: int) -> bool:
        return self.mask(number // BLOCK) >> number % BLOCK & 1 == 1

    def mask(self, block: int) -> int:
        """Return which numbers of the block are in."""
        return self._masks.get(block, 0)

    def add(self, number: int) -> None:
        """Put the number in; one that is in is no error."""
        block = number // BLOCK
        mask = self._masks.get(block)
        if mask is None:
            self._masks[block] = 1 << number % BLOCK
            if not self._blocks or block > self._blocks[-1]:
                self._blocks.append(block)
            else:
                insort(self._blocks, block, lo=self._gone)
        else:
            self._masks[block] = mask | 1 << number % BLOCK

    def add_all(self, numbers: Iterable[int]) -> None:
        """Put several in; costs less than one by one when they lie together."""
        masks: dict[int, int] = {}
        for number in numbers:
            masks[number // BLOCK] = masks.get(number // BLOCK, 0) | 1 << number % BLOCK
        for block, mask in masks.items():
            if block in self._masks:
                self._masks[block] |= mask
            else:
                self.add(block * BLOCK + mask.bit_length() - 1)
                self._masks[block] = mask

    def remove(self, number: int) -> bool:
        """Take the number out, which must be in; return whether there is another one."""
        block = number // BLOCK
        mask = self._masks[block] ^ 1 << number % BLOCK
        if mask:
            self._masks[block] = mask
            return True
        del self._masks[block]
        self._drop(block)
        return len(self._masks) > 0

    def _drop(self, block: int) -> None:
        blocks = self._blocks
        if blocks[self._gone] != block:
            del blocks[bisect_left(blocks, block, lo=self._gone)]
            return
        self._gone += 1
        if self._gone * 2 >= len(blocks):  # seldom: a shift for each would be quadratic
            del blocks[: self._gone]
            self._gone = 0

    def blocks_down(self, top: int | None) -> Iterator[int]:
        """Yield the blocks from `top` downwards, or from the highest."""
        blocks = self._blocks
        place = len(blocks) if top is None else bisect_left(blocks, top + 1, lo=self._gone)
        for i in range(place - 1, self._gone - 1, -1):
            yield blocks[i]


class Index:
    """Numbers by value. Many values have one number only, and cost no set then."""

    def __init__(self) -> None:
        self._values: dict[str, int | Numbers] = {}

    def __len__(self) -> int:
        """Return how many values there are."""
        return len(self._values)

    def add(self, value: str, number: int) -> None:
        """Say that `number` has `value`."""
        known = self._values.get(value)
        if isinstance(known, Numbers):
            known.add(number)
        elif known is None:
            self._values[value] = number
        else:
            self._values[value] = Numbers(known, number)

    def add_all(self, value: str, numbers: Sequence[int]) -> None:
        """Say that each of the numbers has `value`."""
        self.add(value, numbers[0])
        if len(numbers) > 1:
            self.add(value, numbers[1])
            known = self._values[value]
            assert isinstance(known, Numbers), "two numbers make a set"
            known.add_all(numbers[2:])

    def remove(self, value: str, number: int) -> None:
        """Say that `number` no longer has `value`."""
        known = self._values[value]
        if not (isinstance(known, Numbers) and known.remove(number)):
            del self._values[value]

    def find(self, value: str) -> Numbers:
        """Return the numbers that have `value`, to read."""
        known = self._values.get(value)
        if isinstance(known, Numbers):
            return known
        return Numbers() if known is None else Numbers(known)


class Ids:
    """Ids by number, newest last.

    A block that is full becomes a tuple: the garbage collector stops following one of texts, and
    so never walks over a million ids.
    """

    def __init__(self) -> None:
        self.numbers = Numbers()
        """Those that have an id."""
        self._blocks: dict[int, list[str] | tuple[str, ...]] = {}
        self._newest = -1

    def __getitem__(self, number: int) -> str:
        return self._blocks[number // BLOCK][number % BLOCK]

    def get(self, number: int) -> str:
        """Return the id of a number, "" if it has none."""
        ids = self._blocks.get(number // BLOCK)
        return "" if ids is None else ids[number % BLOCK]

    def add(self, number: int, job_id: str) -> None:
        """Keep the id of a number."""
        block = number // BLOCK
        if block > self._newest:
            if (full := self._blocks.get(self._newest)) is not None:
                self._blocks[self._newest] = tuple(full)
            self._newest = block
        self._set(number, job_id)
        self.numbers.add(number)

    def remove(self, number: int) -> None:
        """Forget the id of a number."""
        self.numbers.remove(number)
        if self.numbers.mask(number // BLOCK):
            self._set(number, "")
        else:
            del self._blocks[number // BLOCK]

    def _set(self, number: int, job_id: str) -> None:
        block = number // BLOCK
        ids = self._blocks.get(block)
        if not isinstance(ids, list):
            ids = self._blocks[block] = [""] * BLOCK if ids is None else list(ids)
        ids[number % BLOCK] = job_id


def newest(sets: Sequence[Numbers], *, before: int | None = None) -> Iterator[int]:
    """Yield the numbers that are in every one of the sets, the highest first, below `before`."""
    top = None if before is None else before // BLOCK
    for block in min(sets, key=len).blocks_down(top):
        mask = -1
        for numbers in sets:
            mask &= numbers.mask(block)
        if before is not None and block == top:
            mask &= (1 << before % BLOCK) - 1
        while mask:
            bit = mask.bit_length() - 1
            yield block * BLOCK + bit
            mask ^= 1 << bit


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
