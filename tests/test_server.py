"""The server: how it starts, what it refuses, and that it ends in time with nothing left."""

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from jobrunner import InvalidOption, JobContext, JobHandle, JobRunner
from jobrunner.server import Server, serving
from jobrunner.whereabouts import running_servers
from tests.serving import (
    GONE_ON,
    Watcher,
    client_of,
    connect,
    ends_well,
    make_runner,
    problem,
    read_all,
    request_for,
    signals_heard,
    stream,
    watch,
)

# Starting


async def test_a_server_is_there_while_its_block_runs() -> None:
    """The way to use it in a test or a script: on a free port, started when the block begins."""
    runner, _ = make_runner()
    async with serving(runner) as server, client_of(server) as client:
        ready = await client.get("/readyz")
        assert runner.stats().state == "running"
    assert (ready.status_code, runner.stats().state) == (200, "stopped")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


async def test_each_server_has_a_token_of_its_own() -> None:
    """256 bits, new at each start: what was printed yesterday opens nothing."""
    tokens = []
    for _ in range(2):
        async with serving(JobRunner()) as server:
            tokens.append(server.token)
            assert server.login_url == f"{server.url}/?token={server.token}"
    assert len(set(tokens)) == 2
    assert all(len(token) == 43 for token in tokens)


async def test_a_token_may_be_given_and_comes_whole_through_the_login_url() -> None:
    """One that was made elsewhere may have characters that a URL takes apart."""
    async with serving(JobRunner(), token="a+b&c#d%e") as server, connect(server.url) as client:
        response = await client.get(server.login_url)
    assert (response.status_code, server.token) == (303, "a+b&c#d%e")


async def test_an_empty_token_is_none_at_all_on_this_machine() -> None:
    """Local development without a login, when somebody says so."""
    async with serving(JobRunner(), token="") as server, connect(server.url) as client:
        assert (await client.get("/jobs")).status_code == 200
        assert server.login_url == f"{server.url}/"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "jobs.example"])
def test_other_machines_are_not_let_in_without_a_token(host: str) -> None:
    """Whoever reaches the port could run jobs: this doesn't even bind."""
    with pytest.raises(InvalidOption, match="give a token, or bind"):
        Server(JobRunner(), host=host, token="", port=0)


@pytest.mark.parametrize(
    ("host", "begins"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://localhost:"),
        ("::1", "http://[::1]:"),
    ],
)
async def test_the_loopback_addresses_need_no_token(host: str, begins: str) -> None:
    """All names of this machine, and the URL can be opened as it is."""
    server = Server(JobRunner(), host=host, port=0, token="")
    running = asyncio.create_task(server.run_until_stopped())
    await server.ready()
    async with connect(server.url) as client:
        response = await client.get("/healthz")
    server.stop()
    await running
    assert (response.status_code, server.url.startswith(begins)) == (200, True)


async def test_a_port_in_use_is_an_error_at_once() -> None:
    """Not after the runner has started, and not in a log only."""
    async with serving(JobRunner()) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with serving(JobRunner(), port=port):
                pass


async def test_a_runner_that_cannot_start_is_an_error_of_serving() -> None:
    """Otherwise the block would talk to a server that isn't there."""
    runner, gates = make_runner(shutdown_timeout=GONE_ON)
    async with runner:
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        assert runner.stats().state == "draining"
        with pytest.raises(RuntimeError, match="did not start"):
            async with serving(runner):
                pass
        gates["k"].set()
        await stopping
    assert job.status == "completed"


@pytest.mark.parametrize("names", [["jobs.example"], "jobs.example"], ids=["several", "one"])
async def test_names_that_are_allowed_reach_it(names: list[str] | str) -> None:
    """Behind a proxy; every other name is refused."""
    server = Server(JobRunner(), port=0, token="", allowed_hosts=names)
    running = asyncio.create_task(server.run_until_stopped())
    await server.ready()
    statuses = []
    async with connect(server.url) as client:
        for host in ("jobs.example", "evil.example"):
            statuses.append((await client.get("/healthz", headers={"host": host})).status_code)
    server.stop()
    await running
    assert statuses == [200, 400]


