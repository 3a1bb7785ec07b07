"""How the page looks and is used: themes, a phone, the keyboard, and what axe finds wrong."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jobrunner import JobContext, JobRunner
from tests.paged import BROWSER, Tab, paged, until
from tests.serving import Gates

pytestmark = BROWSER
ROWS = ".rows .row:not([hidden])"
GROUND = "() => getComputedStyle(document.body).backgroundColor"
WIDE = """() => [document.documentElement.scrollWidth, ...document.querySelectorAll("main *")]
  .map((each) => typeof each === "number" ? each : each.closest(
    ".chips, .lines, pre, .tree, .grid, svg") ? 0 : Math.ceil(each.getBoundingClientRect().right))
  .reduce((most, each) => Math.max(most, each), 0)"""
LIGHT, DARK = "rgb(246, 247, 249)", "rgb(21, 23, 27)"


def make_runner() -> tuple[JobRunner, Gates]:
    """Return a runner with jobs that show everything that a job can have."""
    runner, gates = JobRunner(shutdown_timeout=0.0), Gates()

    @runner.job
    async def full(ctx: JobContext, path: str = "a/very/long/path/to/a/file.txt") -> dict[str, Any]:
        """Say and ask everything."""
        ctx.step(3, 7, "Analysing a document with a long name")
        ctx.emit("\x1b[31mred\x1b[42mon green\x1b[0m \x1b[2mdim\x1b[0m\n" * 3)
        ctx.log("a line", path=path)
        ctx.emit({"value": [1, True, None]})
        await ctx.submit("fail", {"text": "of a child"})
        await ctx.ask("Which one is it?", schema=dict[str, int])
        return {}

    @runner.job
    async def fail(text: str) -> None:
        raise ValueError(f"{text} is not what was wanted " * 3)

    @runner.job
    async def done(n: int) -> dict[str, Any]:
        return {"n": n, "list": [1, "two", None, True], "text": "x" * 300}

    return runner, gates


async def places(runner: JobRunner) -> list[str]:
    """Run some jobs, and return the places of all views."""
    waits = await runner.submit("full", session_id="session-1", metadata={"user": "ada"})
    failed = await runner.submit("fail", {"text": "This"})
    done = await runner.submit("done", {"n": 1})
    batch = await runner.submit_batch("done", [{"n": n} for n in range(30)])
    await runner.submit("done", {"n": 2}, delay=3_600.0)
    await runner.wait([failed.id, done.id])
    jobs = [f"jobs/{job.id}" for job in (waits, failed, done)]
    return ["", *jobs, "batches", f"batches/{batch.id}", "new?type=full", "jobs/job_nowhere"]


async def settled(tab: Tab, place: str) -> None:
    """Go to a place, and wait until it is shown."""
    await tab.go(place)
    shown = tab.page.locator(PARTS[place.partition("/")[0].partition("?")[0]])
    await shown.filter(visible=True).first.wait_for()


PARTS = {
    "": ROWS,
    "jobs": ".events li, .banner:not([hidden])",
    "batches": ".stack",
    "new": ".field textarea",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_theme_is_the_system_s_unless_another_one_is_chosen(scheme: Any) -> None:
    """What was chosen holds after a reload too."""
    own, other = (LIGHT, DARK) if scheme == "light" else (DARK, LIGHT)
    async with paged(JobRunner(), color_scheme=scheme) as tab:
        button = tab.page.get_by_role("button", name="Theme")
        grounds = [await tab.page.evaluate(GROUND)]
        for _ in range(2):
            await button.click()
            grounds.append(await tab.page.evaluate(GROUND))
        await tab.page.reload()
        await tab.page.get_by_role("button", name="Theme: dark").wait_for()
        grounds.append(await tab.page.evaluate(GROUND))
        await tab.press("t")
        grounds.append(await tab.page.evaluate(GROUND))
    assert grounds == [own, LIGHT, DARK, DARK, own]
    assert other in grounds


async def test_every_view_fits_a_phone() -> None:
    """At 360 pixels nothing is beyond the edge, and what is long wraps or scrolls by itself."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.page.set_viewport_size({"width": 360, "height": 740})
        for place in await places(runner):
            await settled(tab, place)
            assert await tab.page.evaluate(WIDE) <= 360, place


