"""What the README shows is run: its Python as a reader would, its handlers, its receiver."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from jobrunner import JobRunner
from jobrunner.signing import keys_of, new_secret, sign
from jobrunner.web import create_app
from tests.readme import ALL_BLOCKS, BLOCKS, README, ROOT, blocks, file_name, save_files

EXTRAS = {"jobrunner.metrics": "prometheus_client", "jobrunner.telemetry": "opentelemetry.sdk"}
"""What a block needs that imports one of ours, and that the extra `test` doesn't bring."""


def named(block: str) -> str:
    return file_name(block) or block.split("\n")[-2][:30]


@pytest.mark.parametrize("block", BLOCKS, ids=[named(block) for block in BLOCKS])
@pytest.mark.slow  # each block is a program of its own, as a reader would run it
def test_a_block_of_python_runs(block: str, tmp_path: Path) -> None:
    """A reader copies a block into a file and runs it; it has to work as it stands."""
    for ours, needed in EXTRAS.items():
        if ours in block:
            pytest.importorskip(needed, reason=f"{ours} needs an extra that is not installed")
    save_files(tmp_path)
    name = file_name(block) or ("test_block.py" if "\nasync def test_" in block else "block.py")
    (tmp_path / name).write_text(block, "utf-8")
    tests = name.startswith("test_")
    testing = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "jobrunner.pytest_plugin"]
    command = [sys.executable, *(testing if tests else ["-W", "error"]), name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tests or done.stderr == ""  # plugins of pytest have warnings of their own


def test_the_handlers_shown_do_what_is_said_of_them() -> None:
    """The block of handlers only registers them; here each is run once."""
    block = next(block for block in BLOCKS if "stream_thoughts" in block)
    run = """
import asyncio

async def main():
    async with runner:
        assert await (await runner.submit(build, {"target": "x"})).result() == "x.tar.gz"
        assert await (await runner.submit(deploy)).result() == 3
        thoughts = await runner.submit("think", {"prompt": "to be"})
        said = [event.value async for event in thoughts.events() if event.type == "output"]
        assert said == ["Let me see.", {"tool": "split", "of": "to be"}, "to ", "be "]
        assert thoughts.view().partial == "to be "
        job = await runner.submit(refactor, {"path": "a.py"})
        assert await job.result() == "refactored a.py in attempt 2"
        refused = await runner.submit(refactor, {"path": "/"})
        assert (await refused.wait()).error.type == "PermanentError"

asyncio.run(main())
"""
    block = block.replace("base=1.0", "base=0.0")
    exec(compile(block + run, "README.md", "exec"), {"__name__": "readme"})


def test_the_receiver_shown_tells_ours_from_others() -> None:
    """It is what people copy; one that lets everybody in would be the worst line of all."""
    block = next(block for block in BLOCKS if "WebhookRejected" in block)
    shown: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), shown)
    app = Starlette(routes=[Route("/", shown["receive"], methods=["POST"])])
    body, at = b'{"type":"job.failed","data":{"job_id":"job_1","result":null}}', int(time.time())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at)}
    for secret, status in (shown["SECRET"], 204), (new_secret(), 401):
        headers["webhook-signature"] = sign(keys_of(secret), "msg_1", at, body)
        assert TestClient(app).post("/", content=body, headers=headers).status_code == status


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    """A block in another language would be tried by nobody."""
    assert {kind for kind, _ in ALL_BLOCKS} == {"", "json", "python", "sh", "text", "yaml"}
    (picture,) = blocks("")
    named_files = re.findall(r"^   (\w+\.py|\w+/) ", picture, re.MULTILINE)
    assert len(named_files) > 4
    assert [name for name in named_files if not (ROOT / "jobrunner" / name).exists()] == []
    for block in blocks("json"):
        json.loads(block)


def test_every_route_is_in_the_table_and_no_other() -> None:
    """What isn't there isn't found; what is there only is looked for in vain."""
    table = README[README.index("| method and path |") :].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+?) \| ", table, re.MULTILINE)
    assert len(rows) == len(set(rows))
    stated = set(re.findall(r"(?:GET|POST|DELETE|WS) (/[^`]*)", table))
    app = create_app(JobRunner(), auth=None)
    routes = {route.path for route in app.routes if isinstance(route, Route | WebSocketRoute)}
    named = {re.sub("(job|batch)_id", "id", path.replace(":path", "")) for path in routes}
    assert stated == named | {"/mcp"}


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    """A table of contents that leads nowhere is noticed by readers only."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    headings = [slug(each) for each in re.findall(r"^##+ (.+)$", text, re.MULTILINE)]
    assert len(headings) == len(set(headings))
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    lost = [link for link in targets if link.startswith("#") and link[1:] not in headings]
    assert lost == []
    assert [link for link in targets if link[0] != "#" and not (ROOT / link).exists()] == []
    contents = re.findall(r"\]\(#([^)]+)\)", text[: text.index("\n## ")])
    chapters = [slug(each) for each in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    assert set(chapters) - set(contents) - {"license"} == set(), "add it to the table at the top"


def test_the_test_command_is_the_one_that_is_checked() -> None:
    """`.ci/run` takes the command from the README, so that what is promised is what is tried."""
    found = re.findall(r"^python3 -m venv .* -m pytest .*$", README, re.MULTILINE)
    assert len(found) == 1
