"""Who may come in: every route and method, with and without a token, from here and elsewhere."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from jobrunner import InvalidOption, JobRunner
from jobrunner.web import create_app
from tests.serving import Answer, Bench, bench, connect, raw_request
from tests.tabled import table

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEM = "application/problem+json"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LOCK"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "LOCK"]
OPEN = {("GET", "/healthz"), ("HEAD", "/healthz"), ("GET", "/readyz"), ("HEAD", "/readyz")}
"""The routes that answer without a token; add none without a thought."""
BY_LINK = "/answers/job_unknown"
"""What has a token of its own in its path: this one is wrong for everybody."""


STRANGERS: dict[str, httpx2.AsyncClient] = {}
"""A client of each server, which has no token; to make one takes longer than to ask."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file; none of its tests leaves more than a job behind."""
    async with bench() as served, connect(served.url) as client:
        STRANGERS[served.url] = client
        yield served


def paths(routes: list[BaseRoute]) -> list[tuple[str, set[str]]]:
    """Return each route's path, with an id that nobody has, and its methods."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found.append((f"{route.path}/page.js", {"GET", "HEAD"}))
        elif isinstance(route, WebSocketRoute):
            continue  # has no methods, and a test of its own
        else:
            assert isinstance(route, Route), f"{route!r}: say here how it is protected"
            found.append((re.sub(r"\{\w+\}", "job_unknown", route.path), set(route.methods or ())))
    return found


APP: Starlette = create_app(JobRunner(), auth="secret")
ROUTES = paths(APP.routes)
TABLE = [pytest.param(path, methods, id=path) for path, methods in ROUTES]
"""Of each path every method is asked for: a test of each would take longer than its answer."""


async def ask(served: Bench, method: str, path: str, **headers: str) -> httpx2.Response:
    """Send a request without the token; a body where the method has one."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body: dict[str, str] | None = {} if method in UNSAFE else None
    client = STRANGERS[served.url]
    request = client.build_request(method, path, json=body, headers=sent)
    response = await client.send(request, stream=True)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()  # what is a stream may have no end
    await response.aclose()
    client.cookies.clear()  # each request is somebody else's
    return response


def code(response: httpx2.Response) -> str:
    """Return the code of a problem document."""
    return str(response.json()["type"]).rpartition("/")[2]


async def cookie_of(served: Bench) -> str:
    """Log in and return the cookie as a browser would send it."""
    async with connect(served.url) as client:
        response = await client.get("/", params={"token": served.token})
        return response.headers["set-cookie"].partition(";")[0]


async def test_the_table_has_every_route() -> None:
    """A route that is added tomorrow is in these tests by itself, as those of today are."""
    assert {"/", "/jobs", "/jobs/job_unknown", "/static/page.js"} <= {path for path, _ in ROUTES}


@pytest.mark.parametrize("shown", [None, "Bearer wrong"])
@pytest.mark.parametrize(("path", "methods"), TABLE)
async def test_without_the_token_nothing_answers(
    served: Bench, path: str, methods: set[str], shown: str | None
) -> None:
    """Default deny: a stranger can't even learn which routes and methods there are."""
    headers = {} if shown is None else {"authorization": shown}
    with table() as each:
        for method in METHODS:
            with each(method):
                response = await ask(served, method, path, **headers)
                if (method, path) in OPEN:
                    assert response.status_code == 200
                elif path == BY_LINK:
                    assert response.status_code == (404 if method in methods else 405)
                elif path not in ("/healthz", "/readyz"):
                    said = (response.status_code, response.headers["www-authenticate"])
                    assert said == (401, "Bearer")


NO_TOKENS = ["Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer \xe9", "Bearer {token}x", "="]


@pytest.mark.parametrize("shown", NO_TOKENS)
async def test_only_the_bearer_token_itself_opens(served: Bench, shown: str) -> None:
    """Another scheme, another token and bytes beyond ASCII are refused, and break nothing."""
    line = f"Authorization: {shown.replace('{token}', served.token)}"
    answer = await raw_request(served.url, raw_head(served, "GET", "/jobs", line, token=False))
    assert answer.problem == (401, PROBLEM, "unauthorized")


