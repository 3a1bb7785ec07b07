"""Calls of a runner's tools: whatever a model sends, it gets text that it can act on."""

import asyncio
import logging
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from jobrunner import InvalidOption, JobContext, JobRunner, Limits, UnknownJobType
from jobrunner.options import OnDuplicate
from jobrunner.testing import simulate, virtual_time
from tests.runners import runner_with
from tests.tooled import Model

ACTIONS = [
    "check_job_status",
    "wait_for_jobs",
    "get_job_result",
    "list_jobs",
    "answer_job",
    "cancel_job",
]


def a_runner(**options: Any) -> JobRunner:
    runner = runner_with(**options)

    @runner.job
    async def echo(text: str, times: int = 1, suffix: str | None = "!") -> str:
        """Say it again."""
        return text * times + (suffix or "")

    @runner.job
    async def sleep(seconds: float = 60.0) -> None:
        await asyncio.sleep(seconds)

    return runner


def names(runner: JobRunner, **options: Any) -> list[str]:
    return [tool.name for tool in runner.toolbox(**options).all()]


def test_each_job_type_is_a_tool_beside_those_that_follow_jobs() -> None:
    """The name says that it runs in the background: a model expects an id, not a result."""
    assert names(a_runner()) == ["echo_background", "sleep_background", *ACTIONS]


@virtual_time
async def test_a_job_runs_from_call_to_result() -> None:
    """The shortest way that a model goes."""
    async with a_runner() as runner:
        model = Model(runner)
        started = await model.calls("echo_background", text="ab", times=2)
        ended = await model.calls("wait_for_jobs", job_ids=["job_1"])
    assert started.startswith("Job job_1 (echo) was started in the background.")
    assert "<job_result>\nabab!\n</job_result>" in ended


@virtual_time
async def test_each_of_several_questions_is_to_be_put_to_the_user() -> None:
    """Told of one, a model would answer that, and wonder why the job doesn't go on."""
    async with a_runner() as runner:

        @runner.job
        async def plan(ctx: JobContext) -> list[str]:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ctx.ask(prompt)) for prompt in ("Where?", "When?")]
            return [answer.result() for answer in asked]

        model = Model(runner)
        await model.calls("plan_background")
        both = await model.calls("wait_for_jobs", job_ids=["job_1"])
        which = await model.calls("answer_job", job_id="job_1", value="here")
        one = await model.calls("answer_job", job_id="job_1", value="here", question_id="q1")
    assert "Where?" in both and "When?" in both
    assert "Next: put each question to the user, and" in both and 'question_id="q1"' in both
    assert "asks 2 questions (q1, q2); say which one is answered" in which
    assert "Next: put the question to the user, and" in one and 'question_id="q2"' in one


@virtual_time
async def test_the_progress_of_sub_jobs_is_said_once() -> None:
    """Their message is their step in words; a model would wonder why it is there twice."""
    async with a_runner() as runner:

        @runner.job
        async def sleep_all(ctx: JobContext) -> None:
            await ctx.map("sleep", [{"seconds": 1.0}, {"seconds": 60.0}])

        model = Model(runner)
        await model.calls("sleep_all_background")
        await asyncio.sleep(2.0)
        told = await model.calls("check_job_status", job_id="job_1")
    assert told.startswith("Job job_1 (sleep_all) has been running for 2.0 s, 50 % done, at step 1")
    assert " at step 1 of 2.\n" in told


@pytest.mark.parametrize(
    "arguments",
    ['{"text": "a"}', b'{"text": "a"}', '"{\\"text\\": \\"a\\"}"', {"text": "a", "times": None}],
)
def test_arguments_come_in_the_forms_that_clients_send(arguments: object) -> None:
    """Some pass on the model's text or encode it twice; models send null for nothing."""

    async def main() -> None:
        async with a_runner() as runner:
            await runner.execute_tool("echo_background", arguments)
            (job,) = (await runner.list()).jobs
            assert job.params == {"text": "a", "times": 1, "suffix": "!"}

    simulate(main)


