"""`answer`: what a job asks, answered by a word or in a conversation."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidAnswer, InvalidOption, NotWaitingForInput, QuestionNotFound
from ..views import JobView, QuestionView
from .app import JOBS, app
from .asking import LEFT_OUT, Asker, read_answer
from .exits import INTERRUPTED, complain, explained, told
from .looking import JobId
from .output import print_json
from .remote import AsJson, Token, Url, client
from .stripping import one_line, stripped
from .tables import signature

if TYPE_CHECKING:
    from ..client import SyncJobClient


@app.command(rich_help_panel=JOBS)
@told
def answer(
    job_id: JobId,
    value: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE",
            help="JSON, a text, yes or no; key=value words for an object. Asked for if not given.",
        ),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Which one, if several are open: q1.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Answer what a job asks."""
    with client(url, token) as server:
        asked = _choose(server.get(job_id), question)
        if value:
            given = read_answer(value, asked.schema)
            job = server.answer(job_id, asked.question_id, given)
        else:
            job = _converse(server, job_id, asked)
    if as_json:
        print_json(job)
    else:
        print(f"{job_id} has its answer to {asked.question_id}")


def _choose(job: JobView, question_id: str | None) -> QuestionView:
    """Return the question that is meant."""
    if not job.questions:
        raise NotWaitingForInput(f"{job.job_id} is {job.status} and asks nothing")
    if question_id is not None:
        for question in job.questions:
            if question.question_id == question_id:
                return question
        raise QuestionNotFound(f"{job.job_id} has no open question {question_id!r:.60}")
    if len(job.questions) > 1:
        named = ", ".join(f"{q.question_id}: {one_line(q.prompt, 60)}" for q in job.questions)
        raise InvalidOption(f"several questions are open; choose by --question: {named}")
    return job.questions[0]


def _converse(server: "SyncJobClient", job_id: str, question: QuestionView) -> JobView:
    """Ask at the terminal until an answer fits."""
    if not sys.stdin.isatty():
        raise InvalidOption(
            f"{question.question_id} asks {one_line(question.prompt, 200)!r}; give the answer as "
            f"VALUE: {signature(question.schema)}"
        )
    print(stripped(question.prompt))
    while True:
        try:
            return server.answer(job_id, question.question_id, _ask(question))
        except InvalidAnswer as error:
            complain(explained(error))
        except (EOFError, KeyboardInterrupt):
            print()
            complain(f"nothing was answered; {job_id} still asks")
            raise typer.Exit(INTERRUPTED) from None


def _ask(question: QuestionView) -> Any:
    value = Asker(question.schema, print).ask()
    return question.schema.get("default") if value is LEFT_OUT else value