async def test_the_scheme_may_be_written_in_any_case(served: Bench) -> None:
    """RFC 9110: the name of a scheme is case-insensitive."""
    response = await ask(served, "GET", "/jobs", authorization=f"bEARER   {served.token}")
    assert response.status_code == 200


@pytest.mark.parametrize("way", ["bearer", "cookie"])
@pytest.mark.parametrize(("path", "methods"), TABLE)
async def test_with_the_token_each_route_has_its_methods_and_no_other(
    served: Bench, path: str, methods: set[str], way: str
) -> None:
    """Bearer and cookie open the same doors, and a 405 says which methods there are."""
    headers = (
        {"authorization": f"Bearer {served.token}"}
        if way == "bearer"
        else {"cookie": f"other=1; {await cookie_of(served)}"}
    )
    with table() as each:
        for method in METHODS:
            with each(method):
                response = await ask(served, method, path, **headers)
                if method in methods:
                    assert response.status_code in (200, 202, 404, 422)
                else:
                    allowed = set(response.headers["allow"].split(", "))
                    assert (response.status_code, allowed) == (405, methods)


async def test_a_cookie_with_another_token_is_refused(served: Bench) -> None:
    """The cookie's name is known; only its value opens."""
    name = (await cookie_of(served)).partition("=")[0]
    response = await ask(served, "GET", "/jobs", cookie=f"{name}=wrong")
    assert (response.status_code, code(response)) == (401, "unauthorized")


@pytest.mark.parametrize(
    "cookie", ["=", ";;;", "a=b=c; \xff", '"', "jobrunner_=", "[=1", "a" * 9_000]
)
async def test_a_broken_cookie_is_no_token(served: Bench, cookie: str) -> None:
    """Other programs on the same host set cookies too; none may be an error of ours."""
    answer = await raw_request(
        served.url, raw_head(served, "GET", "/jobs", f"Cookie: {cookie}", token=False)
    )
    assert answer.problem == (401, PROBLEM, "unauthorized")


@pytest.mark.parametrize("other", ["a:b=1", "a,b=1", '"', "=", "a b=c", "x", "[]=1", "\xe9=1"])
async def test_the_cookie_opens_beside_any_other(served: Bench, other: str) -> None:
    """Cookies know no ports: each program on this host sends us its own, however odd."""
    for line in (f"{other}; {await cookie_of(served)}", f"{await cookie_of(served)}; {other}"):
        head = raw_head(served, "GET", "/jobs", f"Cookie: {line}", token=False)
        assert (await raw_request(served.url, head)).status == 200


async def test_the_cookie_opens_from_a_line_of_its_own(served: Bench) -> None:
    """HTTP/2 may send each cookie by itself (RFC 9113, 8.2.3)."""
    lines = ["Cookie: other=1", f"Cookie: {await cookie_of(served)}", "Cookie: another=1"]
    head = raw_head(served, "GET", "/jobs", *lines, token=False)
    assert (await raw_request(served.url, head)).status == 200


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        (["Origin: http://{host}", "Origin: https://evil.example"], (403, "forbidden")),
        (["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"], (403, "forbidden")),
        (["Content-Type: application/json", "Content-Type: a/b"], (415, "unsupported-media-type")),
        (
            ["Content-Type: application/json; charset=utf-8", "Content-Type: a/b"],
            (415, "unsupported-media-type"),
        ),
        (["Authorization: Bearer wrong"], (401, "unauthorized")),
    ],
)  # fmt: skip
async def test_a_header_that_is_sent_twice_is_judged_by_both(
    served: Bench, lines: list[str], refused: tuple[int, str]
) -> None:
    """Whoever reads the first one and whoever reads the last must not see two requests."""
    host = served.url.removeprefix("http://")
    sent = [line.replace("{host}", host) for line in lines]
    head = raw_head(served, "POST", "/retry", *sent, "Content-Length: 0")
    answer = await raw_request(served.url, head)
    assert answer.problem == (refused[0], PROBLEM, refused[1])


