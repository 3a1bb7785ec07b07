"""How questions end, from where they are asked, and what can't be asked."""

import asyncio
import contextlib
import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from jobrunner import (
    InvalidAnswer,
    InvalidOption,
    JobContext,
    JobRunner,
    Limits,
    NotWaitingForInput,
    Question,
    QueueFull,
)
from jobrunner.context import Desk
from jobrunner.testing import unix_now, virtual_time
from tests.people import asked, asking
from tests.records import make_job
from tests.runners import ended_after, reason, runner_with


@virtual_time
async def test_a_drain_says_that_it_waits_for_people(caplog: pytest.LogCaptureFixture) -> None:
    """It may be for ever, and not in silence."""
    async with asking() as runner:
        job = await asked(runner)
        with pytest.raises(TimeoutError, match="still run or wait, 1 of them for an answer after"):
            await runner.drain(timeout=5.0)
        draining = asyncio.create_task(runner.drain())
        await asyncio.sleep(1.0)
        await job.answer("q1", True)
        await draining
    said = [each.getMessage() for each in caplog.records if each.name == "jobrunner.lookup"]
    assert said == ["drain waits for answers to the questions of 1 jobs"] * 2


@virtual_time
async def test_an_answer_to_who_has_just_had_enough_is_refused() -> None:
    """Whoever answers is told that nobody waits, not that it broke; the wait ends a step later."""
    runner = runner_with(workers=1)
    waits: list[asyncio.Task[bool]] = []

    @runner.job
    async def ask(ctx: JobContext) -> str:
        waits.append(asyncio.create_task(ctx.ask("Deploy?", schema=bool), name="wait"))
        await asyncio.wait(waits)
        return "enough"

    async with runner:
        job = await asked(runner)
        waits[0].cancel()
        for value in (True, "neither yes nor no"):
            with pytest.raises(NotWaitingForInput, match="nobody waits for it any more"):
                await job.answer("q1", value)
        assert await job.result() == "enough"


@virtual_time
async def test_who_asks_makes_no_room_when_it_is_replaced() -> None:
    """It left the queue when it began; a limit that a replacement passes is none."""
    async with asking(runner=runner_with(workers=1, limits=Limits(max_pending=1))) as runner:
        first = await asked(runner, concurrency_key="k")
        runner.pause()
        await runner.submit("ask")
        with pytest.raises(QueueFull):
            await runner.submit("ask", concurrency_key="k", on_duplicate="replace")
        assert first.status == "input_required"


async def test_a_plain_function_asks_from_its_thread() -> None:
    """It waits there, and holds no worker."""
    runner = JobRunner(workers=1)

    @runner.job
    def ask(ctx: JobContext) -> str:
        with pytest.raises(InvalidOption, match=r"says ctx\.ask_blocking"):
            ctx.ask("Deploy?").close()
        said: str = ctx.ask_blocking("Deploy?", schema=Literal["yes", "no"])
        return said

    @runner.job
    async def work(ctx: JobContext) -> str:
        with pytest.raises(InvalidOption, match=r"write `await ctx\.ask"):
            ctx.ask_blocking("Deploy?")
        return "worked"

    async with runner:
        job = await runner.submit(ask)
        async for event in job.events():
            if event.data.get("status") == "input_required":
                break
        assert await (await runner.submit(work)).result(timeout=5.0) == "worked"
        await job.answer("q1", "yes")
        assert await job.result(timeout=5.0) == "yes"


async def test_a_thread_that_asks_is_woken_by_a_cancel() -> None:
    """Nothing else could end its wait."""
    runner = JobRunner(workers=1)

    @runner.job
    def ask(ctx: JobContext) -> None:
        ctx.ask_blocking("Deploy?")

    async with runner:
        job = await runner.submit(ask)
        async for event in job.events():
            if event.data.get("status") == "input_required":
                break
        await job.cancel()
        assert (await job.wait(timeout=5.0)).status == "cancelled"


async def test_a_thread_is_woken_while_others_are_told_of_its_question() -> None:
    """A chat that takes long to be written to holds up no cancel."""
    runner, told, ends = JobRunner(workers=1), asyncio.Event(), list[str]()

    async def notify(_: Question) -> None:
        told.set()
        await asyncio.Event().wait()

    @runner.job
    def ask(ctx: JobContext) -> None:
        try:
            ctx.ask_blocking("Deploy?", notify=notify)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with runner:
        job = await runner.submit(ask)
        await told.wait()
        await job.cancel()
        assert ((await job.wait(timeout=5.0)).status, ends) == ("cancelled", ["cancelled"])


