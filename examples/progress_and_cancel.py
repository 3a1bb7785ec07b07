"""Watch a job's progress from outside, and stop it halfway.

python examples/progress_and_cancel.py
"""

import asyncio

from jobrunner import JobCancelled, JobContext, JobRunner

runner = JobRunner(workers=1)


@runner.job
async def analyse(ctx: JobContext, documents: list[str]) -> int:
    """Analyse documents, one after the other."""
    try:
        for number, document in enumerate(documents, 1):
            ctx.step(number, len(documents), f"Analysing {document}")
            await asyncio.sleep(0.01)  # a model reads here
        return len(documents)
    finally:
        ctx.log("closed the documents")  # clean-up runs before the job is `cancelled`


async def main() -> None:
    async with runner:
        job = await runner.submit(analyse, {"documents": [f"page {n}" for n in range(1, 51)]})
        async for event in job.events():
            if event.type == "progress":
                print(f"{event.data['progress']:>3} %  {event.data['progress_message']}")
                if event.data["progress"] >= 10:
                    await job.cancel("seen enough")
        try:
            print("analysed", await job.result(), "documents")
        except JobCancelled as error:
            print(error, f"at {job.view().progress_message!r}")


if __name__ == "__main__":
    asyncio.run(main())
