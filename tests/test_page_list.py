"""The page's list: live, narrowed down, and fluent with thousands of jobs."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner import JobContext, JobRunner
from tests.paged import BROWSER, paged, until
from tests.serving import Gates

pytestmark = BROWSER
ROWS = ".rows .row:not([hidden])"
MANY = 5_000
AT = "2026-11-23T06:00:00.000Z"


def make_runner() -> tuple[JobRunner, Gates]:
    """Return a runner whose jobs wait at gates, take steps and fail."""
    runner, gates = JobRunner(shutdown_timeout=0.0), Gates()

    @runner.job
    async def walk(ctx: JobContext, name: str) -> str:
        ctx.step(3, 7, f"{name} is on its way")
        await gates[name].wait()
        if name == "lost":
            raise ValueError("no way to be seen")
        return name

    @runner.job
    async def echo(value: int) -> int:
        return value

    @runner.job
    async def tick() -> None:
        await gates["tick"].wait()

    return runner, gates


async def test_an_empty_list_says_how_to_submit_and_fills_by_itself() -> None:
    """A new user sees this first; the first job appears without a reload."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.see("No jobs yet")
        await tab.see("jobrunner submit TYPE")
        await runner.submit("walk", {"name": "a"})
        await tab.see("name=a", ROWS)
        (row,) = await tab.texts(ROWS)
    assert row.startswith("▶ Running walk a is on its way name=a Step 3 of 7")
    assert tab.complaints == []


async def test_a_job_without_params_has_its_type_live_too() -> None:
    """An event brings the row, and a list its details; nobody reloads the page for them."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.see("No jobs yet")
        await tab.see("live", "#connection")
        await runner.submit("tick")
        await tab.page.locator(f"{ROWS} .type", has_text="tick").wait_for()


async def test_each_status_comes_live_with_a_shape_and_a_word() -> None:
    """Colour alone tells some people nothing."""
    runner, gates = make_runner()
    async with paged(runner) as tab:
        lost = await runner.submit("walk", {"name": "lost"})
        found = await runner.submit("walk", {"name": "found"})
        late = await runner.submit("walk", {"name": "late"}, delay=3_600.0)
        await tab.see("○ Pending", ROWS)
        gates["lost"].set()
        gates["found"].set()
        await tab.see("✕ Failed", ROWS)
        await tab.see("✓ Completed", ROWS)
        await late.cancel()
        await tab.see("⊘ Cancelled", ROWS)
        await tab.see("no way to be seen", ROWS)
        links = [await each.get_attribute("href") for each in await tab.page.locator(
            f"{ROWS} a").all()]  # fmt: skip
        counts = await tab.texts(".chip")
    assert links == [f"#/jobs/{job.id}" for job in (late, found, lost)]
    assert counts == ["○ Pending 0", "▶ Running 0", "↻ Retrying 0", "? Needs answer 0",
                      "✓ Completed 1", "✕ Failed 1", "⊘ Cancelled 1"]  # fmt: skip


async def many(runner: JobRunner) -> None:
    """Have five thousand jobs: of a hundred sessions, every tenth of another type and waiting."""
    for n in range(MANY):
        session = f"session {n % 100}"
        if n % 10:
            await runner.submit("echo", {"value": n}, session_id=session)
        else:
            await runner.submit("walk", {"name": f"{n}"}, session_id=session, delay=3_600.0)
        if n % 500 == 499:
            await asyncio.sleep(0)
    jobs = [job.id for job in runner.page(type="echo", limit=200).jobs]
    await runner.wait(jobs)


async def test_five_thousand_jobs_are_narrowed_down_at_once() -> None:
    """By status, type, session and text, together too; only what is seen is in the document."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await many(runner)
        await tab.see("5,000 jobs", ".count")
        count = tab.page.locator(".count")
        assert await tab.page.locator(".row").count() < 60
        await tab.page.get_by_role("button", name="Pending").click()
        await count.get_by_text("500 of 5,000 jobs").wait_for()
        await tab.page.get_by_label("Only of session").select_option("session 10")
        await count.get_by_text("50 of 5,000 jobs").wait_for()
        await tab.page.get_by_role("button", name="Pending").click()
        await tab.page.get_by_label("Only of session").select_option("")
        await tab.page.get_by_label("Only of type").select_option("echo")
        await count.get_by_text("4,500 of 5,000 jobs").wait_for()
        await tab.page.get_by_role("searchbox").fill("value=4321")
        await count.get_by_text("1 of 5,000 jobs").wait_for()
        rows = await tab.texts(f"{ROWS} .about")
        await tab.page.reload()
        await count.get_by_text("1 of 5,000 jobs").wait_for()
        url = tab.page.url
    assert rows == ["value=4321"]
    assert url.endswith("#/?type=echo&text=value%3D4321")
    assert tab.complaints == []


