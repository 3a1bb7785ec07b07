"""Lines of the log say which job they are about, or were written in."""

import ast
import asyncio
import contextvars
import io
import logging
import logging.config
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import jobrunner
from jobrunner import JobContext, JobLogFilter, JobRunner
from tests.receiving import Receiver
from tests.runners import runner_with, swallow
from tests.simulation.loop import virtual_time

mine = logging.getLogger("tests.current")


@contextmanager
def written(format: str = "%(job_id)s %(job_type)s %(message)s") -> Iterator[io.StringIO]:
    """Have what is logged written to a text, as an application would have it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter(format))
    handler.addFilter(JobLogFilter())
    logging.getLogger().addHandler(handler)
    try:
        yield text
    finally:
        logging.getLogger().removeHandler(handler)


async def test_records_made_in_a_handler_name_its_job() -> None:
    """Who searches the log for a job's id finds what its libraries have said, too."""
    runner = JobRunner()

    async def subtask() -> None:
        mine.warning("subtask")

    @runner.job
    async def coroutine() -> None:
        mine.warning("coroutine")
        await asyncio.create_task(subtask())
        await asyncio.to_thread(mine.warning, "to_thread")

    @runner.job
    def thread() -> None:
        mine.warning("thread")

    with written() as text:
        mine.warning("before")
        async with runner:
            ids = []
            for name in ("coroutine", "thread"):
                job = await runner.submit(name)
                await job.wait()
                ids.append(job.id)
    assert text.getvalue().splitlines() == [
        "- - before",
        f"{ids[0]} coroutine coroutine",
        f"{ids[0]} coroutine subtask",
        f"{ids[0]} coroutine to_thread",
        f"{ids[1]} thread thread",
    ]


@virtual_time
async def test_jobs_side_by_side_and_sub_jobs_are_told_apart() -> None:
    """A job is begun where another has just ended, and a sub-job in its parent's context."""
    runner = runner_with(workers=2)

    @runner.job
    async def leaf(n: int) -> None:
        await asyncio.sleep(0.1 * (n % 3))
        mine.warning("leaf %d", n)

    @runner.job
    async def root(ctx: JobContext, n: int) -> None:
        child = await ctx.submit("leaf", {"n": n})
        ids[n] = child.id
        await child.result()
        mine.warning("root of %s", child.id)

    ids: dict[int, str] = {}
    with written() as text:
        async with runner:
            roots = [await runner.submit(root, {"n": n}) for n in range(5)]
            await runner.drain()
    lines = text.getvalue().splitlines()
    assert sorted(lines) == sorted(
        [f"{ids[n]} leaf leaf {n}" for n in ids]
        + [f"{roots[n].id} root root of {ids[n]}" for n in ids]
    )
    assert len(lines) == 10


async def test_a_thread_of_the_handler_s_own_has_no_job() -> None:
    """It has no copy of the context; the documentation says so, and what helps."""
    runner = JobRunner()

    @runner.job
    def handler() -> None:
        run = contextvars.copy_context().run
        for target, args in ((mine.warning, ("bare",)), (run, (mine.warning, "copied"))):
            thread = threading.Thread(target=target, args=args)
            thread.start()
            thread.join()

    with written() as text:
        async with runner:
            job = await runner.submit(handler)
            await job.wait()
    said = text.getvalue().splitlines()
    assert said[1] == f"{job.id} handler copied"
    assert said[0] in ("- - bare", f"{job.id} handler bare")  # newer Pythons may hand it on


def test_a_filter_can_be_named_in_a_configuration() -> None:
    """That is how most programs set up their log, before there is any runner."""
    text = io.StringIO()
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"jobs": {"()": "jobrunner.JobLogFilter"}},
        "formatters": {"short": {"format": "%(job_id)s %(message)s"}},
        "handlers": {"text": {"class": "logging.StreamHandler", "stream": text,
                              "filters": ["jobs"], "formatter": "short"}},
        "loggers": {"tests.configured": {"handlers": ["text"], "propagate": False}},
    })  # fmt: skip
    configured = logging.getLogger("tests.configured")
    configured.warning("line")
    configured.handlers.clear()
    assert text.getvalue() == "- line\n"


