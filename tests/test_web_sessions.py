"""A session's WebSocket: all jobs of a session over one connection, each event once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.requests import HTTPConnection

from jobrunner import JobRunner, Limits
from jobrunner.web import create_app
from jobrunner.web.owners import OwnedRunner
from jobrunner.web.sessions import SessionIndex
from jobrunner.web.talks import MAX_TAILS, SessionTalk, Subscribe
from tests.serving import Bench, bench, connect, listening, make_runner
from tests.sockets import Socket, socket, told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has a session of its own."""
    async with bench() as served:
        yield served


async def submit(served: Bench, session: str, type: str, **params: Any) -> str:
    """Submit in a session and return the id."""
    job = await served.runner.submit(type, params, session_id=session)
    return job.id


async def finished(served: Bench, session: str, type: str, **params: Any) -> str:
    """Submit in a session, wait for the end, and return the id."""
    job_id = await submit(served, session, type, **params)
    await served.runner.handle(job_id).wait()
    return job_id


async def held(served: Bench, session: str, key: str) -> str:
    """Start a job in a session that waits at its gate."""
    job_id = await submit(served, session, "hold", key=key, say=["a"])
    await served.gates[f"{key} reached"].wait()
    return job_id


def opened(served: Bench, path: str) -> Any:
    """Open a socket with the token."""
    return socket(served.url, path, served.token)


async def settled(watching: Socket) -> None:
    """Return when the server listens, with nothing left to tell."""
    await watching.say(op="?")
    await watching.hear_until("error")


def of(frames: list[Any], job_id: str) -> list[tuple[str, int]]:
    """Return what the frames tell of one job."""
    return told([frame for frame in frames if frame["job_id"] == job_id])


async def test_new_jobs_of_the_session_appear_by_themselves(served: Bench) -> None:
    """The socket is opened first, then there is work: a session has no beginning."""
    async with opened(served, "/ws/new") as watching:
        await settled(watching)
        await submit(served, "another", "echo")
        job_id = await submit(served, "new", "say", texts=["not told here"])
        frames = await watching.hear_until("job_complete")
    assert [frame["type"] for frame in frames] == ["snapshot", "status", "status", "job_complete"]
    assert {frame["job_id"] for frame in frames} == {job_id}
    assert frames[0]["job"]["type"] == "say"
    assert [frame["seq"] for frame in frames[1:]] == [1, 2, 4]


async def test_the_end_names_the_job_and_its_result(served: Bench) -> None:
    """One socket for all that an agent has begun, and each end says whose it is."""
    async with opened(served, "/ws/end") as watching:
        job_id = await submit(served, "end", "echo", value={"a": 1})
        last = (await watching.hear_until("job_complete"))[-1]
    assert {name: last[name] for name in ("job_id", "status", "result", "error")} == {
        "job_id": job_id, "status": "completed", "result": {"a": 1}, "error": None,
    }  # fmt: skip


async def test_what_has_ended_before_is_told(served: Bench) -> None:
    """A job may be quicker than the socket that is to tell of it."""
    jobs = [await finished(served, "before", "echo", value=n) for n in range(3)]
    async with opened(served, "/ws/before") as watching:
        frames = [await watching.hear() for _ in range(9)]
    assert [frame["job_id"] for frame in frames] == [job for job in jobs for _ in range(3)]
    assert [frame.get("result") for frame in frames[2::3]] == [0, 1, 2]


async def test_the_live_jobs_come_first_as_they_stand(served: Bench) -> None:
    """A page shows what runs and what waits before it has read the past."""
    running = await held(served, "live", "sess live")
    later = await served.runner.submit("echo", session_id="live", delay=3_600.0)
    async with opened(served, "/ws/live") as watching:
        first = [await watching.hear() for _ in range(2)]
        past = [await watching.hear() for _ in range(3)]
    served.gates["sess live"].set()
    await later.cancel()
    assert {(f["type"], f["job_id"], f["job"]["status"]) for f in first} == {
        ("snapshot", running, "running"),
        ("snapshot", later.id, "pending"),
    }
    assert [frame["type"] for frame in past] == ["status"] * 3


async def test_it_goes_on_after_a_number_of_the_feed(served: Bench) -> None:
    """Wherever the connection was cut: nothing twice, nothing lost, and nothing of others."""
    for n in range(4):
        await finished(served, "resumed", "echo", value=n)
        await finished(served, "somebody else", "echo")
    async with opened(served, "/ws/resumed") as watching:
        frames = [await watching.hear() for _ in range(12)]
    numbers = [frame["feed"] for frame in frames]
    assert numbers == sorted(set(numbers))
    for cut in range(11):
        async with opened(served, f"/ws/resumed?after={numbers[cut]}") as watching:
            assert [await watching.hear() for _ in range(11 - cut)] == frames[cut + 1 :]