@virtual_time
async def test_a_handler_in_a_process_can_not_ask() -> None:
    """It is told what to do instead."""
    desk = Desk(asyncio.get_running_loop(), record=lambda *_: None, extend=lambda *_: None)
    context = JobContext(make_job(), desk)
    for ask in (context.ask, context.ask_blocking):
        with pytest.raises(InvalidOption, match="in a process of its own can't wait for others"):
            ask("Deploy?")


@pytest.mark.parametrize("prompt", ["", "  ", None, 5])
@virtual_time
async def test_a_prompt_is_a_text(prompt: Any) -> None:
    """Nobody can answer what isn't asked."""
    runner = runner_with()

    @runner.job
    async def ask(ctx: JobContext) -> None:
        await ctx.ask(prompt)

    async with runner:
        view = await (await runner.submit(ask)).wait()
    assert (
        view.error is not None and view.error.detail == f"prompt is {prompt!r}; it must be a text"
    )


@virtual_time
async def test_half_a_character_in_a_prompt_is_replaced() -> None:
    """A model that is cut off sends such; the job and all lists with it could never be shown."""
    runner = runner_with()

    @runner.job
    async def ask(ctx: JobContext) -> str:
        return await ctx.ask("Delete \ud83d?")

    async with runner:
        job = await asked(runner)
        assert [question.prompt for question in job.view().questions] == ["Delete ??"]
        await job.answer("q1", "no")
        assert await job.result() == "no"


@pytest.mark.parametrize("schema", [object(), Annotated[str, Field(description="Ship it \ud83d")]])
@virtual_time
async def test_a_schema_that_json_has_not_is_refused(schema: Any) -> None:
    """The handler's author sees it at once, and not the person who answers, or lists all jobs."""
    async with asking(schema=schema) as runner:
        view = await (await runner.submit("ask")).wait(timeout=60.0)
    assert view.error is not None and view.error.type == "InvalidOption"
    assert "which no answer in JSON can have" in view.error.detail


@virtual_time
async def test_a_default_that_json_has_not_is_text_in_a_schema() -> None:
    """One bare Infinity, and no client can read the job."""

    class Budget(BaseModel):
        most: float = math.inf

    async with asking(schema=Budget) as runner:
        job = await asked(runner)
        (question,) = job.view().questions
        assert question.schema["properties"]["most"]["default"] == "Infinity"
        await job.answer("q1", {})
        await job.wait()


@virtual_time
async def test_a_schema_needn_t_be_hashable() -> None:
    """Constraints of pydantic are not."""
    async with asking(schema=Annotated[int, Field(ge=1, json_schema_extra={"a": 1})]) as runner:
        job = await asked(runner)
        with pytest.raises(InvalidAnswer, match="greater than or equal to 1"):
            await job.answer("q1", 0)
        await job.answer("q1", 2)
        assert await job.result() == 2


@virtual_time
async def test_an_answer_that_can_not_be_kept_is_refused() -> None:
    """It would be in the job's log."""
    async with asking(schema=Any) as runner:
        job = await asked(runner)
        with pytest.raises(InvalidAnswer, match="the answer can't be kept"):
            await job.answer("q1", object())
        await job.answer("q1", None)
        assert await job.result() is None


@virtual_time
async def test_a_validator_that_answers_itself_is_second() -> None:
    """A schema's code is anybody's; one answer counts, whoever gives it."""

    async def again() -> None:
        with pytest.raises(NotWaitingForInput):
            await job.answer("q1", "outer")

    def check(value: str) -> str:
        if value == "outer":
            coroutine = job.answer("q1", "inner")
            with pytest.raises(StopIteration):
                coroutine.send(None)
        return value

    async with asking(schema=Annotated[str, AfterValidator(check)]) as runner:
        job = await asked(runner)
        await again()
        assert await job.result() == "inner"


@virtual_time
async def test_who_ignores_a_cancel_while_asking_can_not_ask_again() -> None:
    """It doesn't stop the loop either, and is given up in time."""
    runner = runner_with(workers=1, cancel_grace=2.0)
    tries = 0

    @runner.job
    async def ask(ctx: JobContext) -> None:
        nonlocal tries
        while True:
            try:
                await ctx.ask("Deploy?")
            except asyncio.CancelledError:
                tries += 1
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.5)

    async with runner:
        job = await asked(runner)
        await job.cancel()
        view = await ended_after(4.0, job)
        assert (reason(view), view.questions, runner.stats().stuck) == ("stuck", (), 1)
        questions = [event async for event in job.events() if event.type == "question"]
    assert (len(questions), tries > 2) == (1, True)


