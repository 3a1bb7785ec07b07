"""The page when the server is away, is another one, or wants to know who asks; and two of it."""

import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jobrunner import JobContext, JobRunner, Limits
from jobrunner.server import serving
from jobrunner.web import create_app
from tests.paged import BROWSER, browsing, line_to, open_tab, paged, until
from tests.serving import Gates, listening

pytestmark = BROWSER
ROWS = ".rows .row:not([hidden])"
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
WATCH_STREAMS = """
window.streams = [];
window.EventSource = class extends EventSource {
  constructor(url) { super(url); window.streams.push(this); }
};
"""
STREAMS = """() => window.streams.filter(({readyState}) => readyState !== EventSource.CLOSED)
  .map(({url}) => url.replace(/.*[/]|[?].*/g, ""))"""


def make_runner(**limits: int) -> tuple[JobRunner, Gates]:
    """Return a runner whose jobs speak when their gate opens."""
    runner, gates = JobRunner(shutdown_timeout=0.0, limits=Limits(**limits)), Gates()

    @runner.job
    async def talk(ctx: JobContext, name: str) -> str:
        ctx.emit(f"{name} begins\n")
        await gates[name].wait()
        ctx.emit(f"{name} ends\n")
        return name

    return runner, gates


async def test_a_lost_connection_is_said_and_made_up_for() -> None:
    """What happened meanwhile is there when it is back, each line of output once."""
    runner, gates = make_runner()
    async with serving(runner) as server, line_to(server) as line, browsing() as context:
        first = await runner.submit("talk", {"name": "first"})
        tab = await open_tab(context, line.url, server.token)
        await tab.see("▶ Running", ROWS)
        beside = await open_tab(context, line.url, server.token, f"jobs/{first.id}")
        await beside.see("first begins", ".lines")
        line.cut(until_mended=True)
        for each in (tab, beside):
            await each.see("connection lost", "#connection")
            await each.see("The connection to the server is lost", "#banner")
        gates["first"].set()
        await first.wait()
        await runner.submit("talk", {"name": "second"})
        line.mend()
        await tab.see("live", "#connection")
        await tab.see("✓ Completed", ROWS)
        await tab.see("name=second", ROWS)
        await beside.see("Completed", ".jobhead")
        await beside.see("first ends", ".lines")
        assert await tab.page.locator("#banner").is_visible() is False
        assert await beside.texts(".lines .line") == ["first begins", "first ends"]


@pytest.mark.parametrize(
    ("place", "asked", "shown"),
    [
        ("jobs/{job}", "/jobs/{job}", ("x begins", ".lines")),
        ("batches/{batch}", "/batches/{batch}", ("0 of 1", ".batchhead")),
        ("batches", "/batches/{batch}", ("0 of 1", ".batches")),
        ("new?type=talk", "/types", ("Submit job", "form")),
    ],
    ids=["a job", "a batch", "the batches", "the form"],
)
async def test_what_is_opened_while_the_server_is_away_is_there_when_it_is_back(
    place: str, asked: str, shown: tuple[str, str]
) -> None:
    """It would look alive beside the word "live", and never change."""
    runner, _ = make_runner()
    async with serving(runner) as server, line_to(server) as line, browsing() as context:
        batch = await runner.submit_batch("talk", [{"name": "x"}])
        names = {"batch": batch.id, "job": batch.job_ids[0]}
        tab = await open_tab(context, line.url, server.token)
        await tab.see("▶ Running", ROWS)
        line.cut(until_mended=True)
        await tab.see("connection lost", "#connection")
        end = asked.format(**names)
        async with tab.page.expect_event("requestfailed", lambda each: each.url.endswith(end)):
            await tab.go(place.format(**names))
        line.mend()
        await tab.see(*shown)
        assert await tab.page.get_by_role("alert").filter(visible=True).count() == 0


