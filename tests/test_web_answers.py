"""Answers over HTTP, WebSockets, the client, and the link that a person was sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import pytest
import pytest_asyncio
from pydantic import AwareDatetime, BaseModel, SecretStr
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from jobrunner import (
    InvalidAnswer,
    InvalidOption,
    JobContext,
    NotWaitingForInput,
    Question,
    QuestionNotFound,
)
from jobrunner.client import JobClient, SyncJobClient
from jobrunner.web import create_app
from tests.asked import SCHEMAS, Desk, add_ask, asking_desk
from tests.serving import connect, listening, make_runner, problem, stream
from tests.sockets import Socket, socket

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = {"content-type": "application/x-www-form-urlencoded"}


class Login(BaseModel):
    """What nobody else may see."""

    user: str
    password: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    """One server for the file: each test has jobs of its own."""
    async with asking_desk(workers=50) as desk:
        yield desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(desk: Desk) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody with a link, and no token of the app's."""
    async with connect(desk.bench.url) as client:
        yield client


# By the job


@pytest.mark.parametrize("named", [True, False])
async def test_a_question_is_answered_by_its_job(desk: Desk, named: bool) -> None:
    """The view says what is asked and what fits; the answer is the job as it stands then."""
    asked = await desk.ask(Literal["now", "later"], "When?")
    view = (await desk.bench.client.get(f"/jobs/{asked.job_id}")).json()
    assert (view["status"], view["question"]["question_id"]) == ("input_required", "q1")
    assert view["question"]["schema"] == {"enum": ["now", "later"], "type": "string"}
    body = {"value": "now"} | ({"question_id": "q1"} if named else {})
    answer = await desk.bench.client.post(f"/jobs/{asked.job_id}/input", json=body)
    assert (answer.status_code, answer.json()["job_id"]) == (202, asked.job_id)
    assert (answer.json()["status"], answer.json()["question"]) == ("running", None)
    assert int(answer.headers["retry-after"]) >= 1
    assert await desk.told(asked) == "now"


async def test_a_wrong_answer_says_why_and_the_question_stays(desk: Desk) -> None:
    """No such question, one that doesn't fit with its place in the body, and one too late."""
    asked = await desk.ask(Login)

    async def post(**body: Any) -> httpx2.Response:
        return await desk.bench.client.post(f"/jobs/{asked.job_id}/input", json=body)

    assert problem(await post(question_id="q2", value=1)) == (404, "question-not-found")
    unfit = await post(question_id="q1", value={"user": 1})
    assert problem(unfit) == (422, "invalid-answer")
    pointers = [fault["pointer"] for fault in unfit.json()["errors"]]
    assert pointers == ["#/value/user", "#/value/password"]
    assert problem(await post(question_id="q1")) == (422, "invalid-request")
    fit = {"user": "ada", "password": "p"}
    assert (await post(question_id="q1", value=fit)).status_code == 202
    assert problem(await post(question_id="q1", value=fit)) == (409, "not-waiting-for-input")
    assert (await desk.told(asked))["user"] == "ada"


async def test_a_stream_tells_of_the_question_and_of_the_answer_without_its_secrets(
    desk: Desk,
) -> None:
    """Who watches can show the form, and sees who was first; a password stays the handler's."""
    asked = await desk.ask(Login)
    async with stream(desk.bench.client, f"/jobs/{asked.job_id}/stream?after=0") as frames:
        value = {"user": "ada", "password": "hunter2"}
        await desk.bench.client.post(f"/jobs/{asked.job_id}/input", json={"value": value})
        seen = [frame async for frame in frames]
    question = next(frame.data for frame in seen if frame.event == "question")
    given = next(frame.data for frame in seen if frame.event == "answer")
    assert (question["question_id"], question["prompt"]) == ("q1", "Go?")
    assert question["schema"]["required"] == ["user", "password"]
    assert (given["by"], given["value"]) == ("user", {"user": "ada", "password": "**********"})
    events = str([frame for frame in seen if frame.event != "done"])
    assert "hunter2" not in events and asked.token not in events


