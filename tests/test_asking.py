"""Asking a person: the job waits, without a worker, until somebody answers."""

import asyncio
import gc
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel

from jobrunner import (
    InvalidAnswer,
    InvalidOption,
    JobContext,
    JobNotFound,
    JobRunner,
    JobStatus,
    NotWaitingForInput,
    Question,
    QuestionNotFound,
    QuestionView,
    RetryPolicy,
    WrongLoop,
)
from jobrunner.questions import Tokens
from jobrunner.testing import EPOCH, virtual_time
from tests.people import asked, asking
from tests.runners import ended_after, runner_with


class Approval(BaseModel):
    """What a reviewer says."""

    approved: bool
    comment: str = ""


@virtual_time
async def test_an_answer_is_what_ask_returns() -> None:
    """That is all that a handler has to know."""
    async with asking() as runner:
        job = await asked(runner)
        after = await runner.answer(job.id, "q1", True)
        assert (after.status, after.question, after.questions) == ("running", None, ())
        assert await job.result() is True


@virtual_time
async def test_the_question_is_in_the_job_s_view() -> None:
    """Whoever looks at the job sees what it waits for, and what would fit."""
    async with asking(Literal["yes", "no"], timeout=60.0) as runner:
        job = await asked(runner)
        question = QuestionView(
            question_id="q1",
            prompt="Deploy?",
            schema={"enum": ["yes", "no"], "type": "string"},
            asked_at=datetime.fromtimestamp(EPOCH, UTC),
            expires_at=datetime.fromtimestamp(EPOCH + 60.0, UTC),
        )
        view = job.view()
        assert (view.question, view.questions) == (question, (question,))
        assert runner.stats().jobs[JobStatus.INPUT_REQUIRED] == 1
        (listed,) = (await runner.list(status="input_required")).jobs
        assert listed == view
        dumped = view.model_dump(mode="json")["question"]
        assert dumped == asdict(question) | {
            "asked_at": "2023-11-14T22:13:20Z",
            "expires_at": "2023-11-14T22:14:20Z",
        }


@virtual_time
async def test_question_and_answer_are_events_with_the_statuses() -> None:
    """Who watches needn't look at the job."""
    async with asking() as runner:
        job = await asked(runner)
        await job.answer(None, "yes")
        await job.wait()
        events = [(event.type, event.data) async for event in job.events()][2:]
    assert events == [
        (
            "question",
            {
                "question_id": "q1",
                "prompt": "Deploy?",
                "schema": {"type": "boolean"},
                "asked_at": "2023-11-14T22:13:20.000Z",
                "expires_at": None,
            },
        ),
        ("status", {"status": "input_required", "attempt": 1}),
        ("answer", {"question_id": "q1", "value": True, "by": "user"}),
        ("status", {"status": "running", "attempt": 1}),
        ("done", {"status": "completed", "error": None}),
    ]


@virtual_time
async def test_an_answer_that_does_not_fit_leaves_the_question_open() -> None:
    """The person is told what is wrong, and may try again."""
    async with asking(Approval) as runner:
        job = await asked(runner)
        with pytest.raises(InvalidAnswer) as refused:
            await job.answer("q1", {"approved": "perhaps", "comment": 3})
        assert [problem["pointer"] for problem in refused.value.errors] == [
            "#/approved",
            "#/comment",
        ]
        assert (job.status, str(refused.value).count("#/")) == ("input_required", 2)
        await job.answer("q1", {"approved": True})
        assert await job.result() == {"approved": True, "comment": ""}


@virtual_time
async def test_the_second_answer_loses() -> None:
    """The handler has gone on with the first."""
    async with asking() as runner:
        job = await asked(runner)
        await job.answer("q1", False)
        with pytest.raises(NotWaitingForInput, match=r"question q1 of job .* was answered"):
            await job.answer("q1", True)
        assert await job.result() is False
        with pytest.raises(NotWaitingForInput, match="no answer: its status is completed"):
            await job.answer("q1", True)


@virtual_time
async def test_a_question_that_was_never_asked_is_not_found() -> None:
    """A wrong id is told from a late answer."""
    async with asking() as runner:
        job = await asked(runner)
        with pytest.raises(QuestionNotFound, match=f"job {job.id} has no question 'q2'"):
            await job.answer("q2", True)
        with pytest.raises(JobNotFound):
            await runner.answer("job_0", "q1", True)
        with pytest.raises(JobNotFound):
            await runner.answer(job.id, "q1", True, owner="somebody else")


@virtual_time
async def test_a_job_that_asks_nothing_waits_for_no_answer() -> None:
    """An answer before the question is a mistake that is told."""
    runner = runner_with(workers=1)

    @runner.job
    async def work() -> None:
        await asyncio.sleep(5.0)

    async with runner:
        job = await runner.submit(work)
        for status in ("pending", "running"):
            with pytest.raises(NotWaitingForInput, match=f"no answer: its status is {status}"):
                await job.answer(None, True)
            with pytest.raises(QuestionNotFound):
                await job.answer("q1", True)
            await asyncio.sleep(1.0)