@pytest.mark.parametrize("busier", [False, True], ids=["fewer events", "more events"])
async def test_another_server_in_the_same_place_has_its_own_jobs(busier: bool) -> None:
    """After a restart nothing of before is true, whatever its number in the feed is."""
    old, _ = make_runner()
    new, gates = make_runner()
    async with serving(old, token="t") as server, line_to(server) as line, browsing() as context:
        job = await old.submit("talk", {"name": "old"})
        tab = await open_tab(context, line.url, "t")
        beside = await open_tab(context, line.url, "t", f"jobs/{job.id}")
        await tab.see("name=old", ROWS)
        await beside.see("old begins", ".lines")
        async with serving(new, token="t") as other:
            for n in range(5 if busier else 0):
                gates[f"{n}"].set()
                await (await new.submit("talk", {"name": f"{n}"})).wait()
            line.lead_to(other)
            line.cut()
            await beside.see("There is no such job here")
            await new.submit("talk", {"name": "new"})
            await tab.see("name=new", ROWS)
            await tab.see("6 jobs" if busier else "1 job", ".count")
            assert await tab.page.locator(ROWS, has_text="name=old").count() == 0


async def test_a_gap_in_the_feed_is_closed_by_the_list() -> None:
    """The page was away for longer than the server remembers."""
    runner, gates = make_runner(max_feed=3)
    async with serving(runner) as server, line_to(server) as line, browsing() as context:
        jobs = [await runner.submit("talk", {"name": name}) for name in ("a", "b")]
        tab = await open_tab(context, line.url, server.token)
        await tab.see("2 jobs", ".count")
        line.cut(until_mended=True)
        await tab.see("connection lost", "#connection")
        for name in ("a", "b", *map(str, range(10))):
            gates[name].set()
        for n in range(10):
            await (await runner.submit("talk", {"name": f"{n}"})).wait()
        await runner.forget((await jobs[0].wait()).job_id)
        line.mend()
        await tab.see("11 jobs", ".count")
        await tab.page.get_by_role("button", name="Completed 11").wait_for()
        assert await tab.page.locator(ROWS, has_text="name=a").count() == 0


async def test_who_is_signed_out_signs_in_again_where_they_are() -> None:
    """A server that was started anew has another token; the page stays, and goes on."""
    old, _ = make_runner()
    new, _ = make_runner()
    async with serving(old, token="old") as server, line_to(server) as line, browsing() as context:
        tab = await open_tab(context, line.url, "old", "?status=running")
        await tab.see("live", "#connection")
        async with serving(new, token="new") as other:
            await new.submit("talk", {"name": "secret"})
            line.lead_to(other)
            line.cut()
            dialog = tab.page.get_by_role("dialog", name="Sign in")
            await dialog.wait_for()
            await tab.see("signed out", "#connection")
            await dialog.get_by_label("Token").fill("wrong")
            await dialog.get_by_role("button", name="Sign in").click()
            await tab.see("not this server's token", "dialog")
            await dialog.get_by_label("Token").fill("new")
            await tab.press("Enter")
            await tab.see("name=secret", ROWS)
            await tab.see("live", "#connection")
            assert await dialog.count() == 0
            assert tab.page.url.endswith("#/?status=running")


async def test_a_page_that_was_signed_out_by_a_server_goes_on_with_the_next_one() -> None:
    """It was started with a wrong token, stopped, and started with the right one."""
    servers = [make_runner()[0] for _ in range(3)]
    async with (
        serving(servers[0], token="right") as server,
        serving(servers[1], token="wrong") as wrong,
        serving(servers[2], token="right") as right,
        line_to(server) as line,
        browsing() as context,
    ):
        tab = await open_tab(context, line.url, "right")
        await tab.see("live", "#connection")
        line.lead_to(wrong)
        line.cut()
        await tab.see("signed out", "#connection")
        line.cut(until_mended=True)
        await tab.see("connection lost", "#connection")
        line.lead_to(right)
        line.mend()
        await servers[2].submit("talk", {"name": "next"})
        await tab.see("live", "#connection")
        await tab.see("name=next", ROWS)


