"""What the README shows is run: its Python, its commands' names, and its table of defaults."""

import inspect
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from jobrunner import JobRunner, Limits, Retention, RetryPolicy, Webhooks
from jobrunner.couriers import AT_ONCE, MAX_BYTES, MAX_UNDER_WAY
from jobrunner.hosts import PER_HOST
from jobrunner.signing import keys_of, new_secret, sign
from jobrunner.web import create_app

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
EXTRAS = {"jobrunner.metrics": "prometheus_client"}
"""What a block needs that imports one of ours, and that the extra `test` doesn't bring."""
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[-2][:30] for block in BLOCKS])
@pytest.mark.slow  # each block is a program of its own, as a reader would run it
def test_a_block_of_python_runs(block: str, tmp_path: Path) -> None:
    """A reader copies a block into a file and runs it; it has to work as it stands."""
    for ours, needed in EXTRAS.items():
        if ours in block:
            pytest.importorskip(needed, reason=f"{ours} needs an extra that is not installed")
    (tmp_path / "block.py").write_text(block, "utf-8")
    command = [sys.executable, "-W", "error", "block.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


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


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    """A table that is wrong is worse than none."""
    runner = inspect.signature(JobRunner).parameters
    stated = dict(re.findall(r"^\| ([a-z][^|]+?) \| ([^|]+?) \|", README, re.MULTILINE))
    limits, kept = Limits(), Retention()
    assert stated["jobs at once"] == f"{runner['workers'].default}"
    assert stated["time limit of an attempt"] == f"{runner['timeout'].default:g} s"
    assert stated["attempts"] == f"{runner['retry'].default.max_attempts}"
    assert stated["time to stop when asked"] == f"{runner['cancel_grace'].default:g} s, twice"
    assert stated["time for running jobs at shutdown"] == (
        f"{runner['shutdown_timeout'].default:g} s"
    )
    assert stated["final jobs kept"] == f"{kept.max_jobs:,}, for a day, 256 MB"
    assert kept.max_bytes == limits.max_live_bytes == 2**28
    assert kept.max_age == 86_400
    assert stated["ids of pruned jobs remembered"] == f"{kept.max_tombstones:,}"
    assert stated["jobs that wait"] == f"{limits.max_pending:,}, 256 MB of params"
    assert stated["event loop blocked"] == f"named after {runner['watchdog'].default:g} s"
    assert stated["handlers that refuse to end"].startswith(f"{limits.max_stuck};")
    budget = f"{RetryPolicy().budget:g} a second"
    assert stated["retries of a type that come due"].startswith(budget)
    assert (limits.max_params, limits.max_metadata, limits.max_result) == (2**18, 2**14, 2**20)
    assert stated["jobs of one batch"] == f"{limits.max_batch:,}"
    assert stated["generations of sub-jobs"] == f"{limits.max_depth}"
    assert stated["events of a job, their text"].startswith(f"{limits.max_events:,}, 5 MB;")
    assert limits.max_text == 5_000_000
    tries = ", ".join(f"{seconds:g}" for seconds in Webhooks(new_secret()).schedule)
    assert stated["a webhook's tries, seconds before each at most"] == tries
    assert stated["time of a try"] == f"{Webhooks(new_secret()).timeout:g} s"
    assert stated["tries at once"] == f"{AT_ONCE}, {PER_HOST} of them at one host"
    assert stated["webhooks under way"].startswith(f"{MAX_UNDER_WAY:,}, ")
    assert MAX_BYTES == 2**26
    assert stated["webhooks remembered after their end"] == f"{Webhooks(new_secret()).max_kept:,}"
    streams = inspect.signature(create_app).parameters["max_streams"].default
    assert stated["open streams and WebSockets"] == f"{streams:,}"


def test_the_test_command_is_the_one_that_is_checked() -> None:
    """`.ci/run` takes the command from the README, so that what is promised is what is tried."""
    found = re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)
    assert len(found) == 1
