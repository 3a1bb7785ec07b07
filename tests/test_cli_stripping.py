"""What a job says reaches the terminal as text and colours, and as nothing that it obeys."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.cli.stripping import Stripper, one_line, stripped
from tests.tabled import each_of

HOSTILE = {
    "cursor up": ("\x1b[5A", ""),
    "cursor home and clear": ("\x1b[H\x1b[2J", ""),
    "erase the line": ("a\x1b[2K\rb", "a\nb"),
    "save and restore": ("\x1b7x\x1b8", "x"),
    "reset": ("\x1bc", ""),
    "another screen": ("\x1b[?1049h", ""),
    "hide the cursor": ("\x1b[?25l", ""),
    "paste brackets off": ("\x1b[?2004l", ""),
    "mouse reports": ("\x1b[?1003h", ""),
    "scroll region": ("\x1b[1;2r", ""),
    "a question about where it is": ("\x1b[6n", ""),
    "keys reported otherwise": ("\x1b[>4;2m", ""),
    "title": ("\x1b]0;pwned\x07", ""),
    "title, ended otherwise": ("\x1b]2;pwned\x1b\\", ""),
    "title that isn't ended": ("\x1b]0;pwned", "]0;pwned"),
    "title that its line ends": ("\x1b]0;pwned\nnext", "\nnext"),
    "clipboard": ("\x1b]52;c;cm0gLXJmIC8=\x07", ""),
    "a link": ("\x1b]8;;http://evil.example\x07text\x1b]8;;\x07", "text"),
    "a colour of the palette": ("\x1b]4;1;rgb:00/00/00\x07", ""),
    "an image": ("\x1b]1337;File=inline=1:AAAA\x07", ""),
    "a notification": ("\x1b]9;You won\x07", ""),
    "device control": ('\x1bP$q"p\x1b\\', ""),
    "privacy message": ("\x1b^secret\x1b\\", ""),
    "application command": ("\x1b_Gf=100;AAAA\x1b\\", ""),
    "start of string": ("\x1bXabc\x1b\\", ""),
    "CSI as one character": ("\x9b2J", ""),
    "OSC as one character": ("\x9d0;pwned\x07", ""),
    "OSC ended by one character": ("\x9d0;pwned\x9cx", "x"),
    "other characters": ("\x1b(0lqk\x1b(B", "lqk"),
    "shift out": ("\x0ea\x0f", "a"),
    "bell": ("\x07", ""),
    "backspace over": ("safe\b\b\b\bevil", "safeevil"),
    "carriage return over": ("evil\rsafe", "evil\nsafe"),
    "line ends of others": ("a\r\nb\vc\fd", "a\nb\nc\nd"),
    "null": ("a\x00b", "ab"),
    "delete": ("a\x7fb", "ab"),
    "text that runs backwards": ("\u202eevil\u202c \u2066x\u2069", "evil x"),
    "half a character": ("a\ud800b", "ab"),
    "lone ESC": ("\x1b", ""),
    "lone ESC within": ("a\x1b\x1b\nb", "a\nb"),
    "a sequence within a sequence": ("\x1b[\x1b[2J5A", "[5A"),
    "a string within a string": ("\x1b]0;\x1b]52;c;x\x07", "]0;"),
    "a parameter that is a control": ("\x1b[2\x07J", "[2J"),
    "hidden text": ("\x1b[8mrm -rf\x1b[0m", "rm -rf"),
}


@each_of(HOSTILE)
def test_what_a_terminal_would_obey_is_gone(text: str, shown: str) -> None:
    """A job's output may come from a web page; it must not drive who looks at it."""
    for colours in (True, False):
        left = stripped(text, colours=colours)
        assert re.sub(r"\x1b\[[0-9;]*m", "", left) == shown


@each_of(HOSTILE)
def test_it_is_gone_when_it_comes_in_pieces(text: str, shown: str) -> None:
    """Output is streamed; each half of a sequence alone looks like text."""
    stripper = Stripper(colours=False)
    said = "".join(stripper.feed(char) for char in text) + stripper.finish()
    assert said == shown


@given(st.text(alphabet="\x1b\x9b\x9d\x07\x90[]()PX^_0;:?<m1A8Jl\n\r\\ \x7f\u202eä", max_size=40))
def test_nothing_but_colours_ever_gets_through(text: str) -> None:
    """Whatever order they come in: what is left has no control but SGR, tab and line ends."""
    left = stripped(text, colours=True)
    assert not re.search(r"[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", _plain(left))
    assert _plain(left) == stripped(text)


@given(st.text(alphabet="\x1b\x9b\x07[]m1;8 a\n\r\\", max_size=30), st.integers(0, 30))
def test_where_it_is_cut_makes_no_difference(text: str, at: int) -> None:
    """The pieces that output comes in are the network's, not the job's."""
    stripper = Stripper(colours=True)
    said = stripper.feed(text[:at]) + stripper.feed(text[at:]) + stripper.finish()
    whole = Stripper(colours=True)
    assert said == whole.feed(text) + whole.finish()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[mx", "\x1b[mx"),
        ("\x1b[1;38;5;8mx", "\x1b[1;38;5;8mx"),
        ("\x1b[38;2;8;5;6mx", "\x1b[38;2;8;5;6mx"),
        ("\x1b[4:3mx", "\x1b[4:3mx"),
        ("\x1b[5mx", "x"),
        ("\x1b[1;8;31mx", "\x1b[1;31mx"),
        ("\x1b[08mx", "x"),
        ("\x1b[38mx", "x"),
        ("\x9b32mx", "\x1b[32mx"),
    ],
)
def test_colours_stay_and_what_hides_or_blinks_goes(text: str, shown: str) -> None:
    """A test suite's red is worth seeing; text that can't be seen is not."""
    stripper = Stripper(colours=True)
    assert stripper.feed(text) + stripper.finish() == shown


def test_a_colour_ends_with_the_text() -> None:
    """The prompt after it is in nobody's colour."""
    assert stripped("\x1b[31mred", colours=True) == "\x1b[31mred\x1b[0m"


def test_a_sequence_without_an_end_keeps_nothing_back_for_ever() -> None:
    """What it would swallow is the output of the rest of the job."""
    stripper = Stripper(colours=True)
    assert stripper.feed("\x1b]0;" + "x" * 10_000) == "]0;" + "x" * 10_000


def test_a_line_is_one_line_and_bounded() -> None:
    """Messages stand in tables and beside bars."""
    assert one_line("a\nb\r\n\tc\x1b[2J  d") == "a b c d"
    assert one_line("x" * 100, 10) == "x" * 10 + "..."
    assert one_line("x " * 100_000, 10) == "x x x x x ..."


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;:]*m", "", text)
