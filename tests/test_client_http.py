"""What a client does when the network fails: again where that is safe, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.responses import Response

from jobrunner import JobRunnerError, RunnerStopped, ServerProblem, ServerUnreachable
from jobrunner.client import JobClient
from jobrunner.web import create_app
from jobrunner.web.problems import problem_response
from tests.cutting import HELD, Proxy, cutting
from tests.serving import Bench, bench

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has jobs of its own."""
    async with bench(workers=20) as served:
        yield served


def through(proxy: Proxy, served: Bench, **options: float) -> JobClient:
    return JobClient(proxy.url, token=served.token, **options)  # type: ignore[arg-type]  # floats


@pytest.mark.parametrize("limit", [0, 1, 40, 300])
async def test_a_submit_whose_answer_is_lost_gives_one_job(served: Bench, limit: int) -> None:
    """The key is made once for all tries: whether a job was taken doesn't matter."""
    session = f"lost after {limit}"
    async with cutting(served.url, [limit] * 3) as proxy, through(proxy, served) as client:
        job = await client.submit("echo", {"value": 1}, session_id=session)
        assert (proxy.requests, proxy.cuts) == (4, 3)
        assert job.outcome == "created"
        assert [j.job_id for j in (await client.list(session_id=session)).jobs] == [job.id]
        another = await client.submit("echo", {"value": 1}, session_id=session)
    assert another.id != job.id


async def test_a_submit_that_gets_no_answer_in_time_gives_one_job(served: Bench) -> None:
    """A server that hangs is asked once more, too."""
    async with cutting(served.url, [HELD]) as proxy, through(proxy, served, timeout=0.3) as client:
        job = await client.submit("echo", {"value": 1}, session_id="held")
        assert proxy.requests == 2
        assert [j.job_id for j in (await client.list(session_id="held")).jobs] == [job.id]


async def test_what_would_happen_twice_is_not_asked_again(served: Bench) -> None:
    """`retry` makes a new job each time, and has no key: a lost answer is an error."""
    job_id = await served.finished("echo", value=2)
    before = len((await served.runner.list(type="echo")).jobs)
    async with cutting(served.url, [0]) as proxy, through(proxy, served) as client:
        with pytest.raises(ServerUnreachable):
            await client.retry(job_id)
        assert proxy.requests == 1
    assert len((await served.runner.list(type="echo")).jobs) == before + 1


async def test_what_is_the_same_twice_is_asked_again(served: Bench) -> None:
    """Reading, cancelling: each is tried until there is an answer."""
    job_id = await served.held("again")
    async with cutting(served.url, [0, None, 5, 9]) as proxy, through(proxy, served) as client:
        assert (await client.get(job_id)).status == "running"
        proxy.cut_all()
        assert (await client.cancel(job_id)).cancel_requested_at is not None
        assert proxy.requests >= 4


async def test_a_server_that_is_gone_is_named(served: Bench) -> None:
    """With its URL, what happened, and what to look at; after `retry_for` seconds."""
    async with cutting(served.url) as proxy:
        url = proxy.url
    async with JobClient(url, retry_for=0.05) as client:
        with pytest.raises(ServerUnreachable, match="is the server running there") as gone:
            await client.submit("echo")
    assert url in str(gone.value)
    assert isinstance(gone.value, ConnectionError)
    assert isinstance(gone.value.__cause__, httpx2.ConnectError)


async def test_a_server_that_hangs_is_said_to(served: Bench) -> None:
    """It is there, which is another fault than an address that is wrong."""
    async with cutting(served.url, [HELD] * 100) as proxy:
        async with through(proxy, served, timeout=0.05, retry_for=0.0) as client:
            with pytest.raises(ServerUnreachable, match="did not answer in time"):
                await client.types()