async def test_who_has_no_token_is_asked_for_it_before_anything_else() -> None:
    """The page itself isn't shown to strangers."""
    runner, _ = make_runner()
    async with serving(runner, token="right") as server, browsing() as context:
        page = await context.new_page()
        await page.goto(f"{server.url}/")
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("not this server's token").wait_for()
        await page.get_by_label("Token").fill("right")
        await page.keyboard.press("Enter")
        await page.get_by_text("No jobs yet").wait_for()
        assert page.url == f"{server.url}/"


async def test_the_page_works_where_an_app_has_mounted_it() -> None:
    """Behind a prefix, its files, requests, streams and links are below that."""
    runner, gates = make_runner()
    mount = Mount("/jobs api", app=create_app(runner, auth="right"))
    app = Starlette(routes=[mount], lifespan=runner.lifespan)
    async with listening(app) as url, browsing() as context:
        tab = await open_tab(context, f"{url}/jobs%20api", "right")
        job = await runner.submit("talk", {"name": "below"})
        await tab.page.get_by_role("link", name="talk").click()
        await tab.see("below begins", ".lines")
        gates["below"].set()
        await tab.see("Completed", ".jobhead")
        link = await tab.page.get_by_role("link", name="Download").get_attribute("href")
        strays = [each for each in tab.asked if not each.startswith(f"{url}/jobs%20api/")]
    assert str(link).endswith(f"/jobs/{job.id}/logs")
    assert (strays, tab.complaints) == ([], [])


async def test_a_tab_that_is_opened_in_the_background_waits_until_it_is_seen() -> None:
    """Ten of them would take all connections that a browser has for a server."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        job = await runner.submit("talk", {"name": "x"})
        await context.add_init_script(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        )
        tab = await open_tab(context, server.url, server.token, f"jobs/{job.id}")
        await tab.see("talk", ".jobhead")
        assert [url for url in tab.asked if "/stream" in url or "/events" in url] == []
        await tab.page.evaluate(HIDE, False)
        await tab.see("x begins", ".lines")
        await tab.see("live", "#connection")


async def test_who_signs_in_in_another_tab_is_signed_in_here_too() -> None:
    """The cookie is the browser's; the form goes by itself, as the page looks every 5 s."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        tab = await open_tab(context, server.url, server.token)
        await tab.see("live", "#connection")
        await context.clear_cookies()
        await tab.see("signed out", "#connection")
        await open_tab(context, server.url, server.token)
        await tab.see("live", "#connection")
        await tab.unseen("dialog")


async def test_two_tabs_show_the_same() -> None:
    """What is done in one is seen in the other."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        one, two = [await open_tab(context, server.url, server.token) for _ in range(2)]
        job = await runner.submit("talk", {"name": "x"})
        await one.go(f"jobs/{job.id}")
        await two.see("▶ Running", ROWS)
        await one.page.get_by_role("button", name="Cancel").click()
        await two.see("⊘ Cancelled", ROWS)


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_browser_s_wrong_clock_makes_no_wrong_ages(days: int) -> None:
    """Ages and durations are the server's, from the clock that it tells with each answer."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        ahead = days * 86_400_000
        await context.add_init_script(
            f"{{const now = Date.now.bind(Date); Date.now = () => now() + {ahead};}}"
        )
        job = await runner.submit("talk", {"name": "x"})
        tab = await open_tab(context, server.url, server.token)
        await tab.see("name=x", ROWS)
        age = (await tab.texts(".c-age time"))[0]
        took = (await tab.texts(f"{ROWS} .c-took"))[0]
        await tab.go(f"jobs/{job.id}")
        await tab.see("x begins", ".lines")
        known = await tab.texts(".facts dd time")
    assert re.fullmatch(r"now|\d+ s", age)
    assert re.fullmatch(r"[\d.]+ m?s", took)
    assert all(re.fullmatch(r"now|\d+ s ago", text) for text in known), known