async def test_a_number_from_the_future_hears_what_comes(served: Bench) -> None:
    """A cursor of a server that was restarted since: it is some other feed's."""
    async with opened(served, "/ws/future?after=999999999") as watching:
        await settled(watching)
        job_id = await submit(served, "future", "echo")
        frames = await watching.hear_until("job_complete")
    assert of(frames, job_id)[1:] == [("status", 1), ("status", 2), ("job_complete", 3)]


async def test_one_of_its_jobs_can_be_watched_in_full(served: Bench) -> None:
    """Its output comes too, and no event of it comes twice."""
    job_id = await held(served, "full", "sess full")
    async with opened(served, "/ws/full") as watching:
        await watching.hear_until("status")
        await watching.hear()
        await watching.say(op="subscribe", job_id=job_id)
        full = await watching.hear_until("output")
        served.gates["sess full"].set()
        full += await watching.hear_until("job_complete")
        other = await finished(served, "full", "echo")
        rest = await watching.hear_until("job_complete")
    assert told(full) == [
        ("snapshot", 3), ("status", 1), ("status", 2), ("output", 3), ("job_complete", 4),
    ]  # fmt: skip
    assert {frame["job_id"] for frame in rest} == {other}


async def test_a_job_in_full_goes_on_after_a_number(served: Bench) -> None:
    """The number is the job's own there, as on the job's own socket."""
    job_id = await finished(served, "full after", "say", texts=["a", "b"])
    async with opened(served, "/ws/full%20after") as watching:
        await watching.hear_until("job_complete")
        await watching.say(op="subscribe", job_id=job_id, after=3)
        frames = await watching.hear_until("job_complete")
    assert told(frames) == [("snapshot", 5), ("output", 4), ("job_complete", 5)]


