"""The ways to run jobs in process, each as its users get it by default, behind one face.

Each pool gets the same handler, a coroutine function that takes a number and returns it. Nothing is
asked of a peer that it hasn't got: who keeps no results gets a list to keep them in.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeAlias

from .shape import OURS

WORKERS = 4
"""How many jobs run at once by default in a runner; the bare loop gets the same."""
Handler: TypeAlias = Callable[[int], Awaitable[int]]


class Pool(Protocol):
    """Something that runs jobs."""

    async def start(self) -> None:
        """Be ready for jobs."""

    async def submit(self, n: int) -> Any:
        """Take a job in and return what its result is found by."""

    async def drain(self) -> None:
        """Wait until all results can be read."""

    async def result(self, key: Any) -> int:
        """Return the result of a job that has ended."""
        ...

    async def stop(self) -> None:
        """End."""


@dataclass(frozen=True)
class Peer:
    """A pool, and what is to be known to measure it."""

    name: str
    make: Callable[[Handler], Pool]
    needs: Sequence[str] = ()
    slower: int = 1
    """It gets so many times fewer jobs, since it takes so much longer for each."""


class Job:
    """A record as one would write it."""

    __slots__ = ("created", "finished", "id", "param", "result", "status")

    def __init__(self, param: int) -> None:
        self.id = str(uuid.uuid4())
        self.param = param
        self.status = "pending"
        self.result: int | None = None
        self.created = time.time()
        self.finished: float | None = None


class Kept:
    """Records by their ids, for the two ways that are written by hand."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.jobs: dict[str, Job] = {}

    async def result(self, key: str) -> int:
        job = self.jobs[key]
        assert job.status == "completed" and job.result is not None
        return job.result

    async def run(self, job: Job) -> None:
        job.status = "running"
        job.result = await self.handler(job.param)
        job.finished = time.time()
        job.status = "completed"


class BareLoop(Kept):
    """What people write by hand: a queue, workers, and a dict of slotted records."""

    async def start(self) -> None:
        self.queue: asyncio.Queue[Job] = asyncio.Queue()
        self.workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]

    async def submit(self, n: int) -> str:
        job = Job(n)
        self.jobs[job.id] = job
        await self.queue.put(job)
        return job.id

    async def _work(self) -> None:
        while True:
            job = await self.queue.get()
            await self.run(job)
            self.queue.task_done()

    async def drain(self) -> None:
        await self.queue.join()

    async def stop(self) -> None:
        for worker in self.workers:
            worker.cancel()