async def test_a_page_in_the_background_lets_its_connections_go() -> None:
    """A browser has six to a server for all its tabs, and the seventh would wait for ever."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.page.clock.install()
        await tab.see("live", "#connection")
        await tab.page.evaluate(HIDE, True)
        await tab.page.clock.run_for(16_000)
        asked = len([url for url in tab.asked if "/events" in url])
        await runner.submit("talk", {"name": "meanwhile"})
        assert await tab.page.locator(ROWS).count() == 0
        await tab.page.evaluate(HIDE, False)
        await tab.page.clock.run_for(1_000)
        await tab.see("name=meanwhile", ROWS)
        streams = [url for url in tab.asked if "/events" in url]
        assert len(streams) == asked + 1
        assert re.search(r"\?after=\d+$", streams[-1])


async def test_a_page_in_the_background_leaves_a_network_that_returns_to_others() -> None:
    """Each laptop that wakes up would give all connections to tabs that nobody sees."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        await context.add_init_script(WATCH_STREAMS)
        tab = await open_tab(context, server.url, server.token)
        await tab.see("live", "#connection")
        await tab.page.evaluate(HIDE, True)
        await tab.page.evaluate("() => dispatchEvent(new Event('online'))")
        assert await tab.page.evaluate(STREAMS) == []
        await runner.submit("talk", {"name": "meanwhile"})
        await tab.page.evaluate(HIDE, False)
        await tab.see("name=meanwhile", ROWS)
        assert await tab.page.evaluate(STREAMS) == ["events"]


async def test_a_page_in_the_background_does_not_come_again_when_it_was_refused() -> None:
    """It may ask why; a stream waits until somebody looks."""
    runner, _ = make_runner()
    async with serving(runner) as server, line_to(server) as line, browsing() as context:
        await context.add_init_script(WATCH_STREAMS)
        job = await runner.submit("talk", {"name": "x"})
        tab = await open_tab(context, line.url, server.token, f"jobs/{job.id}")
        await tab.see("x begins", ".lines")
        await tab.page.clock.install()
        refused = re.compile(r"/(events|stream)(\?|$)")
        await tab.page.route(refused, lambda route: route.fulfill(status=502))
        line.cut()
        await until(tab.page, STREAMS, lambda streams: streams == [])
        await tab.page.unroute(refused)
        await tab.page.evaluate(HIDE, True)
        async with tab.page.expect_response("**/stats"):
            await tab.page.clock.run_for(5_000)
        await tab.page.evaluate("() => fetch('stats').then((answer) => answer.text())")
        assert await tab.page.evaluate(STREAMS) == []
        await tab.page.evaluate(HIDE, False)
        await tab.see("live", "#connection")
        await until(tab.page, STREAMS, lambda streams: sorted(streams) == ["events", "stream"])


async def test_a_job_s_page_that_was_refused_has_one_stream_afterwards() -> None:
    """A second one would stay when the job is left, and take a connection until the tab goes."""
    runner, _ = make_runner()
    async with serving(runner) as server, browsing() as context:
        await context.add_init_script(WATCH_STREAMS)
        job = await runner.submit("talk", {"name": "x"})
        tab = await open_tab(context, server.url, server.token)
        await tab.see("live", "#connection")
        await tab.page.clock.install()
        await tab.page.route("**/stream", lambda route: route.fulfill(status=502))
        await tab.go(f"jobs/{job.id}")
        await tab.see("talk", ".jobhead")
        await until(tab.page, STREAMS, lambda streams: streams == ["events"])
        await tab.page.evaluate("() => fetch('stats').then((answer) => answer.text())")
        await tab.page.unroute("**/stream")
        await tab.page.evaluate(HIDE, False)
        await tab.see("x begins", ".lines")
        await tab.page.clock.run_for(3_000)
        assert await tab.page.evaluate(STREAMS) == ["events", "stream"]
