"""Fifty documents as one batch; the page is closed halfway and opened again, and nothing is lost.

python examples/batch_of_documents.py
"""

import asyncio

from jobrunner import JobRunner
from jobrunner.client import JobClient
from jobrunner.server import serving

runner = JobRunner(workers=8)


@runner.job
async def analyse(document: str) -> dict[str, object]:
    """Read one document."""
    await asyncio.sleep(0.02)  # a model reads here
    if document == "doc 13":
        raise ValueError("this one is only a picture")
    return {"document": document, "words": 100 * len(document)}


async def page(url: str, batch_id: str, after: int = 0, *, leave_at: float = 100.0) -> int:
    """Show the batch as a browser would; return the number to go on after."""
    async with JobClient(url) as client:
        async for event in client.batch(batch_id).events(after):
            after = event.seq
            if event.type == "item" and event.data["status"] == "failed":
                print(f"  document {event.data['index']} failed: {event.data['reason']}")
            if event.type == "progress":
                print(f"  {event.data['progress_message']}")
                if event.data["progress"] >= leave_at:
                    break
    return after


async def main() -> None:
    async with serving(runner) as server:
        documents = [{"document": f"doc {number}"} for number in range(1, 51)]
        async with JobClient(server.login_url) as client:
            batch = await client.submit_batch(analyse.__name__, documents)
        print("the page is opened")
        last = await page(server.login_url, batch.id, leave_at=40.0)
        print("the page is closed; the documents go on")
        await runner.batch(batch.id).wait()
        print("the page is opened again")
        await page(server.login_url, batch.id, after=last)
        async with JobClient(server.login_url) as client:
            results = await client.batch(batch.id).results()
        words = sum(item.result()["words"] for item in results if item.status == "completed")
        print(f"{words} words in {len(results)} documents")


if __name__ == "__main__":
    asyncio.run(main())
