"""The client's verbs, against a real server: what the runner's do, over HTTP."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any, get_type_hints

import pytest
import pytest_asyncio
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr

from jobrunner import JobCancelled, JobFailed, JobNotFound, JobRunner, WrongLoop
from jobrunner.client import (
    ClientOptions,
    JobClient,
    RemoteBatch,
    RemoteJob,
    SyncJobClient,
    SyncRemoteBatch,
    SyncRemoteJob,
)
from jobrunner.web.api import SubmitBody
from tests.cutting import cutting
from tests.serving import Bench, bench

IN_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test has jobs of its own."""
    async with bench(workers=20) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Bench) -> AsyncIterator[JobClient]:
    """One client for the file."""
    async with JobClient(served.url, token=served.token) as client:
        yield client


@IN_LOOP
async def test_a_job_is_submitted_and_its_result_awaited(client: JobClient) -> None:
    """The id is there at once, the value when the job has ended."""
    job = await client.submit("echo", {"value": [1, "ü", None]})
    assert (job.id[:4], job.outcome, repr(job)) == ("job_", "created", f"<RemoteJob {job.id}>")
    assert await job.result() == [1, "ü", None]
    assert await client.submit_and_wait("echo", {"value": 2}, wait_timeout=60.0) == 2
    assert await client.submit_and_wait("echo") is None


class Login(BaseModel):
    user: str
    pin: SecretStr = Field(alias="PIN")


@IN_LOOP
async def test_secrets_arrive_as_they_are(client: JobClient) -> None:
    """JSON of a secret is its mask, and a job with that for a password would try to log in."""
    login, pins = Login(user="ada", PIN=SecretStr("1")), (SecretBytes(b"2"), Secret(3))
    value = {"login": login, "pins": pins, "one of": {SecretStr("4")}}
    told = await client.submit_and_wait("echo", {"value": value})
    assert told == {"login": {"user": "ada", "PIN": "1"}, "pins": ["2", 3], "one of": ["4"]}


@IN_LOOP
async def test_the_options_arrive_as_they_were_given(served: Bench, client: JobClient) -> None:
    """Each of them; the view is the runner's own."""
    job = await client.submit(
        "echo",
        {"value": 1},
        priority=7,
        delay=3_600.0,
        timeout=5.0,
        deadline=7_200.0,
        expires=60.0,
        stall_timeout=2.0,
        session_id="ada",
        concurrency_key="k",
        on_duplicate="replace",
        metadata={"n": 1},
        idempotency_key="key",
        max_wait=1.0,
    )
    seen = await job.get()
    assert seen == await served.runner.get(job.id)
    assert (seen.priority, seen.timeout, seen.session_id, seen.metadata) == (
        7,
        5.0,
        "ada",
        {"n": 1},
    )
    record = served.runner.record(job.id)
    assert (record.deadline, record.stall_timeout, record.concurrency_key) == (7_200.0, 2.0, "k")
    assert seen.run_at is not None and seen.expires_at is not None
    assert (seen.expires_at - seen.run_at).total_seconds() == 60.0
    again = await client.submit("echo", {"value": 1}, idempotency_key="key")
    assert (again.id, again.outcome) == (job.id, "replayed")
    assert (await job.cancel("no longer")).cancel_note == "no longer"


def test_the_client_has_each_option_of_the_server() -> None:
    """Whoever adds one to `POST /jobs` is told to add it here."""
    own = {"idempotency_key", "max_wait"}  # a header, and the client's own
    assert ClientOptions.__annotations__.keys() - own == SubmitBody.model_fields.keys() - {
        "type", "params",
    }  # fmt: skip


@IN_LOOP
async def test_a_job_that_failed_or_was_cancelled_raises(served: Bench, client: JobClient) -> None:
    """As the handle does in process; `wait` returns what there is."""
    failed = await client.submit("fail", {"message": "no luck"})
    with pytest.raises(JobFailed, match="no luck") as failure:
        await failed.result()
    assert (failure.value.job_id, failure.value.reason) == (failed.id, "error")
    assert (await failed.wait()).status == "failed"
    held = await client.submit("hold", {"key": "cancelled"})
    await served.gates["cancelled reached"].wait()
    assert (await held.cancel("enough")).status == "running"
    with pytest.raises(JobCancelled, match="enough") as cancelled:
        await held.result()
    assert cancelled.value.reason == "user"
    assert (await client.cancel(held.id)).status == "cancelled"


