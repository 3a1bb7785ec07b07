"""What goes wrong at the server is raised at the client, as if the runner were here."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from jobrunner import (
    InvalidOption,
    InvalidParams,
    JobFailed,
    JobRunner,
    JobRunnerError,
    Limits,
    QueueFull,
    RunnerNotStarted,
    RunnerStopped,
    ServerProblem,
    errors,
)
from jobrunner.client import JobClient
from jobrunner.web import create_app
from jobrunner.web.problems import problem_response
from tests.serving import Bench, in_process

IN_LOOP = pytest.mark.asyncio(loop_scope="module")
KINDS = sorted(
    (v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, JobRunnerError)),
    key=lambda kind: kind.code,
)
KNOWN: dict[str, Any] = {"option": "priority", "job_id": "job_1", "reason": "timeout",
                         "retry_after": 2.5, "status": 418}  # fmt: skip


def client_of(app: Any, **options: Any) -> JobClient:
    transport = httpx2.ASGITransport(app=app)
    return JobClient("http://localhost", transport=transport, **options)


def answering(response: Response) -> JobClient:
    """Return a client of something that answers every GET of a job like that."""

    async def answer(request: Any) -> Response:
        return response

    return client_of(Starlette(routes=[Route("/jobs/{id}", answer)]), retry_for=0.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One runner for the file, with one place in its queue."""
    async with in_process(workers=1, limits=Limits(max_params=100)) as served:

        @served.runner.job(max_pending=1)
        async def narrow(ctx: Any = None) -> None: ...

        @served.runner.job
        async def secret(password: SecretStr) -> None: ...

        yield served


async def raised(call: Any) -> JobRunnerError:
    with pytest.raises(JobRunnerError) as caught:
        await call
    return caught.value


def facts(error: JobRunnerError) -> Any:
    return type(error), str(error), error.code, vars(error)


@IN_LOOP
@pytest.mark.parametrize("kind", KINDS, ids=[kind.code for kind in KINDS])
async def test_each_code_is_its_class_again(kind: type[JobRunnerError]) -> None:
    """Handling an error is written once, for the runner here and the one elsewhere."""
    code = getattr(kind.__init__, "__code__", None)  # not all have a constructor of their own
    names = KNOWN.keys() & set(code.co_varnames if code else ())
    known = {name: KNOWN[name] for name in names if kind.code != "retryable"}
    sent = kind("what is wrong", **known)
    members = {name: value for name, value in vars(sent).items() if name in KNOWN}
    answer = problem_response(418, kind.code, str(sent), members=members)
    async with answering(answer) as client:
        got = await raised(client.get("job_1"))
    got.__dict__.pop("__notes__", None)
    assert facts(got) == facts(sent)


@IN_LOOP
async def test_room_in_a_queue_is_read_from_the_header_where_the_document_is_silent() -> None:
    """What stands between may answer for the server."""
    for header, seconds in [("7", 7.0), ("soon", 0.0), ("", 0.0), ("9" * 20, 0.0)]:
        answer = problem_response(503, "queue-full", "full", headers={"Retry-After": header})
        async with answering(answer) as client:
            got = await raised(client.get("job_1"))
        assert isinstance(got, QueueFull)
        assert got.retry_after == seconds