async def test_answers_on_a_kept_connection_come_at_once() -> None:
    """Nagle's algorithm and delayed acknowledgements would cost 40 ms on every request."""
    async with serving(JobRunner()) as server, client_of(server) as client:
        await client.get("/healthz")
        (connection,) = server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_is_asked_in_one_breath_is_answered_in_its_order() -> None:
    """A client may send its next requests before it has an answer (RFC 9112, 9.3.2)."""
    runner, gates = make_runner()
    async with serving(runner) as server:
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        paths = [f"/jobs/{job.id}?wait=60", "/nowhere", "/healthz", "/types"]
        writer.write(b"".join(request_for(path, server.token) for path in paths))
        gates["k"].set()
        begins = []
        for _ in paths:
            async with asyncio.timeout(GONE_ON):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                begins.append((head[9:12], (await reader.readexactly(length))[:9]))
        writer.close()
    assert begins == [
        (b"200", b'{"job_id"'), (b"404", b'{"type":"'), (b"200", b'{"status"'),
        (b"200", b'{"types":'),
    ]  # fmt: skip


# Ending


async def test_s1_leaving_the_block_ends_jobs_and_streams() -> None:
    """A stream ends with its job's end, and not with a broken connection."""
    runner, gates = make_runner()
    async with serving(runner) as server:
        client = client_of(server)
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        reading = asyncio.create_task(read_all(client, f"/jobs/{job.id}/stream"))
        polling = asyncio.create_task(client.get(f"/jobs/{job.id}?wait=30"))
        async with stream(client, f"/jobs/{job.id}/stream") as frames:
            await anext(frames)
    last = (await reading)[-1]
    await client.aclose()
    assert (last.event, last.data["error"]["reason"]) == ("done", "shutdown")
    assert (await polling).json()["status"] == "failed"


async def test_one_that_is_stopped_before_it_serves_ends_at_once() -> None:
    """Whoever stops it needn't know how far its start is."""
    runner, _ = make_runner()
    server = Server(runner, port=0)
    server.stop()
    await server.run_until_stopped()
    assert runner.stats().state == "stopped"


async def test_who_waits_for_the_end_is_told() -> None:
    """A script that serves until somebody stops it has one thing to await."""
    async with serving(JobRunner()) as server:
        waiting = asyncio.create_task(server.stopped())
        server.stop()
        async with asyncio.timeout(GONE_ON):
            await waiting


async def test_an_error_inside_the_block_comes_out_of_it() -> None:
    """And the server has ended all the same."""
    runner = JobRunner()
    with pytest.raises(ZeroDivisionError):
        async with serving(runner):
            raise ZeroDivisionError
    assert runner.stats().state == "stopped"


async def test_s1_a_second_ctrl_c_lets_running_jobs_no_time() -> None:
    """In a thread, where uvicorn doesn't pass the signals on to the process when it has ended."""

    async def scenario() -> str:
        runner, gates = make_runner(shutdown_timeout=GONE_ON)
        async with serving(runner) as server:
            job = await runner.submit("hold", {"key": "k"})
            await gates["k reached"].wait()
            server.handle_exit(signal.SIGINT, None)
            server.handle_exit(signal.SIGINT, None)
        view = job.view()
        assert view.error is not None
        return view.error.reason

    async with asyncio.timeout(GONE_ON / 2):
        assert await asyncio.to_thread(asyncio.run, scenario()) == "shutdown"


TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.slow  # uvicorn looks ten times a second whether it should end
@pytest.mark.parametrize(
    ("numbers", "shutdown"),
    [
        ([], 0.0),
        ([TERM], 0.0),
        ([INT], 0.0),
        ([TERM, TERM], 0.0),
        ([INT, INT], GONE_ON),
        ([TERM, INT], GONE_ON),
        ([INT, INT, INT], GONE_ON),
    ],
    ids=str,
)
async def test_s1_streams_and_polls_have_the_same_end_whatever_ended_it(
    numbers: list[signal.Signals], shutdown: float
) -> None:
    """A call of `stop`, one signal or more: each client is told the end of what it watches."""
    runner, gates = make_runner(shutdown_timeout=shutdown)
    with signals_heard():
        async with serving(runner) as server, client_of(server) as client:
            job = await runner.submit("hold", {"key": "k"})
            await gates["k reached"].wait()
            path = f"/jobs/{job.id}/stream"
            watchers = [await watch(server.url, path, server.token) for _ in range(20)]
            polled = asyncio.create_task(client.get(f"/jobs/{job.id}?wait=30"))
            await client.get("/healthz")
            for number in numbers:
                signal.raise_signal(number)
            if not numbers:
                server.stop()
            rests = [await watcher.rest() for watcher in watchers]
            async with asyncio.timeout(GONE_ON / 2):
                await server.stopped()
    assert [ends_well(rest) for rest in rests] == [True] * 20
    assert ((await polled).status_code, (await polled).json()["status"]) == (200, "failed")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow  # each of the servers takes a tenth of a second to end
