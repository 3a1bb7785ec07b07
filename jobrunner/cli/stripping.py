"""What a job says, made harmless for a terminal: colours stay, and nothing else that it obeys.

A terminal takes orders in what it is given to show (ECMA-48, and xterm's on top): move the cursor,
clear, set the title, write the clipboard, make a link. Only SGR, `ESC [ ... m`, gets through, and
without the attributes that hide or blink.
"""

import re
from collections.abc import Iterator

LONGEST = 4_096
"""Characters of a sequence that has begun and not ended; then it is none."""
RESET = "\x1b[0m"
_STRINGS = "]PX^_"
"""What begins a string after ESC: OSC, DCS, SOS, PM, APC. It ends with BEL or ST."""
_SEQUENCE = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"
    r"|\x1b\[[\x20-\x3f]*[\x40-\x7e]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\|(?=\n))"
    r"|\x1b[\x20-\x2f]+[\x30-\x7e]"
    r"|\x1b[\x30-\x5a\x5c\x60-\x7e]"
)
_UNFINISHED = re.compile(r"\r\Z|\x1b(?:\[[\x20-\x3f]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[\x20-\x2f]*)?\Z")
_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_C1 = re.compile(r"[\x80-\x84\x86-\x9f]")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 but for tab and the end of a line, DEL, what turns the direction of text, half characters."""


class Stripper:
    """Strips text that comes in pieces: a sequence may begin in one and end in another.

    Args:
        colours: Whether SGR stays.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._kept = ""

    def feed(self, text: str) -> str:
        """Return what of the text may be shown; an unfinished end waits for the next piece."""
        text = self._kept + _as_c0(text)
        self._kept = ""
        held = _UNFINISHED.search(text)
        if held is not None and len(text) - held.start() <= LONGEST:
            text, self._kept = text[: held.start()], text[held.start() :]
        return self._strip(text)

    def finish(self) -> str:
        """Return what was kept back; what began a sequence and is none loses its ESC."""
        text, self._kept = self._kept, ""
        return self._strip(text)

    def _strip(self, text: str) -> str:
        if text.isascii() and text.isprintable():
            return text
        return "".join(self._pieces(_ENDS.sub("\n", text)))

    def _pieces(self, text: str) -> Iterator[str]:
        at = 0
        for found in _SEQUENCE.finditer(text):
            yield _clean(text[at : found.start()])
            if self._colours and found["sgr"] is not None:
                yield _colour(found["sgr"])
            at = found.end()
        yield _clean(text[at:])


def stripped(text: str, *, colours: bool = False) -> str:
    """Return a whole text made harmless; colours that are still on at its end are put out."""
    stripper = Stripper(colours=colours)
    shown = stripper.feed(text) + stripper.finish()
    return shown + RESET if "\x1b" in shown else shown


def one_line(text: str, limit: int = 1_000) -> str:
    """Return the text harmless, without colours, on one line, cut where it is over `limit`."""
    shown = " ".join(stripped(text[: 4 * limit]).split())
    return shown if len(shown) <= limit and len(text) <= 4 * limit else f"{shown[:limit]}..."


def _as_c0(text: str) -> str:
    """Return the text with each C1 control as the two characters that say the same."""
    return _C1.sub(lambda found: f"\x1b{chr(ord(found[0]) - 0x40)}", text)


def _clean(text: str) -> str:
    return _CONTROLS.sub("", text.replace("\x1b", ""))


def _colour(params: str) -> str:
    """Return SGR without blinking (5, 6) and hiding (8); nothing where nothing is left."""
    kept, rest = [], params.split(";")
    while rest:
        first = rest.pop(0)
        if first in ("38", "48", "58"):  # a colour of 256, or of red, green and blue
            count = {"5": 2, "2": 4}.get(rest[0] if rest else "", 0)
            kept += [first, *rest[:count]] if count else []
            del rest[:count]
        elif first.partition(":")[0].lstrip("0") not in ("5", "6", "8"):
            kept.append(first)
    return f"\x1b[{';'.join(kept)}m" if kept else ""
