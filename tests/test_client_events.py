"""Events over HTTP: each once and in order, whatever happens to the connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from random import Random

import pytest
import pytest_asyncio

from jobrunner import (
    Event,
    JobContext,
    JobGone,
    JobNotFound,
    JobRunner,
    Limits,
    ServerProblem,
    ServerUnreachable,
)
from jobrunner.client import JobClient, Progress
from jobrunner.server import serving
from tests.cutting import cutting
from tests.serving import Bench, bench

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test watches jobs of its own."""
    async with bench() as served:
        yield served


def client_of(served: Bench, url: str = "", **options: float) -> JobClient:
    return JobClient(url or served.url, token=served.token, **options)  # type: ignore[arg-type]


async def test_the_events_are_those_of_the_runner(served: Bench) -> None:
    """Who watches over HTTP sees what one sees in process; the last one has the result."""
    job_id = await served.finished("say", texts=["a", "b"])
    local = [event async for event in served.runner.handle(job_id).events()]
    async with client_of(served) as client:
        remote = [event async for event in client.events(job_id)]
    assert [type(event) for event in remote] == [Event] * 5
    assert remote[-1].data == {**local[-1].data, "result": 2}
    assert [event._replace(at=0.0) for event in remote[:-1]] == [
        event._replace(at=0.0) for event in local[:-1]
    ]
    assert [event.at for event in remote] == pytest.approx([e.at for e in local], abs=0.001)


async def test_events_go_on_after_a_number(served: Bench) -> None:
    """Who remembers a number in a file goes on there; after the last there is nothing."""
    job_id = await served.finished("say", texts=["a", "b"])
    async with client_of(served) as client:
        assert [event.seq async for event in client.events(job_id, after=3)] == [4, 5]
        assert [event.seq async for event in client.handle(job_id).events(4)] == [5]
        assert [event.seq async for event in client.events(job_id, after=5)] == []


async def test_what_is_no_longer_kept_is_a_gap() -> None:
    """A gap says which events went; the snapshot that the wire sends with it is no event."""
    async with bench(limits=Limits(max_events=3)) as served:
        job_id = await served.finished("say", texts=["x"] * 10)
        async with client_of(served) as client:
            events = [event async for event in client.events(job_id)]
    assert [(event.type, event.seq) for event in events] == [
        ("gap", 10), ("output", 11), ("output", 12), ("done", 13),
    ]  # fmt: skip
    assert events[0].data == {"from": 1, "to": 10}


@pytest.mark.slow  # 200 connections, and the pauses between them
@pytest.mark.parametrize("seed", [1])
async def test_a_stream_cut_200_times_delivers_each_event_once(served: Bench, seed: int) -> None:
    """At random bytes: in the head, in an event, between two; by a reset and by a clean end."""
    random = Random(seed)
    texts = [f"{n} ü€😀\r\n" * random.randint(1, 7) for n in range(900)]
    limits = [random.randint(0, 1_500) for _ in range(200)]
    async with cutting(served.url, limits) as proxy, client_of(served, proxy.url) as client:
        job_id = await served.submit("hold", key=f"cut {seed}", say=texts[:500])
        events = client.events(job_id)
        said = [await anext(events) for _ in range(400)]
        served.gates[f"cut {seed}"].set()
        said += [event async for event in events]
        cuts_of_first = proxy.cuts
        again = await served.finished("say", texts=texts)
        said_again = [event async for event in client.events(again)]
        assert (cuts_of_first > 0, proxy.cuts) == (True, 200)
    assert [event.seq for event in said] == list(range(1, 504))
    assert [event.data["text"] for event in said if event.type == "output"] == texts[:500]
    assert [event.seq for event in said_again] == list(range(1, 904))
    assert [event.data["text"] for event in said_again if event.type == "output"] == texts


async def test_a_stream_of_a_running_job_goes_on_after_a_cut(served: Bench) -> None:
    """What happens while nobody is connected comes afterwards."""
    job_id = await served.held("live", say=["a", "b"])
    async with cutting(served.url) as proxy, client_of(served, proxy.url) as client:
        events = client.events(job_id)
        seen = [(await anext(events)).seq for _ in range(4)]
        proxy.cut_all()
        await proxy.until_open(0)
        served.gates["live"].set()
        seen += [event.seq async for event in events]
    assert seen == [1, 2, 3, 4, 5]


async def test_a_server_that_lost_the_job_is_told_of(served: Bench) -> None:
    """A new process has none of the old one's jobs: an error that says so, and no hang."""
    job_id = await served.held("lost")
    async with (
        cutting(served.url) as proxy,
        client_of(served, proxy.url) as client,
        serving(JobRunner(), token=served.token) as restarted,
    ):
        events = client.events(job_id)
        waiting = asyncio.create_task(client.until_final(job_id))
        assert (await anext(events)).seq == 1
        await proxy.until_open(2)
        proxy.target = restarted.url
        proxy.cut_all()
        with pytest.raises(JobNotFound, match=job_id) as lost:
            async for _ in events:
                pass
        with pytest.raises(JobNotFound, match=job_id):
            await waiting
    assert "restarted" in lost.value.__notes__[0]
    served.gates["lost"].set()