async def test_the_login_url_gives_a_cookie_that_no_script_can_read(served: Bench) -> None:
    """The token goes out of the address bar, and where only this host's own pages can send it."""
    async with connect(served.url) as client:
        response = await client.get("/", params={"token": served.token})
    name, _, rest = response.headers["set-cookie"].partition("=")
    assert response.status_code == 303
    assert (response.headers["location"], response.headers["cache-control"]) == ("/", "no-store")
    assert re.fullmatch(r"jobrunner_[0-9a-f]{8}", name)
    assert rest == f"{served.token}; HttpOnly; Path=/; SameSite=strict"


async def test_the_login_url_takes_the_token_away_for_who_is_in_already(served: Bench) -> None:
    """A second click on the printed URL mustn't leave the secret in the history."""
    cookie = await cookie_of(served)
    response = await ask(served, "GET", f"/?token={served.token}", cookie=cookie)
    assert (response.status_code, response.headers["location"]) == (303, "/")


@pytest.mark.parametrize("query", ["token=wrong", "token=", "token", "token=%ff%fe", "other=1", ""])
async def test_a_wrong_login_is_a_401(served: Bench, query: str) -> None:
    """The page is as closed as the rest."""
    response = await ask(served, "GET", f"/?{query}")
    assert (response.status_code, code(response)) == (401, "unauthorized")


async def test_the_token_in_a_query_opens_the_login_only(served: Bench) -> None:
    """Queries are logged everywhere; only the one page that exchanges it at once takes one."""
    response = await ask(served, "GET", f"/jobs?token={served.token}")
    assert response.status_code == 401


ODD_TOKENS = ["a b", "caf\xe9", "\u20ac", "line\nend", " ", "\x00"]


@pytest.mark.parametrize("token", ODD_TOKENS)
async def test_a_token_that_headers_cannot_carry_is_refused_at_once(token: str) -> None:
    """Better at the start than a door that nobody, or nobody with a browser, gets through."""
    with pytest.raises(InvalidOption, match="visible ASCII"):
        create_app(JobRunner(), auth=token)


async def test_an_empty_token_is_refused() -> None:
    """An unset variable mustn't open the door: to have none, say None."""
    with pytest.raises(InvalidOption, match="empty token"):
        create_app(JobRunner(), auth="")


@pytest.mark.parametrize("token", ['a;b,c"d\\e', "a+b&c=d#e%f/g?h", "x"])
async def test_any_token_of_visible_characters_opens_by_bearer_and_by_cookie(token: str) -> None:
    """Whoever brings a token from somewhere else finds it work in both ways."""
    with TestClient(create_app(JobRunner(), auth=token)) as client:
        bearer = client.get("/jobs", headers={"authorization": f"Bearer {token}"})
        page = client.get("/", params={"token": token})
        cookie = client.get("/jobs")
    assert [r.status_code for r in (bearer, page, cookie)] == [200, 200, 200]


async def test_without_auth_everybody_may_come_in() -> None:
    """None is an explicit choice: another app in front asks who it is."""
    with TestClient(create_app(JobRunner(), auth=None)) as client:
        assert client.get("/jobs").status_code == 200


