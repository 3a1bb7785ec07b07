"""Servers in processes of their own that serve what a test wrote."""

import asyncio
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from tests.serving import GONE_ON, connect


@asynccontextmanager
async def uvicorn_serves(
    folder: Path, program: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx2.AsyncClient]]:
    """Serve a module's `app` with uvicorn on a free port; yield the process and a client."""
    (folder / "program.py").write_text(textwrap.dedent(program))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "program:app", "--port", "0", "--no-access-log",
        cwd=folder, env=dict(os.environ),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(GONE_ON):
            url = None
            while url is None:
                line = (await process.stderr.readline()).decode()
                assert line, "the server has not started"
                url = re.search(r"http://127\.0\.0\.1:\d+", line)
        reading = asyncio.create_task(process.stderr.read(), name="its log")
        async with connect(url[0]) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading
