"""Lists of jobs: filters, pages, cursors, and queries that make no sense."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.serving import (
    Bench,
    bench,
    in_process,
    problem,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """One server for the file: each test looks at jobs of its own."""
    async with bench() as served:
        yield served


async def test_pages_of_three_hundred_jobs_have_each_once(served: Bench) -> None:
    """Newest first, by cursor, until there is no next one; a `Link` says it too (RFC 8288)."""
    async with in_process() as own:
        ids = [(await own.runner.submit("echo")).id for _ in range(300)]
        url, seen, sizes = "/jobs", list[str](), list[int]()
        while True:
            response = await own.client.get(url)
            page = response.json()
            seen += [job["job_id"] for job in page["jobs"]]
            sizes.append(len(page["jobs"]))
            if page["next_cursor"] is None:
                break
            url = response.links["next"]["url"]
            assert url == f"/jobs?cursor={page['next_cursor']}"
    assert seen == ids[::-1]
    assert sizes == [50] * 6
    assert "link" not in response.headers


async def test_the_next_link_keeps_the_filters() -> None:
    """Whoever follows it goes on in the same list."""
    async with in_process() as own:
        ids = [(await own.runner.submit("echo", session_id="a b&c")).id for _ in range(3)]
        await own.runner.submit("echo")
        first = await own.client.get("/jobs", params={"session_id": "a b&c", "limit": "2"})
        second = await own.client.get(first.links["next"]["url"])
    pages = [[job["job_id"] for job in r.json()["jobs"]] for r in (first, second)]
    assert pages == [[ids[2], ids[1]], [ids[0]]]


async def test_a_cursor_outlives_the_job_it_points_at() -> None:
    """Jobs are pruned while somebody pages."""
    async with in_process() as own:
        ids = [(await own.runner.submit("echo")).id for _ in range(4)]
        await own.runner.drain()
        page = (await own.client.get("/jobs?limit=2")).json()
        await own.client.delete(f"/jobs/{ids[2]}")
        rest = (await own.client.get(f"/jobs?cursor={page['next_cursor']}")).json()
    assert [job["job_id"] for job in rest["jobs"]] == [ids[1], ids[0]]


@pytest.mark.parametrize(
    ("query", "count"),
    [("status=completed", 1), ("type=hold", 1), ("session_id=s", 1), ("status=failed", 0),
     ("type=nothing", 0), ("batch_id=b", 0), ("parent_id=p", 0), ("type=echo&status=completed", 1),
     ("type=echo&status=running", 0), ("status=&type=", 2)],
)  # fmt: skip
async def test_a_list_is_filtered(query: str, count: int) -> None:
    """By status, type, session and batch, all of them together; an empty one is none."""
    async with in_process() as own:
        await (await own.runner.submit("echo", session_id="s")).wait()
        await own.held("filter")
        jobs = (await own.client.get(f"/jobs?{query}")).json()["jobs"]
    assert len(jobs) == count


async def test_a_large_limit_is_coerced() -> None:
    """Asking for too many is no error, and gets what there may be."""
    async with in_process() as own:
        for _ in range(201):
            await own.runner.submit("echo")
        assert len((await own.client.get("/jobs?limit=1000000")).json()["jobs"]) == 200


BAD_QUERIES = {
    "limit=0": (400, "invalid-query"),
    "limit=-1": (400, "invalid-query"),
    "limit=ten": (400, "invalid-query"),
    "limit=1" + "0" * 5_000: (400, "invalid-query"),
    "status=done": (400, "invalid-query"),
    "limit=1&limit=1": (400, "invalid-query"),
    "type=echo&type=": (400, "invalid-query"),
    "cursor=x": (400, "invalid-cursor"),
    "cursor=LTE": (400, "invalid-cursor"),
    "cursor=%00%ff": (400, "invalid-cursor"),
    "cursor=" + "OTk5" * 400: (400, "invalid-cursor"),
}


@pytest.mark.parametrize(("query", "answer"), BAD_QUERIES.items(), ids=lambda x: str(x)[:30])
async def test_a_query_that_makes_no_sense_is_an_error_that_says_so(
    served: Bench, query: str, answer: tuple[int, str]
) -> None:
    """Never a page of something else, and never a 500."""
    assert problem(await served.client.get(f"/jobs?{query}")) == answer
