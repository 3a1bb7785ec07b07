"""A runner's tools over MCP, as every client may call them, in both eras of the protocol."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

from jobrunner import InvalidOption, JobContext, JobRunner, UnknownJobType
from jobrunner.tools.mcp import mcp_server
from tests.mcp_clients import MODES, Agent, agent_of
from tests.serving import Gates, make_runner

both_eras = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
async def bench() -> AsyncIterator[tuple[JobRunner, Gates]]:
    runner, gates = make_runner()
    async with runner:
        yield runner, gates


@both_eras
async def test_the_tools_are_listed_with_schemas_and_hints(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """A client shows its user what a tool may do before it is called, by its annotations."""
    async with agent_of(bench[0], mode=mode) as agent:
        tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
    assert {"echo_background", "check_job_status", "wait_for_jobs", "cancel_job"} <= set(tools)
    looks, starts, stops = (
        tools[name].annotations for name in ("list_jobs", "fail_background", "cancel_job")
    )
    assert looks and looks.read_only_hint
    assert starts and not starts.read_only_hint
    assert stops and (stops.destructive_hint, stops.idempotent_hint) == (True, True)
    assert tools["fail_background"].input_schema["properties"] == {"message": {"type": "string"}}
    assert all(tool.output_schema for tool in tools.values())


@both_eras
async def test_the_server_says_who_it_is_and_how_its_tools_are_meant(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """Instructions are the one place to tell a model that jobs go on by themselves."""
    async with agent_of(bench[0], mode=mode, name="builds") as agent:
        info = agent.client.server_info
        instructions = agent.client.instructions
    assert info is not None
    assert info.name == "builds"
    assert instructions is not None
    assert "wait_for_jobs" in instructions


@both_eras
async def test_a_job_s_id_comes_back_before_the_job_has_ended(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """Clients cut calls off after a minute, and a job may take an hour."""
    runner, gates = bench
    async with agent_of(runner, mode=mode) as agent:
        started = await agent.said("hold_background", key="k")
        waited = await agent.said("wait_for_jobs", job_ids=[started["job_id"]], wait_seconds=0)
        gates["k"].set()
        done = await agent.said("wait_for_jobs", job_ids=[started["job_id"]])
    assert waited["jobs"][0]["status"] == "running"
    assert done["jobs"][0] == {
        "job_id": started["job_id"],
        "type": "hold",
        "status": "completed",
        "progress": 100,
        "result": "k",
    }


@both_eras
async def test_whoever_waits_is_told_how_far_the_job_is(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """Many clients reset the time limit of a call with each notification, and show it."""
    runner, gates = bench
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))
        gates["k"].set()

    async with agent_of(runner, mode=mode) as agent:
        job_id = (await agent.said("steps_background", key="k"))["job_id"]
        call = {"job_ids": job_id, "wait_seconds": 40}
        answer = await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
    assert answer.structured_content["jobs"][0]["status"] == "completed"
    assert [progress for progress, *_ in told] == sorted({progress for progress, *_ in told})
    assert {total for _, total, _ in told} == {100.0}


@both_eras
async def test_whoever_waits_for_several_is_told_how_many_have_ended(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """One bar for all of them, which only ever rises."""
    runner, gates = bench
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))
        gates["a" if len(told) == 1 else "b"].set()

    async with agent_of(runner, mode=mode) as agent:
        ids = [(await agent.said("hold_background", key=key))["job_id"] for key in "ab"]
        call = {"job_ids": ids, "wait_seconds": 40}
        await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
    assert told[:2] == [(0.0, "0 of 2 jobs have ended"), (50.0, "1 of 2 jobs have ended")]


@both_eras
async def test_an_unknown_job_doesn_t_keep_the_progress_of_the_others_back(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """One id that a model has mistyped, and its user would see no bar at all."""
    runner, gates = bench
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))
        gates["k"].set()

    async with agent_of(runner, mode=mode) as agent:
        job_id = (await agent.said("hold_background", key="k"))["job_id"]
        await gates["k reached"].wait()
        call = {"job_ids": [job_id, "job_none"], "wait_seconds": 10}
        await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
    assert told[0] == (0.0, "running")


async def test_progress_is_told_only_when_it_has_risen() -> None:
    """MCP has it rise with each notification; a job says much that takes it no further."""
    runner, gates = make_runner()

    @runner.job
    async def chatter(ctx: JobContext) -> None:
        await gates["told"].wait()
        await (await runner.submit("echo")).wait()  # news of another job are none
        for number, percent in enumerate((10, 10, 5, 20)):
            ctx.progress(percent, f"word {number}")
            await gates[f"word {number}"].wait()  # what comes at once may be put together

    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        gates["told"].set()

    async def hear(job_id: str) -> None:
        async for event in runner.handle(job_id).events():
            if event.type == "progress":
                gates[event.data["progress_message"]].set()

    async with runner, agent_of(runner) as agent, asyncio.TaskGroup() as group:
        job_id = (await agent.said("chatter_background"))["job_id"]
        group.create_task(hear(job_id))
        call = {"job_ids": job_id, "wait_seconds": 40}
        await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
    assert 20.0 in told
    assert all(first < then for first, then in pairwise(told))


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("nope", {}, "unknown-tool"),
        ("fail_background", {"message": 1}, "invalid-arguments"),
        ("fail_background", None, "invalid-arguments"),
        ("check_job_status", {"job_id": "job_0"}, "job-not-found"),
        ("list_jobs", {"cursor": "x"}, "invalid-cursor"),
    ],
)
@both_eras
async def test_what_a_model_did_wrong_is_an_answer_it_can_read(
    bench: tuple[JobRunner, Gates], mode: str, tool: str, arguments: Any, code: str
) -> None:
    """A JSON-RPC error never reaches the model in most clients: it couldn't mend its call."""
    async with agent_of(bench[0], mode=mode) as agent:
        answer = await agent.client.session.call_tool(tool, arguments)
    assert answer.is_error
    assert answer.structured_content["error"]["code"] == code
    assert "Next:" in answer.content[0].text or "There is no" in answer.content[0].text  # type: ignore[union-attr]  # the tools answer text


