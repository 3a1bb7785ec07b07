"""Pages of other origins, in a real browser that is logged in here, change nothing.

Each of them asks every route by every method that a page can use: scripts, forms, beacons and
WebSockets, with the browser's cookies. The same attack from the app's own page does change
things, or it would prove nothing.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from jobrunner import JobRunner
from jobrunner.web import create_app
from tests.paged import BROWSER, CHROMIUM
from tests.paged import FLAGS as CHROMIUM_FLAGS
from tests.serving import GONE_ON, listening, make_runner

pytestmark = BROWSER
EVIL = "evil.example"
FLAGS = [*CHROMIUM_FLAGS, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
TOKEN = "secret"
KITTENS = "<!doctype html><title>kittens</title>"

ATTACK = """
async ({target, paths, methods}) => {
  const json = {"content-type": "application/json"};
  const text = {"content-type": "text/plain"};
  const done = [];
  const say = (what, path, answer) => done.push([what, path, answer]);
  for (const path of paths) {
    const body = path === "/jobs" ? '{"type": "echo"}' : "{}";
    for (const method of methods) {
      for (const [mode, headers] of [["cors", json], ["cors", {}], ["no-cors", text]]) {
        const options = {method, mode, headers, body, credentials: "include"};
        await fetch(target + path, options).then(
          (r) => say(method, path, r.type === "opaque" ? 0 : r.status),
          () => say(method, path, -1));
      }
    }
    say("beacon", path, Number(navigator.sendBeacon(target + path, body)));
    const frame = document.createElement("iframe");
    frame.name = "f" + done.length;
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: target + path + "?form", enctype: "text/plain",
                         target: frame.name});
    const field = document.createElement("input");
    Object.assign(field, {name: '{"type": "echo", "metadata": {"x": "', value: '"}}'});
    form.append(field);
    document.body.append(form);
    form.submit();
    if (path.includes("ws")) await new Promise((resolve) => {
      const socket = new WebSocket(target.replace("http", "ws") + path);
      socket.onopen = () => {
        say("socket", path, 1);
        socket.send(JSON.stringify({op: "cancel"}));
      };
      socket.onclose = resolve;
      socket.onmessage = () => socket.close();
    });
  }
  return done;
}
"""


class Recorder:
    """The app, and what it was asked: an attack that never arrives proves nothing."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.asked: list[tuple[str, str, int]] = []
        self.forms = asyncio.Semaphore(0)
        """Released by each form that has its answer, of which a page is told nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.close", "websocket.accept"):
                what = scope.get("method", "socket")
                self.asked.append((what, scope["path"], message.get("status", 0)))
            await send(message)
            if scope["query_string"] == b"form" and message["type"] == "http.response.start":
                self.forms.release()

        if scope.get("path") == "/kittens":
            await HTMLResponse(KITTENS)(scope, receive, send)
        else:
            await self.app(scope, receive, send if scope["type"] == "lifespan" else note)


class Scene(NamedTuple):
    """A served runner with a job that waits and one that has ended, and a page elsewhere."""

    recorder: Recorder
    runner: JobRunner
    page: Any
    """In a browser that has the server's cookie."""
    url: str
    evil_port: str
    paths: list[str]

    def state(self) -> Any:
        """Return everything that a request could change."""
        jobs = [(job.id, job.status, job.log.last) for job in self.runner.page(limit=200).jobs]
        stats = self.runner.stats()
        return jobs, self.runner.feed().last, stats.pruned, stats.paused

    async def attack(self, target: str) -> list[tuple[str, str, int]]:
        """Have the page that is open ask for everything, and return what it was told."""
        self.recorder.asked.clear()
        asked = {"target": target, "paths": self.paths, "methods": UNSAFE}
        answers: list[tuple[str, str, int]] = await self.page.evaluate(ATTACK, asked)
        return answers

    async def forms_answered(self) -> None:
        """Wait for the answers to all forms."""
        async with asyncio.timeout(GONE_ON):
            for _ in self.paths:
                await self.recorder.forms.acquire()


async def attacker(request: Request) -> HTMLResponse:
    """A page that somebody was led to."""
    return HTMLResponse(KITTENS)


async def abort(route: Any) -> None:
    """Keep the page from asking for more, which would arrive in the middle of an attack."""
    await route.abort()


