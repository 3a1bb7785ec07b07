"""The rules of the state machine by which handlers ask people, and people answer."""

import asyncio
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from jobrunner import JobRunner, JobRunnerError
from jobrunner.jobs import Job

from .entries import Entry
from .loop import SimulatedLoop
from .model import Model

ANY = st.integers(0, 1_000)
"""Which of the jobs, counted from the newest and round again."""
QUESTION = st.sampled_from((0, 0, 0, None, 1, 2, 5))
"""Which of a job's questions: 0 for the newest, None for the one that is open."""
TIMEOUTS = (None, None, 0.25, 0.75, 60.25)
"""Seconds for which a handler waits for an answer; seldom until something else happens, too."""


class Ask(NamedTuple):
    """What a handler is told: to ask a person."""

    timeout: float | None


class AskingMachine(RuleBasedStateMachine):
    """A runner and a model of it, as far as asking needs them."""

    model: Model
    loop: SimulatedLoop
    runner: JobRunner
    jobs: list[Job]
    told: dict[str, asyncio.Future[object]]

    def _entry(self, which: int) -> tuple[Entry, Job]:
        number = which % len(self.jobs)
        return self.model.jobs[-1 - number], self.jobs[-1 - number]

    def _do(self, operation: Any, refusal: type[JobRunnerError] | None) -> Any:
        """Await an operation; it succeeds or is refused as the model says."""
        try:
            value = self.loop.run_until_complete(operation)
        except JobRunnerError as error:
            assert type(error) is refusal, f"{error!r}, expected {refusal}"
            return None
        assert refusal is None, f"not refused with {refusal}"
        return value

    def _settle(self) -> None:
        self.loop.settle()
        self.model.advance()

    @precondition(lambda self: self.model.inside())
    @rule(which=ANY, timeout=st.sampled_from(TIMEOUTS))
    def ask(self, which: int, timeout: float | None) -> None:
        """A handler asks a person."""
        inside = self.model.inside()
        entry = inside[which % len(inside)]
        if entry not in self.model.stuck:
            self.told[self.jobs[entry.number - 1].id].set_result(Ask(timeout))
            self.model.ask(entry, timeout)
            self._settle()

    @precondition(lambda self: self.jobs)
    @rule(which=ANY, asks=st.booleans(), question=QUESTION, value=st.sampled_from((None, 1, 2, 3)))
    def answer(self, which: int, asks: bool, question: int | None, value: int | None) -> None:
        """Somebody answers, rather a question that is open; None is no answer that fits."""
        entry, job = self._entry(which)
        if asks and (asking := [entry for entry in self.model.aside if entry.open]):
            entry = asking[which % len(asking)]
            job = self.jobs[entry.number - 1]
        if question == 0:
            question = entry.questions or 1
        name = None if question is None else f"q{question}"
        answering = self.runner.answer(job.id, name, "no" if value is None else value)
        self._do(answering, self.model.answer(entry, question, value))
        self._settle()

    @rule(values=st.lists(st.integers(1, 3), min_size=2, max_size=3))
    def answer_all(self, values: list[int]) -> None:
        """All that are asked are answered before any handler goes on, each more than once."""

        async def answer() -> None:
            for value in values:
                for entry in asking:
                    expected = self.model.answer(entry, entry.questions, value)
                    try:
                        name = f"q{entry.questions}"
                        await self.runner.answer(self.jobs[entry.number - 1].id, name, value)
                    except JobRunnerError as error:
                        assert type(error) is expected
                    else:
                        assert expected is None

        asking = [entry for entry in self.model.aside if entry.open]
        self.loop.run_until_complete(answer())
        self._settle()