async def both(served: Bench, name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Return what the runner raises here, and what a client of it raises."""
    here = await raised(getattr(served.runner, name)(*args, **options))
    async with client_of(create_app(served.runner, auth=None)) as client:
        there = await raised(getattr(client, name)(*args, **options))
    there.__dict__.pop("__notes__", None)
    return facts(here), facts(there)


@IN_LOOP
@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("submit", ["nothing"], {}),
        ("submit", ["fail", {"message": 3, "more": 1}], {}),
        ("submit", ["echo", {"value": "x" * 200}], {}),
        ("submit", ["echo"], {"priority": 101}),
        ("submit", ["echo"], {"session_id": "x" * 300}),
        ("submit", ["echo"], {"nonsense": 1}),
        ("get", ["job_unknown"], {}),
        ("get", ["../types"], {}),
        ("cancel", ["job_unknown"], {}),
        ("retry", ["job_unknown"], {}),
        ("forget", ["job_unknown"], {}),
        ("wait", [["job_unknown"]], {}),
        ("wait", [[]], {"mode": "some"}),
        ("wait", [[]], {"timeout": -1}),
        ("list", [], {"status": "lost"}),
        ("list", [], {"cursor": "none of ours"}),
        ("retry_failed", ["nothing"], {}),
    ],
)
async def test_what_the_runner_raises_the_client_raises(
    served: Bench, name: str, args: list[Any], options: dict[str, Any]
) -> None:
    """The same class, message and data, whether the runner is here or behind HTTP."""
    here, there = await both(served, name, *args, **options)
    assert there == here


@IN_LOOP
async def test_errors_about_a_job_know_it(served: Bench) -> None:
    """A duplicate, one that isn't final, one that is gone, one with secrets, a reused key."""
    live = await served.held("errors")
    done = await served.runner.submit("echo", idempotency_key="once")
    for name in ("retry", "forget"):
        here, there = await both(served, name, live)
        assert there == here
    await served.runner.submit("echo", concurrency_key="k")
    here, there = await both(served, "submit", "echo", on_duplicate="reject", concurrency_key="k")
    assert there == here
    here, there = await both(served, "submit", "echo", {"value": 2}, idempotency_key="once")
    assert there == here
    hidden = await served.runner.submit("secret", {"password": "x"})
    served.gates["errors"].set()
    await served.runner.wait([hidden.id, done.id])
    here, there = await both(served, "retry", hidden.id)
    assert there == here
    await served.runner.forget(done.id)
    here, there = await both(served, "get", done.id)
    assert there == here


@IN_LOOP
async def test_a_full_queue_says_when_there_may_be_room(served: Bench) -> None:
    """From the pace of the jobs, as the runner says it here."""
    await served.held("full")
    await served.runner.submit("narrow")
    here, there = await both(served, "submit", "narrow")
    served.gates["full"].set()
    assert there[:3] == here[:3]
    assert 1.0 <= there[3]["retry_after"] <= 60.0


@IN_LOOP
async def test_a_runner_that_does_not_run_is_told_of() -> None:
    """One that was never started stays so, and is told of at once; one that stops may be back."""
    runner = JobRunner()
    async with client_of(create_app(runner, auth=None), retry_for=0.0) as client:
        assert "new" in str(await client.unready())
        assert type(await raised(client.submit("x"))) is RunnerNotStarted
        async with runner:
            assert await client.unready() is None
        assert "stopped" in str(await client.unready())
        assert type(await raised(client.submit("x"))) is RunnerStopped


@IN_LOOP
async def test_the_result_of_a_failure_is_what_the_handle_raises(served: Bench) -> None:
    """Also from `GET /jobs/{id}/result`, which others may read."""
    job_id = await served.finished("fail", message="no")
    here = await raised(served.runner.handle(job_id).result())
    async with client_of(create_app(served.runner, auth=None)) as client:
        there = await raised(client.handle(job_id).result())
    assert facts(there) == facts(here)
    assert isinstance(there, JobFailed)
    document = (await served.client.get(f"/jobs/{job_id}/result")).json()
    assert (document["job_id"], document["reason"]) == (job_id, "error")


@IN_LOOP
async def test_a_refused_token_names_the_argument(served: Bench) -> None:
    """The server doesn't know what its client's argument is called."""
    for token in (None, "wrong"):
        async with client_of(create_app(served.runner, auth="right"), token=token) as client:
            refused = await raised(client.get("job_1"))
        assert isinstance(refused, ServerProblem)
        assert (refused.code, refused.status) == ("unauthorized", 401)
        assert "JobClient(url, token=...)" in refused.__notes__[0]


@IN_LOOP
async def test_a_code_of_a_later_version_is_kept() -> None:
    """A program can look at the code, though the class isn't there yet."""
    answer = problem_response(409, "not-invented-yet", "what is wrong", members={"new": 1})
    async with answering(answer) as client:
        got = await raised(client.get("job_1"))
    assert (type(got), got.code, str(got)) == (ServerProblem, "not-invented-yet", "what is wrong")


@IN_LOOP
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HTMLResponse("<h1>hello</h1>"), "with text/html, which is no answer of jobrunner"),
        (HTMLResponse("no", 404), "answered 404 with text/html, no problem document"),
        (HTMLResponse("no", 500), "GET http://localhost/jobs/job_1 answered 500 with text/html"),
        (RedirectResponse("https://x.y/jobs/1"), "sends on to https://x.y/jobs/1"),
        (Response('{"job_id": 1}', media_type="application/json"), "no answer of jobrunner"),
        (Response("{", media_type="application/json"), "no answer of jobrunner"),
        (Response("{", 409, media_type="application/problem+json"), "answered 409"),
        (Response("[]", 599, media_type="application/problem+json"), "answered 599"),
        (Response(None, 204), "with no content type"),
    ],
)
async def test_what_is_no_answer_of_a_runner_is_said_so(answer: Response, said: str) -> None:
    """A wrong address, or something in between: the error shows what came, and from where."""
    async with answering(answer) as client:
        got = await raised(client.get("job_1"))
    assert (type(got), said in str(got)) == (ServerProblem, True), got


