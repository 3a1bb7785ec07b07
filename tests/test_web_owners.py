"""The table of every route x method x who asks, and that nobody sees another one's jobs.

A route that is added tomorrow is in it by itself, and fails until there is an example for it.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterator
from itertools import product
from typing import Any, NamedTuple

import httpx2
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from jobrunner import InvalidOption, JobNotFound, JobRunner
from jobrunner.web import create_app
from jobrunner.web.owners import OwnedRunner, asking
from tests.receiving import Receiver
from tests.serving import make_runner, problem
from tests.tabled import table

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LOCK"]
OPEN = {"/healthz", "/readyz"}
"""What answers strangers; add nothing without a thought."""
BY_LINK = {"/answers/{token}"}
"""What asks for a token of its own, of whoever they are; see test_web_answers.py."""
HELD = {"type": "hold", "params": {"key": "k"}, "delay": 3_600}

EXAMPLES: dict[tuple[str, str], tuple[Any, int]] = {
    ("POST", "/jobs"): ({"type": "echo", "params": {"value": 1}}, 202),
    ("GET", "/jobs"): (None, 200),
    ("POST", "/retry"): ({}, 202),
    ("GET", "/jobs/{job_id}"): (None, 200),
    ("DELETE", "/jobs/{job_id}"): (None, 204),
    ("GET", "/jobs/{job_id}/result"): (None, 200),
    ("POST", "/jobs/{job_id}/cancel"): ({}, 200),
    ("POST", "/jobs/{job_id}/input"): ({"question_id": None, "value": 1}, 409),
    ("POST", "/jobs/{job_id}/retry"): ({}, 202),
    ("GET", "/jobs/{job_id}/logs"): (None, 200),
    ("GET", "/jobs/{job_id}/stream"): (None, 200),
    ("GET", "/jobs/{job_id}/deliveries"): (None, 200),
    ("POST", "/jobs/{job_id}/deliveries/{delivery_id}/resend"): (None, 202),
    ("POST", "/batches"): ({"type": "echo", "params": [{"value": 1}]}, 202),
    ("GET", "/batches/{batch_id}"): (None, 200),
    ("POST", "/batches/{batch_id}/cancel"): ({}, 200),
    ("GET", "/batches/{batch_id}/stream"): (None, 200),
    ("GET", "/answers/{token}"): (None, 404),
    ("POST", "/answers/{token}"): ({"value": 1}, 404),
    ("GET", "/events"): (None, 200),
    ("GET", "/types"): (None, 200),
    ("GET", "/stats"): (None, 200),
    ("GET", "/metrics"): (None, 403),
    ("GET", "/healthz"): (None, 200),
    ("GET", "/readyz"): (None, 200),
    ("GET", "/openapi.json"): (None, 200),
    ("GET", "/"): (None, 200),
    ("GET", "/static/page.js"): (None, 200),
}
"""What a request has to bring, and what the owner of a job that has ended is answered."""
ENDLESS = {("GET", "/events")}
"""Streams without an end, of which only the head is asked for."""


class Case(NamedTuple):
    """One line of the table."""

    method: str
    path: str
    known: bool
    """Whether the route has this method."""


def cases(routes: list[BaseRoute]) -> Iterator[Case]:
    """Yield each route's path with each method that there is."""
    for route, method in product(routes, METHODS):
        if isinstance(route, Mount):
            yield Case(method, f"{route.path}/page.js", method in ("GET", "HEAD"))
        elif isinstance(route, Route):
            yield Case(method, route.path, method in (route.methods or ()))
        else:
            assert isinstance(route, WebSocketRoute), f"{route!r}: say here how it is asked"


def auth(connection: HTTPConnection) -> str | None:
    """Know ada and bob."""
    return {"key of ada": "ada", "key of bob": "bob"}.get(connection.headers.get("x-key", ""))


class Client:
    """Asks an app in this thread: a test client's way through another takes longer than answers."""

    def __init__(self, app: Any, loop: asyncio.Runner) -> None:
        transport = httpx2.ASGITransport(app)
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://testserver")
        self._loop = loop

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._loop.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("DELETE", path, **options)