class Countdown:
    """Says when as many jobs have ended as were begun, for a fraction of what tasks would cost."""

    def __init__(self) -> None:
        self.left = 0
        self.zero = asyncio.Event()

    def up(self) -> None:
        self.left += 1
        self.zero.clear()

    def down(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.zero.set()


class TaskPerJob(Kept):
    """The other thing that people write: `create_task`, and a set that keeps the tasks alive."""

    async def start(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.count = Countdown()

    async def submit(self, n: int) -> str:
        job = Job(n)
        self.jobs[job.id] = job
        self.count.up()
        task = asyncio.create_task(self._run(job))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return job.id

    async def _run(self, job: Job) -> None:
        await self.run(job)
        self.count.down()

    async def drain(self) -> None:
        await self.count.zero.wait()

    async def stop(self) -> None:
        pass


class Aiojobs:
    """aiojobs has no ids and no status; its jobs are what results are read from."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.jobs: list[Any] = []
        self.waited = 0

    async def start(self) -> None:
        from aiojobs import Scheduler

        self.scheduler = Scheduler()

    async def submit(self, n: int) -> int:
        self.jobs.append(await self.scheduler.spawn(self.handler(n)))
        return len(self.jobs) - 1

    async def drain(self) -> None:
        for job in reversed(self.jobs[self.waited :]):  # to wait for one that is over costs less
            await job.wait()
        self.waited = len(self.jobs)

    async def result(self, key: int) -> int:
        result: int = await self.jobs[key].wait()
        return result

    async def stop(self) -> None:
        await self.scheduler.close()


class Background:
    """Starlette's BackgroundTask, behind a response in a task of its own as a server has it."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.results: dict[str, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.count = Countdown()

    async def submit(self, n: int) -> str:
        from starlette.background import BackgroundTask
        from starlette.responses import Response

        key = str(uuid.uuid4())
        self.count.up()
        response = Response(status_code=202, background=BackgroundTask(self._run, key, n))
        task = asyncio.create_task(response({"type": "http"}, _receive, _send))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return key

    async def _run(self, key: str, n: int) -> None:
        self.results[key] = await self.handler(n)
        self.count.down()

    async def drain(self) -> None:
        await self.count.zero.wait()

    async def result(self, key: str) -> int:
        return self.results[key]

    async def stop(self) -> None:
        pass


async def _receive() -> Any:
    raise AssertionError("nobody reads the request")


async def _send(message: Any) -> None:
    """Nobody is there to read the answer."""


class Taskiq:
    """taskiq's InMemoryBroker; by default it forgets all but a hundred results."""

    def __init__(self, handler: Handler) -> None:
        from taskiq import InMemoryBroker

        self.broker = InMemoryBroker(max_stored_results=-1)
        self.task = self.broker.register_task(handler, task_name="echo")

    async def start(self) -> None:
        await self.broker.startup()

    async def submit(self, n: int) -> str:
        key: str = (await self.task.kiq(n)).task_id
        return key

    async def drain(self) -> None:
        await self.broker.wait_all()

    async def result(self, key: str) -> int:
        result: int = (await self.broker.result_backend.get_result(key)).return_value
        return result

    async def stop(self) -> None:
        await self.broker.shutdown()


class Docket:
    """docket on `memory://`, as it comes, or looking for work all the time."""

    def __init__(self, handler: Handler, *, interval: float | None = None) -> None:
        self.handler = handler
        self.executions: dict[str, Any] = {}
        self.drained = 0
        every = None if interval is None else timedelta(seconds=interval)
        names = ("minimum_check_interval", "scheduling_resolution")
        self.options = {} if every is None else dict.fromkeys(names, every)

    async def start(self) -> None:
        import docket

        self.docket = docket.Docket(name=f"bench-{uuid.uuid4()}", url="memory://")
        await self.docket.__aenter__()
        self.docket.register(self.handler)
        self.worker = docket.Worker(self.docket, **self.options)
        await self.worker.__aenter__()
        self.running = asyncio.create_task(self.worker.run_forever())

    async def submit(self, n: int) -> str:
        execution = await self.docket.add(self.handler)(n)
        self.executions[execution.key] = execution
        return str(execution.key)

    async def drain(self) -> None:
        for execution in list(self.executions.values())[self.drained :]:
            await execution.get_result()
        self.drained = len(self.executions)

    async def result(self, key: str) -> int:
        result: int = await self.executions[key].get_result()
        return result

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])
        await self.worker.__aexit__(None, None, None)
        await self.docket.__aexit__(None, None, None)


class Ours:
    """This runner as `JobRunner()` makes it, with everything on.

    Args:
        kept: How many final jobs it keeps; None for as many as by default.
    """

    def __init__(self, handler: Handler, *, kept: int | None = None) -> None:
        from jobrunner import JobRunner, Retention

        self.runner = JobRunner(retention=Retention(max_jobs=kept) if kept else None)
        self.runner.job("echo")(handler)

    async def start(self) -> None:
        await self.runner.__aenter__()

    async def submit(self, n: int) -> str:
        return (await self.runner.submit("echo", {"n": n})).id

    async def drain(self) -> None:
        await self.runner.drain()

    async def result(self, key: str) -> int:
        result: int = (await self.runner.get(key)).result
        return result

    async def stop(self) -> None:
        await self.runner.stop()


BARE, TASK, AIOJOBS = "bare loop", "task per job", "aiojobs"
BACKGROUND, TASKIQ = "Starlette BackgroundTask", "taskiq InMemoryBroker"
DOCKET, TUNED = "docket memory://", "docket memory://, tuned"

PEERS = [
    Peer(BARE, BareLoop),
    Peer(OURS, Ours),
    Peer(TASK, TaskPerJob),
    Peer(AIOJOBS, Aiojobs, ["aiojobs"]),
    Peer(BACKGROUND, Background),
    Peer(TASKIQ, Taskiq, ["taskiq"], slower=4),
    Peer(TUNED, lambda handler: Docket(handler, interval=0.001), ["docket"], slower=20),
    Peer(DOCKET, Docket, ["docket"], slower=100),
]


async def echo(n: int) -> int:
    """The handler where only time is taken."""
    return n