@IN_LOOP
async def test_members_of_a_later_version_are_left_out(served: Bench) -> None:
    """A newer server may say more of a job than this version knows."""
    job_id = await served.finished("echo", value=3)
    job = (await served.client.get(f"/jobs/{job_id}")).json()
    answer = Response(httpx2.Request("GET", "http://x", json=job | {"mood": "fine"}).read(),
                      media_type="application/json")  # fmt: skip
    async with answering(answer) as client:
        assert await client.get(job_id) == await served.runner.get(job_id)


@IN_LOOP
async def test_what_can_not_be_json_is_an_error_of_the_params(served: Bench) -> None:
    """Before it is sent: the server would have to guess."""
    async with client_of(create_app(served.runner, auth=None)) as client:
        assert type(await raised(client.submit("echo", {"value": object()}))) is InvalidParams
        nan = await raised(client.submit("echo", {"value": float("nan")}))
        assert nan.code == "invalid-json"


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "ftp://localhost"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://[::1"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"base_url": "http://localhost:65536"}, "base_url"),
        ({"base_url": "http://localhost/\udcff"}, "base_url"),
        ({"base_url": "http://ada:secret@localhost"}, "base_url"),
        ({"token": ""}, "token"),
        ({"token": "a b"}, "token"),
        ({"token": "schlüssel"}, "token"),
        ({"timeout": 0}, "timeout"),
        ({"retry_for": -1}, "retry_for"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], option: str) -> None:
    """Where the client is made, and not at its first request; a password isn't repeated."""
    with pytest.raises(InvalidOption) as wrong:
        JobClient(**{"base_url": "http://localhost", **options})
    assert wrong.value.option == option
    assert "secret" not in str(wrong.value)


@IN_LOOP
async def test_a_filter_that_no_url_can_carry_is_an_error_of_the_filter(served: Bench) -> None:
    """Before it is sent; a shell passes on whatever bytes it is given."""
    async with client_of(create_app(served.runner, auth=None)) as client:
        with pytest.raises(InvalidOption, match="a filter can't go into a URL"):
            await client.list(session_id="\udcff")


@IN_LOOP
async def test_wrong_arguments_of_a_submit_are_named(served: Bench) -> None:
    """They can't go over HTTP, and there is no use in asking the server."""
    async with client_of(create_app(served.runner, auth=None)) as client:
        for call, option in [
            (client.submit("echo", idempotency_key="ü"), "idempotency_key"),
            (client.submit("echo", idempotency_key="x" * 257), "idempotency_key"),
            (client.submit("echo", max_wait=-1), "max_wait"),
            (client.submit(make_params), None),  # type: ignore[arg-type]  # that is the test
            (client.submit_and_wait("echo", wait_timeout=-1), "wait_timeout"),
            (client.handle("job_1").wait(timeout=-1), "timeout"),
        ]:
            wrong = await raised(call)
            assert (type(wrong), vars(wrong).get("option")) == (InvalidOption, option)
        quoted = await client.submit("echo", idempotency_key='a "quoted" \\\\ key')
        again = await served.runner.submit("echo", idempotency_key='a "quoted" \\\\ key')
    assert again.id == quoted.id


def make_params() -> None: ...


@IN_LOOP
async def test_a_queue_that_gets_room_takes_the_job(served: Bench) -> None:
    """`max_wait` is the runner's: over HTTP the client comes again when it was told to."""
    full = QueueFull("full", retry_after=0.01)
    answers = [problem_response(503, full.code, "full", members={"retry_after": 0.01})] * 3
    app = create_app(served.runner, auth=None)

    async def at_first_full(scope: Any, receive: Any, send: Any) -> None:
        await (answers.pop() if answers else app)(scope, receive, send)

    async with client_of(at_first_full) as client:
        assert type(await raised(client.submit("echo"))) is QueueFull
        assert type(await raised(client.submit("echo", max_wait=0.0))) is QueueFull
        job = await client.submit("echo", {"value": 1}, max_wait=60.0)
        assert await job.result() == 1
        answers += [problem_response(503, full.code, "full", members={"retry_after": 9.0})] * 9
        assert type(await raised(client.submit("echo", max_wait=0.01))) is QueueFull
        answers[:] = answers[:1]
        answers[0] = problem_response(503, full.code, "full", members={"retry_after": 0.01})
        assert await (await client.submit("echo", {"value": 2}, max_wait=None)).result() == 2