def record_of(name: str, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "msg": "x", **more})


def test_what_a_record_says_itself_is_left_as_it_is() -> None:
    """A line about another job than the one that runs here says which."""
    record = record_of("a", job_id="job_1", job_type="t")
    assert JobLogFilter().filter(record)
    assert (record.job_id, record.job_type) == ("job_1", "t")  # type: ignore[attr-defined]  # extra
    record = record_of("a", job_id="job_1")
    JobLogFilter().filter(record)
    assert record.job_type == "-"  # type: ignore[attr-defined]  # extra


def test_a_name_lets_only_its_own_records_pass() -> None:
    """As every filter of `logging` does."""
    only = JobLogFilter("a.b")
    assert [only.filter(record_of(name)) for name in ("a.b.c", "a")] == [True, False]


async def test_the_library_s_own_lines_are_not_ascribed_to_whoever_runs() -> None:
    """What a timer says about one job is called from wherever another had set it."""
    runner = JobRunner()

    @runner.job
    async def handler() -> None:
        logging.getLogger("jobrunner.any").warning("of the runner")

    with written() as text:
        async with runner:
            await (await runner.submit(handler)).wait()
    assert text.getvalue() == "- - of the runner\n"


async def provoke(what: str) -> str:
    """Have the library say something about a job, and return the job's id."""
    receiver = Receiver(410)
    runner = JobRunner(cancel_grace=0.01, webhooks=receiver.webhooks(), watchdog=0.05)

    def tell(view: object) -> None:
        raise OSError("nobody there")

    @runner.job(on_failure=tell if what == "on_failure" else None)
    async def fail() -> None:
        raise ValueError("no")

    @runner.job(timeout=0.01)
    async def deaf() -> None:
        await swallow(2)

    @runner.job
    async def block(ctx: JobContext) -> None:
        seen.wait()

    seen = threading.Event()
    watching = Watching(seen)
    logging.getLogger("jobrunner.watchdog").addFilter(watching)
    try:
        async with runner:
            name = {"stuck": "deaf", "blocked": "block"}.get(what, "fail")
            url = "https://192.0.2.1/" if what == "webhook" else None
            job = await runner.submit(name, webhook_url=url)
            await job.wait()
            if what == "webhook":
                await receiver.first()
    finally:
        logging.getLogger("jobrunner.watchdog").removeFilter(watching)
    return job.id


class Watching(logging.Filter):
    """Lets a handler go on when it has been noticed that it blocks the loop."""

    def __init__(self, seen: threading.Event) -> None:
        super().__init__()
        self._seen = seen

    def filter(self, record: logging.LogRecord) -> bool:
        self._seen.set()
        return True


@pytest.mark.parametrize(
    "what, said, type",
    [
        ("failed", "failed in attempt 1", "fail"),
        ("on_failure", "on_failure of job", "fail"),
        ("stuck", "is stuck", "deaf"),
        ("webhook", "is dead after", "fail"),
        ("blocked", "blocks the event loop", "block"),
    ],
)
async def test_the_library_s_own_lines_name_their_job(
    what: str, said: str, type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In fields, so that a collector of logs can find them without reading the text."""
    job_id = await provoke(what)
    (record,) = [each for each in caplog.records if said in each.getMessage()]
    assert (vars(record)["job_id"], vars(record)["job_type"]) == (job_id, type)


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call by which the package logs, and where it stands."""
    root = Path(jobrunner.__file__).parent
    for path in sorted(root.rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "job %s" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "logger":
                    yield f"{path.relative_to(root)}:{node.lineno}", node


def test_every_line_about_a_job_has_its_fields() -> None:
    """One that is added tomorrow too."""
    about = {
        place: {keyword.arg for keyword in call.keywords}
        for place, call in log_calls()
        if "job %s" in ast.unparse(call.args[0])
    }
    assert len(about) >= 12
    assert [place for place, keywords in about.items() if "extra" not in keywords] == []