async def test_the_keyboard_does_everything() -> None:
    """Search, choose, open, back, submit and help without a mouse."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        jobs = [await runner.submit("done", {"n": n}) for n in range(40)]
        await runner.wait([job.id for job in jobs])
        await tab.see("40 jobs", ".count")
        await tab.press("j", "j", "j", "k", "Enter")
        await tab.see(jobs[38].id, ".facts")
        await tab.press("Escape")
        await tab.see("40 jobs", ".count")
        chosen = tab.page.locator(".row[aria-selected=true]")
        assert "n=38" in await chosen.inner_text()
        active = await tab.page.locator(".grid").get_attribute("aria-activedescendant")
        assert active == await chosen.get_attribute("id")
        await tab.press("End")
        await tab.page.locator(".row[aria-selected=true]", has_text="n=0").wait_for()
        await tab.press("/")
        await tab.page.keyboard.type("n=17")
        await tab.see("1 of 40 jobs", ".count")
        await tab.press("Escape")
        await tab.see("40 jobs", ".count")
        await tab.press("?")
        await tab.page.get_by_role("dialog", name="Keyboard").wait_for()
        await tab.press("j", "Escape")
        await tab.unseen("dialog")
        await tab.press("n")
        await tab.see("Submit a job")
        await tab.press("b")
        await tab.see("No batches")
        await tab.press("g")
        await tab.see("40 jobs", ".count")


async def test_letters_in_a_field_are_letters() -> None:
    """Who types `n` into a search hasn't asked for a form."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.see("No jobs yet")
        await tab.press("/")
        await tab.page.keyboard.type("jkn?/bgt")
        assert await tab.page.get_by_role("searchbox").input_value() == "jkn?/bgt"
        assert "new" not in tab.page.url


async def test_a_batch_s_jobs_are_searched_without_leaving_the_field() -> None:
    """The second letter would be a shortcut, and open the form for a new job."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        batch = await runner.submit_batch("done", [{"n": n} for n in (7, 11, 110)])
        await settled(tab, f"batches/{batch.id}")
        head = await tab.page.locator(".batchhead").element_handle()
        await tab.press("/")
        await tab.page.keyboard.type("n=11")
        await tab.see("2 of 3 jobs", ".count")
        assert await tab.page.get_by_role("searchbox").input_value() == "n=11"
        assert await head.is_visible()


async def test_focus_is_seen_and_goes_where_the_view_goes() -> None:
    """A screen reader begins to read where the focus is."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        (_, place, *_) = await places(runner)
        await settled(tab, place)
        at = "() => document.activeElement.tagName"
        await until(tab.page, at, lambda name: name == "H1")
        await tab.press("Tab")
        outline = "() => getComputedStyle(document.activeElement).outlineStyle"
        assert await tab.page.evaluate(outline) == "solid"


async def test_changes_are_told_to_who_listens() -> None:
    """A live region says what the eye sees: the status of the job that is shown."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("full")
        await tab.go(f"jobs/{job.id}")
        await tab.see("The job asks: Which one is it?", "#said")
        await job.cancel()
        await tab.see("full: Cancelled", "#said")


def axe() -> str:
    """Return axe's script, from the package that brings it."""
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python isn't installed, which has axe-core in it")
    (script,) = Path(spec.origin).parent.rglob("axe.min.js")
    return script.read_text("utf-8")


RUN = """() => axe.run(document, {resultTypes: ["violations"]}).then(({violations}) =>
  violations.filter(({impact}) => impact !== "minor").map(({id, impact, nodes}) =>
    [id, impact, nodes.slice(0, 3).map(({html, failureSummary}) => [html, failureSummary])]))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_fault(scheme: Any) -> None:
    """Names, roles, contrast (WCAG AA) and structure, in every view and in both themes."""
    script = axe()
    runner, _ = make_runner()
    async with paged(runner, color_scheme=scheme, bypass_csp=True) as tab:
        for place in await places(runner):
            await settled(tab, place)
            await tab.page.evaluate(script)
            found = await tab.page.evaluate(RUN)
            assert found == [], (place, found)
        await tab.press("?")
        assert await tab.page.evaluate(RUN) == []
