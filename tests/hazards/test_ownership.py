"""What no file may do, tasks that must not vanish, and jobs that have to (T2, T7, T8, Q7)."""

import ast
import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import jobrunner
from jobrunner import JobContext, JobRunner, JobView, RetryPolicy
from jobrunner.jobs import Job
from jobrunner.testing import unix_now, virtual_time
from tests.simulation.loop import SimulatedLoop

ROOT = Path(jobrunner.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
EVERYWHERE = {"wait_for", "gather", "ensure_future"}


def nodes(*words: str) -> Iterator[tuple[Path, list[ast.AST]]]:
    """Yield each file of the package that has one of the words, and all that is in it.

    The others aren't parsed, which takes longer than all that is asked. To Python there are other
    ways to write a word, but none of them in ASCII.
    """
    for path in SOURCES:
        text = path.read_text()
        if not text.isascii() or any(word in text for word in words):
            yield path.relative_to(ROOT), list(ast.walk(ast.parse(text)))


def test_the_files_of_the_package_are_found() -> None:
    """A ban that looks nowhere would ban nothing."""
    assert {ROOT / "runner.py", ROOT / "web" / "app.py"} <= set(SOURCES)
    assert {path for path, _ in nodes("shield")} >= {Path("commands.py")}


def test_t2_what_swallows_cancels_is_nowhere_in_the_package() -> None:
    """`wait_for` loses a cancel in the tick of the result on 3.11; a `shield` orphans its task."""
    found = [
        (str(path), getattr(node, "lineno", 0), name)
        for path, every in nodes("shield", *EVERYWHERE)
        for node in every
        for name in (getattr(node, field, None) for field in ("attr", "name", "id"))
        if name in EVERYWHERE or (name == "shield" and path.name != "commands.py")
    ]
    assert found == []


def test_t8_nothing_is_read_before_an_await_and_written_after_it() -> None:
    """`x += await f()` reads x before f runs: what others add meanwhile is lost."""
    lost = [
        f"{path}: {ast.unparse(node)}"
        for path, every in nodes("await")
        for node in every
        if isinstance(node, ast.AugAssign | ast.Assign | ast.AnnAssign) and _updates(node)
    ]
    assert lost == []


def _updates(node: ast.AugAssign | ast.Assign | ast.AnnAssign) -> bool:
    """Whether an assignment awaits, and reads what it assigns to: as `x += ` or `x = x + `."""
    parts = list(ast.walk(node.value)) if node.value is not None else []
    if not any(isinstance(part, ast.Await) for part in parts):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    read = {ast.unparse(part) for part in parts if isinstance(part, ast.Name | ast.Attribute)}
    return isinstance(node, ast.AugAssign) or any(ast.unparse(t) in read for t in targets)


@pytest.mark.parametrize("source", ["x += await f()", "x = x + await f()", "a.x = await f(a.x)"])
def test_t8_an_update_around_an_await_is_seen(source: str) -> None:
    """A ban that sees nothing would ban nothing."""
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.AugAssign | ast.Assign)
    assert _updates(node)


def test_t7_every_task_is_kept_and_has_a_name() -> None:
    """A loop holds its tasks weakly: one that nobody keeps vanishes in a collection."""
    dropped, nameless = [], []
    for path, every in nodes("create_task"):
        for node in every:
            if isinstance(node, ast.Expr) and _task(node.value):
                dropped.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Call) and _task(node):
                named = "name" in {keyword.arg for keyword in node.keywords}
                nameless += [] if named else [f"{path}:{node.lineno}"]
    assert (dropped, nameless) == ([], [])


def _task(node: ast.AST) -> bool:
    """Whether the expression makes a task that no TaskGroup owns."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "create_task" and ast.unparse(node.func.value) != "group"


@pytest.fixture
def frozen() -> None:
    """Have collections go through what comes from now on: all of a test run takes its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def collected(frozen: None) -> Callable[[Callable[[], Any]], Any]:
    """Plays a scenario with a collection after each step."""

    def play(main: Callable[[], Any]) -> Any:
        loop = SimulatedLoop()
        loop.after_step = gc.collect  # type: ignore[assignment]  # its count is of no interest
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())

    return play


async def wait_unseen() -> None:
    """Wait for what nobody else knows, as for an answer that never comes."""
    await asyncio.get_running_loop().create_future()


def test_t7_a_job_that_waits_for_what_only_it_knows_lives_on(collected: Any) -> None:
    """The runner is its owner: in a collection it and its future would vanish together."""

    async def main() -> tuple[JobView, int]:
        runner = JobRunner(now=unix_now)

        @runner.job
        async def lonely() -> None:
            await wait_unseen()

        async with runner:
            job = await runner.submit(lonely)
            await asyncio.sleep(100.0)
            busy = runner.stats().busy
            await job.cancel()
            return await job.wait(), busy

    view, busy = collected(main)
    assert (view.status, busy, view.error) == ("cancelled", 1, None)


