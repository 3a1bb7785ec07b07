"""The stream of all jobs: where it begins, how it goes on, and that it has no end of its own."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from starlette.requests import HTTPConnection

from jobrunner import JobRunner, Limits
from jobrunner.web import create_app
from jobrunner.web.sources import PIECE
from tests.serving import (
    GONE_ON,
    Bench,
    Frame,
    bench,
    connect,
    in_process,
    listening,
    make_runner,
    problem,
    stream,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[Bench]:
    """A server with a feed of its own."""
    async with bench() as served:
        yield served


async def some(frames: AsyncIterator[Frame], count: int) -> list[Frame]:
    return [await anext(frames) for _ in range(count)]


def told(frames: list[Frame]) -> list[tuple[str | None, str, str]]:
    return [(frame.id, frame.event, frame.data["job_id"]) for frame in frames]


async def test_who_has_no_number_is_told_what_comes_from_now_on(own: Bench) -> None:
    """A page lists the jobs and watches; the first number is in the snapshot, so nothing is lost
    when it is cut before anything has happened."""
    await own.finished("echo")
    async with stream(own.client, "/events") as frames:
        begin = await anext(frames)
        later = await own.finished("echo")
        rest = await some(frames, 3)
    assert begin == Frame("snapshot", {"job_id": "", "seq": 3}, "3")
    assert told(rest) == [("4", "status", later), ("5", "status", later), ("6", "done", later)]


@pytest.mark.parametrize("way", ["header", "query"])
async def test_it_goes_on_after_each_number(own: Bench, way: str) -> None:
    """Nothing twice and nothing lost, whichever jobs the events are of."""
    ids = [await own.finished("echo") for _ in range(2)]
    own.runner.pause()
    ids.append(await own.submit("echo"))
    for after in range(7):
        path = "/events" if way == "header" else f"/events?after={after}"
        sent = {"last_event_id": str(after)} if way == "header" else {}
        async with stream(own.client, path, **sent) as frames:
            seen = await some(frames, 7 - after)
        assert [frame.number for frame in seen] == list(range(after + 1, 8))
        assert [f.data["job_id"] for f in seen] == ([ids[0]] * 3 + [ids[1]] * 3 + ids[2:])[after:]


async def test_a_number_that_was_never_reached_is_another_runner_s(own: Bench) -> None:
    """After a restart of the server its numbers begin anew: who comes back is told to look."""
    await own.finished("echo")
    async with stream(own.client, "/events", last_event_id="999") as frames:
        assert await anext(frames) == Frame("snapshot", {"job_id": "", "seq": 3}, "3")


async def test_what_is_no_longer_kept_is_a_gap_and_a_snapshot() -> None:
    """Better a hole with a sign at it than a story without a beginning."""
    async with bench(limits=Limits(max_feed=2)) as own:
        await own.finished("echo")
        async with stream(own.client, "/events?after=0") as frames:
            seen = await some(frames, 4)
    assert [(f.id, f.event) for f in seen] == [("1", "gap"), (None, "snapshot"), ("2", "status"),
                                               ("3", "done")]  # fmt: skip
    assert (seen[0].data["from"], seen[0].data["to"], seen[0].data["seq"]) == (1, 1, 1)


async def test_a_feed_that_keeps_nothing_still_says_what_is_missing() -> None:
    """Limits may be 0, and a stream of gaps is a stream."""
    async with bench(limits=Limits(max_feed=0)) as own:
        async with stream(own.client, "/events") as frames:
            await anext(frames)
            await own.finished("echo")
            assert (await anext(frames)).event in ("gap", "status")


async def test_it_ends_with_the_runner_and_not_before(own: Bench) -> None:
    """There is no `done` that would keep a browser from coming again."""
    async with stream(own.client, "/events") as frames:
        await anext(frames)
        job_id = await own.finished("echo")
        await own.runner.stop()
        rest = [frame async for frame in frames]
    assert told(rest) == [("1", "status", job_id), ("2", "status", job_id), ("3", "done", job_id)]


async def test_a_runner_that_has_stopped_has_no_feed() -> None:
    """An open stream on which nothing will ever come would be a lie."""
    async with in_process() as own:
        await own.runner.stop()
        assert problem(await own.client.get("/events")) == (503, "shutting-down")


async def test_a_runner_that_was_never_started_has_no_feed_either() -> None:
    """A mounted app whose lifespan never runs: the stream would keep the server from ending."""
    runner, _ = make_runner()
    transport = httpx2.ASGITransport(app=create_app(runner, auth=None))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        async with asyncio.timeout(GONE_ON):
            assert problem(await client.get("/events")) == (503, "runner-not-started")


def auth(connection: HTTPConnection) -> str | None:
    """Take everybody at their word."""
    return connection.headers.get("x-owner")


async def test_an_owner_sees_their_own_jobs_only() -> None:
    """The numbers of others' events are passed over, however many there are."""
    runner, _ = make_runner()
    async with listening(create_app(runner, auth=auth)) as url, connect(url) as client:
        others = [await runner.submit("echo", owner="bob") for _ in range(100)]
        mine = await runner.submit("echo", owner="ada")
        await runner.wait([job.id for job in (*others, mine)])
        async with stream(client, "/events?after=0", x_owner="ada") as frames:
            seen = await some(frames, 3)
            await runner.submit("echo", owner="bob")
            again = await runner.submit("echo", owner="ada")
            seen += await some(frames, 3)
    assert [f.data["job_id"] for f in seen] == [mine.id] * 3 + [again.id] * 3
    assert [f.event for f in seen] == ["status", "status", "done"] * 2


async def test_more_than_one_piece_comes_whole() -> None:
    """A piece is bounded, what a reader gets isn't."""
    runner = JobRunner(shutdown_timeout=0.0)

    @runner.job
    async def fail() -> None:
        raise ValueError("x" * 1_000)

    async with listening(create_app(runner, auth=None)) as url, connect(url) as client:
        jobs = [await runner.submit(fail) for _ in range(2 * PIECE // 1_000)]
        await runner.wait([job.id for job in jobs])
        async with stream(client, "/events?after=0") as frames:
            seen = await some(frames, 3 * len(jobs))
    assert [frame.number for frame in seen] == list(range(1, 3 * len(jobs) + 1))


async def test_many_watchers_see_the_same(own: Bench) -> None:
    """One log for all of them."""

    async def watch() -> list[Frame]:
        async with stream(own.client, "/events?after=0") as frames:
            return await some(frames, 6)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch()) for _ in range(10)]
        for _ in range(2):
            await own.finished("echo")
    assert len({str(task.result()) for task in tasks}) == 1
