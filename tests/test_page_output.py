"""What a job says, as the page shows it: colours, long lines, search, following."""

import asyncio
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner
from tests.paged import BROWSER, Tab, paged, until

pytestmark = BROWSER
PIECES = """
(texts) => import("./static/ansi.js").then(({ Ansi }) => {
  const ansi = new Ansi();
  return texts.map((text) => ansi.feed(text));
})
"""
SHOWN = "() => [...document.querySelectorAll('.lines .line')].map((line) => line.textContent)"


def speaking(*texts: Any) -> tuple[JobRunner, asyncio.Event]:
    """Return a runner whose job emits these, and waits."""
    runner, go_on = JobRunner(shutdown_timeout=0.0), asyncio.Event()

    @runner.job
    async def speak(ctx: JobContext) -> None:
        for text in texts:
            ctx.emit(text)
        await go_on.wait()

    return runner, go_on


async def shown(tab: Tab, runner: JobRunner, last: str) -> list[str]:
    """Run the job, and return its lines once the last one is there."""
    job = await runner.submit("speak")
    await tab.go(f"jobs/{job.id}")
    lines: list[str] = await until(tab.page, SHOWN, lambda lines: bool(lines) and last in lines[-1])
    return lines


ESC = "\x1b"
ANSI: list[tuple[list[str], list[list[tuple[str, str]]]]] = [
    (["plain"], [[("plain", "")]]),
    ([f"{ESC}[31mred{ESC}[0m not"], [[("red", "fg1"), (" not", "")]]),
    ([f"{ESC}[1;4;32mx{ESC}[22my{ESC}[mz"], [[("x", "bold underline fg2"), ("y", "underline fg2"),
                                              ("z", "")]]),
    ([f"{ESC}[9", "1mx"], [[], [("x", "fg9")]]),
    ([f"a{ESC}", "[3", "3;44", "mb"], [[("a", "")], [], [], [("b", "fg3 bg4")]]),
    ([f"{ESC}[38;5;196mx{ESC}[48;2;0;0;255my"], [[("x", "fg9"), ("y", "fg9 bg12")]]),
    ([f"{ESC}[38:5:2mx{ESC}[39;49;39my"], [[("x", "fg2"), ("y", "")]]),
    ([f"{ESC}[2J{ESC}[10;10Hx{ESC}[?25ly{ESC}(Bz"], [[("x", ""), ("y", ""), ("z", "")]]),
    ([f"{ESC}]0;title\x07a{ESC}]8;;http://evil{ESC}\\link{ESC}]8;;{ESC}\\"],
     [[("a", ""), ("link", "")]]),
    (["a\x00\x08\x07\x7f\x9bb\t\r\n"], [[("ab\t\r\n", "")]]),
    ([f"{ESC}[999;;;38;5mx", f"{ESC}[{'1;' * 200}m"], [[("x", "fg0")], []]),
]  # fmt: skip


async def test_colours_are_classes_and_all_other_controls_are_left_out() -> None:
    """A terminal's sequences, whole or cut anywhere, must not reach the page as text."""
    async with paged(JobRunner()) as tab:
        for texts, wanted in ANSI:
            found = await tab.page.evaluate(PIECES, texts)
            assert [[tuple(piece) for piece in one] for one in found] == wanted, texts


async def test_a_line_that_is_written_again_is_shown_once() -> None:
    """Bars of pip and curl end in a bare CR; a CR LF is the end of a line."""
    runner, _ = speaking("10 %\r", "50 %\r", "100 %\r\n", "a\r\nb\r", "\nc\n", "done")
    async with paged(runner) as tab:
        assert await shown(tab, runner, "done") == ["100 %", "a", "b", "c", "done"]


