"""Asking people: a handler waits for an answer, without a worker, until somebody gives one.

    ask -> open: input_required --> answered | out of time | its handler waits no more -> closed

Who closes a question is first; whoever comes second finds it closed.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from pydantic import ValidationError

from . import jobs
from .askers import NOT_GIVEN, Notify
from .context import JobContext, stand_aside
from .errors import (
    InvalidAnswer,
    InvalidOption,
    NotWaitingForInput,
    ParamProblem,
    QuestionNotFound,
)
from .handlers import json_pointer, place_in
from .jobs import Job, log_fields
from .limits import Limits, check_seconds
from .questions import AnswerKind, OpenQuestion, Question, Questions, Tokens, kind_of, shown_default
from .store import JobStore
from .timers import Timers
from .views import question_fields
from .wording import clip

logger = logging.getLogger("jobrunner.asking")

By: TypeAlias = Literal["user", "timeout", "cancel"]
_NOBODY: Final = object()
"""In place of an answer: nobody gave one in time."""


class Asking:
    """Opens questions and closes them.

    Args:
        store: The jobs, and where what happens is saved.
        timers: Where questions wait for the end of their time.
        now: The current time in unix seconds.
        limits: How many questions there may be, and how large.
        tokens: The tokens of open questions.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        timers: Timers,
        now: Callable[[], float],
        limits: Limits,
        tokens: Tokens,
    ) -> None:
        self._store = store
        self._timers = timers
        self._now = now
        self._limits = limits
        self._tokens = tokens

    async def ask(
        self,
        context: JobContext,
        prompt: str,
        *,
        schema: Any,
        timeout: float | None,
        default: Any,
        notify: Notify | None,
    ) -> Any:
        """See `JobContext.ask`."""
        self._check_prompt(prompt)
        kind, seconds = kind_of(schema), check_seconds("timeout", timeout)
        job = context._job
        await self._check(context)
        prompt = clip(prompt, self._limits.max_prompt)  # half a character is none in UTF-8
        question = self._open(job, prompt, kind, seconds, default)
        try:
            if notify is not None:
                await _tell(notify, self.described(job, question))
            async with stand_aside(context, for_answer=True):
                try:
                    value = await question.answer
                finally:  # nobody waits any more, though it may be long before a worker is free
                    self._close(job, question, "cancel")
        finally:
            self._close(job, question, "cancel")
        if value is not _NOBODY:
            return value
        if default is NOT_GIVEN:
            raise TimeoutError(f"nobody answered question {question.question_id} in {timeout:g} s")
        return default

    async def _check(self, context: JobContext) -> None:
        """Check that this attempt may ask now."""
        assert context._desk.aside is not None, "who can ask can stand aside"
        try:
            context.check_cancelled()
            context._desk.aside.check(context)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # who ignores it, and asks for ever, must not stop the loop
            raise

    def _check_prompt(self, prompt: str) -> None:
        most = self._limits.max_prompt
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidOption(f"prompt is {prompt!r:.60}; it must be a text", option="prompt")
        if len(prompt) > most:  # cut, it could leave out what is decided
            raise InvalidOption(
                f"prompt has {len(prompt)} characters; the limit is {most}", option="prompt"
            )

    def _open(
        self, job: Job, prompt: str, kind: AnswerKind, seconds: float | None, default: Any
    ) -> OpenQuestion:
        questions = job.questions or Questions()
        if len(questions.open) >= self._limits.max_questions:
            raise InvalidOption(
                f"job {job.id} has {len(questions.open)} open questions, as many as it may have"
            )
        at = self._now()
        question = OpenQuestion(
            f"q{questions.asked + 1}",
            prompt,
            kind,
            at,
            None if seconds is None else at + seconds,
            asyncio.get_running_loop().create_future(),
            None if default is NOT_GIVEN else default,
        )
        questions.asked += 1
        questions.open[question.question_id] = question
        job.questions = questions
        first = len(questions.open) == 1
        if first:
            jobs.ask(job)
        if seconds is not None:
            question.timer = self._timers.after(seconds, lambda: self._expire(job, question))
        self._store.save(job, "question", question_fields(question), at=at)
        if first:
            self._save_status(job, at)
        return question

    def _save_status(self, job: Job, at: float) -> None:
        self._store.save(job, "status", jobs.standing(job), at=at)

    def _expire(self, job: Job, question: OpenQuestion) -> None:
        if not question.answer.done():
            self._close(job, question, "timeout", shown_default(question))
            question.answer.set_result(_NOBODY)

    def answer(self, job: Job, question_id: str | None, value: Any) -> None:
        """Answer a question; see `JobRunner.answer` for what it raises."""
        question = _open_one(job, question_id)
        checked = _checked(question, value)
        shown = question.kind.show(checked, limit=self._limits.max_answer)
        at = self._now()
        if question.answer.done():  # the schema's code is anybody's
            raise _closed(job, question.question_id)
        self._close(job, question, "user", shown, at)
        question.answer.set_result(checked)

    def find(self, token: str) -> tuple[Job, OpenQuestion]:
        """Return the open question with that token, and its job.

        Raises:
            QuestionNotFound: There is none, or not any more.
        """
        found = self._tokens.find(token)
        job = None if found is None else self._store.live_job(found[0])
        if found is None or job is None:
            raise QuestionNotFound(
                "no open question has this token: it was answered, nobody waits for the answer "
                "any more, or it never was"
            )
        return job, _open_one(job, found[1])

    def described(self, job: Job, question: OpenQuestion) -> Question:
        """Return the question with its token, for who may answer it."""
        ends = question.expires_at
        return Question(
            job_id=job.id,
            question_id=question.question_id,
            prompt=question.prompt,
            schema=question.kind.json_schema,
            asked_at=datetime.fromtimestamp(question.asked_at, UTC),
            expires_at=None if ends is None else datetime.fromtimestamp(ends, UTC),
            token=self._tokens.give(job.id, question),
        )

    def close_all(self, job: Job) -> None:
        """Its attempt is to stop, or has ended: nobody waits for answers any more."""
        if job.questions is not None:
            for question in list(job.questions.open.values()):
                self._close(job, question, "cancel")
                question.answer.cancel()

    def _close(
        self,
        job: Job,
        question: OpenQuestion,
        by: By,
        value: Any = None,
        at: float | None = None,
    ) -> None:
        """Close a question, unless it is closed."""
        questions = job.questions
        if questions is None or questions.open.pop(question.question_id, None) is None:
            return
        self._timers.cancel(question.timer)
        self._tokens.drop(question)
        at = self._time(job) if at is None else at
        if not questions.open:
            jobs.go_on(job)
        told: Mapping[str, Any] = {
            "question_id": question.question_id, "value": value, "by": by
        }  # fmt: skip
        self._store.save(job, "answer", told, at=at)
        if not questions.open:
            self._save_status(job, at)

    def _time(self, job: Job) -> float:
        """Return unix seconds, where a clock that fails must not leave a question open (T17)."""
        try:
            return self._now()
        except Exception as fault:  # the clock may be anybody's
            logger.critical("the clock failed as job %s asked", job.id,
                            exc_info=fault, extra=log_fields(job))  # fmt: skip
            return job.updated_at