@pytest.mark.parametrize("number", [TERM, INT])
async def test_s1_a_signal_at_any_step_of_the_start_ends_it(number: signal.Signals) -> None:
    """There is no moment at which it is lost, and the runner goes on alone."""
    with signals_heard() as heard:
        for steps in range(1, 9):
            runner, _ = make_runner()
            server = Server(runner, port=0)
            running = asyncio.create_task(server.run_until_stopped())
            for _ in range(steps):
                await asyncio.sleep(0)
            signal.raise_signal(number)
            async with asyncio.timeout(GONE_ON):
                await running
            assert (runner.stats().state, heard.numbers) == ("stopped", [number] * steps)
            assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_sibling_that_fails_ends_the_server_and_what_it_serves() -> None:
    """A TaskGroup cancels the others: the runner must not go on behind a port that is closed."""
    runner, gates = make_runner()
    server = Server(runner, port=0)
    jobs: list[JobHandle[Any]] = []
    watchers: list[Watcher] = []

    async def fail_while_watched() -> None:
        await server.ready()
        jobs.append(await runner.submit("hold", {"key": "k"}))
        await gates["k reached"].wait()
        watchers.append(await watch(server.url, f"/jobs/{jobs[0].id}/stream", server.token))
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run_until_stopped())
            group.create_task(fail_while_watched())
    assert raised.group_contains(ZeroDivisionError)
    assert (runner.stats().state, jobs[0].status) == ("stopped", "failed")
    assert ends_well(await watchers[0].rest())
    await server.stopped()


async def test_a_cancel_at_any_step_ends_it_with_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it starts, serves or ends: commands find it no more, and no task is left behind."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for steps in range(1, 12):
        runner, _ = make_runner()
        server = Server(runner, port=0, known_as="work:runner")
        running = asyncio.create_task(server.run_until_stopped())
        for step in range(steps):
            await asyncio.sleep(0)
            if step == 7:
                server.stop()
        for _ in range(2):  # whoever is in a hurry cancels again
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (runner.stats().state, running_servers()) == ("stopped", [])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


def test_a_loop_that_ends_takes_the_server_along(caplog: pytest.LogCaptureFixture) -> None:
    """`asyncio.run` cancels all that its coroutine has left, also what the server has begun."""

    async def scenario(runner: JobRunner, steps: int) -> None:
        running = asyncio.create_task(Server(runner, port=0).run_until_stopped())
        for _ in range(steps):
            await asyncio.sleep(0)
        assert not running.done()

    states = set[str]()
    for steps in range(1, 8):
        runner, _ = make_runner()
        asyncio.run(scenario(runner, steps))
        states.add(runner.stats().state)
    assert (states <= {"new", "stopped"}, caplog.messages) == (True, [])


@pytest.mark.slow  # uvicorn looks ten times a second whether it should end
async def test_s1_who_comes_while_it_drains_is_refused() -> None:
    """Where a connection is kept by a 503 that says why, and else by having no connection."""
    runner, gates = make_runner(shutdown_timeout=GONE_ON)
    async with serving(runner) as server, client_of(server) as client:
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        watcher = await watch(server.url, f"/jobs/{job.id}/stream", server.token)
        await client.get("/healthz")  # its connection is kept
        server.stop()
        while runner.stats().state == "running":
            await client.get("/healthz")
        refused = await client.post("/jobs", json={"type": "echo"})
        asked = await client.get(f"/jobs/{job.id}")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        gates["k"].set()
        rest = await watcher.rest()
    assert (problem(refused), refused.headers["retry-after"]) == ((503, "shutting-down"), "5")
    assert (asked.status_code, asked.json()["status"]) == (200, "running")
    assert ends_well(rest)
    assert b'"status":"completed"' in rest


