"""The page and its event streams in a real browser."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from jobrunner import JobContext, JobRunner
from jobrunner.server import Server, serving
from tests.accepting import accepting
from tests.paged import BROWSER, Tab, browsing, line_to, open_tab

pytestmark = BROWSER

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


COUNT = """
(path) => {
  const numbers = [];
  const source = new EventSource(path);
  for (const type of ["status", "output", "done"]) {
    source.addEventListener(type, (event) => numbers.push(Number(event.lastEventId)));
  }
  return new Promise((resolve) => source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) resolve(numbers);
  }));
}
"""
LISTEN = """
async (path) => {
  const numbers = [];
  for (;;) {
    const socket = new WebSocket(`ws://${location.host}${path}?after=${numbers.at(-1) ?? 0}`);
    socket.addEventListener("message", (event) => {
      const frame = JSON.parse(event.data);
      if (frame.type !== "snapshot") numbers.push(frame.seq);
    });
    const code = await new Promise((resolve) => {
      socket.addEventListener("close", (event) => resolve(event.code));
    });
    if (code !== 1006) return [numbers, code];
  }
}
"""
"""Each comes again after a cut, until the server says that it is over."""
OPEN = """
(path) => new Promise((resolve) => {
  const socket = new WebSocket(path.startsWith("ws") ? path : `ws://${location.host}${path}`);
  socket.addEventListener("open", () => socket.send('{"op": "cancel", "reason": "of the page"}'));
  socket.addEventListener("close", (event) => resolve(event.code));
})
"""
"""Open a WebSocket, ask for the job's end, and tell how the socket was closed."""


@asynccontextmanager
async def browser_at(server: Server) -> AsyncIterator[Tab]:
    """Open the login URL in a browser of its own."""
    async with browsing() as context:
        yield await open_tab(context, server.url, server.token)


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
            await tab.page.get_by_text("Step 1 of 2").wait_for()
            cells = tab.page.locator(".rows [role=gridcell]")
            row = [" ".join(text.split()) for text in await cells.all_inner_texts()]
            link = await cells.locator("a").get_attribute("href")
            images = await tab.page.locator("img").count()
            go_on.set()
    assert [(c["httpOnly"], c["sameSite"], c["value"]) for c in cookies] == [
        (True, "Strict", server.token)
    ]
    said = f"{markup} text={markup}"
    assert (link, row[:4]) == (
        f"#/jobs/{job.id}", ["▶ Running", "talk", said, "Step 1 of 2"],
    )  # fmt: skip
    assert (images, tab.complaints) == (0, [])


async def test_the_page_shows_a_job_s_events_as_they_come() -> None:
    """A click on a job, and its story is told live."""
    runner, go_on = make_runner()
    async with serving(runner) as server:
        await runner.submit("talk", {"text": "hello "})
        async with browser_at(server) as tab:
            await tab.page.get_by_role("link", name="talk").click()
            await tab.page.get_by_text("hello hello hello").wait_for()
            go_on.set()
            await tab.page.get_by_role("heading", name="Result").wait_for()
            said = await tab.page.get_by_role("log").inner_text()
            told = await tab.page.locator(".events .what").all_inner_texts()
    assert said.strip() == " ".join(["hello"] * 6)
    assert [" ".join(text.split()) for text in told] == [
        "Submitted", "Running", "Step 1 of 2 hello", "Completed",
    ]  # fmt: skip
    assert tab.complaints == []


async def test_an_event_source_sees_every_event_once_and_stops_at_the_end() -> None:
    """The connection is cut, the browser comes back by itself, and 204 ends its asking."""
    runner, go_on = make_runner()
    async with serving(runner) as server, line_to(server) as line:
        job = await runner.submit("talk")
        async with browser_at(server) as tab:
            await tab.page.goto(f"{line.url}/?token={server.token}")
            await tab.page.evaluate(WATCH, f"/jobs/{job.id}/stream")
            await tab.page.evaluate("() => window.begun")
            line.cut()
            await tab.page.evaluate("() => window.lost")
            go_on.set()
            await tab.page.evaluate("() => window.over")
            seen = await tab.page.evaluate("() => window.seen")
    assert [type for type, *_ in seen] == (
        ["snapshot", "status", "status", "progress"] + ["output"] * 6 + ["done"]
    )
    assert [(int(id), number) for _, id, number in seen[1:]] == [(n, n) for n in range(1, 11)]
    assert [text for text in tab.complaints if "Security Policy" in text] == []


