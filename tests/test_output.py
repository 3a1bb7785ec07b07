"""What a command writes: whole lines, capped pieces, and the two ends of it that are kept."""

import asyncio
from random import Random

import pytest

from jobrunner.output import KEEP_OUTPUT, MAX_LINE, Kept, Lines, Output, Stream
from jobrunner.testing import virtual_time

Said = list[tuple[str, str]]


def stdout(said: Said) -> Stream:
    loop = asyncio.get_running_loop()
    return Stream("stdout", lambda name, text: said.append((name, text)), loop)


@virtual_time
async def test_whole_lines_are_passed_on_at_once() -> None:
    """Lines that came together go on together, so that a busy build makes few events."""
    said: Said = []
    stdout(said).feed(b"one\ntwo\n")
    assert said == [("stdout", "one\ntwo\n")]


@virtual_time
async def test_the_start_of_a_line_is_passed_on_after_a_tenth_of_a_second() -> None:
    """The dots of a test run are worth seeing before their line ends."""
    said: Said = []
    stream = stdout(said)
    stream.feed(b"..")
    await asyncio.sleep(0.05)
    stream.feed(b".")
    await asyncio.sleep(0.04)
    assert said == []
    await asyncio.sleep(0.02)
    assert said == [("stdout", "...")]


@virtual_time
async def test_a_line_goes_on_after_its_start_was_passed_on() -> None:
    """What was passed on early is not passed on again with the rest of its line."""
    said: Said = []
    stream = stdout(said)
    stream.feed(b"..")
    await asyncio.sleep(0.2)
    stream.feed(b". ok\n")
    await asyncio.sleep(0.2)
    stream.feed(b"..")
    await asyncio.sleep(0.2)
    assert said == [("stdout", ".."), ("stdout", ". ok\n"), ("stdout", "..")]


@virtual_time
async def test_p5_a_line_of_70_000_characters_is_passed_on_whole_in_capped_pieces() -> None:
    """P5: `readline` loses data at 64 kB without a newline; nothing is lost here."""
    said: Said = []
    stdout(said).feed(b"x" * 70_000)
    assert [len(text) for _, text in said] == [MAX_LINE] * 4 + [70_000 - 4 * MAX_LINE]


@virtual_time
async def test_p5_a_character_cut_in_two_is_put_together() -> None:
    """P5: a read ends wherever it likes, also in the middle of a character."""
    said: Said = []
    stream = stdout(said)
    for byte in "naïve 日本 🙂\n".encode():
        stream.feed(bytes([byte]))
    assert "".join(text for _, text in said) == "naïve 日本 🙂\n"


@virtual_time
async def test_p5_random_bytes_come_out_the_same_however_they_are_cut() -> None:
    """P5: invalid UTF-8 is replaced, never an error, and the cuts make no difference."""
    random = Random(5)
    for _ in range(50):
        data = random.randbytes(300) + "é🙂\n".encode() * 10
        said: Said = []
        stream, place = stdout(said), 0
        while place < len(data):
            size = random.randint(1, 40)
            stream.feed(data[place : place + size])
            place += size
        stream.finish()
        expected = data.decode("utf-8", "replace")
        assert ("".join(text for _, text in said), stream.kept.text()) == (expected, expected)


@virtual_time
async def test_p9_the_rest_is_passed_on_at_the_end() -> None:
    """A last line without a newline, cut inside a character, is still shown."""
    said: Said = []
    stream = stdout(said)
    stream.feed(b"end\xf0\x9f")
    stream.finish()
    assert said == [("stdout", "end\ufffd")]


@virtual_time
async def test_p9_nothing_follows_the_end() -> None:
    """P9: what comes after the end is not taken, and a second end says nothing."""
    said: Said = []
    stream = stdout(said)
    stream.feed(b"one\n..")
    stream.finish()
    stream.feed(b"two\n")
    stream.finish()
    await asyncio.sleep(1.0)
    assert (said, stream.kept.text()) == ([("stdout", "one\n"), ("stdout", "..")], "one\n..")