async def test_s1_a_signal_while_it_drains_makes_it_hurry() -> None:
    """It was told to end without a hurry before, and the streams have their end all the same."""
    runner, gates = make_runner(shutdown_timeout=GONE_ON)
    with signals_heard():
        async with serving(runner) as server, client_of(server) as client:
            job = await runner.submit("hold", {"key": "k"})
            await gates["k reached"].wait()
            watcher = await watch(server.url, f"/jobs/{job.id}/stream", server.token)
            await client.get("/readyz")  # its connection is kept
            signal.raise_signal(INT)
            while (await client.get("/readyz")).status_code == 200:
                pass
            signal.raise_signal(INT)
            async with asyncio.timeout(GONE_ON / 2):
                rest = await watcher.rest()
                await server.stopped()
    assert ends_well(rest)


async def full_log(runner: JobRunner) -> str:
    """Return a job with 4 MB of events: more than the buffers of a connection take."""

    @runner.job
    async def flood(ctx: JobContext) -> None:
        for _ in range(400):
            ctx.emit("x" * 10_000)

    job = await runner.submit(flood)
    await job.wait()
    return job.id


@pytest.mark.slow  # half a second in which the server waits
async def test_s1_a_slow_reader_has_its_last_bytes_though_there_is_a_hurry() -> None:
    """The hurry is the jobs'; uvicorn would break the connection after a tenth of a second."""
    runner = JobRunner()
    with signals_heard():
        async with serving(runner) as server:
            path = f"/jobs/{await full_log(runner)}/stream"
            watcher = await watch(server.url, path, server.token)
            server.handle_exit(INT, None)  # as uvicorn's own handler would be called
            server.handle_exit(INT, None)
            stopped = asyncio.create_task(server.stopped())
            assert not (await asyncio.wait([stopped], timeout=0.5))[0]
            assert ends_well(await watcher.rest())
            await stopped


@pytest.mark.slow  # the last bytes have one second
async def test_s4_in_a_hurry_what_can_not_be_sent_is_dropped_too() -> None:
    """And the lifespan is ended, which uvicorn leaves out then."""
    runner = JobRunner()
    with signals_heard():
        async with serving(runner) as server:
            watcher = await watch(
                server.url, f"/jobs/{await full_log(runner)}/stream", server.token
            )
            signal.raise_signal(INT)
            signal.raise_signal(INT)
            async with asyncio.timeout(GONE_ON):
                await server.stopped()
    watcher.writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow  # the last bytes have three seconds
async def test_s4_what_can_not_be_sent_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """A program that goes on after its server must not keep the dead connections."""
    runner = JobRunner(watchdog=None)
    async with serving(runner) as server, client_of(server) as client:
        path = f"/jobs/{await full_log(runner)}/stream"
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            deaf.sendall(request_for(path, server.token))
            await read_all(client, path)
            server.stop()
            async with asyncio.timeout(GONE_ON):
                await server.stopped()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [(r.levelno, r.getMessage()) for r in caplog.records if r.levelno > logging.INFO] == [
        (logging.WARNING, "1 connections were dropped, 3 s after the last job's end")
    ]


@pytest.mark.parametrize("first", ["cancel", "stop"])
async def test_t5_a_cancel_and_a_shutdown_at_once_are_a_cancel(first: str) -> None:
    """Who was told that it is cancelled must not see that it failed."""
    runner, gates = make_runner()
    async with serving(runner) as server, client_of(server) as client:
        job = await runner.submit("hold", {"key": "k"})
        await gates["k reached"].wait()
        reading = asyncio.create_task(read_all(client, f"/jobs/{job.id}/stream"))
        async with stream(client, f"/jobs/{job.id}/stream") as frames:
            await anext(frames)
        acts = {"cancel": runner.cancel(job.id), "stop": runner.stop()}
        async with asyncio.TaskGroup() as group:
            for name in sorted(acts, key=lambda name: name != first):
                group.create_task(acts[name])
        last = (await reading)[-1]
    assert (last.event, last.data["status"]) == ("done", "cancelled")