@both_eras
async def test_waiting_for_unknown_jobs_is_an_answer_too(
    bench: tuple[JobRunner, Gates], mode: str
) -> None:
    """Progress is told of jobs; that there are none must not end the call."""
    async with agent_of(bench[0], mode=mode) as agent:
        unknown = await agent.call("wait_for_jobs", job_ids=["job_0"])
        nonsense = await agent.call("wait_for_jobs", job_ids=[1, None])
        none = await agent.call("wait_for_jobs", job_ids=7)
    assert (unknown.is_error, nonsense.is_error, none.is_error) == (True, True, True)


async def test_a_failed_job_is_text_and_an_error(bench: tuple[JobRunner, Gates]) -> None:
    """The call for its result is what failed, not the looking at it."""
    async with agent_of(bench[0]) as agent:
        job_id = (await agent.said("fail_background", message="no disk"))["job_id"]
        await agent.call("wait_for_jobs", job_ids=[job_id])
        looked = await agent.call("check_job_status", job_id=job_id)
        result = await agent.call("get_job_result", job_id=job_id)
    assert (looked.is_error, result.is_error) == (False, True)
    assert result.structured_content["error"]["detail"] == "no disk"
    assert "no disk" in result.content[0].text  # type: ignore[union-attr]  # the tools answer text


async def test_results_are_structured_output_as_far_as_there_is_room(
    bench: tuple[JobRunner, Gates],
) -> None:
    """A program reads them there; a long one would fill a model's context twice."""
    values = [{"rows": [1, 2]}, "x" * 15_000, "y" * 15_000, None]
    async with agent_of(bench[0]) as agent:
        ids = [(await agent.said("echo_background", value=value))["job_id"] for value in values]
        jobs = (await agent.said("wait_for_jobs", job_ids=ids))["jobs"]
        alone = await agent.said("get_job_result", job_id=ids[2])
        listed = (await agent.said("list_jobs"))["jobs"]
    assert [job.get("result") for job in jobs] == [values[0], values[1], None, None]
    assert [job.get("omitted") for job in jobs] == [None, None, ["result"], None]
    assert "result" in jobs[3]
    assert alone["result"] == values[2]
    assert not any("result" in job for job in listed)


