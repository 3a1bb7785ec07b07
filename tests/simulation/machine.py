"""A Hypothesis state machine: a runner and a plain model that take the same steps."""

import asyncio
from collections import Counter
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from jobrunner import (
    InvalidCursor,
    InvalidOption,
    JobContext,
    JobRunner,
    JobRunnerError,
    JobStatus,
    Limits,
    PermanentError,
    Retention,
    RetryableError,
    RetryPolicy,
    UnknownJobType,
)
from jobrunner.jobs import Job
from jobrunner.submit_options import SubmitOptions

from .asking_rules import ANY, Ask, AskingMachine
from .entries import KINDS, Entry, Options, Outcome
from .loop import EPOCH, SimulatedLoop, unix_now
from .model import NOBODY, Model

SECONDS = st.sampled_from((0.0, 0.5, 1.0, 1.0, 30.0, 60.0, 61.0, 200.0))
OPTIONS = st.builds(
    Options,
    type=st.sampled_from(tuple(KINDS)),
    priority=st.integers(-2, 2),
    delay=st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 60.0, 90.0)),
    session=st.sampled_from((None, "a", "b")),
    key=st.sampled_from((None, None, None, "k", "l")),
    timeout=st.sampled_from((None, 1.0, 1.0, 30.0)),
    deadline=st.sampled_from((None, None, None, 1.0, 61.0)),
    expires=st.sampled_from((None, None, None, 0.5, 60.0)),
    together=st.sampled_from((None, None, None, "x", "y")),
    duplicate=st.sampled_from(("enqueue", "enqueue", "join", "replace", "reject")),
)