class Door(NamedTuple):
    """A served runner, and who stands before it."""

    client: Client | TestClient
    runner: JobRunner

    def ask(self, case: Case, who: str | None, ids: dict[str, str]) -> Any:
        """Send the request of a case as somebody."""
        body, _ = EXAMPLES.get((case.method, case.path), ({}, 0))
        reads = case.method in ("GET", "HEAD", "OPTIONS")
        sends: dict[str, Any] = {} if reads else {"json": body or {}}
        path = case.path.format(**ids)
        method = "HEAD" if (case.method, case.path) in ENDLESS else case.method
        return self.client.request(method, path, headers=key_of(who), **sends)

    def submitted(self, who: str, body: Any) -> str:
        """Submit as somebody, as a batch of one, and return the job's id."""
        many = {**body, "params": [body["params"]]}
        answer = self.client.post("/batches", json=many, headers=key_of(who))
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["job_ids"][0]
        BATCHES[job_id] = answer.json()["batch_id"]
        return job_id

    def in_state(self, who: str, state: str) -> str:
        """Return the id of somebody's job in that state."""
        if state == "live":
            return self.submitted(who, HELD)
        job_id = self.submitted(who, {"type": "fail", "params": {"message": "no"}})
        self.client.get(f"/jobs/{job_id}?wait=30", headers=key_of(who))
        if state == "gone":
            self.client.delete(f"/jobs/{job_id}", headers=key_of(who))
        return job_id


def key_of(who: str | None) -> dict[str, str]:
    return {} if who is None else {"x-key": f"key of {who}"}


def make_door(auth: Any = auth) -> tuple[Any, JobRunner]:
    runner, _ = make_runner(webhooks=Receiver().webhooks())
    return create_app(runner, auth=auth), runner


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One app for the file; each test has jobs of its own."""
    app, runner = make_door()
    with asyncio.Runner() as loop:
        loop.run(runner.__aenter__())
        yield Door(Client(app, loop), runner)
        loop.run(runner.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def sockets() -> Iterator[Door]:
    """Another one, which takes WebSockets too."""
    app, runner = make_door()
    with TestClient(app) as client:
        yield Door(client, runner)


APP = make_door()[0]
CASES = list(cases(APP.routes))
PATHS = {path: [case for case in CASES if case.path == path] for path in [c.path for c in CASES]}
"""What is asked of each path: a test of each method would take longer than its answer."""
SOCKETS = [
    route.path.replace(":path", "") for route in APP.routes if isinstance(route, WebSocketRoute)
]
STATES = ["live", "final", "gone"]
UNKNOWN = "job_00000000000000000000000000000000"
BATCHES = {UNKNOWN: "batch_00000000000000000000000000000000"}
"""The batch of each job."""


def ids_of(case_path: str, job_id: str) -> dict[str, str]:
    """Return an id for each place in the path; for a new kind of id, say here whose it is."""
    made = {
        "job_id": job_id,
        "batch_id": BATCHES[job_id],
        "delivery_id": f"msg_{job_id.removeprefix('job_')}_3",
        "session_id": "s",
        "token": "nobody-was-sent-this",
    }
    return {name: made[name] for name in re.findall(r"\{(\w+)[^}]*\}", case_path)}


def seen(answer: Any, job_id: str) -> tuple[int, dict[str, str], str]:
    """Return all of an answer but the id that was asked for."""
    digits = job_id.removeprefix("job_")  # the id of a webhook has them too
    asked = re.compile(f"{digits}|{BATCHES[job_id]}")
    headers = {name: asked.sub("ID", value) for name, value in answer.headers.items()}
    return answer.status_code, headers, asked.sub("ID", answer.text)


def test_there_is_an_example_for_every_route() -> None:
    """Who adds a route says here what its owner is answered, and gets all the rest for it."""
    known = {(c.method, c.path) for c in CASES if c.known and c.method != "HEAD"}
    assert known == EXAMPLES.keys()


@pytest.mark.parametrize("who", [None, "eve"])
@pytest.mark.parametrize("path", PATHS)
def test_who_is_nobody_is_answered_nothing(door: Door, path: str, who: str | None) -> None:
    """Without a key or with a wrong one even the routes are unknown."""
    job_id = door.in_state("ada", "final")
    with table() as each:
        for case in PATHS[path]:
            with each(case.method):
                answer = door.ask(case, who, ids_of(path, job_id))
                if path in OPEN:
                    assert answer.status_code == (200 if case.known else 405)
                elif path in BY_LINK:
                    assert answer.status_code == (404 if case.known else 405)
                else:
                    assert (answer.status_code, answer.headers["www-authenticate"]) == (
                        401,
                        "Bearer",
                    )
                    assert job_id not in answer.text


def test_an_owner_isn_t_told_how_many_jobs_others_have(door: Door) -> None:
    """Counts by status would tell when somebody else is busy, and with what success."""
    door.in_state("ada", "final")
    stats = door.client.get("/stats", headers=key_of("bob")).json()
    assert (stats["jobs"], stats["pruned"], stats["webhooks"]) == ({}, 0, {})
    assert stats["workers"] > 0


@pytest.mark.parametrize("path", PATHS)
def test_the_owner_is_answered(door: Door, path: str) -> None:
    """The door is shut for others, not for them; a method that isn't there is a 405."""
    with table() as each:
        for case in PATHS[path]:
            with each(case.method):
                job_id = door.submitted("ada", {"type": "echo", "params": {"value": "of ada"}})
                door.client.get(f"/jobs/{job_id}?wait=30", headers=key_of("ada"))
                answer = door.ask(case, "ada", ids_of(path, job_id))
                method = "GET" if case.method == "HEAD" else case.method
                expected = EXAMPLES[method, path][1] if case.known else 405
                assert answer.status_code == expected, answer.text


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("path", PATHS)
def test_another_owner_can_t_tell_a_job_from_none(door: Door, path: str, state: str) -> None:
    """Status, headers and body are those of an id that never was, and nothing has happened."""
    with table() as each:
        for case in PATHS[path]:
            if case.known or state == "live":  # no job is looked for by a method that isn't there
                with each(case.method):
                    check_another_owner(door, case, door.in_state("ada", state))