async def test_the_token_is_in_nothing_that_can_be_read(desk: Desk) -> None:
    """It is for the person who was sent it, and for no view, list or log."""
    asked = await desk.ask()
    for path in (f"/jobs/{asked.job_id}", "/jobs?limit=200", f"/jobs/{asked.job_id}/logs"):
        assert asked.token not in (await desk.bench.client.get(path)).text
    assert asked.token not in repr(asked)
    await desk.bench.runner.cancel(asked.job_id)


async def until(opened: Socket, kind: str) -> Any:
    """Return the next frame of that kind."""
    while (frame := await opened.hear())["type"] != kind:
        pass
    return frame


@pytest.mark.parametrize("path", ["/jobs/{}/ws", "/ws/answers"])
async def test_a_socket_takes_answers(desk: Desk, path: str) -> None:
    """Where the question came, on a job's socket or a session's."""
    asked = await desk.ask(int, session_id="answers")
    place = path.format(asked.job_id)
    async with socket(desk.bench.url, place, desk.bench.token) as opened:
        await opened.say(op="input", job_id=asked.job_id, value="x")
        refused = await until(opened, "error")
        await opened.say(op="input", job_id=asked.job_id, question_id="q1", value=7)
        ended = await until(opened, "job_complete")
    assert refused["code"] == "invalid-answer"
    assert (ended["job_id"], ended["result"]) == (asked.job_id, 7)


async def test_the_client_answers_with_the_runner_s_verb_and_errors(desk: Desk) -> None:
    """Code that runs in process runs over HTTP."""
    asked = await desk.ask(Login)
    job_id = asked.job_id
    async with JobClient(desk.bench.url, token=desk.bench.token) as client:
        view = await client.get(job_id)
        assert view == await desk.bench.runner.get(job_id)
        assert view.question is not None and view.question.prompt == "Go?"
        for answering in (client, desk.bench.runner):
            with pytest.raises(QuestionNotFound):
                await answering.answer(job_id, "q2", 1)
            with pytest.raises(InvalidAnswer) as unfit:
                await answering.answer(job_id, "q1", {"user": "ada"})
            assert [fault["pointer"] for fault in unfit.value.errors] == ["#/password"]
        answered = await client.handle(job_id).answer(None, Login(user="ada", password="p"))
        assert (answered.status, answered.question) == ("running", None)
        with pytest.raises(NotWaitingForInput):
            await client.answer(job_id, "q1", {})
        kinds = [event.type async for event in client.events(job_id)]
    assert kinds.count("question") == kinds.count("answer") == 1


async def test_the_synchronous_client_answers_too(desk: Desk) -> None:
    """On the client and on the job's handle."""
    asked, other = await desk.ask(), await desk.ask()

    def answer() -> Any:
        with SyncJobClient(desk.bench.url, token=desk.bench.token) as client:
            job = client.handle(asked.job_id)
            return job.answer("q1", "yes").status, client.answer(other.job_id, None, "no").question

    assert await asyncio.to_thread(answer) == ("running", None)
    assert [await desk.told(asked), await desk.told(other)] == ["yes", "no"]


async def test_which_of_several_questions_has_to_be_said(desk: Desk) -> None:
    """A guess could deploy what was to be deleted."""
    asked: asyncio.Queue[Question] = asyncio.Queue()

    @desk.bench.runner.job
    async def ask_two(ctx: JobContext) -> list[str]:
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(ctx.ask(prompt, notify=asked.put_nowait)) for prompt in "ab"]
        return [task.result() for task in both]

    job = await desk.bench.runner.submit("ask_two")
    questions = [await asked.get(), await asked.get()]
    async with JobClient(desk.bench.url, token=desk.bench.token) as client:
        view = await client.get(job.id)
        assert [one.prompt for one in view.questions] == ["a", "b"] and view.question is not None
        with pytest.raises(InvalidOption, match="q1, q2") as unclear:
            await client.answer(job.id, None, "x")
        assert unclear.value.option == "question_id"
        for question in reversed(questions):
            await client.answer(job.id, question.question_id, question.prompt * 2)
    assert await job.result() == ["aa", "bb"]


# By a link


