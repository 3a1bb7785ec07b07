"""A runner with a limited job type, and a record of what ran together."""

import asyncio
import gc
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobrunner import JobRunner
from jobrunner.testing import unix_now


class Bench:
    """A runner with a limited job type, and a record of what ran together.

    Args:
        options: Of the job type `limited`.
        more: Options of the runner.
    """

    def __init__(self, options: Mapping[str, Any], **more: Any) -> None:
        self.runner = JobRunner(**{"now": unix_now, "seed": 1, "workers": 10, **more})
        self.order: list[str] = []
        self.starts: list[float] = []
        self.together: Counter[str | None] = Counter()
        self.most: Counter[str | None] = Counter()

        @self.runner.job("limited", **options)
        async def limited(name: str = "", key: str | None = None, seconds: float = 10.0) -> str:
            self.order.append(name)
            self.starts.append(round(asyncio.get_running_loop().time(), 3))
            for of in {None, key}:
                self.together[of] += 1
                self.most[of] = max(self.most[of], self.together[of])
            try:
                await asyncio.sleep(seconds)
            finally:
                for of in {None, key}:
                    self.together[of] -= 1
            return name

        @self.runner.job
        async def free() -> str:
            return "free"

    async def submit(self, name: str = "", key: str | None = None, **options: Any) -> Any:
        seconds = options.pop("seconds", 10.0)
        params = {"name": name, "key": key, "seconds": seconds}
        return await self.runner.submit("limited", params, **options)


def key_of(params: dict[str, Any]) -> str | None:
    key: str | None = params["key"]
    return key


def living(kind: type) -> int:
    """Return how many objects of a class there are in memory."""
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())
