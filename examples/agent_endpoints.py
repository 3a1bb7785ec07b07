"""An agent behind three endpoints: submit a prompt, ask how far it is, or be called back.

uvicorn examples.agent_endpoints:app
curl localhost:8000/agent/submit -d '{"prompt": "hello"}'
"""

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jobrunner import JobContext, JobRunner, RequestError, RetryPolicy

runner = JobRunner(workers=3, timeout=600.0)


@runner.job
async def run_agent(ctx: JobContext, prompt: str, callback_url: str | None = None) -> str:
    try:
        for number, word in enumerate(words := prompt.split(), 1):
            ctx.step(number, len(words), f"Thinking about {word!r}")  # a model thinks here
        return f"Thought about {len(words)} words"
    finally:  # a job of its own, so that a receiver that is down loses nothing
        if callback_url:
            await runner.submit(call_back, {"url": callback_url, "task_id": ctx.job_id})


@runner.job(retry=RetryPolicy(max_attempts=5), timeout=30.0)
async def call_back(url: str, task_id: str) -> None:
    (ended,) = (await runner.wait([task_id])).done  # it is at its end
    async with httpx2.AsyncClient(trust_env=False) as client:
        (await client.post(url, content=ended.model_dump_json())).raise_for_status()


async def submit(request: Request) -> JSONResponse:
    url = str((params := dict(await request.json())).get("callback_url", "http://localhost"))
    if httpx2.URL(url).host != "localhost":  # a client never chooses where you send requests
        raise ValueError(f"callback_url: {url!r} is not allowed")
    return JSONResponse({"task_id": (await runner.submit(run_agent, params)).id}, 202)


async def status(request: Request) -> JSONResponse:
    job = await runner.get(request.path_params["task_id"])
    fields = job.model_dump(mode="json", include={"status", "progress", "result"})
    return JSONResponse({"id": job.job_id, **fields, "error": job.error and job.error.detail})


async def refuse(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, LookupError) else 422)


submitting = ("/agent/submit", "/agent/submit-with-callback")
app = Starlette(
    routes=[Route("/agent/status/{task_id}", status)]
    + [Route(path, submit, methods=["POST"]) for path in submitting],
    exception_handlers={RequestError: refuse, ValueError: refuse, TypeError: refuse},
    lifespan=runner.lifespan,
)