async def test_looking_at_a_link_answers_nothing(desk: Desk, stranger: httpx2.AsyncClient) -> None:
    """A chat fetches it for a preview, as often as it likes."""
    asked = await desk.ask(bool, "Deploy <now>?")
    for method in ("GET", "GET", "HEAD"):
        page = await stranger.request(method, f"/answers/{asked.token}")
        assert page.status_code == 200
    page = await stranger.get(f"/answers/{asked.token}")
    assert "Deploy &lt;now&gt;?" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == (
        "no-store",
        "same-origin",
    )
    assert (await desk.bench.runner.get(asked.job_id)).status == "input_required"
    await desk.bench.runner.cancel(asked.job_id)


@pytest.mark.parametrize("way", ["form", "json"])
async def test_a_link_answers_once_without_a_token_of_the_app(
    desk: Desk, stranger: httpx2.AsyncClient, way: str
) -> None:
    """A person's browser sends the form, a program JSON; then the link is of no use."""
    asked = await desk.ask(bool)

    async def post() -> httpx2.Response:
        path = f"/answers/{asked.token}"
        if way == "form":
            return await stranger.post(path, content=b"json=true", headers=FORM)
        return await stranger.post(path, json={"value": True})

    answer = await post()
    assert answer.status_code == 200
    if way == "form":
        assert "Thank you" in answer.text
    else:
        assert answer.json() == {"job_id": asked.job_id, "question_id": "q1"}
    assert await desk.told(asked) is True
    again, seen = await post(), await stranger.get(f"/answers/{asked.token}")
    assert (again.status_code, seen.status_code) == (404, 404)
    assert "answered already" in seen.text
    assert ("answered already" if way == "form" else "question-not-found") in again.text


async def test_a_form_that_does_not_fit_comes_back_with_what_is_wrong(
    desk: Desk, stranger: httpx2.AsyncClient
) -> None:
    """And with what was typed, as text."""
    asked = await desk.ask(dict[str, int])
    path = f"/answers/{asked.token}"
    unfit = await stranger.post(path, content=b"json=%7B%22a%22%3A+%22%3Cb%3E%22%7D", headers=FORM)
    assert (unfit.status_code, "a: Input should be a valid integer" in unfit.text) == (422, True)
    assert "{&quot;a&quot;: &quot;&lt;b&gt;&quot;}</textarea>" in unfit.text
    broken = await stranger.post(path, content=b"json=%7B", headers=FORM)
    assert (broken.status_code, "the answer is not JSON" in broken.text) == (422, True)
    assert ">\n{</textarea>" in broken.text
    empty = await stranger.post(path, content=b"", headers=FORM)
    assert (empty.status_code, "no answer" in empty.text) == (422, True)
    whole = await stranger.post(path, json={"value": "x"})
    assert problem(whole) == (422, "invalid-answer")
    assert (await stranger.post(path, content=b"json=%7B%7D", headers=FORM)).status_code == 200
    assert await desk.told(asked) == {}


async def test_a_time_with_its_zone_can_be_given_at_the_second_try(
    desk: Desk, stranger: httpx2.AsyncClient
) -> None:
    """What the first field sends has none, and is refused; then the page has a field for a text."""
    asked = await desk.ask(AwareDatetime)
    path = f"/answers/{asked.token}"
    local = await stranger.post(path, content=b"text=2026-12-01T10%3A00", headers=FORM)
    assert (local.status_code, "should have timezone info" in local.text) == (422, True)
    assert '<input name="text" value="2026-12-01T10:00"' in local.text
    zoned = await stranger.post(path, content=b"text=2026-12-01T10%3A00Z", headers=FORM)
    assert zoned.status_code == 200
    assert await desk.told(asked) == "2026-12-01T10:00:00Z"


async def test_a_secret_that_was_typed_is_not_shown_again(
    desk: Desk, stranger: httpx2.AsyncClient
) -> None:
    """Nor kept: the stream has a mask in its place."""
    asked = await desk.ask(SecretStr)
    path = f"/answers/{asked.token}"
    await stranger.post(path, content=b"text=hunter2", headers=FORM)
    events = [event async for event in desk.bench.runner.handle(asked.job_id).events()]
    assert "hunter2" not in str(events)


