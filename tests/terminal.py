"""Commands in this process, against a server in a thread of its own."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import BaseModel, Field, SecretStr
from typer.main import get_command
from typer.testing import CliRunner

from jobrunner import JobContext, JobRunner, RetryableError, RetryPolicy
from jobrunner.cli import app
from tests.serving import Bench, bench

HOSTILE = "\x1b]0;pwned\x07\x1b]52;c;eA==\x07\x1b[2J\x9b5A\x1b]8;;http://evil\x07[bold]x\u202e"
"""What no terminal may get to see; brackets are text and no markup."""
HARMLESS = "[bold]x"
"""What is left of it."""


COMMAND = get_command(app)
"""Built once, as by the program: for each command anew it would take longer than many a command."""


class Ended(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The documents on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments: str, stdin: str = "", **env: str | None) -> Ended:
    """Run a command in this process to its end, with these variables set or, if None, unset."""
    with CliRunner(env=env).isolation(input=stdin) as (out, err, _):
        code: Any = 0
        try:
            COMMAND.main(args=arguments, prog_name="jobrunner")
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        return Ended(code, out.getvalue().decode(), err.getvalue().decode())


class Approval(BaseModel):
    """Whether it may be done."""

    approved: bool
    where: Literal["staging", "production"] = "staging"
    tags: list[str] = []
    times: Annotated[int | None, Field(description="How often")] = None
    secret: SecretStr | None = None


SCHEMAS: dict[str, Any] = {
    "approval": Approval,
    "choice": Literal["eu", "us", 3],
    "bool": bool,
    "hostile": Literal["ok", "\x1b]0;pwned\x07\x9b2Jno"],
    "int": int,
    "text": str,
    "list": list[int],
    "maybe text": str | None,
    "maybe": float | None,
}


class Terminal(NamedTuple):
    """A served runner, and somebody at a terminal."""

    portal: BlockingPortal
    bench: Bench
    runtime: str
    """A runtime folder in which there is no server."""

    def __call__(self, *arguments: str, stdin: str = "", **environment: str | None) -> Ended:
        """Run a command to its end."""
        env = {"COLUMNS": "200", "JOBRUNNER_URL": self.bench.url, "NO_COLOR": None,
               "JOBRUNNER_TOKEN": self.bench.token, "XDG_RUNTIME_DIR": self.runtime}  # fmt: skip
        return run(*arguments, stdin=stdin, **env | environment)

    def submit(self, type: str, **params: Any) -> str:
        """Submit a job and return its id."""
        return str(self.portal.call(lambda: self.bench.submit(type, **params)))

    def finished(self, type: str, **params: Any) -> str:
        """Submit a job, wait for its end, and return its id."""
        return str(self.portal.call(lambda: self.bench.finished(type, **params)))

    def held(self, key: str, say: list[str] | None = None) -> str:
        """Start a job that waits at a gate."""
        return str(self.portal.call(lambda: self.bench.held(key, say=say)))

    def open(self, key: str) -> None:
        """Let it go on."""
        self.portal.call(lambda: _now(self.bench.gates[key].set))

    def asking(self, *schemas: str, prompt: str = "Well?") -> str:
        """Return the id of a job that asks."""
        job_id = self.submit("ask", schemas=list(schemas), prompt=prompt)
        self.portal.call(self.asked, job_id, len(schemas))
        return job_id

    async def asked(self, job_id: str, count: int) -> None:
        """Wait until a job has asked that many questions."""
        async for event in self.bench.runner.handle(job_id).events():
            if event.type == "question":
                count -= 1
                if count == 0:
                    return

    def result(self, job_id: str) -> Any:
        """Return a job's result, after its end."""
        return self.portal.call(lambda: self.bench.runner.handle(job_id).result())


async def _now(function: Callable[[], None]) -> None:
    function()


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Serve job types that do what a test tells them."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(bench(workers=50)) as served,
        TemporaryDirectory() as runtime,
    ):
        _add_types(served.runner)
        yield Terminal(portal, served, runtime)


def _add_types(runner: JobRunner) -> None:
    @runner.job
    async def ask(ctx: JobContext, schemas: list[str], prompt: str = "Well?") -> list[Any]:
        """Ask one question after the other."""
        return [await ctx.ask(prompt, schema=SCHEMAS[name]) for name in schemas]

    @runner.job
    async def ask_both(ctx: JobContext) -> list[bool]:
        """Ask two questions at once."""
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(ctx.ask(text, schema=bool)) for text in ("One?", "Two?")]
        return [task.result() for task in both]

    @runner.job
    async def typed(
        text: str,
        count: int = 1,
        deep: bool = False,
        names: list[str] | None = None,
        options: Approval | None = None,
        either: int | str = 0,
    ) -> dict[str, Any]:
        """Return what it was given.

        All of it.
        """
        return {"text": text, "count": count, "deep": deep, "names": names, "either": either,
                "options": options and options.model_dump(mode="json")}  # fmt: skip

    @runner.job
    async def hostile(ctx: JobContext, fail: bool = False) -> str:
        ctx.emit(f"{HOSTILE}\n")
        ctx.log(HOSTILE, field=HOSTILE)
        ctx.step(1, 2, HOSTILE)
        if fail:
            raise ValueError(HOSTILE)
        return HOSTILE

    @runner.job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def again(ctx: JobContext) -> str:
        ctx.progress(10, "trying")
        ctx.progress(15, "trying on")
        if ctx.attempt == 1:
            raise RetryableError("busy")
        return "at last"