async def test_markup_and_a_very_long_line_are_text() -> None:
    """A hundred kilobytes without an end are cut, for the page only."""
    runner, _ = speaking("<b>bold</b>\n", "x" * 16_000, "x" * 84_000, "\n\u202eend")
    async with paged(runner) as tab:
        lines = await shown(tab, runner, "end")
        wide = await tab.page.evaluate("() => document.documentElement.scrollWidth")
    assert lines[0] == "<b>bold</b>"
    assert lines[1] == f"{'x' * 10_000} … a long line; download all of it"
    assert lines[2] == "\\u202eend"
    assert wide == 1280


async def test_values_and_channels_are_told_apart() -> None:
    """What was emitted as JSON is a line of its own; another channel has a mark."""
    runner, _ = speaking("text", {"a": 1}, "more")
    async with paged(runner) as tab:
        assert await shown(tab, runner, "more") == ["text", '{"a":1}', "more"]
        assert await tab.texts(".lines .json") == ['{"a":1}']


async def test_output_is_searched() -> None:
    """Enter goes from the newest place to older ones, and around."""
    runner, _ = speaking(*(f"line {n}\n" for n in range(100)))
    async with paged(runner) as tab:
        await shown(tab, runner, "line 99")
        search = tab.page.get_by_label("Find in output")
        await search.fill("LINE 9")
        await tab.see("11 of 11", ".found")
        assert await tab.texts(".lines .here") == ["line 99"]
        await search.press("Enter")
        assert await tab.texts(".lines .here") == ["line 98"]
        await search.press("Shift+Enter")
        await search.press("Shift+Enter")
        assert await tab.texts(".lines .here") == ["line 9"]
        await search.fill("nowhere")
        await tab.see("none", ".found")


BOTTOM = """() => {
  const { scrollTop, scrollHeight, clientHeight } = document.querySelector(".lines");
  return scrollHeight - scrollTop - clientHeight < 8;
}"""


async def test_output_is_followed_until_one_scrolls_up() -> None:
    """Who reads something above isn't carried away by what comes."""
    runner, more = JobRunner(shutdown_timeout=0.0), asyncio.Event()

    @runner.job
    async def speak(ctx: JobContext) -> None:
        for n in range(200):
            ctx.emit(f"line {n}\n")
        await more.wait()
        for n in range(200, 400):
            ctx.emit(f"line {n}\n")
        await asyncio.Event().wait()

    async with paged(runner) as tab:
        await shown(tab, runner, "line 199")
        assert await until(tab.page, BOTTOM, bool)
        lines, follow = tab.page.locator(".lines"), tab.page.get_by_role("button", name="Follow")
        await lines.hover()
        await tab.page.mouse.wheel(0, -400)
        await tab.page.locator("[aria-pressed=false]", has_text="Follow").wait_for()
        more.set()
        await until(tab.page, SHOWN, lambda lines: len(lines) == 400)
        assert await tab.page.evaluate(BOTTOM) is False
        await follow.click()
        assert await until(tab.page, BOTTOM, bool)


async def test_output_is_downloaded_whole() -> None:
    """What the page has cut is in the file."""
    runner, _ = speaking("x" * 16_000, "y\n", "end")
    async with paged(runner) as tab:
        await shown(tab, runner, "end")
        async with tab.page.expect_download() as started:
            await tab.page.get_by_role("link", name="Download").click()
        path = await (await started.value).path()
        text = path.read_text()
    assert text == f"{'x' * 16_000}y\nend"


@pytest.mark.parametrize("rate", [1_000])
async def test_a_thousand_pieces_a_second_are_shown_as_they_come(rate: int) -> None:
    """Each is in the document, in order, and the page still answers."""
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def speak(ctx: JobContext) -> None:
        for n in range(2 * rate):
            ctx.emit(f"{n}\n")
            if n % 10 == 0:
                await asyncio.sleep(10 / rate)

    async with paged(runner) as tab:
        lines = await shown(tab, runner, f"{2 * rate - 1}")
        await tab.see("Completed", ".jobhead")
    assert lines == [str(n) for n in range(2 * rate)]
    assert tab.complaints == []