async def test_a_filter_holds_while_jobs_come_and_go() -> None:
    """What fits comes, what no longer fits leaves, and nothing else is shown meanwhile."""
    runner, gates = make_runner()
    async with paged(runner, "?status=running") as tab:
        await tab.see("No jobs yet")
        for name in ("a", "b"):
            await runner.submit("walk", {"name": name})
        await runner.submit("echo", {"value": 1})
        await tab.see("2 of 3 jobs", ".count")
        gates["a"].set()
        await tab.see("1 of 3 jobs", ".count")
        await tab.see("name=b", ROWS)
        assert await tab.texts(f"{ROWS} .about") == ["name=b"]
        gates["b"].set()
        await tab.see("No job fits")
        await tab.page.get_by_role("button", name="Show all jobs").click()
        await tab.see("3 jobs", ".count")


async def test_who_has_scrolled_down_stays_at_the_row_that_they_look_at() -> None:
    """New jobs come above; a list that jumps can't be read."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        for n in range(300):
            await runner.submit("echo", {"value": n})
        await tab.see("300 jobs", ".count")
        grid = tab.page.locator(".grid")
        await grid.evaluate("(grid) => { grid.scrollTop = 34 * 100; }")
        at = "() => document.elementFromPoint(500, 500).closest('.row')?.textContent ?? ''"
        before = await until(tab.page, at, lambda text: "value=" in text)
        for n in range(300, 350):
            await runner.submit("echo", {"value": n})
        await tab.see("350 jobs", ".count")
        after = await tab.page.evaluate(at)
        assert await tab.page.locator(".row").count() < 60
    name = re.compile(r"value=\d+")
    assert name.findall(before) == name.findall(after)


async def test_a_list_begins_at_its_top_unless_one_comes_back_to_it() -> None:
    """A short list, scrolled as far as a long one was, would be blank."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        jobs = [await runner.submit("echo", {"value": n}, session_id="mine") for n in range(12)]
        for n in range(12, 300):
            await runner.submit("echo", {"value": n})
        await tab.see("300 jobs", ".count")
        grid = tab.page.locator(".grid")
        await grid.evaluate("(grid) => { grid.scrollTop = 1e6; }")
        await tab.see("value=0", ROWS)
        down = await grid.evaluate("(grid) => grid.scrollTop")
        await tab.go(f"jobs/{jobs[0].id}")
        await tab.page.locator(".facts").get_by_role("link", name="mine").click()
        await tab.see("12 of 300 jobs", ".count")
        assert len(await tab.texts(ROWS)) == 12
        await tab.go()
        await tab.see("value=299", ROWS)
        await grid.evaluate("(grid) => { grid.scrollTop = 1e6; }")
        await tab.see("value=0", ROWS)
        await tab.go(f"jobs/{jobs[0].id}")
        await tab.page.get_by_role("link", name="← Jobs").click()
        await tab.see("value=0", ROWS)
        assert await grid.evaluate("(grid) => grid.scrollTop") == down


@pytest.mark.parametrize("value", ["\u202egpj.exe", "w" * 10_000, "a\r\n\tb\0"])
async def test_a_strange_text_stays_in_its_cell(value: str) -> None:
    """Marks that turn text around are shown as what they are, and long words are cut."""
    runner, gates = make_runner()
    async with paged(runner) as tab:
        await runner.submit("walk", {"name": value})
        await tab.see(re.compile(r"name=|large params"), ROWS)
        wide = await tab.page.evaluate("() => document.documentElement.scrollWidth")
        text = (await tab.texts(f"{ROWS} .about"))[0]
        gates[value].set()
    assert wide == 1280
    assert "\u202e" not in text
    assert text.startswith("name=") or text == "(large params)"