async def test_a_forgotten_job_is_gone(served: Bench) -> None:
    """The server remembers that there was one."""
    job_id = await served.finished("echo")
    async with client_of(served) as client:
        await client.forget(job_id)
        with pytest.raises(JobGone):
            await anext(client.events(job_id))


async def test_a_server_that_stays_away_ends_the_watch(served: Bench) -> None:
    """Not for ever: after `retry_for` seconds the error names the server."""
    job_id = await served.held("away")
    async with cutting(served.url, [None, *[0] * 100]) as proxy:
        async with client_of(served, proxy.url, retry_for=0.2) as client:
            events = client.events(job_id)
            assert (await anext(events)).seq == 1
            proxy.cut_all()
            with pytest.raises(ServerUnreachable, match=proxy.url):
                async for _ in events:
                    pass
    served.gates["away"].set()


async def test_what_is_no_stream_is_an_error() -> None:
    """An address where something else answers is told so, and not asked for ever."""
    async with bench() as served, JobClient(served.url + "/static", token=served.token) as client:
        with pytest.raises(ServerProblem) as refused:
            await anext(client.events("job_1"))
    assert refused.value.code == "not-found"


async def test_leaving_a_watch_closes_its_connection(served: Bench) -> None:
    """Who has seen enough leaves nothing at the server; nor does who is cancelled."""
    job_id = await served.held("leave", say=["a"])
    async with cutting(served.url) as proxy, client_of(served, proxy.url) as client:
        async with aclosing(client.events(job_id)) as events:
            assert (await anext(events)).seq == 1
            assert proxy.open == 1
        await proxy.until_open(0)

        async def watch() -> None:
            async for _ in client.events(job_id):
                pass

        before = asyncio.all_tasks()
        watching = asyncio.create_task(watch())
        await proxy.until_open(1)
        watching.cancel()
        await asyncio.wait([watching])
        await proxy.until_open(0)
        assert {t for t in asyncio.all_tasks() - before if t.get_name() != "proxy"} == set()
    served.gates["leave"].set()


async def test_progress_is_called_back(served: Bench) -> None:
    """Each progress of the job, and how far it was at its end."""
    told: list[Progress] = []
    async with client_of(served) as client:
        job = await client.submit("steps", {"key": "steps"})

        def tell(now: Progress) -> None:
            told.append(now)
            served.gates["steps"].set()

        ended = await job.wait(on_progress=tell)
    assert told == [Progress(25.0, "first", 1, 4), Progress(100.0, "first", 1, 4)]
    assert ended.status == "completed"


async def test_a_result_of_over_a_megabyte_comes_with_the_last_event() -> None:
    """As large as the server lets results be: the client has no bound of its own."""
    async with bench(limits=Limits(max_result=2_000_000)) as served, client_of(served) as client:

        @served.runner.job
        async def large() -> str:
            return "x" * 1_500_000

        job = await client.submit("large")
        assert [len(e.data["result"]) async for e in job.events() if e.type == "done"] == [
            1_500_000
        ]


async def test_a_progress_is_told_once(served: Bench) -> None:
    """The last one again, as how far the job was at its end, would be one too many."""

    @served.runner.job
    async def all_of_it(ctx: JobContext) -> None:
        ctx.progress(100, "all")

    told: list[Progress] = []
    async with client_of(served) as client:
        await client.submit_and_wait("all_of_it", on_progress=told.append)
    assert told == [Progress(100.0, "all", None, None)]


@pytest.mark.slow  # the patience of the client has to have passed
async def test_a_watch_is_as_patient_at_the_second_failure_as_at_the_first(served: Bench) -> None:
    """Hours may lie between two cuts in which nothing happened; only absence counts."""
    job_id = await served.held("patient")
    options = {"retry_for": 0.5, "timeout": 0.5}  # the latter is no limit of a quiet stream
    async with cutting(served.url) as proxy, client_of(served, proxy.url, **options) as client:
        events = client.events(job_id)
        assert [(await anext(events)).seq for _ in range(2)] == [1, 2]
        rest = asyncio.create_task(anext(events))
        for requests in (2, 3):
            proxy.cut_all()
            await proxy.until_asked(requests)
            await asyncio.sleep(0.6)  # longer than `retry_for`, with the stream open
        assert proxy.requests == 3
        served.gates["patient"].set()
        assert (await rest).type == "done"


async def test_a_callback_that_raises_ends_the_wait_and_not_the_job(served: Bench) -> None:
    """Its exception comes to who waits; the job doesn't notice."""
    async with client_of(served) as client:
        job = await client.submit("steps", {"key": "raise"})
        with pytest.raises(ZeroDivisionError):
            await job.wait(on_progress=lambda now: 1 / 0)
        with pytest.raises(TimeoutError, match="callback"):
            await job.wait(on_progress=raise_timeout, timeout=60.0)
        with pytest.raises(TimeoutError, match=f"{job.id} has not ended after 0.01 s; it goes on"):
            await job.wait(on_progress=lambda now: None, timeout=0.01)
        assert (await job.get()).status == "running"
        served.gates["raise"].set()
        await job.wait()


def raise_timeout(now: Progress) -> None:
    raise TimeoutError("from the callback")
