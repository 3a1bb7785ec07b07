"""The endpoints of answers to what jobs ask: by the job, or by a link that was sent to a person.

A link's token is 256 random bits, so that guessing one is hopeless at any rate: whoever has it may
see the one question and answer it, once, and needs no token of the app's. Looking answers nothing:
chats fetch links to show what is behind them.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ..errors import InvalidAnswer, JobRunnerError, PayloadTooLarge, QuestionNotFound
from ..questions import Question
from .answer_page import HEADERS, notice, question_page, read_form, value_of
from .api import NO_STORE, Api, _parse
from .body import media_type, read_body, read_json
from .headers import headers_of
from .problems import Problem

FORM = "application/x-www-form-urlencoded"


class InputBody(BaseModel):
    """Body of `POST /jobs/{id}/input`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)

    question_id: str | None = None
    """Which question is answered; the only one that is open if not given."""
    value: Any
    """The answer, which fits the question's `schema`."""


class LinkBody(BaseModel):
    """Body of `POST /answers/{token}`, when it is JSON."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)

    value: Any
    """The answer, which fits the question's schema."""


class AnswerApi:
    """The endpoints.

    Args:
        api: Those of jobs, with which they share the runner.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._runner = api.runner

    async def input(self, request: Request) -> Response:
        """`POST /jobs/{id}/input`: 202 and the job."""
        body = _parse(InputBody, await read_json(request))
        job_id = request.path_params["job_id"]
        await self._runner.answer(job_id, body.question_id, body.value)
        job = self._runner.record(job_id)
        answered = self._api.json(request.scope, job)
        return Response(answered, 202, self._api.headers(job), "application/json")

    async def page(self, request: Request) -> Response:
        """`GET /answers/{token}`: the question, for a person; nothing is answered by looking."""
        try:
            return _asking(self._question(request))
        except QuestionNotFound:
            return _closed()

    async def answer(self, request: Request) -> Response:
        """`POST /answers/{token}`: 200 when the answer was taken; of a form with a page."""
        if media_type(headers_of(request.scope)) == FORM:
            return await self._answer_form(request)
        question = self._question(request)
        body = _parse(LinkBody, await read_json(request))
        await self._runner.answer_by_token(question.token, body.value)
        answered = {"job_id": question.job_id, "question_id": question.question_id}
        return Response(to_json(answered), 200, NO_STORE, "application/json")

    async def _answer_form(self, request: Request) -> Response:
        raw = await read_body(request)
        name = text = ""
        try:
            question = self._question(request)
            try:
                name, text = read_form(raw)
                await self._runner.answer_by_token(question.token, value_of(name, text))
            except (Problem, InvalidAnswer, PayloadTooLarge) as error:
                return _asking(question, fault=_words(error), given=text)
        except QuestionNotFound:
            return _closed()
        return _page(200, notice("Thank you", "The answer was taken, and the job goes on."))

    def _question(self, request: Request) -> Question:
        return self._runner.question_by_token(request.path_params["token"])


def _asking(question: Question, *, fault: str | None = None, given: str = "") -> Response:
    body = question_page(
        question.prompt, question.schema, question.expires_at, fault=fault, given=given
    )
    return _page(200 if fault is None else 422, body)


def _closed() -> Response:
    return _page(404, notice("Nothing to answer", _CLOSED))


def _page(status: int, body: str) -> Response:
    return Response(body, status, HEADERS, "text/html")


def _words(error: Problem | JobRunnerError) -> str:
    if isinstance(error, InvalidAnswer) and error.errors:
        faults = [(each["pointer"][2:], each["detail"]) for each in error.errors[:5]]
        return "; ".join(f"{place}: {detail}" if place else detail for place, detail in faults)
    return error.detail if isinstance(error, Problem) else str(error)


_CLOSED = (
    "This link is of no use: the question was answered already, nobody waits for the answer any "
    "more, or the link isn't whole."
)