async def test_several_jobs_in_full_take_turns(served: Bench) -> None:
    """A job that says a lot doesn't silence the other."""
    jobs = [await finished(served, "turns", "say", texts=["x" * 5_000] * 50) for _ in range(2)]
    owned = OwnedRunner(served.runner, owners=False)
    index = SessionIndex(served.runner)
    index.find(owned.feed())
    talk = SessionTalk("turns", index, owned, after=10**9, snapshot=lambda job: b"{}")
    for job_id in jobs:
        await talk.do(Subscribe(op="subscribe", job_id=job_id))
    pieces = [[json.loads(frame) for frame in piece] for piece in iter(talk.read, [])]
    assert [piece[0]["job_id"] for piece in pieces] == jobs * (len(pieces) // 2)
    for job_id in jobs:
        told_of = of([frame for piece in pieces for frame in piece], job_id)
        assert [number for kind, number in told_of[1:]] == list(range(1, 54))


async def test_more_jobs_in_full_than_may_be_are_an_error(served: Bench) -> None:
    """Each has a place in memory here; a page looks at one."""
    jobs = [
        await served.runner.submit("echo", session_id="many", delay=3_600.0)
        for _ in range(MAX_TAILS + 1)
    ]
    async with opened(served, "/ws/many?after=0") as watching:
        for job in jobs:
            await watching.say(op="subscribe", job_id=job.id, after=1)
        error = (await watching.hear_until("error"))[-1]
    for job in jobs:
        await job.cancel()
    assert error["code"] == "too-many-streams"


async def test_cancel_needs_the_job_s_id(served: Bench) -> None:
    """And stops that job alone."""
    jobs = [await held(served, "stop", key) for key in ("sess one", "sess two")]
    async with opened(served, "/ws/stop") as watching:
        await watching.say(op="cancel")
        error = (await watching.hear_until("error"))[-1]
        await watching.say(op="cancel", job_id=jobs[0], reason="enough")
        end = (await watching.hear_until("job_complete"))[-1]
    served.gates["sess two"].set()
    assert (error["code"], "job_id" in error["detail"]) == ("invalid-frame", True)
    assert (end["job_id"], end["status"]) == (jobs[0], "cancelled")
    assert (await served.runner.handle(jobs[1]).wait()).status == "completed"


async def test_input_finds_its_job(served: Bench) -> None:
    """An answer goes to the job that it names."""
    job_id = await finished(served, "input", "echo")
    async with opened(served, "/ws/input") as watching:
        await watching.say(op="input", job_id=job_id, question_id="q1", value=1)
        error = (await watching.hear_until("error"))[-1]
    assert error["code"] == "not-waiting-for-input"


async def test_a_job_of_another_session_is_unknown(served: Bench) -> None:
    """What is said over the socket of one session touches no other."""
    job_id = await held(served, "theirs", "sess theirs")
    ops: list[dict[str, Any]] = [
        {"op": "cancel"}, {"op": "subscribe"}, {"op": "input", "question_id": "q", "value": 1},
    ]  # fmt: skip
    async with opened(served, "/ws/mine") as watching:
        for op in ops:
            await watching.say(**op, job_id=job_id)
            assert (await watching.hear())["code"] == "job-not-found"
            await watching.say(**op, job_id="job_unknown")
            assert (await watching.hear())["code"] == "job-not-found"
    assert served.runner.handle(job_id).view().cancel_requested_at is None
    served.gates["sess theirs"].set()


async def test_an_id_may_have_any_character(served: Bench) -> None:
    """Sessions are named by whoever uses the runner."""
    job_id = await finished(served, "a/b c\u00e4?", "echo")
    async with opened(served, "/ws/a%2Fb%20c%C3%A4%3F") as watching:
        assert (await watching.hear())["job_id"] == job_id


async def test_a_forgotten_job_is_told_of_as_far_as_it_is_known(served: Bench) -> None:
    """The feed still has its end, and nobody has its result any more."""
    job_id = await held(served, "forgot", "sess forgot")
    async with opened(served, "/ws/forgot") as watching:
        await watching.hear_until("status")
        served.gates["sess forgot"].set()
        handle = served.runner.handle(job_id)
        await handle.wait()
        await served.runner.forget(job_id)
        end = (await watching.hear_until("job_complete"))[-1]
    assert (end["job_id"], end["status"], end.get("result")) == (job_id, "completed", None)


async def test_what_was_forgotten_before_anybody_looked_is_nobody_s(served: Bench) -> None:
    """Whose session it was in, nobody knows any more."""
    job_id = await finished(served, "nobody", "echo")
    await served.runner.forget(job_id)
    async with opened(served, "/ws/nobody") as watching:
        await watching.say(op="?")
        assert (await watching.hear())["type"] == "error"


async def test_large_results_come_in_pieces(served: Bench) -> None:
    """A reader that is slow keeps one piece here, not all that has happened."""
    values = [str(n) * 20_000 for n in range(6)]
    for value in values:
        await finished(served, "large", "echo", value=value)
    async with opened(served, "/ws/large") as watching:
        ends = [(await watching.hear_until("job_complete"))[-1] for _ in values]
    assert [end["result"] for end in ends] == values


# Bounds


async def flooded(runner: JobRunner, jobs: int) -> None:
    for _ in range(jobs):
        await (await runner.submit("echo")).wait()


async def test_a_number_that_is_no_longer_kept_is_a_gap_and_the_live_jobs() -> None:
    """What was missed can't be told any more, but how things stand can."""
    runner, gates = make_runner(limits=Limits(max_feed=20))
    async with listening(create_app(runner, auth=None)) as url:
        job = await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        await flooded(runner, 10)
        async with socket(url, "/ws/s?after=1") as watching:
            frames = [await watching.hear() for _ in range(2)]
        gates["k"].set()
    assert frames[0] == {"type": "gap", "feed": 12, "from": 2, "to": 12}
    assert (frames[1]["type"], frames[1]["job_id"]) == ("snapshot", job.id)


async def test_what_others_do_is_no_gap() -> None:
    """A session that is quiet beside a busy one has missed nothing."""
    runner, gates = make_runner(limits=Limits(max_feed=20))
    async with listening(create_app(runner, auth=None)) as url:
        await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        async with socket(url, "/ws/s") as watching:
            begun = [await watching.hear() for _ in range(3)]
            await flooded(runner, 50)
            gates["k"].set()
            end = await watching.hear()
    assert [frame["type"] for frame in begun] == ["snapshot", "status", "status"]
    assert (end["type"], end["seq"]) == ("job_complete", 3)


async def test_more_at_once_than_is_kept_is_a_gap() -> None:
    """A thousand submits in one go may push each other out before anybody has read them."""
    runner, _ = make_runner(limits=Limits(max_feed=20))
    async with listening(create_app(runner, auth=None)) as url:
        async with socket(url, "/ws/s") as watching:
            await settled(watching)
            for _ in range(50):  # without a pause: `submit` awaits nothing
                await runner.submit("echo", session_id="s", delay=3_600.0)
            frames = [await watching.hear() for _ in range(71)]
    assert frames[0] == {"type": "gap", "feed": 30, "from": 1, "to": 30}
    assert [frame["type"] for frame in frames[1:]] == ["snapshot"] * 50 + ["status"] * 20
    assert len({frame["job_id"] for frame in frames[1:51]}) == 50
    assert [frame["feed"] for frame in frames[51:]] == list(range(31, 51))


async def test_what_was_not_read_before_the_runner_started_anew_is_a_gap() -> None:
    """Each start has a log of its own: a slow socket goes on in the new one when another comes."""
    runner, _ = make_runner()
    owned, index = OwnedRunner(runner, owners=False), SessionIndex(runner)
    async with runner:
        index.find(owned.feed())
        slow = SessionTalk("s", index, owned, after=None, snapshot=lambda job: b"{}")
        with index.used("s"):
            await (await runner.submit("echo", session_id="s")).wait()
            index.catch_up()
            await runner.stop()
            async with runner:
                index.find(owned.feed())
                frames = [json.loads(frame) for piece in iter(slow.read, []) for frame in piece]
                await runner.submit("echo", session_id="s", delay=3_600.0)
                new = [json.loads(frame) for piece in iter(slow.read, []) for frame in piece]
    assert frames == [{"type": "gap", "feed": 3, "from": 1, "to": 3}]
    assert told(new) == [("snapshot", 1), ("status", 1)]


async def test_a_socket_of_a_runner_that_was_never_started_says_so() -> None:
    """A mounted app whose lifespan never ran: nothing would ever come."""
    runner, _ = make_runner()
    app = create_app(runner, auth=None)

    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await app(scope, receive, send)

    async with listening(without_lifespan) as url:
        async with socket(url, "/ws/s") as watching:
            assert await watching.rest() == ([], 1011)


async def test_a_runner_that_stops_ends_its_sockets() -> None:
    """Each end is told, and then the socket is closed: the server is going away."""
    runner, gates = make_runner()
    async with listening(create_app(runner, auth=None)) as url:
        job = await runner.submit("hold", {"key": "k"}, session_id="s")
        await gates["k reached"].wait()
        async with AsyncExitStack() as stack:
            all_of: Socket = await stack.enter_async_context(socket(url, "/ws/s"))
            one: Socket = await stack.enter_async_context(socket(url, f"/jobs/{job.id}/ws"))
            quiet: Socket = await stack.enter_async_context(socket(url, "/ws/quiet"))
            for watching in (all_of, one):
                await watching.hear_until("status")
            await runner.stop()
            ends = [await watching.rest() for watching in (all_of, one, quiet)]
    assert [code for _, code in ends] == [1001, 1000, 1001]
    assert [frames[-1]["error"]["reason"] for frames, _ in ends[:2]] == ["shutdown"] * 2


# Owners


def auth(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-key")


async def test_a_session_has_one_s_own_jobs_only() -> None:
    """Two owners may call their sessions alike; neither hears of the other's, nor can stop it."""
    runner, gates = make_runner()
    async with listening(create_app(runner, auth=auth)) as url:
        ids = {}
        for who in ("ada", "bob"):
            async with connect(url, headers={"x-key": who}) as client:
                ids[who] = await posted(client, {"type": "hold", "params": {"key": who}})
        async with socket(url, "/ws/s", x_key="bob") as watching:
            gates["ada"].set()
            await runner.handle(ids["ada"]).wait()
            await watching.say(op="cancel", job_id=ids["ada"])
            frames = await watching.hear_until("error")
            error = frames[-1]
            await watching.say(op="subscribe", job_id=ids["ada"])
            frames += await watching.hear_until("error")
            gates["bob"].set()
            frames += await watching.hear_until("job_complete")
    assert (error["code"], ids["ada"] in error["detail"]) == ("job-not-found", True)
    assert {frame.get("job_id") for frame in frames} <= {ids["bob"], None}


async def posted(client: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    job_id: str = (await client.post("/jobs", json=body | {"session_id": "s"})).json()["job_id"]
    return job_id


async def test_a_hundred_sessions_hear_their_own(served: Bench) -> None:
    """One reader of the feed tells each what is theirs, in order."""

    async def watched(n: int) -> list[Any]:
        async with opened(served, f"/ws/hundred{n}") as watching:
            for value in range(5):
                await submit(served, f"hundred{n}", "echo", value=value)
            frames: list[Any] = []
            for _ in range(5):
                frames += await watching.hear_until("job_complete")
            return frames

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watched(n)) for n in range(100)]
    for task in tasks:
        ends = [f["result"] for f in task.result() if f["type"] == "job_complete"]
        assert sorted(ends) == [0, 1, 2, 3, 4]
        numbers = [f["feed"] for f in task.result() if "feed" in f]
        assert numbers == sorted(set(numbers))
