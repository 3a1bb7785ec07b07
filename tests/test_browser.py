"""The page and its event streams in a real browser."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner
from jobrunner.server import Server, serving
from tests.serving import GONE_ON

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

WATCH = """
(path) => {
  window.seen = [];
  const source = new EventSource(path);
  window.begun = new Promise((resolve) => {
    for (const type of ["snapshot", "status", "progress", "output", "done"]) {
      source.addEventListener(type, (event) => {
        window.seen.push([type, event.lastEventId, JSON.parse(event.data).seq]);
        if (window.seen.length === 7) resolve();
      });
    }
  });
  const state = (wanted) => new Promise((resolve) => {
    source.addEventListener("error", () => { if (source.readyState === wanted) resolve(); });
  });
  window.lost = state(EventSource.CONNECTING);
  window.over = state(EventSource.CLOSED);
}
"""
"""Promises instead of polling, for which the page's policy leaves no way."""


class Tab:
    """A page in the browser, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and "favicon" not in str(message.location):
            self.complaints.append(message.text)


@asynccontextmanager
async def browser_at(server: Server) -> AsyncIterator[Tab]:
    """Open the login URL in a browser of its own."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright isn't installed")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            tab = Tab(await browser.new_page())
            tab.page.set_default_timeout(GONE_ON * 1_000)
            await tab.page.goto(server.login_url)
            yield tab
        finally:
            await browser.close()


def make_runner() -> tuple[JobRunner, asyncio.Event]:
    """Return a runner with one job type, which says three things and waits for the event."""
    runner, go_on = JobRunner(shutdown_timeout=0.0), asyncio.Event()

    @runner.job
    async def talk(ctx: JobContext, text: str = "x") -> str:
        ctx.step(1, 2, text)
        for _ in range(3):
            ctx.emit(text)
        await go_on.wait()
        for _ in range(3):
            ctx.emit(text)
        return text

    return runner, go_on


async def test_the_login_url_sets_a_cookie_and_lists_the_jobs() -> None:
    """What is printed in the terminal is clicked, and everything is there, text as text."""
    runner, go_on = make_runner()
    markup = "<img src=x onerror=alert(1)>"
    async with serving(runner) as server:
        job = await runner.submit("talk", {"text": markup})
        async with browser_at(server) as tab:
            assert tab.page.url == f"{server.url}/"
            cookies = await tab.page.context.cookies()
            cells = tab.page.locator("#jobs tr td")
            await cells.first.wait_for()
            row = [text.strip() for text in await cells.all_inner_texts()]
            images = await tab.page.locator("img").count()
            go_on.set()
    assert [(c["httpOnly"], c["sameSite"], c["value"]) for c in cookies] == [
        (True, "Strict", server.token)
    ]
    assert row[:4] == [job.id[:12], "talk", "running", markup]
    assert (images, tab.complaints) == (0, [])


async def test_the_page_shows_a_job_s_events_as_they_come() -> None:
    """A click on a job, and its story is told live."""
    runner, go_on = make_runner()
    async with serving(runner) as server:
        await runner.submit("talk", {"text": "hello "})
        async with browser_at(server) as tab:
            await tab.page.locator("#jobs button").first.click()
            events = tab.page.locator("#events")
            await tab.page.get_by_text("hello hello hello").wait_for()
            go_on.set()
            await tab.page.get_by_text(" done] ").wait_for()
            text = await events.inner_text()
    assert text.count("hello hello hello ") == 2
    assert tab.complaints == []


async def test_an_event_source_sees_every_event_once_and_stops_at_the_end() -> None:
    """The connection is cut, the browser comes back by itself, and 204 ends its asking."""
    runner, go_on = make_runner()
    async with serving(runner) as server, proxy(server) as (port, cut):
        job = await runner.submit("talk")
        async with browser_at(server) as tab:
            await tab.page.goto(f"http://127.0.0.1:{port}/?token={server.token}")
            await tab.page.evaluate(WATCH, f"/jobs/{job.id}/stream")
            await tab.page.evaluate("() => window.begun")
            cut()
            await tab.page.evaluate("() => window.lost")
            go_on.set()
            await tab.page.evaluate("() => window.over")
            seen = await tab.page.evaluate("() => window.seen")
    assert [type for type, *_ in seen] == (
        ["snapshot", "status", "status", "progress"] + ["output"] * 6 + ["done"]
    )
    assert [(int(id), number) for _, id, number in seen[1:]] == [(n, n) for n in range(1, 11)]
    assert [text for text in tab.complaints if "Security Policy" in text] == []


@asynccontextmanager
async def proxy(server: Server) -> AsyncIterator[tuple[int, Any]]:
    """Pass bytes on to the server, and cut every connection when asked to."""
    writers = set[asyncio.StreamWriter]()
    port = int(server.url.rpartition(":")[2])

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, back))
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(reader, back))
            group.create_task(pump(there, writer))

    def cut() -> None:
        for writer in writers:
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        try:
            yield listening.sockets[0].getsockname()[1], cut
        finally:
            cut()
