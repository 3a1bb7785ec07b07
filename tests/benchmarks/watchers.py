"""Many watchers at once: what an open one costs, how soon all are told, and what is left of them.

    python -m tests.benchmarks.watchers [--count 10000] [--rounds 3]

The server is a process of its own, as `jobrunner serve` would run it, and the watchers are sockets
of two more, so that nothing of theirs is counted. Linux only.

When all have gone tasks, descriptors, objects and blocks of memory are back to where they were, and
the server gives back what CPython and the C library would keep (`jobrunner/crowd.py`). It looks
once in a second, and 10,000 WebSockets take their time to end: after 2 s it may not have got to
them. Resident memory that is left is free, and the next watchers use it: CPython takes it from the
system by the megabyte, and gives back none in which anything lives, were it a single number.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from jobrunner import JobContext, JobRunner
from jobrunner.server import Server
from tests.serving import request_for
from tests.sockets import handshake_for

TOKEN = "benchmark"
LISTENERS = 2
"""Processes that the watchers are spread over."""
DEAD = 50
KINDS = {
    "event streams": ("/jobs/{}/stream", request_for),
    "WebSockets of a job": ("/jobs/{}/ws", handshake_for),
    "WebSockets of a session": ("/ws/s", handshake_for),
}


class Figures(NamedTuple):
    """What one run has measured."""

    each: float
    """Memory of an open watcher in kB."""
    first: float
    """Seconds from an event to the first watcher that has it."""
    last: float
    """Seconds from an event to the last one."""
    kept: float
    """Memory in MB that is still taken 2 s after all have gone, over what was before."""
    again: float
    """Memory in MB at the height of a second round, over that of the first: what is kept is used
    again."""
    kept_again: float
    """Memory in MB that is still taken 2 s after those have gone, over what was before all."""
    left: int
    """Tasks and descriptors that are there 2 s after all have gone, and weren't before."""
    objects: int
    """Objects that the garbage collector follows, likewise."""
    blocks: int
    """Blocks of memory that objects of any kind take, likewise (`sys.getallocatedblocks`)."""


# The server


def serve() -> None:
    """Serve a runner with a job to watch, and print the URL."""
    runner = JobRunner(shutdown_timeout=0.0)
    go_on = asyncio.Event()

    @runner.job(timeout=None)
    async def watched(ctx: JobContext) -> None:
        while True:
            await go_on.wait()
            go_on.clear()
            ctx.progress(50, json.dumps({"tick": time.monotonic()}))

    @runner.job
    async def tick() -> None:
        go_on.set()

    @runner.job
    async def state() -> dict[str, int]:
        return {
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
            "objects": len(gc.get_objects()),
            "blocks": sys.getallocatedblocks(),
        }

    @runner.job(timeout=None)
    async def burst(ctx: JobContext) -> None:
        await go_on.wait()
        for number in range(5_000):
            ctx.emit("x" * 10_000)
            if number % 200 == 0:
                await asyncio.sleep(0)

    async def run() -> None:
        server = Server(runner, port=0, token=TOKEN)
        running = asyncio.create_task(server.run_until_stopped())
        await server.ready()
        gc.collect()  # what has served to start it
        print(server.url, flush=True)
        await running

    asyncio.run(run())


class Served:
    """A server in a process of its own, and what is seen of it from outside."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.watchers", "--serve"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        headers = {"authorization": f"Bearer {TOKEN}"}
        self.client = httpx2.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=60.0
        )

    def submit(self, type: str, session: str | None = None) -> str:
        """Submit a job and return its id."""
        body = {"type": type} | ({"session_id": session} if session else {})
        job_id: str = self.client.post("/jobs", json=body).json()["job_id"]
        return job_id

    def state(self) -> dict[str, int]:
        """Return how many tasks and descriptors there are."""
        job_id = self.submit("state")
        found: dict[str, int] = self.client.get(f"/jobs/{job_id}?wait=30").json()["result"]
        return found

    def memory(self) -> float:
        """Return the resident memory in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return float(line.split()[1])

    def end(self) -> None:
        """End it."""
        self.client.close()
        self.process.terminate()
        self.process.wait()


@contextmanager
def served() -> Iterator[Served]:
    """Serve in a fresh process while the block runs."""
    server = Served()
    try:
        yield server
    finally:
        server.end()


# The watchers


def listen(kind: str, url: str, job_id: str, count: int) -> None:
    """Open so many, say so, say when the first and the last were told; leave when told to."""
    allow_files(count)
    path, request = KINDS[kind]
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            watcher = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            watcher.sendall(request(path.format(job_id), TOKEN))
            while b'"snapshot"' not in (head := watcher.recv(65_536)) and b": snap" not in head:
                pass
            watcher.setblocking(False)
            selector.register(watcher, selectors.EVENT_READ)
        print("open", flush=True)
        for line in sys.stdin:
            if line.strip() == "tick":
                print(json.dumps(told(selector, count)), flush=True)


