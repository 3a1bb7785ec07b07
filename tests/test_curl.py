"""Everything by the curl program alone: a real test suite as a job, watched, resumed, cancelled."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator

import pytest

from jobrunner import JobRunner
from jobrunner.demo import make_runner
from jobrunner.server import Server, serving
from tests.serving import GONE_ON, Frame, read_frames

CURL = shutil.which("curl")
pytestmark = [
    pytest.mark.curl,
    pytest.mark.slow,
    pytest.mark.skipif(CURL is None, reason="there is no curl program on the path"),
]


class Curl:
    """Calls the program as a person would type it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def command(self, path: str, *options: str) -> list[str]:
        assert CURL is not None
        auth = f"Authorization: Bearer {self._server.token}"
        return [CURL, "-q", "-sS", "-N", "--noproxy", "*", "-H", auth, *options,
                f"{self._server.url}{path}"]  # fmt: skip

    async def __call__(self, path: str, *options: str) -> str:
        """Return what it prints."""
        process = await asyncio.create_subprocess_exec(
            *self.command(path, *options), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(GONE_ON):
            said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode()

    async def json(self, path: str, *options: str) -> dict[str, object]:
        answer: dict[str, object] = json.loads(await self(path, *options))
        return answer

    async def status(self, path: str, *options: str) -> str:
        return await self(path, "-o", "/dev/null", "-w", "%{http_code}", *options)

    async def submit(self, type: str) -> str:
        body = json.dumps({"type": type})
        job = await self.json("/jobs", "-H", "Content-Type: application/json", "-d", body)
        return str(job["job_id"])

    async def frames(self, path: str, *options: str, cut: int | None = None) -> list[Frame]:
        """Read a stream to its end, or cut the connection after some events."""
        process = await asyncio.create_subprocess_exec(
            *self.command(path, *options), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        frames: list[Frame] = []
        async with asyncio.timeout(GONE_ON):
            async for frame in read_frames(pieces(process.stdout)):
                frames.append(frame)
                if len(frames) == cut:
                    process.kill()
                    break
            await process.communicate()
        return frames


async def pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(65_536):
        yield piece


def runner_with_suite() -> JobRunner:
    """Return the demo's runner, whose `run_tests` runs a real suite of 49 tests."""
    runner = make_runner()

    @runner.job
    async def wait() -> None:
        await asyncio.Event().wait()

    return runner


async def test_a_test_suite_is_submitted_polled_and_its_result_read() -> None:
    """No client library is needed, whatever the agent is written in."""
    async with serving(runner_with_suite()) as server:
        curl = Curl(server)
        job_id = await curl.submit("run_tests")
        assert await curl.status(f"/jobs/{job_id}/result") == "202"
        polled = await curl.json(f"/jobs/{job_id}", "-H", "Prefer: wait=30")
        result = await curl.json(f"/jobs/{job_id}/result")
    assert (polled["status"], result) == ("completed", polled["result"])
    assert result["passed"] == 47


async def test_a_stream_that_is_cut_goes_on_where_it_was() -> None:
    """Every event of the suite once and in order, over three connections."""
    async with serving(runner_with_suite()) as server:
        curl = Curl(server)
        job_id = await curl.submit("run_tests")
        path = f"/jobs/{job_id}/stream"
        first = await curl.frames(path, cut=10)
        second = await curl.frames(path, "-H", f"Last-Event-ID: {first[-1].id}", cut=20)
        third = await curl.frames(f"{path}?after={second[-1].id}")
        end = await curl.status(path, "-H", f"Last-Event-ID: {third[-1].id}")
    frames = first[1:] + second + third
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    assert (frames[-1].event, frames[-1].data["result"]["passed"]) == ("done", 47)
    assert end == "204"


async def test_a_job_is_cancelled() -> None:
    """Without a body and without a content type, as one types it."""
    async with serving(runner_with_suite()) as server:
        curl = Curl(server)
        job_id = await curl.submit("wait")
        first = await curl.status(f"/jobs/{job_id}/cancel", "-X", "POST")
        await curl.json(f"/jobs/{job_id}?wait=30")
        second = await curl.json(f"/jobs/{job_id}/cancel", "-X", "POST")
        result = await curl.status(f"/jobs/{job_id}/result")
    assert first in ("200", "202")
    assert (second["status"], result) == ("cancelled", "409")
