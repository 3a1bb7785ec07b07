"""A schema fuzzer on the OpenAPI document and the server behind it, with all of its checks."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from jobrunner import JobContext
from jobrunner.server import serving
from tests.serving import make_runner

CONFIG = """
request-timeout = 40

[checks]
max_response_time = 39
positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 404, 409, 410, 503]

[[operations]]
include-name = "GET /jobs"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400]

[[operations]]
include-name = ["POST /jobs", "POST /batches"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 409, 422, 503]

[[operations]]
include-name = ["POST /jobs/{job_id}/input", "POST /answers/{token}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 409, 410, 422]
"""
"""What no schema can say is refused all the same: ids that are gone, cursors that were made up,
keys that came before, URLs that lead inside, integers of a hundred digits, answers that don't fit
what was asked. A long poll takes 30 s.
"""
OPTIONS = [
    "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "1000",
    "--exclude-path-regex", "stream|events",  # they have no end
    "--generation-codec", "ascii",  # no pattern can say what is printable beyond
    "--continue-on-failure", "--no-color",
    "--workers", "1",  # 3.11 doesn't parse in threads: python/cpython#106905
]  # fmt: skip


@pytest.mark.soak
async def test_a_schema_fuzzer_finds_nothing(tmp_path: Path) -> None:
    """At least 10,000 cases: what the document says is what the server does, and none is a 5xx."""
    pytest.importorskip("schemathesis", reason="it comes with the extra `dev`")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    runner, _ = make_runner(timeout=0.5)  # jobs that wait for a gate end too

    @runner.job
    async def add(
        a: Annotated[int, Field(strict=True)],
        b: Annotated[float, Field(ge=0, strict=True)] = 1.0,
        note: str | None = None,
    ) -> float:
        return a + b

    @runner.job
    async def ask(ctx: JobContext) -> int:
        return await ctx.ask("How many?", schema=int, timeout=10.0, default=0)

    async with serving(runner) as server:
        fuzzer = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", "schemathesis.toml", "run", f"{server.url}/openapi.json"),
            *("-H", f"Authorization: Bearer {server.token}"),
            *OPTIONS,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await fuzzer.communicate()
    assert fuzzer.returncode == 0, said.decode()
    print(said.decode())
    cases = re.search(r"(\d+) generated, (\d+) passed", said.decode())
    assert cases is not None and int(cases[2]) >= 10_000