@virtual_time
async def test_several_questions_are_open_at_once() -> None:
    """Two people are asked together, and answer in any order."""
    runner = runner_with(workers=1)

    @runner.job
    async def ask(ctx: JobContext) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.ask(f"{name}?")) for name in ("Ada", "Bob", "Eve")]
        return [task.result() for task in tasks]

    async with runner:
        job = await asked(runner)
        assert [question.prompt for question in job.view().questions] == ["Ada?", "Bob?", "Eve?"]
        with pytest.raises(InvalidOption, match=r"asks 3 questions \(q1, q2, q3\); say which one"):
            await job.answer(None, "x")
        await job.answer("q2", "b")
        await asyncio.sleep(1.0)
        stats = runner.stats()
        assert (job.status, stats.busy, stats.aside) == ("input_required", 0, 1)
        await job.answer("q3", "e")
        await job.answer("q1", "a")
        assert await job.result() == ["a", "b", "e"]


@virtual_time
async def test_ids_of_questions_are_never_used_twice() -> None:
    """A late answer to the first attempt's question must not decide the second's."""
    runner = runner_with(workers=1, retry=RetryPolicy(max_attempts=2, base=0.0))

    @runner.job
    async def ask(ctx: JobContext) -> str:
        answer = await ctx.ask("Well?")
        if ctx.attempt == 1:
            raise ValueError(answer)
        return answer

    async with runner:
        job = await asked(runner)
        await job.answer("q1", "no")
        await asyncio.sleep(1.0)
        assert job.view().questions[0].question_id == "q2"
        await job.answer("q2", "yes")
        assert await job.result() == "yes"


@virtual_time
async def test_nobody_answers_in_time() -> None:
    """The handler decides what that means: an error that it may catch."""
    async with asking(timeout=30.0) as runner:
        view = await ended_after(30.0, await runner.submit("ask"))
    assert view.error is not None
    assert (view.error.type, view.error.title) == (
        "TimeoutError",
        "nobody answered question q1 in 30 s",
    )


@pytest.mark.parametrize("default", [None, False, "no answer"])
@virtual_time
async def test_a_default_is_what_nobody_answers(default: object) -> None:
    """Silence is an answer, where the handler says so; it needn't fit the schema."""
    async with asking(timeout=30.0, default=default) as runner:
        job = await runner.submit("ask")
        view = await ended_after(30.0, job)
        answers = [event.data async for event in job.events() if event.type == "answer"]
    assert view.result == default
    assert answers == [{"question_id": "q1", "value": default, "by": "timeout"}]


@pytest.mark.parametrize("default", [b"\xff", "caf\udce9.txt", 10**5_000], ids=["b", "s", "n"])
@virtual_time
async def test_a_default_may_be_what_json_can_not_hold(default: object) -> None:
    """It is the handler's own; who watches is told that it can't be shown."""
    async with asking(timeout=30.0, default=default) as runner:
        job = await runner.submit("ask")
        await job.wait(timeout=40.0)
        (answer,) = [event.data async for event in job.events() if event.type == "answer"]
    assert (answer["by"], answer["value"][:23]) == ("timeout", "(what JSON can't hold: ")


@virtual_time
async def test_a_cancel_withdraws_the_question() -> None:
    """Nobody should think about what nobody wants to know any more."""
    async with asking() as runner:
        job = await asked(runner)
        after = await job.cancel()
        assert (after.status, after.questions) == ("running", ())
        with pytest.raises(NotWaitingForInput, match="nobody waits for it any more"):
            await job.answer("q1", True)
        view = await ended_after(0.0, job)
        answers = [event.data async for event in job.events() if event.type == "answer"]
    assert view.status == "cancelled"
    assert answers == [{"question_id": "q1", "value": None, "by": "cancel"}]


@virtual_time
async def test_a_token_answers_once() -> None:
    """A link in a chat approves one thing, one time."""
    told: list[Question] = []
    async with asking(notify=told.append) as runner:
        job = await asked(runner)
        (question,) = told
        assert (question.job_id, question.question_id, question.prompt) == (
            job.id,
            "q1",
            "Deploy?",
        )
        assert len(question.token) >= 43 and question.token not in repr(question)
        assert runner.question_by_token(question.token) == question
        with pytest.raises(InvalidAnswer):
            await runner.answer_by_token(question.token, "perhaps")
        assert (await runner.answer_by_token(question.token, True)).status == "running"
        for token in (question.token, "x", "", "\ud800"):
            with pytest.raises(QuestionNotFound, match="no open question has this token"):
                await runner.answer_by_token(token, True)
            with pytest.raises(QuestionNotFound):
                runner.question_by_token(token)
        assert await job.result() is True


