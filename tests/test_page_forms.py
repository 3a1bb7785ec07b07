"""Forms made of JSON schemas: questions that are answered, and faults shown where they are."""

import asyncio
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from jobrunner import JobContext, JobRunner
from tests.paged import BROWSER, paged

pytestmark = BROWSER


class Place(BaseModel):
    """Where."""

    street: str
    number: Annotated[int, Field(ge=1)] = 1


class Order(BaseModel):
    """What is ordered."""

    size: Literal["small", "large"]
    count: Annotated[int, Field(ge=1, le=10)]
    price: float = 9.5
    gift: bool = False
    note: str | None = None
    tags: list[str] = []
    ids: list[int] = []
    to: Place
    rest: dict[str, Any] = {}


def make_runner() -> JobRunner:
    """Return a runner whose jobs ask, and return what they are answered."""
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def sure(ctx: JobContext) -> bool:
        return bool(await ctx.ask("Are you sure?", schema=bool))

    @runner.job
    async def order(ctx: JobContext) -> Any:
        answer = await ctx.ask("What shall it be?", schema=Order)
        return answer.model_dump()

    @runner.job
    async def two(ctx: JobContext) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ctx.ask(f"Question {n}?", schema=str)) for n in (1, 2)]
        return [task.result() for task in asked]

    @runner.job
    async def exact(number: int, of: Order | None = None) -> int:
        return number

    @runner.job(name="no params")
    async def nothing() -> None:
        return None

    return runner


async def test_a_yes_or_no_is_a_click() -> None:
    """Nobody wants to choose from a list of two."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("sure")
        await tab.see("Are you sure?", ".rows .row")
        await tab.see("? Needs answer", ".rows .row")
        await tab.go(f"jobs/{job.id}")
        await tab.see("Are you sure?", ".question")
        await tab.page.get_by_role("button", name="No", exact=True).click()
        assert await job.result() is False
        await tab.see("Completed", ".jobhead")
        await tab.unseen(".question")


async def test_an_object_is_a_form_and_faults_stand_at_their_fields() -> None:
    """The server alone says what fits; the page shows it where it is, and keeps what was typed."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("order")
        await tab.go(f"jobs/{job.id}")
        form = tab.page.locator(".question")
        await form.get_by_label("count").fill("11")
        await form.get_by_label("tags").fill("red\ngreen")
        await form.get_by_label("ids").fill("12345678901234567890\nx")
        await form.get_by_label("street").fill("Main St")
        await form.get_by_role("button", name="Answer", exact=True).click()
        await tab.see("less than or equal to 10", ".question")
        faults = {await label.inner_text(): await fault.inner_text() for label, fault in [
            (field.locator("label"), field.locator(".fault"))
            for field in await form.locator(".field:has([aria-invalid=true])").all()
        ]}  # fmt: skip
        focused = await tab.page.evaluate("() => document.activeElement.previousSibling.innerText")
        await form.get_by_label("size").select_option("large")
        await form.get_by_label("count").fill("3")
        await form.get_by_label("ids").fill("12345678901234567890")
        await form.get_by_role("button", name="Answer", exact=True).click()
        result = await job.result()
    assert {name.split()[0].removesuffix("optional") for name in faults} == {"size", "count", "ids"}
    assert focused == "size"
    assert result == {
        "size": "large", "count": 3, "price": 9.5, "gift": False, "note": None,
        "tags": ["red", "green"], "ids": [12345678901234567890],
        "to": {"street": "Main St", "number": 1}, "rest": {},
    }  # fmt: skip


async def test_an_answer_may_be_written_as_json() -> None:
    """Some schemas need it, and some people would rather."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("order")
        await tab.go(f"jobs/{job.id}")
        form = tab.page.locator(".question")
        await form.get_by_label("street").fill("Main St")
        await form.get_by_role("button", name="As JSON").click()
        text = form.get_by_label("As JSON")
        assert '"street": "Main St"' in await text.input_value()
        await text.fill('{"size": "small", "count": 0, "to"')
        await form.get_by_role("button", name="Answer", exact=True).click()
        await tab.see("JSON", ".question .fault")
        await text.fill('{"size": "small", "count": 0, "to": {"street": "x"}}')
        await form.get_by_role("button", name="Answer", exact=True).click()
        await tab.see("value/count", ".question .fault")
        await text.fill('{"size": "small", "count": 1, "to": {"street": "x"}}')
        await form.get_by_role("button", name="Answer", exact=True).click()
        assert (await job.result())["count"] == 1


async def test_each_of_several_questions_has_its_own_form() -> None:
    """What was typed for one stays while the other is answered."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("two")
        await tab.go(f"jobs/{job.id}")
        await tab.see("Question 2?", ".question")
        first, second = (tab.page.locator(".question", has_text=f"Question {n}?") for n in (1, 2))
        await first.get_by_label("Answer").fill("one")
        await second.get_by_label("Answer").fill("two\nlines")
        await second.get_by_role("button", name="Answer", exact=True).click()
        await second.wait_for(state="detached")
        assert await first.get_by_label("Answer").input_value() == "one"
        await first.get_by_role("button", name="Answer", exact=True).click()
        assert await job.result() == ["one", "two\nlines"]


async def test_somebody_else_s_answer_closes_the_form() -> None:
    """Two tabs, a person with a link, a time that is over: the first answer counts."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await runner.submit("sure")
        await tab.go(f"jobs/{job.id}")
        await tab.see("Are you sure?", ".question")
        await runner.answer(job.id, None, True)
        await tab.unseen(".question")
        await tab.see("Answered by", ".events")


async def test_a_submit_that_is_refused_says_why_at_the_field() -> None:
    """Numbers go as they were written, whatever their length; what is none goes as a text."""
    runner = make_runner()
    async with paged(runner, "new?type=exact") as tab:
        submit = tab.page.get_by_role("button", name="Submit job")
        await tab.page.get_by_label("number").first.fill("twelve")
        await submit.click()
        await tab.see("valid integer", ".field .fault")
        invalid = tab.page.locator("[aria-invalid=true]")
        described = str(await invalid.get_attribute("aria-describedby")).split()[0]
        assert "valid integer" in await tab.page.locator(f"#{described}").inner_text()
        await tab.page.get_by_label("number").first.fill("123456789012345678")
        await tab.page.get_by_text("More options").click()
        await tab.page.get_by_label("priority").fill("1000")
        await submit.click()
        await tab.see("-100", ".fault")
        await tab.page.get_by_label("priority").fill("7")
        await submit.click()
        await tab.see("Completed", ".jobhead")
        await tab.see("123456789012345678", "[aria-label=Result]")
        (job,) = runner.page().jobs
    assert (job.params, job.priority) == (b'{"number":123456789012345678,"of":null}', 7)
    assert job.result == b"123456789012345678"


async def test_a_type_without_params_needs_no_form() -> None:
    """And a runner without types says what to do."""
    runner = make_runner()
    async with paged(runner, "new?type=no%20params") as tab:
        await tab.see("Takes no parameters.")
        await tab.page.get_by_role("button", name="Submit job").click()
        await tab.see("Completed", ".jobhead")
    async with paged(JobRunner(), "new") as tab:
        await tab.see("This runner has no job types yet")