@virtual_time
async def test_a_deadline_ends_a_job_that_asks() -> None:
    """However long a person takes."""
    async with asking() as runner:
        view = await ended_after(9.0, await runner.submit("ask", deadline=9.0))
    assert (reason(view), view.questions) == ("deadline", ())


@virtual_time
async def test_a_time_limit_stands_still_while_somebody_is_asked() -> None:
    """A person's time isn't the handler's."""
    async with asking() as runner:
        job = await runner.submit("ask", timeout=2.0, stall_timeout=2.0)
        await asyncio.sleep(3_600.0)
        await job.answer("q1", True)
        assert await job.result() is True


@virtual_time
async def test_a_question_that_is_left_open_is_closed_with_its_attempt() -> None:
    """Its task is ended, and the job's end is what the handler said."""
    runner, left = runner_with(), []

    @runner.job
    async def ask(ctx: JobContext) -> str:
        left.append(asyncio.create_task(ctx.ask("Deploy?")))
        await asyncio.sleep(5.0)
        return "no need"

    async with runner:
        job = await asked(runner)
        assert await job.result() == "no need"
        await asyncio.wait(left)
        statuses = [e.data["status"] async for e in job.events() if "status" in e.data]
    assert left[0].cancelled()
    assert statuses == ["pending", "running", "input_required", "running", "completed"]


@virtual_time
async def test_a_question_that_is_given_up_is_closed_before_a_worker_is_free() -> None:
    """Nobody should answer what nobody will read, however long its handler waits to go on."""
    runner = runner_with(workers=1)

    @runner.job
    async def ask(ctx: JobContext) -> str:
        try:
            async with asyncio.timeout(10.0):
                return await ctx.ask("Deploy?")
        except TimeoutError:
            return "gave up"

    @runner.job
    async def busy() -> None:
        await asyncio.sleep(60.0)

    async with runner:
        job = await asked(runner)
        await runner.submit(busy)
        await asyncio.sleep(20.0)
        with pytest.raises(NotWaitingForInput):
            await job.answer("q1", "yes")
        assert job.view().questions == ()
        assert await job.result() == "gave up"


@virtual_time
async def test_a_shutdown_withdraws_questions() -> None:
    """Nobody is waited for, and watchers are told."""
    async with asking() as runner:
        job = await asked(runner)
    view = job.view()
    answers = [event.data async for event in job.events() if event.type == "answer"]
    assert (reason(view), view.questions, view.attempt) == ("shutdown", (), 0)
    assert answers == [{"question_id": "q1", "value": None, "by": "cancel"}]


@virtual_time
async def test_t17_a_clock_that_fails_leaves_no_question_open() -> None:
    """What nobody waits for can't be answered, whatever breaks."""
    broken = False

    def now() -> float:
        if broken:
            raise RuntimeError("no clock")
        return unix_now()

    runner = JobRunner(now=now, watchdog=None)

    @runner.job
    async def ask(ctx: JobContext) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await ctx.ask("Deploy?")
        await asyncio.sleep(5.0)
        return "went on"

    async with runner:
        job = await asked(runner)
        broken = True
        with pytest.raises(RuntimeError):
            await job.answer("q1", "yes")
        assert len(job.view().questions) == 1
        await asyncio.sleep(5.0)
        assert (job.status, job.view().questions) == ("running", ())
        broken = False
        assert await job.result() == "went on"


@virtual_time
async def test_an_answer_and_the_end_of_time_in_one_instant() -> None:
    """Whichever comes first counts, and the other one is told."""
    async with asking(timeout=30.0, default="nobody", schema=str) as runner:
        job = await runner.submit("ask")
        await asyncio.sleep(30.0)
        try:
            await job.answer("q1", "somebody")
            wanted = "somebody"
        except NotWaitingForInput:
            wanted = "nobody"
        assert await job.result() == wanted
        answers = [event.data["value"] async for event in job.events() if event.type == "answer"]
    assert answers == [wanted]


@virtual_time
async def test_who_has_had_enough_in_the_instant_when_the_time_ends_is_told_of_that_only() -> None:
    """The question is about to be withdrawn, and nobody is missing."""
    runner = runner_with(workers=1)

    @runner.job
    async def ask(ctx: JobContext) -> str:
        try:
            async with asyncio.timeout(30.0):
                await ctx.ask("Deploy?", schema=bool, timeout=30.0, default=False)
        except TimeoutError:
            return "had enough"
        return "asked"

    async with runner:
        job = await runner.submit(ask)
        assert await job.result() == "had enough"
        answers = [event.data async for event in job.events() if event.type == "answer"]
    assert answers == [{"question_id": "q1", "value": None, "by": "cancel"}]
