"""Each example runs as its docstring says, and stays short enough to be read."""

import asyncio
import json
import re
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from tests.accepting import accepting

EXAMPLES = Path(__file__).parent.parent / "examples"
SUITE = Path(__file__).parent.parent / "jobrunner" / "demo_suite"


def load(name: str) -> dict[str, Any]:
    """Run an example's module, as an import would."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@asynccontextmanager
async def client_of(example: dict[str, Any], app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A client in process, with the example's runner started as its lifespan would."""
    transport = httpx2.ASGITransport(app=app)
    async with (
        example["runner"].lifespan(app),
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_at_most_a_hundred_lines_and_says_how_to_run_it(path: Path) -> None:
    """A newcomer reads an example whole, and copies its first command."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 100
    assert f"examples{'.' if 'uvicorn' in text else '/'}{path.stem}" in text.split('"""')[1]
    readme = EXAMPLES.parent / "README.md"
    assert f"[{path.stem}](examples/{path.name})" in readme.read_text("utf-8")


async def test_starlette_serves_its_own_routes_and_the_runner_s() -> None:
    """The embedding app starts a job, and the mounted one shows it."""
    example = load("embed_starlette")
    async with client_of(example, example["app"]) as client:
        started = await client.post("/reports/spring")
        assert started.status_code == 202
        path = f"/jobs-api/jobs/{started.json()['job_id']}"
        job = (await client.get(path, params={"wait": 10})).json()
    assert job["status"] == "completed"
    assert job["result"] == "# spring\nChapter 1\nChapter 2\nChapter 3"
    assert job["links"]["self"] == path


async def test_fastapi_answers_with_the_job_s_own_model() -> None:
    """`JobView` is a pydantic model, so FastAPI documents and serialises it by itself."""
    example = load("embed_fastapi")
    async with client_of(example, example["app"]) as client:
        started = await client.post("/signup", params={"email": "ada@example.com"})
        job_id = started.json()["job_id"]
        await example["runner"].wait([job_id])
        job = (await client.get(f"/signup/{job_id}")).json()
        unknown = await client.get("/signup/job_unknown")
        mounted = await client.get(f"/jobs-api/jobs/{job_id}")
    assert (job["status"], job["result"]) == ("completed", "sent to ada@example.com")
    assert unknown.status_code == 404
    assert mounted.json()["job_id"] == job_id


async def test_the_agent_endpoints_answer_in_the_promised_shape() -> None:
    """REQUIREMENTS row 17 names the paths and the members to the letter."""
    example = load("agent_endpoints")
    async with client_of(example, example["app"]) as client:
        submitted = await client.post("/agent/submit", json={"prompt": "hello there"})
        task_id = submitted.json()["task_id"]
        await example["runner"].wait([task_id])
        status = (await client.get(f"/agent/status/{task_id}")).json()
        unknown = await client.get("/agent/status/job_unknown")
        broken = [
            await client.post("/agent/submit", content=content)
            for content in (b"", b"[]", b"{", b'{"prompt": 3}', b'{"prompt": "x", "else": 1}')
        ]
    assert submitted.json() == {"task_id": task_id}
    assert status == {
        "id": task_id,
        "status": "completed",
        "progress": 100.0,
        "result": "Thought about 2 words",
        "error": None,
    }
    assert unknown.status_code == 404
    assert [response.status_code for response in broken] == [422] * 5


async def test_the_agent_calls_back_when_it_is_done() -> None:
    """`submit-with-callback` tells the caller the result, so that nobody has to poll."""
    received: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        received.append(await reader.readexactly(int(length[1])))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    example = load("agent_endpoints")
    async with accepting(receive) as port:
        async with client_of(example, example["app"]) as client:
            body = {"prompt": "hello", "callback_url": f"http://localhost:{port}/hook"}
            task_id = (await client.post("/agent/submit-with-callback", json=body)).json()[
                "task_id"
            ]
            await example["runner"].wait([task_id])
            await example["runner"].drain()
            refused = await client.post("/agent/submit", json=body | {"callback_url": "http://x.y"})
    (told,) = [json.loads(body) for body in received]
    assert (told["job_id"], told["status"]) == (task_id, "completed")
    assert (told["result"], told["error"]) == ("Thought about 1 words", None)
    assert (refused.status_code, "not allowed" in refused.text) == (422, True)


async def test_progress_is_watched_and_the_job_cancelled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The example prints each step up to its cancel, and none after."""
    await load("progress_and_cancel")["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [f"{2 * n:>3} %  Analysing page {n}" for n in range(1, 6)]
    assert lines[-1].endswith("was cancelled: seen enough at 'Analysing page 5'")


@pytest.mark.slow  # it runs the real test suite of the demo, which takes two seconds
async def test_a_build_and_a_test_suite_run_as_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """Real commands: the compiler's exit code, the suite's live output and its failures."""
    await load("command_job")["main"](str(SUITE))
    out = capsys.readouterr().out
    assert out.startswith("compiled: True\n")
    assert "FAILED (failures=2)" in out
    assert "tests: {'exit_code': 1, 'lines': " in out


async def test_fifty_documents_outlive_the_page_that_shows_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Row 19: who comes back sees what happened meanwhile, each thing once, and all results."""
    await load("batch_of_documents")["main"]()
    lines = capsys.readouterr().out.splitlines()
    pages = [line for line in lines if line.startswith("the page")]
    assert pages == [
        "the page is opened", "the page is closed; the documents go on", "the page is opened again"
    ]  # fmt: skip
    shown = [line.split(",")[0] for line in lines if " of 50" in line]
    assert shown == [f"  {number} of 50" for number in range(1, 51)]
    assert lines.index(pages[1]) == lines.index(pages[2]) - 1
    assert lines.count("  document 12 failed: error") == 1
    assert lines[-1] == "28500 words in 50 documents"


def test_examples_are_not_packaged_as_modules() -> None:
    """They are read and run where they lie; nothing imports them."""
    assert "examples" not in sys.modules
