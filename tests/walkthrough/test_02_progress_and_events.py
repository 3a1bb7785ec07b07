"""Chapter 2. A job says how far it is, and everybody who cares can watch."""

from collections.abc import AsyncIterator

from jobrunner import JobContext, JobRunner


async def test_a_handler_that_wants_to_talk_takes_a_context() -> None:
    """Annotate a parameter with `JobContext`; it is no param of the job."""
    runner = JobRunner()

    @runner.job
    async def analyse(ctx: JobContext, path: str) -> str:
        ctx.progress(40, "Reading")
        return path

    async with runner:
        job = await runner.submit(analyse, {"path": "a.pdf"})
        view = await job.wait()
    assert (view.progress, view.progress_message) == (100, "Reading")


async def test_progress_can_be_counted_in_steps() -> None:
    """Step 3 of 7 sets the same bar."""
    runner = JobRunner()

    @runner.job
    async def analyse(ctx: JobContext) -> None:
        for i in range(1, 8):
            ctx.step(i, 7, "Analysing document")

    async with runner:
        job = await runner.submit(analyse)
        shown = [event.data["progress"] async for event in job.events() if event.type == "progress"]
    assert shown == [14.29, 28.57, 42.86, 57.14, 71.43, 85.71, 100]


async def test_everything_that_happens_is_an_event_with_a_number() -> None:
    """The numbers begin at 1 and have no holes, and `done` is the last event of every job."""
    runner = JobRunner()

    @runner.job
    async def analyse(ctx: JobContext) -> None:
        ctx.log("opened", path="a.pdf")
        ctx.progress(50)

    async with runner:
        job = await runner.submit(analyse)
        events = [(event.seq, event.type) async for event in job.events()]
    assert events == [(1, "status"), (2, "status"), (3, "log"), (4, "progress"), (5, "done")]


async def test_a_reader_goes_on_where_it_was_cut_off() -> None:
    """Remember one integer, and nothing is lost and nothing repeated."""
    runner = JobRunner()

    @runner.job
    async def talk(ctx: JobContext) -> None:
        for word in ("to", "be", "or"):
            ctx.emit(word)

    async with runner:
        job = await runner.submit(talk)
        await job.wait()
        assert [event.seq async for event in job.events(after=4)] == [5, 6]


async def test_a_generator_streams_what_it_yields() -> None:
    """An agent's thoughts are seen live, and from the start by who comes late."""
    runner = JobRunner()

    @runner.job
    async def think() -> AsyncIterator[str]:
        yield "First I read, "
        yield "then I write."

    async with runner:
        job = await runner.submit(think)
        await job.wait()
        thoughts = [event.data["text"] async for event in job.events() if event.type == "output"]
    assert "".join(thoughts) == "First I read, then I write."