def check_another_owner(door: Door, case: Case, job_id: str) -> None:
    before = door.client.get(f"/jobs/{job_id}", headers=key_of("ada"))
    answer = door.ask(case, "bob", ids_of(case.path, job_id))
    if "{" in case.path:
        unknown = door.ask(case, "bob", ids_of(case.path, UNKNOWN))
        assert seen(answer, job_id) == seen(unknown, UNKNOWN)
        assert answer.status_code == (404 if case.known else 405)
    else:
        assert job_id not in f"{answer.headers} {answer.text}"
    after = door.client.get(f"/jobs/{job_id}", headers=key_of("ada"))
    assert (after.status_code, after.text) == (before.status_code, before.text)


def closed(door: Door, path: str, who: str | None) -> int:
    """Return the code with which a WebSocket is closed before anything is said; 0 if it isn't."""
    assert isinstance(door.client, TestClient)
    try:
        with door.client.websocket_connect(path, headers=key_of(who)) as socket:
            socket.send_text("?")  # is answered by an error, where one is heard
            socket.receive_json()
            return 0
    except WebSocketDisconnect as error:
        return error.code


@pytest.mark.parametrize("path", sorted(PATHS.keys() | set(SOCKETS)))
def test_a_websocket_is_as_shut_as_the_rest(sockets: Door, path: str) -> None:
    """Nobody comes in, and to another owner a job is an unknown one; not every path is a socket."""
    job_id = sockets.in_state("ada", "final")
    own, foreign = path.format(**ids_of(path, job_id)), path.format(**ids_of(path, UNKNOWN))
    stranger = {1000, 4401} if path in OPEN else {4401}
    assert {closed(sockets, own, None), closed(sockets, own, "eve")} <= stranger
    assert closed(sockets, own, "bob") == closed(sockets, foreign, "bob")
    assert closed(sockets, own, "ada") == (0 if path in SOCKETS else 1000)


def test_a_list_has_one_s_own_jobs(door: Door) -> None:
    """No filter and no cursor of somebody else leads to more."""
    jobs = {who: [door.in_state(who, "final") for _ in range(2)] for who in ("ada", "bob")}
    for who, other in [("ada", "bob"), ("bob", "ada")]:
        listed = door.client.get("/jobs?limit=200", headers=key_of(who)).json()["jobs"]
        ids = {job["job_id"] for job in listed}
        assert ids >= set(jobs[who])
        assert not ids & set(jobs[other])
    page = door.client.get("/jobs?limit=1", headers=key_of("ada")).json()
    rest = door.client.get(f"/jobs?cursor={page['next_cursor']}", headers=key_of("bob")).json()
    assert not {job["job_id"] for job in rest["jobs"]} & set(jobs["ada"])


def test_nobody_names_an_owner_but_auth(door: Door) -> None:
    """What a client says about whose job it is, is not asked for."""
    body = HELD | {"owner": "ada"}
    answer = door.client.post("/jobs", json=body, headers=key_of("bob"))
    assert problem(answer) == (422, "invalid-request")
    assert problem(door.client.get("/jobs?owner=ada", headers=key_of("bob")))[0] == 400


def test_failed_jobs_are_run_again_for_their_owner_only(door: Door) -> None:
    """One button, and not everybody's jobs."""
    of_ada, of_bob = door.in_state("ada", "final"), door.in_state("bob", "final")
    answer = door.client.post("/retry", json={}, headers=key_of("bob"))
    again = {door.runner.record(job_id).retry_of for job_id in answer.json()["job_ids"]}
    assert of_bob in again
    assert of_ada not in again


