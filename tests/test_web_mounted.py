"""The app inside another one: links, cookies and documents have its prefix."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from jobrunner.web import create_app
from tests.serving import (
    connect,
    listening,
    make_runner,
    read_all,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
async def test_a_mounted_app_links_to_itself(kind: str) -> None:
    """The prefix is in every path that a client follows, over a real socket."""
    runner, gates = make_runner()
    inner = create_app(runner, auth=None)
    outer: Any
    if kind == "starlette":
        outer = Starlette(routes=[Mount("/a/jobs-api", app=inner)], lifespan=runner.lifespan)
    else:
        outer = FastAPI(lifespan=runner.lifespan)
        outer.mount("/a/jobs-api", inner)
    async with listening(outer) as url, connect(url) as client:
        made = await client.post("/a/jobs-api/jobs", json={"type": "hold", "params": {"key": "k"}})
        await client.post("/a/jobs-api/jobs", json={"type": "echo"}, headers={"prefer": "wait=9"})
        job = (await client.get(made.headers["location"])).json()
        gates["k"].set()
        frames = await read_all(client, job["links"]["stream"])
        page = await client.get("/a/jobs-api/jobs?limit=1")
        rest = (await client.get(page.links["next"]["url"])).json()["jobs"]
        openapi = (await client.get("/a/jobs-api/openapi.json")).json()
        home = (await client.get("/a/jobs-api/")).text
        script = await client.get(re.findall(r'src="([^"]+)"', home)[0])
    base = f"/a/jobs-api/jobs/{job['job_id']}"
    assert made.headers["location"] == base
    assert job["links"] == {"self": base, "stream": f"{base}/stream", "cancel": f"{base}/cancel"}
    assert (frames[0].data["links"]["self"], frames[-1].event) == (base, "done")
    assert [j["job_id"] for j in rest] == [job["job_id"]]
    assert openapi["servers"] == [{"url": "/a/jobs-api"}]
    assert script.status_code == 200


@pytest.mark.parametrize("name", ["my jobs", "задачи", "50%", "a?b#c"])
async def test_the_prefix_may_have_any_character(name: str) -> None:
    """A tenant's name may be part of it; headers and URLs have it quoted (RFC 3986, 2.1)."""
    runner, _ = make_runner()
    inner = create_app(runner, auth=None)
    outer = Starlette(routes=[Mount("/of/{tenant}", app=inner)], lifespan=runner.lifespan)
    base = f"/of/{quote(name)}"
    async with listening(outer) as url, connect(url) as client:
        body = {"type": "echo"}
        made = await client.post(f"{base}/jobs", json=body, headers={"prefer": "wait=9"})
        batch = await client.post(f"{base}/batches", json=body | {"params": [{}, {}]})
        job = await client.get(made.headers["location"])
        follow = await client.get(batch.headers["location"])
        page = await client.get(f"{base}/jobs?limit=1")
        rest = await client.get(page.links["next"]["url"])
        openapi = (await client.get(f"{base}/openapi.json")).json()
        home = (await client.get(f"{base}/")).text
        script = await client.get(re.findall(r'src="([^"]+)"', home)[0])
    assert made.json()["links"]["self"] == made.headers["location"] == job.json()["links"]["self"]
    assert made.headers["location"] == f"{base}/jobs/{made.json()['job_id']}"
    assert batch.headers["location"] == f"{base}/batches/{batch.json()['batch_id']}"
    assert follow.json()["links"]["jobs"].startswith(f"{base}/jobs?batch_id=")
    assert (len(rest.json()["jobs"]), rest.json() == page.json()) == (1, False)
    assert (openapi["servers"], script.status_code) == ([{"url": base}], 200)


async def test_a_mounted_app_with_a_token_logs_in_under_its_prefix() -> None:
    """The cookie goes to the mounted app alone, and not to the one around it."""
    runner, _ = make_runner()
    inner = create_app(runner, auth="secret")
    outer = Starlette(routes=[Mount("/api", app=inner)], lifespan=runner.lifespan)
    with TestClient(outer) as client:
        refused = client.get("/api/jobs")
        login = client.get("/api/?token=secret", follow_redirects=False)
        jobs = client.get("/api/jobs")
        alive = TestClient(outer).get("/api/healthz")
    assert [r.status_code for r in (refused, login, jobs, alive)] == [401, 303, 200, 200]
    assert login.headers["location"] == "/api/"
    assert "Path=/api/;" in login.headers["set-cookie"]


async def test_an_app_that_embeds_a_running_runner_does_not_start_it_twice() -> None:
    """Whoever entered the runner leaves it; the app only serves."""
    runner, _ = make_runner()
    async with runner, listening(create_app(runner, auth=None)) as url, connect(url) as client:
        assert (await client.get("/readyz")).status_code == 200
    assert runner.stats().state == "stopped"