@virtual_time
@pytest.mark.parametrize("end", ["answer", "cancel", "timeout"])
async def test_a_token_is_kept_for_as_long_as_its_question_is_open(end: str) -> None:
    """A runner that asks for months must not remember what nobody can answer any more."""
    told: list[Question] = []
    async with asking(notify=told.append, timeout=2.0, default=True) as runner:
        job = await asked(runner)
        (tokens,) = (
            each
            for each in gc.get_objects()
            if type(each) is Tokens and each.find(told[0].token) == (job.id, "q1")
        )
        if end == "answer":
            await job.answer("q1", True)
        elif end == "cancel":
            await job.cancel()
        await job.wait()
        assert len(tokens) == 0


@virtual_time
async def test_the_token_is_in_no_view_and_no_event() -> None:
    """Who sees a job may not answer for that alone."""
    told: list[Question] = []
    async with asking(notify=told.append) as runner:
        job = await asked(runner)
        await job.answer("q1", True)
        view = await job.wait()
        said = [repr(event) async for event in job.events()]
    assert not any(told[0].token in text for text in (*said, repr(view), view.model_dump_json()))


@virtual_time
async def test_notify_may_be_a_coroutine_function() -> None:
    """It posts to a chat; the time that this takes is the handler's own."""
    times: list[tuple[str, int]] = []

    async def post(question: Question) -> None:
        await asyncio.sleep(5.0)
        times.append((question.prompt, runner.stats().busy))

    async with asking(notify=post) as runner:
        job = await asked(runner)
        assert runner.stats().busy == 1
        await asyncio.sleep(5.0)
        assert (times, runner.stats().busy) == ([("Deploy?", 1)], 0)
        await job.answer("q1", True)
        await job.result()


@virtual_time
async def test_an_answer_may_come_while_others_are_told_of_the_question() -> None:
    """The page shows it before the chat does."""

    async def post(question: Question) -> None:
        await asyncio.sleep(5.0)

    async with asking(notify=post) as runner:
        job = await asked(runner)
        await job.answer("q1", True)
        view = await ended_after(4.0, job)
    assert view.result is True


@virtual_time
async def test_what_notify_raises_is_raised_where_it_is_asked() -> None:
    """Nobody would answer what nobody is told of."""

    def post(question: Question) -> None:
        raise ConnectionError("no chat")

    async with asking(notify=post) as runner:
        job = await runner.submit("ask")
        view = await ended_after(0.0, job)
        answers = [event.data async for event in job.events() if event.type == "answer"]
    assert view.error is not None and view.error.title == "no chat"
    assert answers == [{"question_id": "q1", "value": None, "by": "cancel"}]


async def test_an_answer_from_another_thread_is_refused_clearly() -> None:
    """It would race with the loop; the error says the way."""
    async with asking(runner=JobRunner()) as runner:
        job = await runner.submit("ask")
        await anext(event async for event in job.events() if event.type == "question")

        def answer() -> str:
            with pytest.raises(WrongLoop) as refused:
                asyncio.run(runner.answer(job.id, "q1", True))
            with pytest.raises(WrongLoop):
                runner.question_by_token("x")
            return str(refused.value)

        assert "run_coroutine_threadsafe" in await asyncio.to_thread(answer)
        await job.answer("q1", True)


@virtual_time
async def test_secrets_in_an_answer_are_masked_for_watchers() -> None:
    """The handler gets the password; its log doesn't."""

    class Login(BaseModel):
        user: str
        password: str

    seen: list[Login] = []
    runner = runner_with()

    @runner.job
    async def login(ctx: JobContext) -> None:
        seen.append(await ctx.ask("Who?", schema=Login))

    async with runner:
        job = await asked(runner, "login")
        question = job.view().question
        assert question is not None and question.schema["properties"]["password"]["writeOnly"]
        await job.answer("q1", {"user": "ada", "password": "s3cret"})
        await job.wait()
        answers = [event.data["value"] async for event in job.events() if event.type == "answer"]
    assert seen == [Login(user="ada", password="s3cret")]
    assert answers == [{"user": "ada", "password": "**********"}]


@virtual_time
async def test_what_fits_is_tried_in_the_order_in_which_it_is_said() -> None:
    """Two unions of the same models are equal to Python; the first of them is taken first."""

    class Login(BaseModel):
        user: str

    class Guest(BaseModel):
        user: str

    runner = runner_with(workers=1)

    @runner.job
    async def ask(ctx: JobContext, kinds: list[int]) -> list[str]:
        found = {1: Login | Guest, 2: Guest | Login}
        said: list[object] = [await ctx.ask("Who?", schema=found[kind]) for kind in kinds]
        return [type(each).__name__ for each in said]

    async with runner:
        job = await runner.submit(ask, {"kinds": [1, 2, 1]})
        for _ in range(3):
            await asyncio.sleep(1.0)
            await job.answer(None, {"user": "ada"})
        assert await job.result() == ["Login", "Guest", "Login"]


@virtual_time
async def test_what_fits_may_be_said_by_what_can_t_be_hashed() -> None:
    """Annotations hold whatever people put there, such as a list."""
    async with asking(Annotated[int, ["a note"]]) as runner:
        job = await asked(runner)
        await job.answer("q1", 3)
        assert await job.result() == 3