class Scripted:
    """An app that gives some answers first, and then its own."""

    def __init__(self, app: Any, answers: list[Any]) -> None:
        self.app = app
        self.answers = answers
        self.asked = 0
        self.was_asked = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        self.was_asked.set()
        await (self.answers.pop(0) if self.answers else self.app)(scope, receive, send)

    def client(self, **options: Any) -> JobClient:
        return JobClient("http://localhost", transport=httpx2.ASGITransport(app=self), **options)


def scripted(served: Bench, *answers: Any) -> Scripted:
    return Scripted(create_app(served.runner, auth=None), list(answers))


def refusal(status: int, code: str, **headers: str) -> Any:
    return problem_response(status, code, "not now", headers=headers)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_an_answer_that_says_nothing_of_the_request_is_tried_again(
    served: Bench, status: int
) -> None:
    """A proxy without a server, a server that restarts."""
    app = scripted(served, refusal(status, "busy"), refusal(status, "shutting-down"))
    async with app.client() as client:
        assert await client.submit_and_wait("echo", {"value": status}) == status


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
async def test_an_answer_to_the_request_is_not_tried_again(served: Bench, status: int) -> None:
    """It would be the same."""
    app = scripted(served, refusal(status, "no"))
    async with app.client() as client:
        with pytest.raises(ServerProblem):
            await client.types()
    assert app.asked == 1


async def test_only_what_the_server_refused_unseen_is_asked_again_of_a_retry(
    served: Bench,
) -> None:
    """A 503 is the server's own word; a 502 may have come after it ran the job."""
    job_id = await served.finished("echo", value=1)
    app = scripted(served, refusal(503, "shutting-down"))
    async with app.client() as client:
        assert (await (await client.retry(job_id)).wait()).retry_of == job_id
        app.answers = [refusal(502, "bad-gateway")]
        with pytest.raises(ServerProblem):
            await client.retry(job_id)


async def test_a_retry_after_that_is_too_long_is_an_error_at_once(served: Bench) -> None:
    """Waiting for less would be asking in vain, and for more is not what was wanted."""
    app = scripted(served, *[refusal(503, "shutting-down", **{"Retry-After": "60"})] * 2)
    async with app.client(retry_for=10.0) as client:
        with pytest.raises(RunnerStopped):
            await client.types()
    assert app.asked == 1


async def test_a_retry_after_is_waited_for(served: Bench) -> None:
    """No pause is shorter than the server asks for: with less time than that, there is none."""
    app = scripted(served, refusal(503, "shutting-down", **{"Retry-After": "1"}))
    async with app.client(retry_for=0.9) as client:
        with pytest.raises(RunnerStopped):
            await client.types()
    assert app.asked == 1


async def test_a_stream_that_is_refused_for_now_is_opened_later(served: Bench) -> None:
    """Too many streams is no end of the watch; an unknown job is."""
    job_id = await served.finished("say", texts=["a"])
    app = scripted(served, refusal(503, "too-many-streams"))
    async with app.client() as client:
        assert [event.seq async for event in client.events(job_id)] == [1, 2, 3, 4]
        with pytest.raises(JobRunnerError, match="job_never"):
            await anext(client.events("job_never"))


async def test_a_stream_of_another_kind_is_an_error(served: Bench) -> None:
    """An answer that isn't an event stream would be read for ever."""
    app = scripted(served, problem_response(200, "x", "y"))
    async with app.client() as client:
        with pytest.raises(ServerProblem, match="no answer of jobrunner"):
            await anext(client.events("job_1"))


async def test_the_tries_end_with_their_caller(served: Bench) -> None:
    """Who is cancelled in a pause between two tries is cancelled at once."""
    app = scripted(served, *[refusal(503, "shutting-down", **{"Retry-After": "5"})] * 9)
    async with app.client() as client:
        asking = asyncio.create_task(client.types())
        await app.was_asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()


class Failing(httpx2.AsyncBaseTransport):
    """A network that fails once, as it is told to, and then carries requests to an app."""

    def __init__(self, app: Any, error: Exception) -> None:
        self.inner = httpx2.ASGITransport(app=app)
        self.errors = [error]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.errors:
            raise self.errors.pop()
        return await self.inner.handle_async_request(request)