@IN_LOOP
async def test_a_wait_ends_by_its_timeout_and_the_job_goes_on(
    served: Bench, client: JobClient
) -> None:
    """However short: the error says how the job stands."""
    job = await client.submit("hold", {"key": "slow"})
    await served.gates["slow reached"].wait()
    for timeout in (0, 0.05):
        said = f"job {job.id} is still running after {timeout:g} s; it goes on"
        with pytest.raises(TimeoutError, match=said):
            await job.result(timeout=timeout)
    served.gates["slow"].set()
    assert await job.result(timeout=60.0) == "slow"
    assert await job.result(timeout=0) == "slow"


@pytest.mark.slow  # the server counts in whole seconds
@IN_LOOP
async def test_a_wait_of_over_a_second_asks_the_server_to_wait(
    served: Bench, client: JobClient
) -> None:
    """A long poll, and no other request before it ends."""
    job = await client.submit("hold", {"key": "poll"})
    async with cutting(served.url) as proxy:
        async with JobClient(proxy.url, token=served.token, timeout=0.5) as other:
            with pytest.raises(TimeoutError, match=r"after 1\.2 s"):
                await other.handle(job.id).wait(timeout=1.2)
            assert proxy.requests == 2
    served.gates["poll"].set()


@IN_LOOP
async def test_several_jobs_are_waited_for(served: Bench, client: JobClient) -> None:
    """All of them, any of them, or for a time; in the order asked for, each once."""
    held = [await client.submit("hold", {"key": f"several {n}"}) for n in range(3)]
    ids = [job.id for job in held]
    none = await client.wait(ids, timeout=0.01)
    assert ([job.job_id for job in none.pending], none.done) == (ids, [])
    waiting = asyncio.create_task(client.wait([*ids, ids[0]], mode="any", timeout=20.0))
    await client.wait(ids, timeout=0.01)  # which has asked later, so that the others were seen live
    served.gates["several 1"].set()
    first = await waiting
    assert len(first.pending) == 2
    assert [job.job_id for job in first.done] == [ids[1]]
    assert [job.job_id for job in first.pending] == [ids[0], ids[2]]
    assert (await client.wait(ids, mode="any")).done == first.done
    served.gates["several 0"].set()
    served.gates["several 2"].set()
    ended = await client.wait(ids, timeout=60.0)
    assert ([job.result for job in ended.done], ended.pending) == (
        [f"several {n}" for n in range(3)], [],
    )  # fmt: skip
    assert await client.wait([]) == ([], [])


@pytest.mark.slow  # turns are of a second each
@IN_LOOP
async def test_more_jobs_than_places_are_waited_for(served: Bench, client: JobClient) -> None:
    """They take turns: none is waited for that never comes."""
    later = [await client.submit("echo", delay=3_600.0) for _ in range(110)]
    last = await client.submit("hold", {"key": "last"})
    ids = [*(job.id for job in later), last.id]
    async with cutting(served.url) as proxy:
        async with JobClient(proxy.url, token=served.token) as other:
            # In less than a long poll: with those alone the last would have no turn.
            waiting = asyncio.create_task(other.wait(ids, mode="any", timeout=20.0))
            await proxy.until_asked(len(ids) + 100)
            served.gates["last"].set()
            assert [job.job_id for job in (await waiting).done] == [last.id]
    for job in later:
        await job.cancel()


@IN_LOOP
async def test_a_job_that_vanishes_ends_the_wait_for_all(served: Bench, client: JobClient) -> None:
    """Waiting for the rest would keep the error back for as long as they take."""
    held = await client.submit("hold", {"key": "stays"})
    with pytest.raises(JobNotFound, match="job_never"):
        await client.wait([held.id, "job_never"])
    served.gates["stays"].set()


@IN_LOOP
async def test_the_list_is_a_page_of_views(served: Bench, client: JobClient) -> None:
    """With the runner's filters and cursors."""
    ids = [(await client.submit("echo", session_id="page")).id for _ in range(3)]
    await served.runner.wait(ids)
    page = await client.list(session_id="page", limit=2)
    assert [job.job_id for job in page.jobs] == [ids[2], ids[1]]
    rest = await client.list(session_id="page", cursor=page.next_cursor)
    assert ([job.job_id for job in rest.jobs], rest.next_cursor) == ([ids[0]], None)
    of_type = await client.list(status="completed", type="echo", session_id="page", limit=1)
    assert of_type.jobs == [await served.runner.get(ids[2])]