async def _tell(notify: Notify, question: Question) -> None:
    told: Awaitable[Any] | None = notify(question)
    if inspect.isawaitable(told):
        await told


def _open_one(job: Job, question_id: str | None) -> OpenQuestion:
    questions = job.questions
    waiting = {} if questions is None or job.is_final else questions.open
    if question_id is None and len(waiting) > 1:
        raise InvalidOption(
            f"job {job.id} asks {len(waiting)} questions ({', '.join(waiting)}); say which one is "
            "answered",
            option="question_id",
        )
    wanted = next(iter(waiting), None) if question_id is None else question_id
    question = None if wanted is None else waiting.get(wanted)
    if question is None or question.answer.done():
        raise _closed(job, question_id)
    return question


def _checked(question: OpenQuestion, value: Any) -> Any:
    try:
        return question.kind.check(value)
    except ValidationError as error:
        lines = error.errors(include_url=False, include_input=False)
    problems: list[ParamProblem] = [
        {"detail": line["msg"], "pointer": json_pointer(_place(line["type"], line["loc"], value))}
        for line in lines
    ]
    said = "; ".join(f"{p['pointer']}: {p['detail']}".removeprefix("#: ") for p in problems[:5])
    raise InvalidAnswer(f"the answer to {question.question_id} doesn't fit: {said}", problems)


def _place(kind: str, location: tuple[int | str, ...], value: Any) -> list[int | str]:
    """Return where a fault is; what is missing is where it should be."""
    if kind == "missing":
        return [*place_in(location[:-1], value), location[-1]]
    return place_in(location, value)


def _closed(job: Job, question_id: str | None) -> Exception:
    """Return why that question can't be answered."""
    if job.is_final or question_id is None:
        return NotWaitingForInput(f"job {job.id} waits for no answer: its status is {job.status}")
    asked = 0 if job.questions is None else job.questions.asked
    if question_id in {f"q{number}" for number in range(1, asked + 1)}:
        return NotWaitingForInput(
            f"question {question_id} of job {job.id} was answered, or nobody waits for it any more"
        )
    return QuestionNotFound(f"job {job.id} has no question {question_id[:60]!r}")