async def test_a_link_opens_nothing_else(desk: Desk, stranger: httpx2.AsyncClient) -> None:
    """Its token is none of the app's, and what is beside it asks for one."""
    asked = await desk.ask()
    for path in ("/jobs", f"/jobs/{asked.job_id}", "/answers", "/answers/", "/", "/answersx/y",
                 f"/answers/{asked.token}/more", "/static/page.css"):  # fmt: skip
        for headers in ({}, {"authorization": f"Bearer {asked.token}"}):
            assert (await stranger.get(path, headers=headers)).status_code == 401
    wrong = await stranger.get(f"/answers/{asked.token[:-1]}")
    assert (wrong.status_code, "whole" in wrong.text) == (404, True)
    await desk.bench.runner.cancel(asked.job_id)
    assert (await stranger.get(f"/answers/{asked.token}")).status_code == 404


FOREIGN = [
    ({"host": "evil.example"}, 400),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"content-type": "text/plain"}, 415),
    ({"content-type": "multipart/form-data; boundary=x"}, 415),
]


@pytest.mark.parametrize(("headers", "status"), FOREIGN)
async def test_a_link_is_answered_from_its_own_page_only(
    desk: Desk, stranger: httpx2.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """It may be opened from anywhere, a chat too; it is sent from where it was opened."""
    asked = await desk.ask(bool)
    path = f"/answers/{asked.token}"
    foreign = await stranger.post(path, content=b"json=true", headers={**FORM, **headers})
    assert foreign.status_code == status
    opened = await stranger.get(path, headers={"sec-fetch-site": "cross-site"})
    own = {**FORM, "origin": desk.bench.url, "sec-fetch-site": "same-origin"}
    sent = await stranger.post(path, content=b"json=true", headers=own)
    assert (opened.status_code, sent.status_code) == (200, 200)


async def test_a_form_is_taken_by_links_only(desk: Desk) -> None:
    """Everywhere else it is what a page of another site can send."""
    asked = await desk.ask(bool)
    answer = await desk.bench.client.post(
        f"/jobs/{asked.job_id}/input", content=b"json=true", headers=FORM
    )
    assert answer.status_code == 415
    await desk.bench.runner.cancel(asked.job_id)


def auth(connection: HTTPConnection) -> str | None:
    """Take everybody at their word."""
    return connection.headers.get("x-owner")


async def test_an_owner_answers_their_own_questions_and_a_link_is_anybody_s() -> None:
    """Another one's job is an unknown one; who was sent the link need have no account."""
    runner, _ = make_runner()
    desk_sent = add_ask(runner)
    async with listening(create_app(runner, auth=auth)) as url, connect(url) as client:
        for way in ("owner", "link"):
            SCHEMAS.append(str)
            params = {"prompt": "Go?", "schema": len(SCHEMAS) - 1}
            job = await runner.submit("ask", params, owner="ada")
            asked = await desk_sent.get()
            path, body = f"/jobs/{job.id}/input", {"value": "yes"}
            foreign = await client.post(path, json=body, headers={"x-owner": "bob"})
            assert problem(foreign) == (404, "job-not-found")
            if way == "owner":
                answer = await client.post(path, json=body, headers={"x-owner": "ada"})
            else:
                answer = await client.post(f"/answers/{asked.token}", json=body)
            assert answer.is_success
            assert await job.result() == "yes"


async def test_a_link_works_where_the_app_is_mounted() -> None:
    """The page has no path in it but its own."""
    runner, _ = make_runner()
    sent = add_ask(runner)
    inner = create_app(runner, auth="secret")
    outer = Starlette(routes=[Mount("/api", inner)], lifespan=runner.lifespan)
    async with listening(outer) as url, connect(url) as client:
        SCHEMAS.append(bool)
        await runner.submit("ask", {"prompt": "Go?", "schema": len(SCHEMAS) - 1})
        path = f"/api/answers/{(await sent.get()).token}"
        page = await client.get(path)
        assert page.status_code == 200 and not re.search(r'(src|href|action)="', page.text)
        assert (await client.post(path, content=b"json=false", headers=FORM)).status_code == 200