@IN_LOOP
async def test_jobs_are_run_again_and_forgotten(served: Bench, client: JobClient) -> None:
    """Retry makes a new job; what failed can be run again at once; forgotten is gone."""
    job = await client.submit("echo", {"value": 5})
    await job.wait()
    again = await job.retry()
    assert await again.result() == 5
    assert (await again.get()).retry_of == job.id
    await again.forget()
    failed = await client.submit("fail", {"message": "again"})
    await failed.wait()
    retried = await client.retry_failed("fail")
    assert failed.id in [(await new.wait()).retry_of for new in retried]
    assert await client.retry_failed("echo") == []


@IN_LOOP
async def test_the_job_types_come_with_their_schemas(served: Bench, client: JobClient) -> None:
    """An agent can build its tools from them."""
    types = {kind.type: kind for kind in await client.types()}
    assert types["fail"].description == "Fail with the message."
    assert types["fail"].params["required"] == ["message"]
    assert await client.unready() is None


@IN_LOOP
async def test_a_cancelled_wait_leaves_no_task_and_no_connection(served: Bench) -> None:
    """A long poll that nobody reads any more is closed, and the job isn't touched."""
    job_id = await served.held("left")
    async with cutting(served.url) as proxy:
        async with JobClient(proxy.url, token=served.token) as client:
            calls = [client.until_final(job_id), client.wait([job_id]), client.get(job_id, wait=30)]
            for call, requests in zip(calls, (1, 3, 4), strict=True):
                waiting = asyncio.create_task(call)
                await proxy.until_asked(requests)
                waiting.cancel()
                await asyncio.wait([waiting])
                assert waiting.cancelled()
                await proxy.until_open(0)
            assert "waiting for a job" not in {task.get_name() for task in asyncio.all_tasks()}
    assert (await served.runner.get(job_id)).status == "running"
    served.gates["left"].set()


@IN_LOOP
async def test_a_client_belongs_to_its_loop(served: Bench) -> None:
    """Connections of another loop would hang; the error says what to do."""
    async with JobClient(served.url, token=served.token) as client:
        await client.types()
        with pytest.raises(WrongLoop, match="SyncJobClient"):
            await asyncio.to_thread(asyncio.run, client.types())


@IN_LOOP
async def test_the_printed_url_will_do(served: Bench) -> None:
    """What `jobrunner serve` prints has the token in it; nothing of it shows afterwards."""
    async with JobClient(f"{served.url}/?token={served.token}") as client:
        assert await client.unready() is None
        assert len(await client.types()) == 5
        assert served.token not in repr(client)


@IN_LOOP
async def test_a_mounted_app_is_found_under_its_path(served: Bench) -> None:
    """With or without a slash at the end."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from jobrunner.web import create_app
    from tests.serving import listening

    app = Starlette(routes=[Mount("/jobs-api", create_app(served.runner, auth=None))])
    async with listening(app) as url:
        for base in (f"{url}/jobs-api", f"{url}/jobs-api/"):
            async with JobClient(base) as client:
                assert await client.submit_and_wait("echo", {"value": base}) == base


@IN_LOOP
async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    served: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It couldn't reach the server, and would get to see the token."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with JobClient(served.url, token=served.token) as client:
        assert await client.unready() is None


TWINS = [
    (JobClient, SyncJobClient),
    (RemoteJob, SyncRemoteJob),
    (RemoteBatch, SyncRemoteBatch),
]


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_the_twins_have_the_same_verbs(one: type, other: type) -> None:
    """Moving a script into a service is adding `await`."""
    names = [public(one).keys(), public(other).keys()]
    assert names[0] == names[1]
    for name, signature in public(one).items():
        assert signature.parameters == public(other)[name].parameters, name
    init = [inspect.signature(kind.__init__).parameters for kind in (JobClient, SyncJobClient)]
    assert init[0] == init[1]


@pytest.mark.parametrize(
    "name",
    [
        "get",
        "list",
        "wait",
        "cancel",
        "retry",
        "retry_failed",
        "forget",
        "handle",
        "submit",
        "submit_batch",
        "batch",
        "cancel_batch",
        "deliveries",
        "resend",
    ],
)
def test_the_client_s_verbs_are_the_runner_s(name: str) -> None:
    """The same names and the same parameters, but for what only makes sense in process."""
    runner, client = public_of(JobRunner, name), public_of(JobClient, name)
    in_process = {"owner", "reason"}
    assert [p for p in runner if p not in in_process] == [p for p in client if p not in {"wait"}]


def public_of(kind: type, name: str) -> list[str]:
    return list(inspect.signature(getattr(kind, name)).parameters)


def test_the_options_are_documented() -> None:
    """Typed, so that an editor shows them."""
    hints: dict[str, Any] = get_type_hints(ClientOptions)
    assert hints["delay"] is float
