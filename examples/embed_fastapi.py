"""Embed the runner in a FastAPI app, in the place of `BackgroundTasks`.

uvicorn examples.embed_fastapi:app
curl -X POST 'localhost:8000/signup?email=ada@example.com'
curl localhost:8000/signup/job_...
"""

from fastapi import FastAPI, HTTPException

from jobrunner import JobRunner, JobView, RequestError, RetryPolicy
from jobrunner.web import create_app

runner = JobRunner(workers=3, retry=RetryPolicy(max_attempts=5))
app = FastAPI(lifespan=runner.lifespan)
app.mount("/jobs-api", create_app(runner, auth=None))


@runner.job(timeout=30.0)
async def send_welcome(email: str) -> str:
    """Send a welcome message."""
    return f"sent to {email}"


@app.post("/signup", status_code=202)
async def signup(email: str) -> dict[str, str]:
    job = await runner.submit(send_welcome, {"email": email})
    return {"job_id": job.id}


@app.get("/signup/{job_id}")
async def signup_status(job_id: str) -> JobView:
    try:
        return await runner.get(job_id)
    except RequestError as error:
        raise HTTPException(404, str(error)) from None