async def test_a_job_that_is_forgotten_during_a_wait_is_told_of_as_it_was(
    bench: tuple[JobRunner, Gates],
) -> None:
    """Of two that are waited for the first may be pruned before the second ends."""
    runner, gates = bench
    async with agent_of(runner) as agent:
        short, long = [
            (await agent.said("echo_background", value=value))["job_id"]
            for value in ([1], "x" * 15_000)
        ]
        await agent.said("wait_for_jobs", job_ids=[short, long])
        held = (await agent.said("hold_background", key="k"))["job_id"]

        async def note(progress: float, total: float | None, message: str | None) -> None:
            for job_id in (short, long):
                await runner.forget(job_id)
            gates["k"].set()

        call = {"job_ids": [short, long, held], "wait_seconds": 40}
        answer = await agent.client.call_tool("wait_for_jobs", call, progress_callback=note)
    jobs = answer.structured_content["jobs"]
    assert [job.get("result") for job in jobs] == [[1], None, "k"]
    assert [job.get("omitted") for job in jobs] == [None, ["result"], None]


@both_eras
async def test_another_one_s_job_is_unknown(bench: tuple[JobRunner, Gates], mode: str) -> None:
    """With owners, what can be done with an id must depend on whose it is."""
    asking = "ada"
    async with agent_of(bench[0], mode=mode, owner=lambda: asking) as agent:
        job_id = (await agent.said("echo_background", value=1))["job_id"]
        await agent.call("wait_for_jobs", job_ids=[job_id])
        hers = await agent.call("get_job_result", job_id=job_id)
        asking = "bob"
        answers = [
            await agent.call(tool, **arguments)
            for tool, arguments in (
                ("check_job_status", {"job_id": job_id}),
                ("get_job_result", {"job_id": job_id}),
                ("cancel_job", {"job_id": job_id}),
                ("wait_for_jobs", {"job_ids": [job_id]}),
            )
        ]
        listed = await agent.said("list_jobs")
    assert hers.structured_content["result"] == 1
    assert [answer.is_error for answer in answers] == [True] * 4
    assert listed["jobs"] == []


@both_eras
async def test_a_runner_that_has_stopped_says_so(mode: str) -> None:
    """A client may be there for longer than the runner; no call may hang or break."""
    runner, _ = make_runner()
    async with runner, agent_of(runner, mode=mode) as agent:
        job_id = (await agent.said("echo_background", value=1))["job_id"]
        await agent.call("wait_for_jobs", job_ids=[job_id])
        await runner.stop()
        refused = await agent.call("echo_background", value=1)
        waited = await agent.said("wait_for_jobs", job_ids=[job_id])
    assert refused.is_error
    assert refused.structured_content["error"]["code"] == "shutting-down"
    assert waited["jobs"][0]["result"] == 1


async def test_only_the_types_that_are_named_are_tools(bench: tuple[JobRunner, Gates]) -> None:
    """Not everything that a runner can do is for a model to start."""
    async with agent_of(bench[0], types={"echo": "repeat"}) as agent:
        names = [tool.name for tool in (await agent.client.list_tools()).tools]
        refused = await agent.call("fail_background", message="x")
    assert names[0] == "repeat"
    assert not any(name.endswith("_background") for name in names)
    assert refused.is_error


async def test_the_types_may_come_from_a_generator(bench: tuple[JobRunner, Gates]) -> None:
    """It can be read once, and there are many calls."""
    async with agent_of(bench[0], types=(name for name in ["echo"])) as agent:
        names = [tool.name for tool in (await agent.client.list_tools()).tools]
        told = await agent.call("echo_background", value=1)
    assert (names[0], told.is_error) == ("echo_background", False)


def test_a_type_that_isn_t_there_is_an_error_at_once() -> None:
    """Said to the first client it would come too late."""
    with pytest.raises(UnknownJobType, match="nope"):
        mcp_server(JobRunner(), types=["nope"])
    runner, _ = make_runner()
    with pytest.raises(InvalidOption, match="list_jobs"):
        mcp_server(runner, types={"echo": "list_jobs"})


def test_two_servers_of_one_runner_are_apart() -> None:
    """An app may show some tools to one kind of client and others to another."""
    runner, _ = make_runner()
    assert mcp_server(runner).name == "jobrunner"
    assert mcp_server(runner, name="other").name == "other"


async def test_an_agent_starts_looks_and_stops(bench: tuple[JobRunner, Gates]) -> None:
    """The whole way of a job that is given up."""
    runner, gates = bench
    async with agent_of(runner) as agent:
        await _start_and_stop(agent, gates)


async def _start_and_stop(agent: Agent, gates: Gates) -> None:
    job_id = (await agent.said("hold_background", key="k"))["job_id"]
    await gates["k reached"].wait()
    assert (await agent.said("check_job_status", job_id=job_id))["status"] == "running"
    assert (await agent.said("cancel_job", job_id=job_id))["status"] == "cancelled"