def test_idempotency_keys_are_each_owner_s_own(door: Door) -> None:
    """Another one's key neither finds their job nor says that it is taken."""
    answers = []
    for who, value in [("ada", 1), ("bob", 2), ("ada", 1)]:
        body = {"type": "echo", "params": {"value": value}}
        headers = {**key_of(who), "idempotency-key": '"k"'}
        answers.append(door.client.post("/jobs", json=body, headers=headers))
    first, other, again = (answer.json()["job_id"] for answer in answers)
    assert (first == again, first == other) == (True, False)
    assert [a.headers["job-outcome"] for a in answers] == ["created", "created", "replayed"]


def test_the_server_s_own_code_sees_everything(door: Door) -> None:
    """In process the owner is a filter among others, and a job of nobody is nobody's."""
    job_id = door.in_state("ada", "final")
    assert door.runner.record(job_id).owner == "ada"
    assert job_id in {job.id for job in door.runner.page(owner="ada", limit=200).jobs}


async def later(connection: HTTPConnection) -> str | None:
    """Ask somebody else first."""
    return auth(connection)


def test_auth_may_take_its_time() -> None:
    """A session store or an identity provider is asked over the network."""
    app, _ = make_door(later)
    with TestClient(app) as client:
        assert client.get("/jobs").status_code == 401
        assert client.get("/jobs", headers=key_of("ada")).status_code == 200


@pytest.mark.parametrize("said", [True, 0, "", b"ada", "x" * 300, ["ada"]], ids=repr)
def test_an_auth_that_says_something_odd_lets_nobody_in(said: Any) -> None:
    """True is no name: everybody would be the same owner, or see everything."""
    app, _ = make_door(lambda connection: said)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert problem(client.get("/jobs")) == (500, "internal-error")
    with TestClient(app) as client, pytest.raises(InvalidOption, match="owner is"):
        client.get("/jobs")


def refusing(connection: HTTPConnection) -> str | None:
    raise HTTPException(403, "your subscription has ended", headers={"X-Why": "unpaid"})


def test_auth_may_refuse_in_its_own_words() -> None:
    """A framework's function raises what its framework has for it."""
    app, _ = make_door(refusing)
    with TestClient(app) as client:
        answer = client.get("/jobs")
        assert problem(answer) == (403, "forbidden")
        assert ("your subscription has ended" in answer.text, answer.headers["x-why"]) == (
            True,
            "unpaid",
        )
        with pytest.raises(WebSocketDisconnect) as refused:
            client.websocket_connect("/ws/s1").__enter__()
    assert refused.value.code == 4403


@pytest.mark.parametrize("auth", [True, 1, b"secret", ["secret"]], ids=repr)
def test_an_auth_that_is_none_of_the_three_is_refused(auth: Any) -> None:
    """A door that can't be understood mustn't stand open."""
    with pytest.raises(InvalidOption, match="auth is a"):
        make_door(auth)


@pytest.mark.parametrize(
    "ask", [{"origin": "https://evil.example"}, {"host": "evil.example"}], ids=["origin", "host"]
)
def test_auth_isn_t_even_asked_about_a_foreign_request(ask: dict[str, str]) -> None:
    """What is refused to everybody costs no look into a session store."""
    asked: list[HTTPConnection] = []
    app, _ = make_door(asked.append)
    with TestClient(app) as client:
        assert client.post("/jobs", json=HELD, headers=ask).status_code in (400, 403)
        assert asked == []


async def test_who_asks_before_anybody_is_known_sees_nothing() -> None:
    """Should a request ever come past the guard, it is no owner and not all of them."""
    runner, _ = make_runner()
    owned = OwnedRunner(runner, owners=True)
    with asking("ada"):
        assert owned.owner == "ada"
    for ask in (owned.page, lambda: owned.sees(UNKNOWN), lambda: owned.record(UNKNOWN)):
        with pytest.raises(LookupError):
            ask()


async def test_events_of_all_jobs_can_be_sifted_by_owner() -> None:
    """What tells of all jobs has ids only, and asks whose they are."""
    runner, _ = make_runner()
    async with runner:
        job = await runner.submit("echo", owner="ada")
        with asking("bob"), pytest.raises(JobNotFound):
            OwnedRunner(runner, owners=True).poll_after(job.id)
        for _ in range(2):
            with asking("ada"):
                assert OwnedRunner(runner, owners=True).sees(job.id)
            with asking("bob"):
                assert not OwnedRunner(runner, owners=True).sees(job.id)
            assert OwnedRunner(runner, owners=False).sees(job.id)
            await job.wait()


def typed(connection: HTTPConnection) -> Awaitable[str | None]:
    """Both kinds of functions are of the type that `auth` has."""
    return later(connection)


def test_auth_may_return_any_awaitable() -> None:
    """Not every asynchronous function is an `async def`."""
    app, _ = make_door(typed)
    with TestClient(app) as client:
        assert client.get("/jobs", headers=key_of("bob")).status_code == 200
