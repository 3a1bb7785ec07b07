"""An agent behind three endpoints: submit a prompt, ask how far it is, or be called back.

uvicorn examples.agent_endpoints:app
curl localhost:8000/agent/submit -d '{"prompt": "hello"}'
"""

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jobrunner import JobContext, JobRunner, RequestError

CALLBACK_HOSTS = ("localhost", "127.0.0.1")  # a client never chooses where you send requests
runner = JobRunner(workers=3, timeout=600.0)


@runner.job
async def run_agent(ctx: JobContext, prompt: str, callback_url: str | None = None) -> str:
    words = prompt.split()
    for number, word in enumerate(words, 1):
        ctx.step(number, len(words), f"Thinking about {word!r}")  # a model thinks here
    answer = f"Thought about {len(words)} words"
    if callback_url and httpx2.URL(callback_url).host in CALLBACK_HOSTS:
        async with httpx2.AsyncClient(trust_env=False) as client:
            body = {"id": ctx.job_id, "status": "completed", "result": answer}
            (await client.post(callback_url, json=body)).raise_for_status()
    return answer


async def submit(request: Request) -> JSONResponse:
    job = await runner.submit(run_agent, await request.json())
    return JSONResponse({"task_id": job.id}, 202)


async def status(request: Request) -> JSONResponse:
    job = await runner.get(request.path_params["task_id"])
    shown = job.model_dump(mode="json", include={"status", "progress", "result"})
    error = job.error.detail if job.error else None
    return JSONResponse({"id": job.job_id, **shown, "error": error})


async def refuse(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, LookupError) else 422)


submitting = ("/agent/submit", "/agent/submit-with-callback")
app = Starlette(
    routes=[
        Route("/agent/status/{task_id}", status),
        *(Route(path, submit, methods=["POST"]) for path in submitting),
    ],
    exception_handlers={RequestError: refuse, ValueError: refuse},
    lifespan=runner.lifespan,
)
