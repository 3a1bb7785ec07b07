"""`jobrunner demo`: a real server, real jobs, and the conversation that this is all about.

An agent is told to run a test suite that takes longer than a request may. It starts a job by a
tool call, has an id at once, answers "are the tests done?" from the job's real progress, and
reports the real result. Then fifty documents are analysed by five workers.
"""

import asyncio
import bz2
import importlib.util
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .context import JobContext
from .output import StreamName
from .runner import JobRunner
from .server import Server, serving_by

SUITE = Path(__file__).parent / "demo_suite"
SUITE_TESTS = 49
DOCUMENTS = 50
RESULT_LINE = re.compile(r"(\S+::)?(?P<name>test_\w+)[ (].*?(?P<outcome>PASSED|FAILED|ok$|FAIL$)")


@dataclass
class SuiteReport:
    """Result of the job type `run_tests`."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Analysis:
    """Result of the job type `analyse_document`."""

    document: str
    words: int
    commonest: str
    compresses_to: float


def make_runner() -> JobRunner:
    """Return a runner with the demo's two job types."""
    runner = JobRunner(workers=5, timeout=120.0)
    runner.job(run_tests)
    runner.job(analyse_document)
    return runner


async def run_tests(ctx: JobContext) -> SuiteReport:
    """Run the full test suite."""
    report = SuiteReport()

    def count(stream: StreamName, line: str) -> None:
        if found := RESULT_LINE.match(line):
            if found["outcome"] in ("PASSED", "ok"):
                report.passed += 1
            else:
                report.failures.append(found["name"])
            ctx.step(report.passed + len(report.failures), SUITE_TESTS, "Running the tests")

    if importlib.util.find_spec("pytest"):
        arguments = ["-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no", "-c", os.devnull,
                     "--rootdir", str(SUITE), "test_vault.py"]  # fmt: skip
    else:
        arguments = ["test_vault.py"]
    done = await ctx.run_command(
        [sys.executable, "-B", *arguments],
        cwd=SUITE,
        env={"PYTHONUNBUFFERED": "1"},
        on_line=count,
    )
    report.seconds = done.duration
    return report


def analyse_document(path: str) -> Analysis:
    """Count the words of a document, find the commonest, and see how well it compresses."""
    text = Path(path).read_text("utf-8", "replace")
    words = re.findall(r"[A-Za-z]{4,}", text.lower())
    commonest = Counter(words).most_common(1)
    return Analysis(
        document=Path(path).name,
        words=len(words),
        commonest=commonest[0][0] if commonest else "",
        compresses_to=round(len(bz2.compress(text.encode())) / max(1, len(text)), 3),
    )


class Demo:
    """The conversation, over HTTP like everybody else's."""

    def __init__(self, client: httpx2.AsyncClient, console: Console) -> None:
        self._client = client
        self._console = console

    async def run(self) -> None:
        """Live the conversation and then the batch."""
        self._say("you", "run the full test suite")
        job = await self._submit("/jobs", "run_tests", {})
        self._say("agent", f"I have started the test suite as {job['job_id']}.")
        await self._wait(job["job_id"])
        await self._report(job["job_id"])
        await self._analyse()

    async def _wait(self, job_id: str) -> None:
        """Show how the tests go, and ask about them on the way."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._show(job_id, SUITE_TESTS), name="bar")
                await self._reach(job_id, 40)
                self._say("you", "are the tests done?")
                await self._answer(job_id)
        except ExceptionGroup as errors:  # the first says it; the others are its echo
            raise errors.exceptions[0] from None

    def _say(self, who: str, text: str) -> None:
        self._console.print(f"[bold]{who:>5}[/bold]  {text}", highlight=False, soft_wrap=True)

    def _call(self, text: str) -> None:
        self._console.print(f"       [dim]{text}[/dim]", highlight=False, soft_wrap=True)

    async def _submit(self, path: str, type: str, params: Any) -> dict[str, Any]:
        began = time.perf_counter()
        response = await self._client.post(path, json={"type": type, "params": params})
        response.raise_for_status()
        took = 1_000 * (time.perf_counter() - began)
        self._call(f"POST {path} {type} -> {response.status_code} in {took:.0f} ms")
        taken: dict[str, Any] = response.json()
        return taken

    async def _get(self, job_id: str, wait: int = 0) -> dict[str, Any]:
        response = await self._client.get(f"/jobs/{job_id}", params={"wait": wait})
        response.raise_for_status()
        job: dict[str, Any] = response.json()
        return job

    async def _events(self, path: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the stream of a job or a batch as (event, data)."""
        async with self._client.stream("GET", f"{path}/stream", timeout=60.0) as response:
            name = ""
            async for line in response.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    async def _reach(self, job_id: str, percent: float) -> None:
        async for name, data in self._events(f"/jobs/{job_id}"):
            if name == "done" or data.get("progress", 0) >= percent:
                return

    async def _show(self, job_id: str, total: int) -> None:
        with self._bar() as progress:
            task = progress.add_task("tests", total=total)
            async for name, data in self._events(f"/jobs/{job_id}"):
                if name == "progress" and data["step"]:
                    progress.update(task, completed=data["step"]["current"])

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("       {task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            console=self._console,
        )

    async def _answer(self, job_id: str) -> None:
        job = await self._get(job_id)
        self._call(f"GET /jobs/{job_id[:12]}... -> {job['status']}, {job['progress']:.0f} %")
        if job["status"] == "running":
            step = job["step"]
            self._say("agent", f"Not yet: {step['current']} of {step['total']} have run.")

    async def _report(self, job_id: str) -> None:
        job = await self._get(job_id, wait=30)
        if job["status"] != "completed":
            raise SystemExit(f"the test job {job['status']}: {job['error']}")
        report = job["result"]
        failed = report["failures"]
        self._say("agent", f"Done: {report['passed']} passed, {len(failed)} failed.")
        self._say("agent", f"What failed: {', '.join(failed)}.")

    async def _analyse(self) -> None:
        folder = Path(os.__file__).parent
        paths = sorted(folder.glob("*.py"))[:DOCUMENTS]
        self._say("you", f"analyse these {len(paths)} documents")
        params = [{"path": str(path)} for path in paths]
        batch = await self._submit("/batches", "analyse_document", params)
        results: list[dict[str, Any]] = []
        with self._bar() as progress:
            task = progress.add_task("documents", total=batch["total"])
            async for name, data in self._events(f"/batches/{batch['batch_id']}"):
                if name == "item":
                    results.append(data["result"])
                    progress.advance(task)
        words = sum(result["words"] for result in results)
        longest = max(results, key=lambda result: result["words"])
        self._say("agent", f"Analysed {len(results)} documents with {words:,} words in all.")
        self._say("agent", f"The longest is {longest['document']}.")


@asynccontextmanager
async def _client(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, timeout=60.0, trust_env=False
    ) as client:
        yield client


def demo_server(port: int) -> Server:
    """Return a server of the demo's runner, bound to 127.0.0.1.

    Raises:
        OSError: The port can't be bound.
    """
    return Server(make_runner(), port=port, known_as="the demo")


async def run_demo(console: Console, server: Server, *, keep: bool) -> None:
    """Serve, live the demo, and serve on if asked to."""
    async with serving_by(server):
        console.print(f"jobrunner demo, serving {server.url}", highlight=False)
        async with _client(server) as client:
            await Demo(client, console).run()
        if keep:
            console.print(f"still serving: {server.login_url}", highlight=False, soft_wrap=True)
            console.print("Ctrl-C ends it.")
            await server.stopped()