class RunnerMachine(AskingMachine):
    """A runner whose handlers do what the steps tell them."""

    @initialize(
        workers=st.integers(1, 3),
        max_jobs=st.sampled_from((None, None, 0, 2, 4)),
        max_age=st.sampled_from((None, None, 0.0, 60.0)),
        max_tombstones=st.sampled_from((0, 2, 100)),
        max_pending=st.sampled_from((3, 100, 100, 100)),
        grace=st.sampled_from((0.0, 0.5, 5.0)),
        before=st.sampled_from((0, 0, 0, 0, 0, 0, 62, 130)),
    )
    def begin(self, before: int, **drawn: Any) -> None:
        self.model = Model(**drawn)
        self.loop = SimulatedLoop()
        self.jobs: list[Job] = []
        self.told: dict[str, asyncio.Future[object]] = {}
        self.starts: list[tuple[int, int]] = []
        self.answers: list[tuple[int, int, int]] = []
        self.cursor: tuple[str, int] | None = None
        self.runner = self._runner(drawn["workers"], drawn["grace"])
        self.loop.run_until_complete(self.runner.__aenter__())
        self.loop.settle()
        self.loop.run_until_complete(self._crowd(before))
        self._settle()

    async def _crowd(self, number: int) -> None:
        """Submit and cancel so many that tables are swept and pages cross blocks."""
        for i in range(number):
            entry = self.model.submit(Options("work", delay=float(i % 2)))
            handle = await self.runner.submit("work", delay=float(i % 2))
            assert isinstance(entry, Entry)
            self._expect(handle, entry)
            await handle.cancel()
            self.model.cancel(entry)

    def _runner(self, workers: int, grace: float) -> JobRunner:
        model = self.model
        runner = JobRunner(
            workers=workers,
            timeout=None,
            retention=Retention(model.max_age, model.max_jobs, model.max_tombstones),
            limits=Limits(max_pending=model.max_pending),
            cancel_grace=grace,
            now=unix_now,
            seed=1,
        )
        for name, kind in KINDS.items():
            policy = RetryPolicy(max_attempts=kind.attempts, base=0.0)
            runner.job(
                name,
                retry=policy,
                max_concurrency=kind.together,
                max_pending=kind.pending,
                rate_limit=kind.rate and f"{kind.rate.starts}/{kind.rate.seconds:g}s",
            )(self._obey if kind.obeys else self._resist)
        return runner

    async def _obey(self, ctx: JobContext) -> object:
        self.starts.append((self.runner.record(ctx.job_id).number, ctx.attempt))
        return await self._tell(ctx)

    async def _resist(self, ctx: JobContext) -> object:
        self.starts.append((self.runner.record(ctx.job_id).number, ctx.attempt))
        while True:
            try:
                return await self._tell(ctx)
            except asyncio.CancelledError:
                continue

    async def _tell(self, ctx: JobContext) -> object:
        while True:
            self.told[ctx.job_id] = self.loop.create_future()
            told = await self.told[ctx.job_id]
            if not isinstance(told, Ask):
                return told
            job = self.runner.record(ctx.job_id)
            asked = 1 + (0 if job.questions is None else job.questions.asked)
            answer = await ctx.ask("?", schema=int, timeout=told.timeout, default=NOBODY)
            self.answers.append((job.number, asked, answer))

    def _expect(self, handle: Any, expected: Entry) -> None:
        """Compare a handle that was returned with what the model expects."""
        known = handle.outcome in ("replayed", "joined")
        assert known == (expected.number <= len(self.jobs))
        if not known:
            self.jobs.append(self.runner.record(handle.id))
        assert self.jobs[expected.number - 1].id == handle.id

    @rule(several=st.lists(OPTIONS, min_size=2, max_size=4))
    def submit_several(self, several: list[Options]) -> None:
        self.submit(several)

    def submit(self, several: list[Options]) -> None:
        """Several submits before any worker gets to see one."""

        async def submit_all() -> None:
            for options in several:
                expected = self.model.submit(options)
                try:
                    handle = await self.runner.submit(options.type, **_options(options))
                except JobRunnerError as error:
                    assert type(error) is expected
                else:
                    assert isinstance(expected, Entry), f"not refused with {expected}"
                    self._expect(handle, expected)

        self.loop.run_until_complete(submit_all())
        self._settle()

    @rule(options=OPTIONS)
    def submit_one(self, options: Options) -> None:
        self.submit([options])

    @rule()
    def submit_nonsense(self) -> None:
        self._do(self.runner.submit("nothing"), UnknownJobType)
        self._do(self.runner.submit("work", priority=101), InvalidOption)
        self._do(self.runner.submit("work", delay=-1.0), InvalidOption)
        self._do(self.runner.list(cursor="?"), InvalidCursor)

    @precondition(lambda self: self.jobs)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        entry, job = self._entry(which)
        self._do(self.runner.cancel(job.id), self.model.cancel(entry))
        self._settle()

    @precondition(lambda self: self.jobs)
    @rule(which=ANY)
    def retry(self, which: int) -> None:
        entry, job = self._entry(which)
        expected = self.model.retry(entry)
        if isinstance(expected, Entry):
            self._expect(self._do(self.runner.retry(job.id), None), expected)
            assert self.jobs[-1].retry_of == job.id
        else:
            self._do(self.runner.retry(job.id), expected)
        self._settle()

    @rule(type=st.sampled_from((None, "work", "flaky", "single")))
    def retry_failed(self, type: str | None) -> None:
        expected = self.model.retry_failed(type)
        if isinstance(expected, list):
            handles = self._do(self.runner.retry_failed(type), None)
            assert len(handles) == len(expected)
            for handle, entry in zip(handles, expected, strict=True):
                self._expect(handle, entry)
        else:
            self._do(self.runner.retry_failed(type), expected)
        self._settle()

    @precondition(lambda self: self.jobs)
    @rule(which=ANY)
    def forget(self, which: int) -> None:
        entry, job = self._entry(which)
        self._do(self.runner.forget(job.id), self.model.forget(entry))

    @precondition(lambda self: self.jobs)
    @rule(which=ANY)
    def look(self, which: int) -> None:
        entry, job = self._entry(which)
        view = self._do(self.runner.get(job.id), self.model.refusal(entry))
        assert view is None or (view.status, view.attempt) == (entry.status, entry.attempt)

    @precondition(lambda self: self.model.inside())
    @rule(
        which=ANY,
        outcome=st.sampled_from(("value", "value", "error", "later", "never")),
        delay=SECONDS,
    )
    def finish(self, which: int, outcome: Outcome, delay: float) -> None:
        """A handler returns or raises."""
        inside = self.model.inside()
        self._finish(inside[which % len(inside)], outcome, delay)

    @rule()
    def finish_all(self) -> None:
        """All handlers return; whatever they make room for starts."""
        for entry in self.model.inside():
            self._finish(entry, "value", 0.0)

    def _finish(self, entry: Entry, outcome: Outcome, delay: float) -> None:
        told = self.told[self.jobs[entry.number - 1].id]
        if outcome == "value":
            told.set_result(entry.number)
        else:
            told.set_exception(_ERRORS[outcome](delay))
        self.model.finish(entry, outcome, delay)
        self._settle()

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.loop.settle()
        self.model.advance(seconds)

    @rule(paused=st.sampled_from((True, False, False)))
    def pause_or_resume(self, paused: bool) -> None:
        async def act() -> None:
            (self.runner.pause if paused else self.runner.resume)()

        self.model.paused = paused
        self.loop.run_until_complete(act())
        self.model.stir()
        self._settle()

    @rule(workers=st.integers(1, 4))
    def resize(self, workers: int) -> None:
        async def resize() -> None:
            self.runner.resize(workers)

        self.model.workers = workers
        self.loop.run_until_complete(resize())
        self.model.stir()
        self._settle()

    @rule(
        status=st.sampled_from((None, *JobStatus)),
        type=st.sampled_from((None, "work", "flaky")),
        session_id=st.sampled_from((None, None, "a", "c")),
        limit=st.sampled_from((1, 2, 3, 5, 64)),
        go_on=st.booleans(),
    )
    def list(self, limit: int, go_on: bool, **filters: str | None) -> None:
        """One page: the first, or what comes after a page that was read some steps ago."""
        cursor, before = self.cursor if go_on and self.cursor else (None, None)
        page = self._do(self.runner.list(limit=limit, cursor=cursor, **filters), None)
        expected = self.model.listing(before, **filters)
        numbers = [self.runner.record(view.job_id).number for view in page.jobs]
        assert numbers == expected[:limit]
        assert (page.next_cursor is not None) == (len(expected) > limit)
        self.cursor = page.next_cursor and (page.next_cursor, numbers[-1])

    @invariant()
    def same(self) -> None:
        """Whatever can be asked of the runner is what the model says."""
        assume(not self.model.tied)
        model, stats = self.model, self.runner.stats()
        assert (self.starts, self.answers) == (model.starts, model.answers)
        assert {status: n for status, n in stats.jobs.items() if n} == Counter(
            entry.status for entry in model.kept
        )
        now = (stats.busy, stats.aside, stats.stuck)
        assert now == (len(model.running), len(model.aside), len(model.stuck))
        assert (stats.pruned, stats.faults) == (len(model.gone), 0)
        for entry, job in zip(model.jobs, self.jobs, strict=True):
            assert (job.status, job.attempt) == (entry.status, entry.attempt)

    def teardown(self) -> None:
        """Compare all histories, and see that nothing is left behind."""
        for entry, job in zip(self.model.jobs, self.jobs, strict=True):
            events = [e for e in job.log.read(0).events if e.type in ("status", "done")]
            history = [(e.data["status"], e.at - EPOCH) for e in events]
            assert history == entry.history or self.model.tied
        self.loop.run_until_complete(self.runner.stop(timeout=0.0))
        for told in self.told.values():
            if not told.done():
                told.set_result(None)
        self.loop.settle()
        assert not asyncio.all_tasks(self.loop) and not self.loop.timers()
        assert self.runner.stats().stuck == 0
        self.loop.close()


_ERRORS: dict[Outcome, Any] = {
    "error": lambda delay: RuntimeError("as told"),
    "later": lambda delay: RetryableError("as told", retry_after=delay),
    "never": lambda delay: PermanentError("as told"),
}


def _options(options: Options) -> SubmitOptions:
    drawn = SubmitOptions(
        priority=options.priority, delay=options.delay, timeout=options.timeout,
        deadline=options.deadline, expires=options.expires, on_duplicate=options.duplicate,
    )  # fmt: skip
    if options.session is not None:
        drawn["session_id"] = options.session
    if options.key is not None:
        drawn["idempotency_key"] = options.key
    if options.together is not None:
        drawn["concurrency_key"] = options.together
    return drawn