def test_t7_a_stuck_handler_is_counted_for_as_long_as_it_runs(collected: Any) -> None:
    """Its job has ended; what it holds has not, and nobody else knows of it."""

    async def main() -> tuple[int, int]:
        runner, release = JobRunner(now=unix_now, cancel_grace=1.0), asyncio.Event()

        @runner.job(timeout=1.0)
        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await wait_unseen()
                except asyncio.CancelledError:
                    pass

        async with runner:
            job = await runner.submit(stubborn)
            await job.wait()
            await asyncio.sleep(100.0)
            before = runner.stats().stuck
            release.set()
        return before, runner.stats().stuck

    assert collected(main) == (1, 0)


def test_t7_whoever_is_told_of_a_failure_is_told_to_the_end(collected: Any) -> None:
    """`on_failure` may wait for what only it knows; its time is over when the runner says so."""

    async def main() -> list[str]:
        heard = []

        async def tell(view: JobView) -> None:
            heard.append("begun")
            try:
                await wait_unseen()
            finally:
                heard.append(f"ended at {asyncio.get_running_loop().time():g}")

        runner = JobRunner(now=unix_now, on_failure=tell)

        @runner.job
        async def fail() -> None:
            raise ValueError

        async with runner:
            await (await runner.submit(fail)).wait()
            await asyncio.sleep(100.0)
        return heard

    assert collected(main) == ["begun", "ended at 30"]


def test_t7_retries_delays_generators_and_streams_live_through_collections(collected: Any) -> None:
    """All that the runner starts has an owner until it is over."""

    async def main() -> list[str]:
        runner = JobRunner(now=unix_now, workers=2, retry=RetryPolicy(max_attempts=2, base=1.0))

        @runner.job
        async def flaky(ctx: JobContext) -> None:
            await asyncio.sleep(1.0)
            if ctx.attempt == 1:
                raise ConnectionError

        @runner.job
        async def pieces() -> AsyncIterator[str]:
            yield "one"
            await asyncio.sleep(1.0)
            yield "two"

        async def follow(job: Any) -> int:
            return len([event async for event in job.events()])

        async with runner:
            jobs = [await runner.submit(flaky, delay=delay) for delay in (0.0, 5.0)]
            jobs += [await runner.submit(pieces) for _ in range(2)]
            async with asyncio.TaskGroup() as group:
                seen = [group.create_task(follow(job), name="reader") for job in jobs]
            return [f"{job.status} {task.result()}" for job, task in zip(jobs, seen, strict=True)]

    assert collected(main) == ["completed 5"] * 2 + ["completed 5"] * 2


def test_t7_the_collections_are_real(collected: Any) -> None:
    """A task that nobody keeps does vanish here, or the tests above would prove nothing."""

    async def main() -> list[str]:
        ended = []

        async def lonely() -> None:
            try:
                await wait_unseen()
            finally:
                ended.append("vanished")

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.get_running_loop().create_task(lonely(), name="lonely")
        await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        return ended

    assert collected(main) == ["vanished"]


class Given(BaseModel):
    """A param that is a value of its own."""

    text: str


@pytest.mark.usefixtures("frozen")
@virtual_time
async def test_q7_what_a_job_was_given_goes_with_its_end() -> None:
    """Its arguments and its submitter's context; who holds the handle still reads the rest."""
    refs: list[weakref.ref[Any]] = []
    owner: ContextVar[Given | None] = ContextVar("owner", default=None)
    runner = JobRunner(now=unix_now)

    @runner.job
    async def take(given: Given) -> int:
        refs.extend([weakref.ref(given), weakref.ref(owner.get())])
        return len(given.text)

    async with runner:
        token = owner.set(Given(text="the submitter's"))
        job = await runner.submit(take, {"given": {"text": "abc"}})
        owner.reset(token)
        del token
        assert await job.result() == 3
        await asyncio.sleep(0)
        gc.collect()
        assert [ref() for ref in refs] == [None, None]
        assert job.view().params == {"given": {"text": "abc"}}


@pytest.mark.usefixtures("frozen")
@virtual_time
async def test_q7_a_final_job_is_no_object() -> None:
    """Two hundred thousand records made collections of a quarter of a second."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def note() -> None: ...

    async with runner:
        for _ in range(100):
            await runner.submit(note)
        await runner.drain()
        await asyncio.sleep(0)
        kept = {view.job_id for view in (await runner.list(limit=200)).jobs}
        gc.collect()
        records = [found for found in gc.get_objects() if type(found) is Job and found.id in kept]
        assert (len(kept), records) == (100, [])