@virtual_time
async def test_the_output_is_closed_when_both_pipes_are() -> None:
    """A command may close one of its outputs long before the other."""
    output = Output(lambda name, text: None, asyncio.get_running_loop())
    output.pipe_connection_lost(2, None)
    assert not output.closed.done()
    output.pipe_connection_lost(1, None)
    output.pipe_connection_lost(1, None)
    assert output.closed.done()


@virtual_time
async def test_the_exit_is_noted_once() -> None:
    """An event loop may say it more than once."""
    output = Output(lambda name, text: None, asyncio.get_running_loop())
    output.process_exited()
    output.process_exited()
    assert output.exited.done()


@virtual_time
async def test_the_two_streams_are_told_apart() -> None:
    """Standard error is shown as what it is."""
    said: Said = []
    output = Output(lambda name, text: said.append((name, text)), asyncio.get_running_loop())
    output.pipe_data_received(2, b"bad\n")
    output.pipe_data_received(1, b"good")
    output.finish()
    assert said == [("stderr", "bad\n"), ("stdout", "good")]


@virtual_time
async def test_a_receiver_that_raised_is_not_called_again() -> None:
    """Its error is kept for who runs the command; reading goes on, so that nothing fills up."""
    said: Said = []

    def refuse(name: str, text: str) -> None:
        said.append((name, text))
        raise LookupError(text)

    output = Output(refuse, asyncio.get_running_loop())
    output.pipe_data_received(1, b"one\n")
    output.pipe_data_received(1, b"two\n")
    assert (said, repr(output.error)) == ([("stdout", "one\n")], "LookupError('one\\n')")
    assert output.streams[1].kept.text() == "one\ntwo\n"


def test_pieces_are_made_lines() -> None:
    """Whoever reads progress from output wants whole lines, each stream by itself."""
    said: Said = []
    lines = Lines(lambda name, line: said.append((name, line)))
    for stream, text in (("stdout", "a\r\nb"), ("stderr", "x\n"), ("stdout", "c\n\nd")):
        lines.feed(stream, text)  # type: ignore[arg-type]  # a literal in a loop is a str
    lines.finish()
    lines.finish()
    assert said == [
        ("stdout", "a"),
        ("stderr", "x"),
        ("stdout", "bc"),
        ("stdout", ""),
        ("stdout", "d"),
    ]


def test_p6_a_line_that_never_ends_comes_in_parts() -> None:
    """P6: what isn't passed on yet is bounded."""
    said: Said = []
    lines = Lines(lambda name, line: said.append((name, line)))
    for _ in range(5):
        lines.feed("stdout", "x" * (MAX_LINE // 2))
    lines.finish()
    sizes = [len(line) for _, line in said]
    assert (sum(sizes), max(sizes)) == (5 * (MAX_LINE // 2), 3 * (MAX_LINE // 2))


def test_a_short_text_is_kept_whole() -> None:
    """Up to its limit nothing is left out."""
    kept = Kept(10)
    for piece in ("abcd", "efgh", "ij"):
        kept.add(piece)
    assert (kept.text(), kept.truncated, kept.length) == ("abcdefghij", False, 10)


def test_the_middle_of_a_long_text_is_left_out() -> None:
    """The start says what was run and the end how it went."""
    kept = Kept(10)
    kept.add("abcdefghijk")
    assert (kept.text(), kept.truncated) == (
        "abcde\n... 1 characters left out ...\nghijk",
        True,
    )


@pytest.mark.parametrize("piece", [1, 7, 4_096, 1_000_000])
def test_p6_a_flood_keeps_its_two_ends(piece: int) -> None:
    """P6: whatever is written, and in whatever pieces, what is kept is bounded."""
    kept = Kept(100)
    text = "".join(chr(ord("a") + i % 26) for i in range(1_000))
    for start in range(0, len(text), piece):
        kept.add(text[start : start + piece])
    assert kept.text() == f"{text[:50]}\n... 900 characters left out ...\n{text[-50:]}"


def test_the_limit_is_as_documented() -> None:
    """`CommandResult` promises 200,000 characters of each stream."""
    assert KEEP_OUTPUT == 200_000
