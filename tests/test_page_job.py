"""A job's page: submitted, watched live, stopped, run again, and forgotten."""

import re
from typing import Any

from jobrunner import JobContext, JobRunner, JobStatus
from tests.paged import BROWSER, Tab, paged, until
from tests.receiving import Receiver
from tests.serving import Gates

pytestmark = BROWSER
COUNT = "() => document.querySelectorAll('.lines .line').length"


def make_runner(**options: Any) -> tuple[JobRunner, Gates]:
    """Return a runner whose jobs speak, and wait at gates."""
    runner, gates = JobRunner(**{"shutdown_timeout": 0.0, **options}), Gates()

    @runner.job
    async def talk(ctx: JobContext, text: str = "hello", times: int = 2) -> dict[str, Any]:
        """Say something, wait, and say it again."""
        ctx.step(1, 2, "begun")
        for _ in range(times):
            ctx.emit(f"{text}\n")
        await gates["go"].wait()
        ctx.log("gone on", times=times)
        return {"said": [text] * times}

    @runner.job
    async def mother(ctx: JobContext) -> None:
        for text in ("first", "second"):
            await ctx.submit("talk", {"text": text})
        await gates["go"].wait()

    @runner.job
    async def fail() -> None:
        raise ValueError("it is broken\nin two lines")

    return runner, gates


async def facts(tab: Tab) -> dict[str, str]:
    """Return the facts of the job that is shown."""
    names, values = await tab.texts(".facts dt"), await tab.texts(".facts dd")
    return dict(zip(names, values, strict=True))


async def test_a_job_is_submitted_by_a_form_and_watched_to_its_end() -> None:
    """The whole path, with a person at it: form, live output, result."""
    runner, gates = make_runner()
    async with paged(runner) as tab:
        await tab.page.get_by_role("link", name="Submit", exact=True).click()
        await tab.page.get_by_label("Type").select_option("talk")
        await tab.see("Say something, wait, and say it again.")
        await tab.page.get_by_label("text").fill("good morning")
        await tab.page.get_by_label("times").fill("3")
        await tab.page.get_by_text("More options").click()
        await tab.page.get_by_label("session_id").fill("agent-7")
        await tab.page.get_by_role("button", name="Submit job").click()
        await tab.see("good morning", ".lines")
        await tab.see("Step 1 of 2", ".jobhead")
        gates["go"].set()
        await tab.see("Completed", ".jobhead")
        await tab.page.get_by_role("heading", name="Result").wait_for()
        lines, known = await tab.texts(".lines .line"), await facts(tab)
        buttons = await tab.texts(".jobhead button")
    assert lines[:3] == ["good morning"] * 3
    assert re.fullmatch(r'[\d:.]+ gone on \{"times":3\}', lines[3])
    assert (known["Session"], known["Attempt"]) == ("agent-7", "1 of 1")
    assert buttons == ["Run again", "Forget"]
    assert tab.complaints == []


async def test_a_running_job_is_cancelled_by_a_button_that_goes_then() -> None:
    """A button is there when it applies, and only then."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("talk")
        await tab.go(f"jobs/{job.id}")
        await tab.see("hello", ".lines")
        assert await tab.texts(".jobhead button") == ["Cancel"]
        await tab.page.get_by_role("button", name="Cancel").click()
        await tab.see("Cancelled", ".jobhead")
        await tab.page.get_by_role("button", name="Run again").wait_for()
        assert (await job.wait()).cancel_reason == "user"
        assert await tab.texts(".jobhead button") == ["Run again", "Forget"]


async def test_a_failed_job_is_run_again_as_another_one() -> None:
    """The error is shown whole, and the new job says which one it runs again."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("fail")
        await tab.go(f"jobs/{job.id}")
        await tab.see("it is broken", ".detail")
        detail = await tab.page.locator(".detail").inner_text()
        await tab.page.get_by_role("button", name="Run again").click()
        await tab.page.get_by_text("Retry of").wait_for()
        known = await facts(tab)
        back = tab.page.locator(".facts a")
        await back.click()
        await tab.see(job.id, ".facts")
        assert await tab.page.get_by_text("Retry of").count() == 0
    assert detail == "it is broken\nin two lines"
    assert known["Retry of"] == f"{job.id[:16]}…"


async def test_what_the_server_refuses_is_said_in_its_words() -> None:
    """Somebody else has forgotten the job in the meantime."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("fail")
        await tab.go(f"jobs/{job.id}")
        await tab.page.get_by_role("button", name="Run again").wait_for()
        await runner.forget(job.id)
        await tab.page.get_by_role("button", name="Run again").click()
        await tab.see("no longer kept", ".fault")
        await tab.see("This job has ended and is no longer kept", ".banner")
        assert await tab.texts(".jobhead button") == []


async def test_a_job_that_goes_while_it_is_looked_at_is_said_to_be_gone() -> None:
    """Pruning makes no event; the page looks again when the server says that jobs have gone."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        await tab.page.clock.install()
        job = await runner.submit("fail")
        await tab.go(f"jobs/{job.id}")
        await tab.page.get_by_role("button", name="Run again").wait_for()
        async with tab.page.expect_response("**/stats"):
            await tab.page.clock.run_for(6_000)
        await runner.forget(job.id)
        await tab.page.clock.run_for(6_000)
        await tab.see("This job has ended and is no longer kept", ".banner")