ROW = """
(steps) => import("./static/jobs.js").then(({ Jobs }) => {
  const jobs = new Jobs(), walk = jobs.walk();
  const does = {
    list: (job) => walk.take(job), ask: (job) => jobs.take(job), end: () => walk.end(false),
    done: (data) => jobs.event("done", data), status: (data) => jobs.event("status", data),
  };
  for (const [what, data] of steps) does[what](data);
  const [{ status, seq, started }] = jobs.order;
  return [status, seq, started !== null, jobs.counts.running, jobs.counts.completed];
})
"""
JOB = {
    "job_id": "job_1", "type": "t", "params": {}, "metadata": {}, "created_at": AT, "last_seq": 2,
    "status": "running", "started_at": AT, "finished_at": None, "cancel_requested_at": None,
}  # fmt: skip
DONE = {"job_id": "job_1", "seq": 3, "status": "completed", "error": None, "at": AT}
BEGUN = {"job_id": "job_1", "seq": 2, "status": "running", "attempt": 1, "at": AT}
NEW = {"job_id": "job_1", "seq": 1, "status": "pending", "attempt": 0, "at": AT}
ORDERS = [
    [["list", JOB], ["end", None], ["status", BEGUN], ["done", DONE]],
    [["done", DONE], ["list", JOB], ["end", None]],
    [["status", BEGUN], ["done", DONE], ["list", JOB], ["end", None]],
    [["end", None], ["status", NEW], ["status", BEGUN], ["done", DONE], ["ask", JOB]],
    [["list", JOB], ["done", DONE], ["status", BEGUN], ["end", None], ["ask", JOB]],
]


async def test_lists_and_events_come_to_the_same_in_any_order() -> None:
    """An answer may be older than the events that overtook it, or newer than those to come."""
    async with paged(JobRunner()) as tab:
        for steps in ORDERS:
            found = await tab.page.evaluate(ROW, steps)
            assert found == ["completed", 3, True, 0, 1], steps


MEASURE = """
(rows) => import("./static/charts.js").then(({ measure, BUCKETS }) => {
  const found = Object.entries(measure(rows, 1e12));
  const some = found.map(([name, values]) => [name, values.slice(BUCKETS - 4)]);
  return [Object.fromEntries(some), found.map(([, values]) => values.length)];
})
"""


async def test_the_charts_are_what_the_jobs_say() -> None:
    """What waited, ended and failed in each five seconds, and the middle of waits and runs."""
    now = 1_000_000_000_000
    ended = {"created": now - 12_000, "started": now - 7_000, "finished": now - 2_000}
    old = {"created": now - 900_000, "started": now - 800_000, "finished": None}
    waits = {"created": now - 1_000, "started": None, "finished": None, "status": "pending"}
    rows = [ended | {"status": "failed"}, old | {"status": "running"}, waits]
    async with paged(JobRunner()) as tab:
        found, lengths = await tab.page.evaluate(MEASURE, rows)
    assert lengths == [60] * 5
    assert found == {
        "queue": [1, 0, 1, 1], "ended": [0, 0, 1, 0], "failed": [0, 0, 1, 0],
        "waits": [None, 5_000, None, None], "runs": [None, None, 5_000, None],
    }  # fmt: skip


def test_the_benchmark_of_the_page_measures_each_use() -> None:
    """What the README says of its frames can be measured again by anybody."""
    command = [sys.executable, "-m", "tests.benchmarks.page", "--jobs", "200", "--seconds", "0.2"]
    pytest.importorskip("playwright", reason="playwright isn't installed")
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()[3:]
    assert [line[:28].strip() for line in lines] == [
        "the list", "narrowed down by a text", "while it is scrolled", "a job that goes on",
    ], done.stderr  # fmt: skip
