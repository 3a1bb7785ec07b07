"""Row 21: an answer streamed in small pieces, as each who watches gets it, live or late."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from jobrunner import Event, JobContext, Limits
from jobrunner.client import JobClient
from tests.cutting import cutting
from tests.serving import Bench, Frame, bench, stream
from tests.sockets import heard

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = [f"{number} " for number in range(2_000)]
ANSWER = "".join(TOKENS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Bench]:
    """A server that keeps a hundred events of a job."""
    async with bench(limits=Limits(max_events=100)) as served:

        @served.runner.job
        async def talk(ctx: JobContext) -> None:
            """Emit the beginning of the answer, and the rest when the gate opens."""
            for token in TOKENS[:60]:
                ctx.emit(token)
            await served.gates["talk"].wait()
            for token in TOKENS[60:]:
                ctx.emit(token)

        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def job_id(served: Bench) -> str:
    """A job that has answered."""
    return await served.finished("say", texts=TOKENS)


async def read(served: Bench, path: str) -> list[Frame]:
    async with stream(served.client, path) as frames:
        return [frame async for frame in frames]


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "output")


async def test_a_late_stream_has_the_whole_answer(served: Bench, job_id: str) -> None:
    """Without a gap, in far fewer events, with numbers that rise to the last."""
    frames = await read(served, f"/jobs/{job_id}/stream")
    numbers = [frame.number for frame in frames[1:]]
    text = "".join(frame.data["text"] for frame in frames if frame.event == "output")
    assert (frames[0].event, frames[-1].event, text) == ("snapshot", "done", ANSWER)
    assert [frame.data["seq"] for frame in frames[1:]] == numbers == sorted(set(numbers))
    assert (len(frames) <= 101, numbers[-1]) == (True, 2_003)
    assert frames[3].data["from"] == 3


@pytest.mark.parametrize("after", [3, 700, 1_950])
async def test_a_stream_goes_on_within_a_joined_piece(
    served: Bench, job_id: str, after: int
) -> None:
    """A browser that had read so many tokens one by one reads the rest, and nothing twice."""
    frames = await read(served, f"/jobs/{job_id}/stream?after={after}")
    text = "".join(frame.data["text"] for frame in frames if frame.event == "output")
    assert text == "".join(TOKENS[after - 2 :])
    assert frames[0].data.get("from", frames[0].number) == after + 1
    assert {frame.event for frame in frames} == {"output", "done"}


async def test_a_late_socket_has_the_whole_answer(served: Bench, job_id: str) -> None:
    """The same frames, and the same text after a number."""
    for after, text in ((0, ANSWER), (1_000, "".join(TOKENS[998:]))):
        frames, _ = await heard(served, f"/jobs/{job_id}/ws?after={after}")
        assert "".join(f["text"] for f in frames if f["type"] == "output") == text
        assert [f["seq"] for f in frames] == sorted({f["seq"] for f in frames})


async def test_a_client_reads_an_answer_once_over_cut_connections(
    served: Bench, job_id: str
) -> None:
    """Where it is cut, the next connection goes on, in the middle of a piece or not."""
    limits = [900, 2_000]
    async with cutting(served.url, limits) as proxy:
        async with JobClient(proxy.url, token=served.token) as client:
            events = [event async for event in client.events(job_id)]
    assert (text_of(events), events[-1].type) == (ANSWER, "done")
    assert [event.type for event in events].count("gap") == 0
    assert proxy.cuts == 2


async def test_who_was_there_from_the_start_goes_on_after_a_break(served: Bench) -> None:
    """Tokens one by one before it, joined after it: together they are the answer."""
    job_id = await served.submit("talk")
    async with stream(served.client, f"/jobs/{job_id}/stream?after=0") as frames:
        live = [await anext(frames) for _ in range(60)]
    served.gates["talk"].set()
    await served.runner.handle(job_id).wait()
    rest = await read(served, f"/jobs/{job_id}/stream?after={live[-1].number}")
    text = [frame.data["text"] for frame in live + rest if frame.event == "output"]
    assert (text[:58], "".join(text)) == (TOKENS[:58], ANSWER)
    assert (rest[0].data["from"], rest[0].number > 62) == (61, True)


async def test_the_logs_have_the_whole_answer(served: Bench, job_id: str) -> None:
    """A download is read once, from the start."""
    assert (await served.client.get(f"/jobs/{job_id}/logs")).text == ANSWER


async def test_a_handle_has_the_whole_answer(served: Bench, job_id: str) -> None:
    """In process too; and the view has its end."""
    handle = served.runner.handle(job_id)
    assert text_of([event async for event in handle.events()]) == ANSWER
    assert (await served.client.get(f"/jobs/{job_id}")).json()["partial"] is None
