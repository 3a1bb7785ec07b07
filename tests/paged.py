"""The page in a real browser: what every test of it needs."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from jobrunner import JobRunner
from jobrunner.server import Server, serving
from tests.accepting import accepting

CHROMIUM = shutil.which("chromium")
BROWSER = [
    pytest.mark.browser,
    pytest.mark.slow,  # a browser takes a second to start
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright isn't installed"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60.0
"""Seconds after which a test that waits for something to be seen has failed."""
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`);
});
"""


class Tab:
    """A page in the browser, and what went wrong in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE * 1_000)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._refuse)

    async def _refuse(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        await dialog.dismiss()

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def go(self, place: str = "") -> None:
        """Go to a place of the page, as by a link."""
        await self.page.goto(f"{self.url}/#/{place}")

    async def see(self, text: str | re.Pattern[str], within: str = "body") -> None:
        """Wait until the text is to be seen."""
        await self.page.locator(within).get_by_text(text).first.wait_for()

    async def unseen(self, selector: str) -> None:
        """Wait until nothing fits the selector."""
        await self.page.locator(selector).first.wait_for(state="detached")

    async def texts(self, selector: str) -> list[str]:
        """Return the texts of what fits the selector and is shown, blanks made one."""
        found = await self.page.locator(selector).filter(visible=True).all_inner_texts()
        return [" ".join(text.split()) for text in found]

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self.page.keyboard.press(key)

    async def violations(self) -> list[str]:
        """Return what the page's policy had to stop."""
        found: list[str] = await self.page.evaluate("() => window.violations")
        return found


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[Any]:
    """Start a browser, and yield a context of its own in it; the options are the context's."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright isn't installed")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
            await context.add_init_script(WATCH)
            yield context
        finally:
            await browser.close()


async def open_tab(context: Any, url: str, token: str, place: str = "") -> Tab:
    """Open the page in a tab, signed in."""
    tab = Tab(await context.new_page(), url)
    await tab.page.goto(f"{url}/?token={token}")
    if place:
        await tab.go(place)
    return tab


@asynccontextmanager
async def paged(runner: JobRunner, place: str = "", **options: Any) -> AsyncIterator[Tab]:
    """Serve a runner, and open its page."""
    async with serving(runner) as server, browsing(**options) as context:
        yield await open_tab(context, server.url, server.token, place)


class Line:
    """A connection to a server that can be cut, and led to another server."""

    def __init__(self, server: Server) -> None:
        self.port = 0
        self._writers = set[asyncio.StreamWriter]()
        self._open = True
        self.lead_to(server)

    @property
    def url(self) -> str:
        """Where the page is reached through it."""
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, server: Server) -> None:
        """Have what comes from now on go to this server."""
        self._there = int(server.url.rpartition(":")[2])

    def cut(self, *, until_mended: bool = False) -> None:
        """Cut every connection, and refuse new ones if they are to stay cut."""
        self._open = not until_mended
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._open = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, in both directions."""
        if not self._open:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._there)
        self._writers.update((writer, back))
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, back))
            group.create_task(_pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def line_to(server: Server) -> AsyncIterator[Line]:
    """Put a line between a browser and a server."""
    line = Line(server)
    async with accepting(line.serve) as line.port:
        try:
            yield line
        finally:
            line.cut(until_mended=True)


async def until(page: Any, expression: str, wanted: Callable[[Any], bool]) -> Any:
    """Return what an expression comes to once that is wanted, looked at with each frame."""
    frame = "() => new Promise((resolve) => requestAnimationFrame(resolve))"
    async with asyncio.timeout(PATIENCE):
        while not wanted(found := await page.evaluate(expression)):
            await page.evaluate(frame)
    return found
