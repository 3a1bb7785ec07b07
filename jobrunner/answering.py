"""Answers to what jobs ask: the part of a runner that people talk to."""

from typing import Any

from .asking import Asking
from .lookup import Lookup
from .questions import Question
from .views import JobView, view


class Answering(Lookup):
    """The part of a runner that takes answers."""

    _asking: Asking

    async def answer(
        self, job_id: str, question_id: str | None, value: Any, *, owner: str | None = None
    ) -> JobView:
        """Answer a question of a job, and return the job as it stands then.

        The first answer that fits counts; the job goes on as soon as a worker is free.

        Args:
            question_id: Which question; None for the only one that is open.
            value: The answer: JSON values, or what the question's schema makes of them.
            owner: Who answers: another one's job is as unknown as one that never was; None sees
                all.

        Raises:
            QuestionNotFound: The job never asked it.
            NotWaitingForInput: It was answered, nobody waits for it any more, or the job has ended.
            InvalidAnswer: The value doesn't fit; `errors` says where, and the question stays open.
            PayloadTooLarge: It is over the limit.
            InvalidOption: Several are open, and `question_id` is None.
            JobNotFound, JobGone: There is no such job any more.
            WrongLoop: Called from another loop than the runner's.
        """
        self.check_loop()
        job = self._store.get(job_id, owner)
        self._asking.answer(job, question_id, value)
        return view(job)

    async def answer_by_token(self, token: str, value: Any) -> JobView:
        """Answer the question that has this token, once; the token is of no use afterwards.

        Raises:
            QuestionNotFound: No open question has it: answered, withdrawn, out of time, or unknown.
            InvalidAnswer, PayloadTooLarge, WrongLoop: As `answer`.
        """
        self.check_loop()
        job, question = self._asking.find(token)
        self._asking.answer(job, question.question_id, value)
        return view(job)

    def question_by_token(self, token: str) -> Question:
        """Return the open question that has this token, to be shown to who may answer it.

        Raises:
            QuestionNotFound: There is none, or not any more.
        """
        self.check_loop()
        return self._asking.described(*self._asking.find(token))