async def test_a_job_that_is_forgotten_leaves_the_list() -> None:
    """And who comes back by its address is told so."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("fail")
        await tab.go(f"jobs/{job.id}")
        await tab.page.get_by_role("button", name="Forget").click()
        await tab.see("No jobs yet")
        await tab.page.go_back()
        await tab.see("This job has ended and is no longer kept")


async def test_an_address_of_a_job_opens_its_page_again() -> None:
    """Reloaded, or sent to somebody else; one that is unknown says so."""
    runner, _ = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("talk", {"text": "still here"})
        await tab.go(f"jobs/{job.id}")
        await tab.see("still here", ".lines")
        await tab.page.reload()
        await tab.see("still here", ".lines")
        assert await tab.page.title() == "talk: Running · jobrunner"
        await tab.go("jobs/job_nowhere")
        await tab.see("There is no such job here")


async def test_sub_jobs_are_listed_live_and_lead_back() -> None:
    """Who looks at a job sees what it has started, and what that came of."""
    runner, gates = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("mother")
        await tab.go(f"jobs/{job.id}")
        await tab.see("text=first", ".children")
        await tab.see("text=second", ".children")
        gates["go"].set()
        await tab.see("Completed", ".jobhead")
        await tab.page.locator(".children a", has_text="talk").last.click()
        await tab.page.get_by_text("Parent").wait_for()
        assert (await facts(tab))["Parent"] == f"{job.id[:16]}…"


async def test_deliveries_are_shown_and_sent_again() -> None:
    """A webhook that was refused is seen here, and sent again when the receiver is mended."""
    receiver = Receiver(400, 204)
    runner, _ = make_runner(webhooks=receiver.webhooks(schedule=(0.0,)))
    async with paged(runner) as tab:
        job = await runner.submit("fail")
        await job.wait()
        await receiver.first()
        await tab.go(f"jobs/{job.id}")
        await tab.see("job.failed", ".deliveries")
        await tab.see("HTTP 400", ".deliveries")
        await tab.page.get_by_role("button", name="Send again").click()
        await tab.see("HTTP 204", ".deliveries")
    assert len(receiver.received) == 2


async def test_a_batch_is_shown_with_its_counts_and_cancelled() -> None:
    """Many jobs as one: a bar, the jobs below, and one button for all."""
    runner, _ = make_runner(workers=2)
    async with paged(runner) as tab:
        await tab.go("batches")
        await tab.see("No batches")
        batch = await runner.submit_batch("talk", [{"text": f"t{n}"} for n in range(5)])
        await runner.submit("fail")
        await tab.see("0 of 5", ".batches")
        await tab.page.locator(".batch a").click()
        await tab.see("5 of 6 jobs", ".count")
        assert await tab.texts(".chip .number") == ["3", "2", "0", "0", "0", "0", "0"]
        await tab.page.get_by_role("button", name="Cancel all").click()
        await tab.see(re.compile("^5 of 5"), ".batchhead")
        parts = await tab.page.locator(".stack").get_attribute("aria-label")
        assert await tab.page.get_by_role("button", name="Cancel all").is_visible() is False
    assert parts == "5 cancelled"
    assert batch.view().counts[JobStatus.CANCELLED] == 5


async def test_a_batch_that_ends_while_it_is_asked_for_is_asked_for_again() -> None:
    """No other change would come, and the page would offer to cancel it for ever."""
    runner, gates = make_runner()
    async with paged(runner) as tab:
        batch = await runner.submit_batch("talk", [{"text": "a"}, {"text": "b"}])
        completed = tab.page.get_by_role("button", name="Completed 2")

        async def late(route: Any) -> None:
            answer = await route.fetch()
            gates["go"].set()
            await completed.wait_for()
            await route.fulfill(response=answer)

        await tab.page.route(f"**/batches/{batch.id}", late, times=1)
        await tab.go(f"batches/{batch.id}")
        await tab.see("2 of 2", ".batchhead")
        assert await tab.page.get_by_role("button", name="Cancel all").is_visible() is False


async def test_ten_thousand_events_are_shown_without_a_stop() -> None:
    """The page keeps what is near, and says what it leaves out."""
    runner, _ = make_runner(watchdog=None)  # it would add a line of its own, on a slow machine

    @runner.job
    async def flood(ctx: JobContext) -> None:
        for n in range(10_000):
            ctx.emit(f"line {n}\n")

    async with paged(runner) as tab:
        job = await runner.submit(flood)
        await tab.go(f"jobs/{job.id}")
        await tab.see("Completed", ".jobhead")
        await tab.see("line 9999", ".lines")
        count = await until(tab.page, COUNT, lambda count: count >= 5_000)
        said = await tab.page.locator(".lines").get_attribute("data-cut")
    assert count == 5_000
    assert said == "5,000 older lines aren't shown; download all"
    assert tab.complaints == []