@virtual_time
async def test_null_is_kept_where_it_is_a_value() -> None:
    """A param that takes null means it."""
    async with a_runner() as runner:
        await runner.execute_tool("echo_background", {"text": "a", "suffix": None})
        (job,) = (await runner.list()).jobs
    assert job.params["suffix"] is None


class Level(Enum):
    NONE = None
    FULL = "full"


@pytest.mark.parametrize(
    ("annotation", "default", "kept"),
    [
        (Literal["de", None], "de", None),
        (Literal["de", "en"], "de", "de"),
        (Level, Level.FULL, None),
        (Level | int, 1, None),
        (JsonValue, 1, None),
        (int | list[None], 1, 1),
    ],
    ids=str,
)
@virtual_time
async def test_null_is_a_value_wherever_the_schema_says_so(
    annotation: Any, default: Any, kept: object
) -> None:
    """In a list of values too, and under a name that others refer to."""
    runner = runner_with()

    async def search(value: Any = default) -> None: ...

    search.__annotations__["value"] = annotation
    runner.job(search)
    async with runner:
        await runner.execute_tool("search_background", {"value": None})
        (job,) = (await runner.list()).jobs
    assert job.params == {"value": kept}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "job_id",
    "job_ids",
    "offset",
    "limit",
    "wait_seconds",
    "status",
    "cursor",
    "text",
    "value",
    "question_id",
]


RUNNER = a_runner()


@pytest.mark.slow  # a hundred loops
@settings(deadline=None)
@given(
    name=st.sampled_from(["echo_background", *ACTIONS]) | st.text(),
    arguments=JSON | st.text() | st.binary() | st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_a_call_never_raises(name: str, arguments: object) -> None:
    """A model that gets an exception gets nothing; with any JSON, and what isn't any."""

    async def main() -> None:
        async with RUNNER as runner:
            text = await runner.execute_tool(name, arguments)
            assert text and len(text) < 12_000

    simulate(main)


@virtual_time
async def test_a_model_sees_the_jobs_of_its_own_session_and_owner_only() -> None:
    """Another one's job answers as one that never was, in every tool."""
    async with a_runner() as runner:
        other = await runner.submit("sleep", owner="bob", session_id="b")
        await runner.submit("sleep", owner="ada", session_id="a")
        for model in Model(runner, owner="ada"), Model(runner, session_id="a"):
            for tool in "check_job_status", "get_job_result", "answer_job", "cancel_job":
                more = {"value": 1} if tool == "answer_job" else {}
                text = await model.calls(tool, {"job_id": other.id} | more)
                assert text.startswith('There is no job "job_1"')
            waited = await model.calls("wait_for_jobs", {"job_ids": [other.id]})
            assert waited.startswith('There is no job "job_1"')
            assert "One job" in await model.calls("list_jobs")
        assert not (await runner.get(other.id)).cancel_requested_at


@virtual_time
async def test_a_job_belongs_to_who_called() -> None:
    """Or it would be lost to them."""
    async with a_runner() as runner:
        model = Model(runner, owner="ada", session_id="a")
        await model.calls("sleep_background")
        assert "(sleep) is pending" in await model.calls("check_job_status", job_id="job_1")
        assert runner.owner_of(model.ids[0]) == "ada"
        assert (await runner.get(model.ids[0])).session_id == "a"


@pytest.mark.parametrize("on_duplicate", ["join", "reject"])
@virtual_time
async def test_a_job_of_another_session_is_nothing_to_follow(on_duplicate: OnDuplicate) -> None:
    """Its id would be unknown to every tool that a model was sent on to."""
    runner = runner_with()

    @runner.job(concurrency_key=lambda params: "one", on_duplicate=on_duplicate)
    async def build() -> None:
        await asyncio.sleep(60.0)

    async with runner:
        await runner.execute_tool("build_background", session_id="a")
        answer = await runner.toolbox(session_id="b").call("build_background")
        alike = await runner.toolbox(session_id="a").call("build_background")
        assert (answer.is_error, answer.data["error"]["code"]) == (True, "duplicate-job")
        assert "it is of another session, and can't be followed from here" in answer.text
        assert "job_" not in answer.text
        assert alike.data["job_id"] in alike.text
        assert len((await runner.list()).jobs) == 1


@virtual_time
async def test_only_chosen_types_can_be_called() -> None:
    """What a model isn't told of, it can't start."""
    async with a_runner() as runner:
        toolbox = runner.toolbox(types=["echo"])
        assert "There is no tool" in await toolbox.execute("sleep_background")
        assert [tool.name for tool in toolbox.all()] == ["echo_background", *ACTIONS]


def test_tools_are_called_as_one_likes() -> None:
    """Without the suffix, or by names of one's own."""
    runner = a_runner()
    assert names(runner, suffix="")[:2] == ["echo", "sleep"]
    assert names(runner, types={"echo": "say"})[:2] == ["say", *ACTIONS[:1]]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "list_jobs"])
