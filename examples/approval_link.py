"""A deployment that waits for a click: the job posts a link to a chat, which answers it once.

CHAT_URL=https://hooks.slack.com/services/... uvicorn examples.approval_link:app
curl -X POST localhost:8000/deploy/1.4.2
"""

import os
from typing import Literal

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jobrunner import JobContext, JobRunner, Question
from jobrunner.web import create_app

CHAT = os.environ.get("CHAT_URL", "http://localhost:9000/chat")
SITE = os.environ.get("SITE_URL", "http://localhost:8000")

runner = JobRunner(workers=3)


async def post_link(question: Question) -> None:
    """Ask in the chat; whoever has the link may answer, so it goes nowhere else."""
    link = f"{SITE}/jobs-api/answers/{question.token}"
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = f"{question.prompt} <{link}|Decide>"
        (await client.post(CHAT, json={"text": text})).raise_for_status()


@runner.job
async def deploy(ctx: JobContext, version: str) -> str:
    """Deploy a version, once somebody has approved it; nobody within a day is a no."""
    decision = await ctx.ask(
        f"Deploy {version} to production?",
        schema=Literal["approve", "reject"],
        timeout=86_400.0,
        default="reject",
        notify=post_link,
    )  # no worker is held while people think
    return f"{version} is deployed" if decision == "approve" else f"{version} was not deployed"


async def start(request: Request) -> JSONResponse:
    job = await runner.submit(deploy, {"version": request.path_params["version"]})
    return JSONResponse({"job_id": job.id}, 202)


app = Starlette(
    routes=[
        Route("/deploy/{version}", start, methods=["POST"]),
        Mount("/jobs-api", app=create_app(runner, auth="a-secret-token")),
    ],
    lifespan=runner.lifespan,
)
