"""Embed the runner in a Starlette app: one lifespan, one mounted app, and your own routes.

uvicorn examples.embed_starlette:app
curl -X POST localhost:8000/reports/spring
curl localhost:8000/jobs-api/jobs
"""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jobrunner import JobContext, JobRunner
from jobrunner.web import create_app

runner = JobRunner(workers=3, timeout=600.0)


@runner.job
async def generate_report(ctx: JobContext, title: str, chapters: int = 3) -> str:
    """Write a report, chapter by chapter."""
    text = [f"# {title}"]
    for chapter in range(1, chapters + 1):
        ctx.step(chapter, chapters, f"Writing chapter {chapter}")
        await asyncio.sleep(0.1)  # a model thinks here
        text.append(f"Chapter {chapter}")
    return "\n".join(text)


async def start_report(request: Request) -> JSONResponse:
    job = await runner.submit(generate_report, {"title": request.path_params["title"]})
    return JSONResponse({"job_id": job.id}, status_code=202)


app = Starlette(
    routes=[
        Route("/reports/{title}", start_report, methods=["POST"]),
        Mount("/jobs-api", app=create_app(runner, auth=None)),
    ],
    lifespan=runner.lifespan,
)
