"""Chapter 8. The runner lives in your app: it starts with it, and ends with it."""

import httpx2
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from jobrunner import JobRunner, RunnerNotStarted


def make_runner() -> JobRunner:
    """Return a runner with one job type."""
    runner = JobRunner()

    @runner.job
    async def count_words(text: str) -> int:
        return len(text.split())

    return runner


def starlette_app(runner: JobRunner) -> Starlette:
    """Return an app that answers before the work is done."""

    async def submit(request: Request) -> JSONResponse:
        job = await runner.submit("count_words", await request.json())
        return JSONResponse({"task_id": job.id}, status_code=202)

    async def status(request: Request) -> JSONResponse:
        view = await runner.handle(request.path_params["job_id"]).wait(timeout=5.0)
        return JSONResponse({"status": view.status, "result": view.result})

    routes = [Route("/words", submit, methods=["POST"]), Route("/words/{job_id}", status)]
    return Starlette(routes=routes, lifespan=runner.lifespan)


def ask(client: TestClient) -> httpx2.Response:
    return client.post("/words", json={"text": "to be or not to be"})


def test_starlette_takes_the_lifespan_as_it_is() -> None:
    """`lifespan=runner.lifespan` is all that it takes."""
    with TestClient(starlette_app(make_runner())) as client:
        task_id = ask(client).json()["task_id"]
        assert client.get(f"/words/{task_id}").json() == {"status": "completed", "result": 6}


def test_so_does_fastapi() -> None:
    """The same argument, the same runner."""
    runner = make_runner()
    app = FastAPI(lifespan=runner.lifespan)

    @app.post("/words", status_code=202)
    async def submit(params: dict[str, str]) -> dict[str, str]:
        return {"task_id": (await runner.submit("count_words", params)).id}

    @app.get("/words/{job_id}")
    async def status(job_id: str) -> dict[str, object]:
        view = await runner.handle(job_id).wait(timeout=5.0)
        return {"status": view.status, "result": view.result}

    with TestClient(app) as client:
        task_id = ask(client).json()["task_id"]
        assert client.get(f"/words/{task_id}").json() == {"status": "completed", "result": 6}


def test_the_runner_ends_with_the_app() -> None:
    """Running jobs are interrupted, and nothing is left behind."""
    runner = make_runner()
    with TestClient(starlette_app(runner)):
        assert runner.stats().state == "running"
    assert runner.stats().state == "stopped"


def test_an_app_can_be_started_again() -> None:
    """Each test of your suite may start the same app anew."""
    app = starlette_app(make_runner())
    for _ in range(2):
        with TestClient(app) as client:
            assert ask(client).status_code == 202


def test_a_forgotten_lifespan_is_named_at_the_first_submit() -> None:
    """A test client without `with` runs no lifespan, so the runner was never started."""
    client = TestClient(starlette_app(make_runner()))
    with pytest.raises(RunnerNotStarted, match=r"give lifespan=runner\.lifespan to the outermost"):
        ask(client)