def test_a_name_that_no_tool_can_have_is_refused(name: str) -> None:
    """At once, and not by the vendor's API in the middle of a conversation."""
    with pytest.raises(InvalidOption, match="no tool can be called"):
        a_runner().toolbox(types={"echo": name})


def test_an_unknown_type_is_refused() -> None:
    """A typo would silently leave a tool out."""
    with pytest.raises(UnknownJobType, match="there is no job type 'ecko'"):
        a_runner().toolbox(types=["ecko"])


def test_no_two_tools_have_one_name() -> None:
    """Whatever the types are called, and however alike."""
    runner = JobRunner()
    for name in ("a b", "a.b", "a_b", "x" * 100, "x" * 101, "list_jobs", "é", "a_background"):
        runner.job(name)(lambda: None)
    for suffix in "", "_background":
        found = names(runner, suffix=suffix)
        assert len(set(found)) == len(found) == 14
        assert all(len(name) <= 64 for name in found)
    assert {"a_b_background", "a_background"} <= set(names(runner))
    assert names(runner) == names(runner)


@virtual_time
async def test_a_wait_is_over_in_time() -> None:
    """Clients cut calls off after 60 s: 25 s if not given, 45 s at most, and that is no error."""
    async with a_runner() as runner:
        model, loop = Model(runner), asyncio.get_running_loop()
        await model.calls("sleep_background", seconds=600)
        for arguments, seconds in [({}, 25.0), ({"wait_seconds": 900}, 45.0),
                                   ({"wait_seconds": -1}, 0.0)]:  # fmt: skip
            began = loop.time()
            text = await model.calls("wait_for_jobs", job_ids=["job_1"], **arguments)
            assert round(loop.time() - began, 3) == seconds
            assert "That is no failure" in text


async def test_what_a_validator_raises_is_told_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is anybody's code, and the model can't mend it; who runs the server can."""
    from pydantic import BaseModel, field_validator

    class Strange(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def check(cls, value: int) -> int:
            raise KeyError("secret detail")

    runner = JobRunner()

    async def strange(ctx: JobContext, s: Strange) -> None: ...

    strange.__annotations__["s"] = Strange
    runner.job(strange)
    async with runner:
        with caplog.at_level(logging.ERROR, "jobrunner.toolbox"):
            text = await runner.execute_tool("strange_background", {"s": {"x": 1}})
    assert text.startswith("The call failed inside of the server, with KeyError.")
    assert "secret detail" in caplog.text
    assert "secret detail" not in text


@virtual_time
async def test_a_full_queue_says_when_to_try_again() -> None:
    """Text, and nothing was started."""
    async with a_runner(workers=1, limits=Limits(max_pending=1)) as runner:
        model = Model(runner)
        await model.calls("sleep_background")
        await asyncio.sleep(0.1)
        await model.calls("sleep_background")
        refused = await model.calls("sleep_background")
    assert refused.startswith("The job was not started: the server is busy")


async def test_a_runner_that_does_not_run_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """To the model as text, and to who forgot to start it in the log."""
    runner = a_runner()
    text = await runner.execute_tool("sleep_background")
    assert "has not been started" in text
    assert "has not been started" in caplog.text
    async with runner:
        pass
    assert "Nothing was done" in await runner.execute_tool("sleep_background")