FOREIGN = {
    "another site": {"sec-fetch-site": "cross-site"},
    "another host of this site": {"sec-fetch-site": "same-site"},
    "a value that is new": {"sec-fetch-site": "other"},
    "an origin elsewhere": {"origin": "https://evil.example"},
    "an origin on another port": {"origin": "http://127.0.0.1:1"},
    "an opaque origin": {"origin": "null"},
    "an empty origin": {"origin": ""},
    "an origin that is broken": {"origin": "http://[::1"},
    "an origin with this host inside": {"origin": "http://{host}.evil.example"},
    "an origin with this host as user": {"origin": "http://{host}@evil.example"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("method", UNSAFE)
async def test_no_unsafe_method_is_taken_from_elsewhere(
    served: Bench, method: str, headers: dict[str, str]
) -> None:
    """A page that the user happens to visit can send requests here; the browser says that it did.

    By method and not by route, so that no route can be forgotten.
    """
    host = served.url.removeprefix("http://")
    sent = {name: value.replace("{host}", host) for name, value in headers.items()}
    auth = {"authorization": f"Bearer {served.token}"}
    async with connect(served.url, headers=auth | sent) as client:
        for path, _ in ROUTES:
            response = await client.request(method, path, json={})
            assert (response.status_code, code(response)) == (403, "forbidden")


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_safe_methods_may_be_asked_from_elsewhere(
    served: Bench, headers: dict[str, str]
) -> None:
    """A link in a chat opens the page; the same-origin policy keeps the answer from scripts."""
    response = await ask(served, "GET", "/healthz", **headers)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


OWN = {
    "no browser": {},
    "typed by the user": {"sec-fetch-site": "none"},
    "its own page": {"sec-fetch-site": "same-origin", "origin": "http://{host}"},
    "a page with capitals": {"origin": "HTTP://{host}"},
}


@pytest.mark.parametrize("headers", OWN.values(), ids=OWN)
async def test_unsafe_methods_are_taken_from_here(served: Bench, headers: dict[str, str]) -> None:
    """Programs and the app's own page submit jobs."""
    host = served.url.removeprefix("http://")
    sent = {name: value.replace("{host}", host) for name, value in headers.items()}
    response = await served.client.post("/jobs", json={"type": "echo"}, headers=sent)
    assert response.status_code == 202


def raw_head(served: Bench, method: str, path: str, *lines: str, token: bool = True) -> bytes:
    auth = [f"Authorization: Bearer {served.token}"] if token else []
    host = [f"Host: {served.url.removeprefix('http://')}"]
    host = [] if any(line.startswith("Host") for line in lines) else host
    head = [f"{method} {path} HTTP/1.1", *host, *auth, *lines, "Connection: close"]
    return "".join(f"{line}\r\n" for line in head).encode("latin-1") + b"\r\n"


async def of_host(served: Bench, *lines: str) -> Answer:
    return await raw_request(served.url, raw_head(served, "GET", "/jobs", *lines))


HOSTS = {
    "another name": "evil.example",
    "another name with a port": "evil.example:80",
    "this name inside another": "localhost.evil.example",
    "nothing": "",
    "a port only": ":80",
    "a port that is none": "localhost:http",
    "a user": "user@localhost",
    "another address of this machine": "127.0.0.2",
    "all addresses": "0.0.0.0",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
async def test_a_host_that_is_not_named_is_a_400(served: Bench, host: str) -> None:
    """DNS rebinding: a foreign name that points here brings its own cookies and origin (S6)."""
    answer = await of_host(served, f"Host: {host}")
    assert answer.problem == (400, PROBLEM, "invalid-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]", "[::1]:80"])
async def test_a_host_of_this_machine_is_taken_with_any_port(served: Bench, host: str) -> None:
    """Port forwarding changes the port, and only the name says whose page it is."""
    assert (await of_host(served, f"Host: {host}")).status == 200


async def test_two_hosts_are_a_400(served: Bench) -> None:
    """Two programs that each take another one of them can be played against each other."""
    answer = await of_host(served, "Host: localhost", "Host: evil.example")
    assert answer.status == 400
    assert json.loads(answer.body)["type"] in (
        "/problems/invalid-request",
        "/problems/invalid-host",
    )


@pytest.mark.parametrize("hosts", [0, 2])
async def test_the_app_itself_wants_one_host(hosts: int) -> None:
    """Not every server checks it as uvicorn does, and the answer is a problem document."""
    headers = [(b"host", b"localhost")] * hosts
    sent = await call({"method": "GET", "path": "/healthz", "headers": headers})
    assert (sent[0]["status"], json.loads(sent[1]["body"])["type"]) == (
        400,
        "/problems/invalid-host",
    )


async def call(scope: dict[str, Any]) -> list[Any]:
    """Call the app as a server does, and return what it sends."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await APP({"type": "http", "query_string": b"", "root_path": "", **scope}, receive, send)
    return sent


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (["jobs.example"], "jobs.example", 200),
        (["Jobs.Example"], "jobs.example:443", 200),
        (["jobs.example"], "localhost", 400),
        (["*"], "anything.example", 200),
    ],
)
async def test_hosts_are_the_ones_that_were_named(
    allowed: list[str], host: str, status: int
) -> None:
    """Behind a proxy the app is reached by a public name, and by no other."""
    app = create_app(JobRunner(), auth=None, allowed_hosts=allowed)
    with TestClient(app, base_url=f"http://{host}") as client:
        assert client.get("/healthz").status_code == status


async def test_headers_above_their_limit_are_a_431(served: Bench) -> None:
    """Headers are kept for as long as a request is, and nobody needs that many."""
    answer = await of_host(served, f"X-Large: {'x' * 16_400}")
    assert answer.problem == (431, PROBLEM, "headers-too-large")


STATIC = {
    "up": "/static/../app.py",
    "up, encoded": "/static/%2e%2e/app.py",
    "up, encoded twice": "/static/%252e%252e/app.py",
    "up, with backslashes": "/static/..%5c..%5capp.py",
    "an absolute path": "/static//etc/passwd",
    "a null byte": "/static/page.js%00.css",
    "a name of 5,000 characters": f"/static/{'x' * 5_000}",
    "a folder": "/static/",
    "nothing": "/static/nothing.js",
}


@pytest.mark.parametrize("path", STATIC.values(), ids=STATIC)
async def test_no_file_but_the_pages_own_is_served(served: Bench, path: str) -> None:
    """What is on the disk beside the page is nobody's business."""
    answer = await raw_request(served.url, raw_head(served, "GET", path))
    assert answer.problem == (404, PROBLEM, "not-found")


@pytest.mark.parametrize("path", ["/nothing", "//jobs", "/jobs/a/b/c", "/%ff", "/JOBS", "*"])
async def test_an_unknown_path_is_a_problem_document_too(served: Bench, path: str) -> None:
    """A client has one way to read errors, whoever made them."""
    answer = await raw_request(served.url, raw_head(served, "GET", path))
    assert answer.problem == (404, PROBLEM, "not-found")


async def test_answers_are_not_to_be_guessed_or_kept(served: Bench) -> None:
    """A result that looks like HTML stays JSON, and no cache keeps what needs a token."""
    job_id = await served.finished("echo", value="<script>alert(1)</script>")
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/result", "/nothing", "/"):
        headers = (await served.client.get(path)).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == (
            "nosniff",
            "no-store",
        )


SOCKETS = [route.path for route in APP.routes if isinstance(route, WebSocketRoute)]


@pytest.mark.parametrize("path", [*SOCKETS, "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
        {"x-long": "x" * 20_000},
    ],
    ids=["another origin", "another site", "the same site", "another host", "much"],
)
async def test_a_websocket_is_checked_before_it_is_accepted(
    path: str, headers: dict[str, str]
) -> None:
    """Browsers open WebSockets to anywhere; what is added tomorrow is closed today."""
    headers = {"authorization": "Bearer secret", **headers}
    with TestClient(create_app(JobRunner(), auth="secret")) as client:
        with pytest.raises(WebSocketDisconnect) as refused:
            client.websocket_connect(path, headers=headers).__enter__()
    assert refused.value.code == 4403


@pytest.mark.parametrize("path", [*SOCKETS, "/nothing"])
@pytest.mark.parametrize("shown", [None, "Bearer wrong"])
async def test_a_websocket_without_the_token_says_nothing_but_that(
    path: str, shown: str | None
) -> None:
    """A page can't see why a handshake failed, so it is told by the code, whatever the path."""
    headers = {} if shown is None else {"authorization": shown}
    with TestClient(create_app(JobRunner(), auth="secret")) as client:
        with client.websocket_connect(path, headers=headers) as refused:
            assert refused.receive()["code"] == 4401


async def test_a_websocket_that_may_come_in_finds_the_router() -> None:
    """The check refuses strangers, not WebSockets; an unknown path is the router's to refuse."""
    with TestClient(create_app(JobRunner(), auth="secret")) as client:
        with pytest.raises(WebSocketDisconnect) as refused:
            headers = {"authorization": "Bearer secret"}
            client.websocket_connect("/nothing", headers=headers).__enter__()
    assert refused.value.code == 1000


async def test_one_host_may_be_named_as_it_is() -> None:
    """A text is a list of letters to Python, and none of them is a host."""
    app = create_app(JobRunner(), auth=None, allowed_hosts="jobs.example.com")
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://jobs.example.com"
    ) as client:
        assert (await client.get("/healthz")).status_code == 200
