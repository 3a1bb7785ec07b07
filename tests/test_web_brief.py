"""The lists of the page, the door before it, and its files."""

import re

import httpx2
import pytest
from fastapi import HTTPException
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from jobrunner.web import create_app
from jobrunner.web.brief import BRIEF
from tests.serving import Bench, in_process, make_runner, problem

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def briefly(served: Bench) -> dict[str, object]:
    """Return the newest job as a brief list has it."""
    (job,) = (await served.client.get("/jobs?brief=true&limit=1")).json()["jobs"]
    return dict(job)


@pytest.mark.parametrize("length", [BRIEF - 50, BRIEF + 50])
async def test_a_brief_list_goes_without_what_is_long(length: int) -> None:
    """Two hundred jobs may have 50 MB of params, and a list shows none of it."""
    value = "x" * length
    async with in_process() as served:
        await served.runner.submit("echo", {"value": value}, metadata={"note": value})
        await served.finished("echo", value=value)
        job = await briefly(served)
        whole = (await served.client.get("/jobs")).json()["jobs"]
    if length < BRIEF:
        assert job == whole[0]
    else:
        assert job == whole[0] | {"params": {}, "result": None, "omitted": ["result", "params"]}
    assert [job["params"]["value"] for job in whole] == [value, value]
    assert "omitted" not in whole[0]


async def test_long_metadata_is_left_out_too() -> None:
    """It is a submitter's, and as long as they like."""
    async with in_process() as served:
        await (await served.runner.submit("echo", {}, metadata={"note": "x" * 2_000})).wait()
        job = await briefly(served)
    assert (job["metadata"], job["omitted"]) == ({}, ["metadata"])


async def test_brief_is_true_or_false() -> None:
    """A list that is whole by mistake is a large one."""
    async with in_process() as served:
        answer = await served.client.get("/jobs?brief=yes")
        same = await served.client.get("/jobs?brief=false")
    assert problem(answer) == (400, "invalid-query")
    assert "true or false" in answer.json()["detail"]
    assert same.status_code == 200


def knock(auth: object, path: str = "/", root_path: str = "") -> httpx2.Response:
    """Ask for the page as a person's browser does, without a token."""
    runner, _ = make_runner()
    app = create_app(runner, auth=auth)  # type: ignore[arg-type]  # one that a test gives
    client = TestClient(app, root_path=root_path)
    return client.get(f"{root_path}{path}", headers=HTML)


def test_a_person_without_a_token_is_asked_for_it() -> None:
    """A problem document would be all that they see; a program still gets one."""
    answer = knock("secret", root_path="/a/b")
    assert (answer.status_code, answer.headers["content-type"]) == (
        401, "text/html; charset=utf-8",
    )  # fmt: skip
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert re.findall('action="([^"]*)"', answer.text) == ["/a/b/"]
    assert 'name="token" type="password"' in answer.text
    assert "not this server" not in answer.text


def test_a_wrong_token_is_said_to_be_wrong() -> None:
    """Who pastes yesterday's URL has to learn why nothing opens."""
    answer = knock("secret", "/?token=<script>")
    assert answer.status_code == 401
    assert "not this server&#x27;s token" in answer.text or "not this server's" in answer.text
    assert "<script" not in answer.text


def test_where_somebody_else_signs_people_in_no_token_is_asked_for() -> None:
    """The form could never help."""
    answer = knock(lambda connection: None)
    assert (answer.status_code, "<form" in answer.text) == (401, False)
    assert "sign in as it asks you to" in answer.text


def test_whoever_signs_people_in_may_refuse_with_any_detail() -> None:
    """FastAPI's HTTPException takes what JSON has, and a person still gets a page."""

    def refuse(connection: HTTPConnection) -> str:
        raise HTTPException(401, detail={"why": "<b>expired</b>"})

    answer = knock(refuse)
    assert (answer.status_code, answer.headers["content-type"]) == (
        401, "text/html; charset=utf-8",
    )  # fmt: skip
    assert "&lt;b&gt;expired" in answer.text


def test_only_the_page_itself_asks_for_the_token() -> None:
    """Everything else is a program's business, and says so in its own words."""
    assert problem(knock("secret", "/jobs")) == (401, "unauthorized")
    assert problem(knock("secret", "/static/page.js")) == (401, "unauthorized")


async def test_a_browser_asks_each_time_whether_the_page_s_files_are_the_same() -> None:
    """After an upgrade it would else mix those of two versions, for as long as it guesses."""
    async with in_process() as served:
        first = await served.client.get("/static/page.js")
        again = await served.client.get(
            "/static/page.js", headers={"if-none-match": first.headers["etag"]}
        )
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
    assert (first.status_code, again.status_code) == (200, 304)


def test_the_cookie_comes_back_to_an_app_behind_a_prefix_with_a_blank() -> None:
    """A browser compares its path with that of requests, which is quoted."""
    runner, _ = make_runner()
    client = TestClient(create_app(runner, auth="secret"), root_path="/jobs api")
    answer = client.get("/jobs api/?token=secret", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs%20api/")
    assert "Path=/jobs%20api/;" in answer.headers["set-cookie"]