CUTS = 6


def make_talker() -> JobRunner:
    """Return a runner whose job says something until it has been heard for long enough."""
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def tell(ctx: JobContext) -> None:
        for n in range(600):
            ctx.emit("x" * (1 + n % 50 * 10))
            await asyncio.sleep(0.001 * (n % 3))

    return runner


@pytest.mark.parametrize(("script", "way"), [(COUNT, "stream"), (LISTEN, "ws")])
async def test_a_page_that_is_cut_off_many_times_hears_everything_once(
    script: str, way: str
) -> None:
    """In order, at whatever byte the connection was cut; and then it asks no more."""
    runner, draw = make_talker(), Random(7)
    places = [int(2 ** draw.uniform(8, 15)) for _ in range(CUTS)]
    async with serving(runner) as server, cutting(server, places, f"/{way}") as (port, asked):
        async with browser_at(server) as tab:
            await tab.page.goto(f"http://127.0.0.1:{port}/?token={server.token}")
            job = await runner.submit("tell")
            told = await tab.page.evaluate(script, f"/jobs/{job.id}/{way}")
            count = len(asked)
            await tab.page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 1500))")
    numbers, code = told if way == "ws" else (told, 1000)
    assert (numbers, code) == (list(range(1, 604)), 1000)
    assert (places, len(asked)) == ([], count)


async def test_a_page_s_socket_needs_the_cookie_and_its_own_origin() -> None:
    """The page may listen and cancel; a page of another origin, with the cookie, may not."""
    runner, go_on = make_runner()
    async with serving(runner) as server, browser_at(server) as tab:
        job, other = [await runner.submit("talk") for _ in range(2)]
        path = f"/jobs/{job.id}/ws"
        codes = [await tab.page.evaluate(OPEN, path)]
        async with serving(JobRunner()) as elsewhere:
            await tab.page.goto(f"{elsewhere.url}/healthz")  # has no policy of its own
            absolute = f"{server.url.replace('http', 'ws')}/jobs/{other.id}/ws"
            codes.append(await tab.page.evaluate(OPEN, absolute))
            await tab.page.goto(f"{server.url}/healthz")
        await tab.page.context.clear_cookies()
        codes.append(await tab.page.evaluate(OPEN, f"/jobs/{other.id}/ws"))
        views = [handle.view() for handle in (job, other)]
        go_on.set()
    assert codes == [1000, 1006, 4401]
    assert [view.cancel_note for view in views] == ["of the page", None]


@asynccontextmanager
async def cutting(
    server: Server, places: list[int], way: str
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Pass bytes on to the server; answers to paths with `way` are cut at the places, in turn.

    Yields the port, and what was asked for on that way.
    """
    asked = list[bytes]()
    port = int(server.url.rpartition(":")[2])
    ends = set[asyncio.StreamWriter]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: float) -> None:
        with suppress(ConnectionError):
            while left > 0 and (data := await reader.read(int(min(left, 65_536)))):
                writer.write(data)
                await writer.drain()
                left -= len(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ends.update((writer, back))
        left = math.inf
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if f"{way} ".encode() in head or f"{way}?".encode() in head:
                asked.append(head)
                left = places.pop(0) if places else math.inf
            back.write(head.replace(b"\r\nConnection: keep-alive", b"\r\nConnection: close"))
        asking = asyncio.create_task(pump(reader, back, math.inf))
        await pump(there, writer, left)
        back.close()
        reader.feed_eof()
        await asking

    async with accepting(serve) as between:
        try:
            yield between, asked
        finally:
            for end in ends:
                end.transport.abort()
