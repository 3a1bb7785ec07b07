"""P1, the campaign: trees of every kind, stopped at any moment, leave nothing at all behind.

`JOBRUNNER_TREES` says how many; 60 by default.
"""

import asyncio
import gc
import os
import secrets
import sys
import threading
from pathlib import Path
from random import Random

import pytest

from jobrunner import JobContext, JobRunner
from tests.running import carrying, run

TREES = int(os.environ.get("JOBRUNNER_TREES", "60"))
SEED = int(os.environ.get("JOBRUNNER_SEED", "1"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")

GROUP = "import os, time; os.fork() or os.setpgid(0, 0); time.sleep(60)"
KINDS = {
    "exits": "true",
    "plain": "exec sleep 60",
    "children": "sleep 60 & sleep 60 & sh -c 'sleep 60 & wait' & wait",
    "held pipe": "sleep 60 &",
    "trapped": "trap '' TERM INT HUP; while :; do sleep 0.1; done",
    "trapped child": "sh -c 'trap \"\" TERM; sleep 60; sleep 60' & wait",
    "double fork": "(sh -c '(sleep 60 &)' &); sleep 60",
    "setsid": "setsid sleep 60 & setsid sh -c 'sleep 60 & wait' & wait",
    "setsid, exits": "setsid sleep 60 >/dev/null 2>&1 &",
    "daemon": "(setsid sh -c '(sleep 60 &)' >/dev/null 2>&1 &); exec sleep 60",
    "daemon, trapped": "trap '' TERM; setsid sh -c '(setsid sleep 60 &)'; sleep 60",
    "closed outputs": "exec >&- 2>&-; sleep 60",
    "flood": "yes",
    "flood, two": "yes >&2 & exec yes",
    "flood without a line": "exec cat /dev/zero",
    "stopped": "kill -STOP $$; sleep 60",
    "own group": f"exec {sys.executable} -S -c '{GROUP}'",
    "grows": "while :; do setsid sleep 60 & sleep 0.01; done",
}


STOPS = ("ticks", "later", "limit", "command's limit")


class Campaign:
    """Submits trees and stops each of them at a moment of its own."""

    def __init__(self, runner: JobRunner, random: Random) -> None:
        self.mark = f"CAMPAIGN={secrets.token_hex(8)}"
        self._runner = runner
        self._random = random
        self._begun: dict[str, asyncio.Event] = {}
        runner.job("tree")(self._tree)

    async def _tree(self, ctx: JobContext, text: str, limit: float | None = None) -> None:
        self._begun.setdefault(ctx.job_id, asyncio.Event()).set()
        await ctx.run_command(text, shell=True, timeout=limit, env=dict([self.mark.split("=")]))

    async def one(self, kind: str, stop: str) -> None:
        """Run a tree to its end."""
        moment = self._random.random() ** 2 * 0.2
        params: dict[str, object] = {"text": KINDS[kind]}
        if stop == "command's limit":
            params["limit"] = moment
        limit = moment + 0.001 if stop == "limit" else 30.0
        handle = await self._runner.submit("tree", params, timeout=limit)
        if stop in ("ticks", "later"):
            await self._begun.setdefault(handle.id, asyncio.Event()).wait()
            await self._pass(stop, moment)
            await handle.cancel()
        await handle.wait()

    async def _pass(self, stop: str, moment: float) -> None:
        if stop == "later":
            await asyncio.sleep(moment)  # no state is waited for: any moment will do
        for _ in range(self._random.randrange(40) if stop == "ticks" else 0):
            await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def others() -> "set[asyncio.Task[object]]":
    """Return the tasks that don't end by themselves."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return (await asyncio.wait(tasks, timeout=10.0))[1] if tasks else set()


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(5.0)
    return [thread for thread in new if thread.is_alive()]


@pytest.mark.slow
async def test_p1_trees_stopped_at_any_moment_leave_nothing() -> None:
    """Processes, descriptors, threads and tasks are what they were (slow: 60 trees, or 1,000)."""
    await run(["true"])
    gc.collect()
    before, threads = descriptors(), set(threading.enumerate())
    random = Random(SEED)
    async with JobRunner(workers=16, cancel_grace=0.3, seed=SEED) as runner:
        campaign = Campaign(runner, random)
        kinds = [list(KINDS)[number % len(KINDS)] for number in range(TREES)]
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(campaign.one(kind, random.choice(STOPS)))
    assert await others() == set()
    assert carrying(campaign.mark) == []
    assert new_threads(threads) == []
    gc.collect()
    assert descriptors() == before