def told(selector: selectors.BaseSelector, count: int) -> tuple[float, float]:
    """Return how long after the event it had come to the first, and to the last."""
    times, seen = list[float](), set[int]()
    while len(seen) < count:
        for key, _ in selector.select():
            data = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # they are sockets
            assert data, "a watcher was cut off"
            if b'\\"tick\\"' in data:
                if not times:
                    began = float(data.partition(b'\\"tick\\": ')[2].partition(b"}")[0])
                times.append(time.monotonic() - began)
                seen.add(key.fd)
    return times[0], times[-1]


class Watchers:
    """Many watchers, in processes of their own."""

    def __init__(self, kind: str, server: Served, job_id: str, count: int) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.watchers", "--listen", kind, server.url]
        share = str(count // LISTENERS)
        self._processes = [
            subprocess.Popen([*command, job_id, share], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
            for _ in range(LISTENERS)
        ]  # fmt: skip
        for process in self._processes:
            assert self._said(process) == "open"

    def told(self, server: Served) -> tuple[float, float]:
        """Let the job say something, and return when the first and the last watcher had it."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("tick\n")
            process.stdin.flush()
        server.submit("tick")
        times = [json.loads(self._said(process)) for process in self._processes]
        return min(first for first, _ in times), max(last for _, last in times)

    def leave(self) -> None:
        """Close all connections."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait()

    @staticmethod
    def _said(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


def measure(kind: str, count: int) -> Figures:
    """Open so many watchers of one job, tell them something, and let them go."""
    with served() as server:
        job_id = server.submit("watched", "s")
        Watchers(kind, server, job_id, 200).leave()  # warm up
        time.sleep(2.0)  # what is left of them is no part of what follows
        before, memory = server.state(), server.memory()
        watchers = Watchers(kind, server, job_id, count)
        time.sleep(6.0)  # until the timers of the first seconds are over
        height = server.memory() - memory
        first, last = watchers.told(server)
        watchers.leave()
        time.sleep(2.0)
        after, kept = server.state(), server.memory() - memory
        watchers = Watchers(kind, server, job_id, count)
        time.sleep(6.0)
        again = server.memory() - memory - height
        watchers.leave()
        time.sleep(2.0)
        server.state()
        kept_again = server.memory() - memory
    left = {key: after[key] - before[key] for key in after}
    return Figures(height / count, first, last, kept / 1_024, again / 1_024, kept_again / 1_024,
                   left["tasks"] + left["files"], left["objects"], left["blocks"])  # fmt: skip


def dead(kind: str) -> float:
    """Return how many MB fifty watchers that never read add while a job says 50 MB."""
    path, request = KINDS[kind]
    grown = []
    for count in (0, DEAD):
        with served() as server, ExitStack() as stack:
            job_id, memory = server.submit("burst", "s"), server.memory()
            for _ in range(count):
                reader = stack.enter_context(socket.socket())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                reader.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
                reader.sendall(request(path.format(job_id), TOKEN))
                reader.recv(1)
            server.submit("tick")
            server.client.get(f"/jobs/{job_id}?wait=30")
            grown.append(server.memory() - memory)
    return (grown[1] - grown[0]) / 1_024


def allow_files(count: int) -> None:
    """Raise the soft limit of descriptors, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 200, hard), hard))


def table(count: int, rounds: int) -> Iterator[str]:
    """Yield the lines of a Markdown table: medians."""
    yield f"Python {platform.python_version()}, {count:,} open, medians of {rounds} rounds\n"
    yield (
        "| | kB each | first told, s | all told, s | MB kept | MB more in a second round "
        "| MB kept after it | tasks and files left | objects left | blocks left "
        f"| MB of {DEAD} dead |"
    )
    yield "| --- |" + " ---: |" * 10
    for kind in KINDS:
        runs = [measure(kind, count) for _ in range(rounds)]
        each, first, last, kept, again, kept_again, left, objects, blocks = (
            statistics.median(of) for of in zip(*runs, strict=True)
        )
        slow = statistics.median(dead(kind) for _ in range(rounds))
        yield (
            f"| {kind} | {each:.1f} | {first:.2f} | {last:.2f} | {kept:.0f} | {again:.1f} "
            f"| {kept_again:.0f} | {left:.0f} | {objects:.0f} | {blocks:,.0f} | {slow:.1f} |"
        )


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--listen", nargs=4, metavar=("KIND", "URL", "JOB", "COUNT"))
    arguments: Any = parser.parse_args()
    if arguments.serve:
        serve()
    elif arguments.listen:
        kind, url, job_id, count = arguments.listen
        listen(kind, url, job_id, int(count))
    else:
        allow_files(arguments.count)
        for line in table(arguments.count, arguments.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
