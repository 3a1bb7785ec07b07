"""The apps that are compared over HTTP: they take `POST /jobs` and `GET /jobs/{job_id}`."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobrunner import JobRunner
from jobrunner.web import create_app
from jobrunner.web.api import SubmitBody

from .peers import echo

TOKEN = "a-token-of-the-usual-length-for-a-secret-1234"


class JobOut(BaseModel):
    """A job as the apps that are written by hand answer with it."""

    job_id: str
    type: str
    status: str = "pending"
    params: dict[str, Any]
    result: Any = None
    error: str | None = None
    created_at: datetime
    finished_at: datetime | None = None


def ours() -> Any:
    """The runner's own app, with its token and everything that it checks."""
    runner = JobRunner()
    runner.job("echo")(echo)
    return create_app(runner, auth=TOKEN)


def bare() -> Any:
    """Two endpoints that validate the same body with pydantic, and keep it in a dict: no job."""
    jobs: dict[str, JobOut] = {}

    async def submit(request: Request) -> Response:
        body = SubmitBody.model_validate_json(await request.body())
        job = _new(body.type, body.params)
        jobs[job.job_id] = job
        return Response(job.model_dump_json(), 202, media_type="application/json")

    async def get(request: Request) -> Response:
        job = jobs[request.path_params["job_id"]]
        return Response(job.model_dump_json(), media_type="application/json")

    return Starlette(
        routes=[
            Route("/jobs", submit, methods=["POST"]),
            Route("/jobs/{job_id}", get, methods=["GET"]),
        ]
    )


def by_hand() -> Any:
    """What people write: FastAPI, a dict, `create_task`, and a set of tasks."""
    from fastapi import FastAPI, HTTPException

    app = FastAPI()
    jobs: dict[str, JobOut] = {}
    tasks: set[asyncio.Task[None]] = set()

    class JobIn(BaseModel):
        type: str
        params: dict[str, Any] = {}

    async def run(job: JobOut) -> None:
        job.status = "running"
        try:
            job.result = await echo(**job.params)
            job.status = "completed"
        except Exception as error:  # what people write
            job.status, job.error = "failed", str(error)
        job.finished_at = datetime.now(UTC)

    async def submit(body: JobIn) -> JobOut:
        job = _new(body.type, body.params)
        jobs[job.job_id] = job
        task = asyncio.create_task(run(job))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return job

    async def get(job_id: str) -> JobOut:
        if job_id not in jobs:
            raise HTTPException(404, "no such job")
        return jobs[job_id]

    app.add_api_route("/jobs", submit, methods=["POST"], status_code=202)
    app.add_api_route("/jobs/{job_id}", get, methods=["GET"])
    return app


def _new(type: str, params: dict[str, Any]) -> JobOut:
    return JobOut(job_id=str(uuid.uuid4()), type=type, params=params, created_at=datetime.now(UTC))