async def test_what_could_not_be_sent_is_sent_again(served: Bench) -> None:
    """Without a connection nothing can have happened: also `retry` is tried again."""
    job_id = await served.finished("echo", value=1)
    network = Failing(create_app(served.runner, auth=None), httpx2.ConnectError("refused"))
    async with JobClient("http://localhost", transport=network) as client:
        assert (await (await client.retry(job_id)).wait()).retry_of == job_id
    assert network.errors == []


async def test_too_many_calls_at_once_are_said_to_be(served: Bench) -> None:
    """The server is not to blame, and looking for it would lead nowhere."""
    network = Failing(create_app(served.runner, auth=None), httpx2.PoolTimeout(""))
    async with JobClient("http://localhost", transport=network, retry_for=0.0) as client:
        with pytest.raises(ServerUnreachable, match="connections of this client are in use"):
            await client.types()


async def test_a_stream_that_ends_before_the_job_is_opened_again(served: Bench) -> None:
    """A proxy may end it cleanly; only `done` is the end."""
    job_id = await served.finished("say", texts=["a"])
    data = f'{{"seq":1,"job_id":"{job_id}","at":"2026-11-22T03:00:00.000Z","status":"pending"}}'
    cut = Response(f"id: 1\nevent: status\ndata: {data}\n\n", media_type="text/event-stream")
    async with scripted(served, cut).client() as client:
        assert [event.seq async for event in client.events(job_id)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "said", ["event: ping\ndata: 1\n\n", 'event: error\ndata: {"message": "late"}\n\n',
             "event: status\ndata: nope\n\n"],
)  # fmt: skip
async def test_what_something_in_between_says_in_a_stream_is_no_event(
    served: Bench, said: str
) -> None:
    """A gateway keeps a stream open by pings of its own, and tells of its troubles."""
    job_id = await served.finished("say", texts=["a"])
    app = scripted(served, Response(said, media_type="text/event-stream"))
    async with app.client() as client:
        assert [event.seq async for event in client.events(job_id)] == [1, 2, 3, 4]


async def test_an_answer_that_can_not_be_decoded_is_none(served: Bench) -> None:
    """Whoever has cut or changed it on the way may not do so again."""
    job_id = await served.finished("echo", value=1)
    app = scripted(served, Response(b"{}", headers={"content-encoding": "gzip"}))
    async with app.client() as client:
        assert (await client.get(job_id)).result == 1
    app.answers = [Response(b"{}", headers={"content-encoding": "gzip"})]
    async with app.client(retry_for=0.0) as client:
        with pytest.raises(ServerUnreachable, match="DecodingError"):
            await client.get(job_id)


async def test_only_a_503_says_that_a_server_is_not_ready(served: Bench) -> None:
    """A fault of another kind is one, and no answer to the question."""
    async with scripted(served, refusal(503, "unready"), refusal(500, "no")).client() as client:
        assert await client.unready() == "not now"
        with pytest.raises(ServerProblem):
            await client.unready()


async def test_https_on_this_machine_is_checked_as_elsewhere() -> None:
    """Only what has no certificate needs none loaded."""
    async with JobClient("https://127.0.0.1:1", retry_for=0.0) as client:
        with pytest.raises(ServerUnreachable):
            await client.types()


async def test_headers_and_tls_options_are_taken(served: Bench) -> None:
    """A gateway before the server may want headers of its own."""
    seen: list[str] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"])[b"x-gateway"].decode())
        await problem_response(404, "no", "no")(scope, receive, send)

    transport = httpx2.ASGITransport(app=look)
    url = "https://jobs.example"
    async with JobClient(url, headers={"X-Gateway": "k"}, transport=transport) as client:
        with pytest.raises(ServerProblem):
            await client.types()
    assert seen == ["k"]