@asynccontextmanager
async def scene(auth: str | None) -> AsyncIterator[Scene]:
    """Serve, log the browser in, and have a page elsewhere."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright isn't installed")
    runner, _ = make_runner()
    app = create_app(runner, auth=auth)
    recorder, evil = Recorder(app), Starlette(routes=[Route("/", attacker)])
    async with listening(recorder) as url, listening(evil) as evil_url:
        live = await runner.submit("hold", {"key": "k"}, session_id="s1")
        final = await runner.submit("echo")
        await final.wait()
        async with playwright.async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                page = await browser.new_page()
                page.set_default_timeout(GONE_ON * 1_000)
                await page.route("**/static/*", abort)
                await page.goto(f"{url}/?token={TOKEN}")
                await page.unroute("**/static/*", abort)
                port = evil_url.rpartition(":")[2]
                paths = list(paths_of(app, [live.id, final.id]))
                yield Scene(recorder, runner, page, url, port, paths)
            finally:
                await browser.close()
        await live.cancel()


def paths_of(app: Starlette, job_ids: list[str]) -> list[str]:
    """Return the path of every route for each of the jobs."""
    found = {"/jobs/{job_id}/ws", "/ws/s1"}
    found |= {route.path for route in app.routes if not isinstance(route, Mount)}  # type: ignore[attr-defined]  # all others have one
    return sorted(
        {
            re.sub(r"\{\w+[^}]*\}", "x", path.replace("{job_id}", job_id))
            for path in found
            for job_id in job_ids
        }
    )


@pytest.mark.parametrize("host", ["127.0.0.1", EVIL], ids=["another port", "another site"])
@pytest.mark.parametrize("auth", [TOKEN, None], ids=["logged in", "an open door"])
async def test_a_page_of_another_origin_changes_nothing(auth: str | None, host: str) -> None:
    """Cookies know no ports and an open door no cookies: only the origin tells who asks."""
    async with scene(auth) as there:
        await there.page.goto(f"http://{host}:{there.evil_port}/")
        before = there.state()
        answers = await there.attack(there.url)
        await there.forms_answered()
        assert there.state() == before
        arrived = there.recorder.asked
    assert {answer for what, _, answer in answers if what in UNSAFE} == {0, -1}
    assert "socket" not in {what for what, *_ in answers}
    posted = {path for what, path, status in arrived if (what, status) == ("POST", 403)}
    tried = [path for what, path, _ in arrived if what == "socket"]
    asked_first = {path for what, path, status in arrived if what == "OPTIONS" and status >= 400}
    assert posted == asked_first == set(there.paths)
    assert tried == [path for path in there.paths if "ws" in path]
    # A browser asks for the icon of whatever page it shows, a refusal too.
    others = {(what, path) for what, path, _ in arrived} - {("GET", "/favicon.ico")}
    assert {what for what, _ in others} == {"POST", "OPTIONS", "socket"}, others
    assert {status for what, _, status in arrived if what == "POST"} == {403}


@pytest.mark.parametrize("auth", [TOKEN, None], ids=["logged in", "an open door"])
async def test_a_name_that_was_rebound_to_here_changes_nothing(auth: str | None) -> None:
    """DNS rebinding: to the browser it is that page's own origin, and only its name is wrong.

    The page itself is the attacker's, as it was before its name was made to mean this machine.
    """
    async with scene(auth) as there:
        origin = f"http://{EVIL}:{there.url.rpartition(':')[2]}"
        await there.page.goto(f"{origin}/kittens")
        before = there.state()
        answers = await there.attack(origin)
        await there.forms_answered()
        read = await there.page.evaluate("async () => (await fetch('/jobs')).status")
        assert there.state() == before
    told = {answer for what, _, answer in answers if what in UNSAFE}
    assert told == {400, -1}  # -1: not even sent
    assert "socket" not in {what for what, *_ in answers}
    assert read == 400
    arrived = there.recorder.asked
    for method in UNSAFE:
        assert {path for what, path, _ in arrived if what == method} == set(there.paths)
    assert {status for what, _, status in arrived if what != "socket"} == {400}


async def test_the_app_s_own_page_may_do_all_that() -> None:
    """The same requests from here are taken: what stops the others is where they come from."""
    async with scene(TOKEN) as there:
        await there.page.goto(f"{there.url}/kittens")
        before = there.state()
        answers = await there.attack(there.url)
        assert there.state() != before
    assert {202, 204} <= {answer for _, _, answer in answers}
