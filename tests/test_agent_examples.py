"""The examples in which an agent's framework calls the tools; each runs as it stands."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving import listening
from tests.test_examples import SUITE, client_of, load

ID = re.compile(r"job_[0-9a-f]{32}")


class Scripted:
    """A server that answers as a model would: with the calls of a script, then with text.

    Args:
        script: For each request a tool and its arguments, or None to say what it has read last.
    """

    def __init__(self, *script: tuple[str, dict[str, Any]] | None) -> None:
        self.script = list(script)
        self.requests: list[Any] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.reply, methods=["POST"])])

    async def reply(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.requests.append(body)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if (step := self.script.pop(0)) is None:
            message["content"] = body["messages"][-1]["content"]
        else:
            job_id = (ID.findall(json.dumps(body["messages"])) or [""])[-1]
            arguments = json.dumps(step[1]).replace("LAST", job_id)
            function = {"name": step[0], "arguments": arguments}
            call_id = f"call_{len(self.requests)}"
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse({"id": "1", "object": "chat.completion", "created": 0,
                             "model": body["model"], "choices": [choice]})  # fmt: skip


@pytest.mark.slow  # it loads the package, which takes longer than all that it does
async def test_the_openai_package_calls_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP, with the package's own types; the model makes a mistake and mends it."""
    pytest.importorskip("openai", reason="the package that the example is for is not installed")
    (tmp_path / "a.txt").write_text("one two three")
    server = Scripted(
        ("count_words_background", {"path": str(tmp_path)}),
        ("count_words_background", {"folder": str(tmp_path)}),
        None,
        ("wait_for_jobs", {"job_ids": "LAST"}),
        None,
    )
    async with listening(server.app) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await load("openai_agent")["main"]("Count the words, please.", "And?")
    said = capsys.readouterr().out
    sent = [request["messages"] for request in server.requests]
    assert [message["role"] for message in sent[-1]] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant",
        "user", "assistant", "tool",
    ]  # fmt: skip
    assert sent[1][-1]["content"].startswith("Nothing was done: the arguments of count_words_back")
    assert sent[2][-1]["content"].startswith("Job job_")
    assert '{"a.txt":3}' in said
    tools = [tool["function"]["name"] for tool in server.requests[0]["tools"]]
    assert {"count_words_background", "check_job_status", "cancel_job"} <= set(tools)


@pytest.mark.slow  # it runs the real test suite of the demo, which takes two seconds
async def test_an_agent_starts_follows_stops_and_approves_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Row 6: the whole conversation with a real framework, and each answer as a model reads it."""
    pytest.importorskip("pydantic_ai", reason="the framework of the example is not installed")
    await load("agent_conversation")["main"](str(SUITE))
    turns = capsys.readouterr().out.split("\nuser:  ")[1:]
    ids = list(dict.fromkeys(ID.findall("".join(turns))))
    run, asked, waited, built, stopped, deployed, looked, approved, ended = turns
    assert f"Job {ids[0]} (run_tests) was started in the background. It has no result yet." in run
    assert (f'wait_for_jobs(job_ids=["{ids[0]}"])' in run, "result:" in run) == (True, False)
    assert f"calls: check_job_status {{'job_id': '{ids[0]}'}}" in asked
    assert f"reads: Job {ids[0]} (run_tests) has been running for " in asked
    assert "AssertionError: 'IIII' != 'IV'" in waited
    assert re.search(r"agent: .* has completed, after \S+ s, with exit code 1\.", waited)
    assert f"Job {ids[1]} (build) was started in the background." in built
    assert re.search(rf'agent: Job {ids[1]} .* was cancelled .*"it takes too long"', stopped)
    assert f"Job {ids[2]} (deploy) was started in the background." in deployed
    assert f'answer_job(job_id="{ids[2]}", question_id="q1", value=...)' in looked
    assert looked.rstrip().endswith("agent: Deploy release-1 to production?")
    assert "calls: answer_job {" in approved and "reads: The answer was taken." in approved
    assert f"Job {ids[2]} (deploy) has completed" in ended
    assert "release-1 is in production." in ended
    assert (len(ids), waited.count("Next:"), ended.count("Next:")) == (3, 1, 1)


async def test_a_link_in_a_chat_approves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chat fetches the link for its preview, which decides nothing; a click does, once."""
    posted: asyncio.Queue[str] = asyncio.Queue()

    async def chat(request: Request) -> Response:
        posted.put_nowait((await request.json())["text"])
        return Response("ok")

    async with listening(Starlette(routes=[Route("/chat", chat, methods=["POST"])])) as url:
        monkeypatch.setenv("CHAT_URL", f"{url}/chat")
        example = load("approval_link")
        async with client_of(example, example["app"]) as client:
            job_id = (await client.post("/deploy/1.4.2")).json()["job_id"]
            text = await posted.get()
            (link,) = re.findall(r"<http://localhost:8000(/jobs-api/answers/\S+)\|Decide>", text)
            preview = await client.get(link)
            waiting = (await example["runner"].get(job_id)).status
            clicks = [
                await client.post(link, data={"json": json.dumps(word)})
                for word in ("approve", "reject")
            ]
            view = (await example["runner"].wait([job_id])).done[0]
    assert ("Deploy 1.4.2 to production?" in preview.text, waiting) == (True, "input_required")
    assert [click.status_code for click in clicks] == [200, 404]
    assert view.result == "1.4.2 is deployed"
